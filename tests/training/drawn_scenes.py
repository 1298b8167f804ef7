"""A narrow network and drawn samples that loss and phase tests share."""

from dataclasses import replace

import torch

from perception.interfaces import InputSpec
from perception.labels import CITYSCAPES_11_3
from perception.networks.interdependent import INTERDEPENDENT_SMALL, InterdependentNetwork
from training.data.sample import Sample

IMAGE_HW = (96, 192)

NARROW = replace(
    INTERDEPENDENT_SMALL,
    stem_width=8,
    block_widths=(8, 16, 16, 16),
    block_mid_widths=(8, 8, 8, 8),
    unit_dilations=(((1,),), ((1, 2),), ((1,), (1, 4)), ((2, 4),)),
    bottleneck_width=16,
    bottleneck_mid_width=8,
    decoder_width=16,
    skip_width=8,
    class_map_width=16,
    detector_widths=(16, 16, 16),
    trident_units=1,
    trident_mid_width=16,
)


def build_narrow_network(*, seed: int = 0, dropout: float = 0.0) -> InterdependentNetwork:
    """An interdependent network of some thousand parameters, in training mode."""
    config = replace(NARROW, encoder_dropout=dropout, detector_dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return InterdependentNetwork(
            name='narrow', config=config, labels=CITYSCAPES_11_3, input_spec=InputSpec(image_hw=IMAGE_HW)
        )


def draw_scene(shift: int = 0, *, masked: bool = True, boxed: bool = True) -> Sample:
    """Sky, road, a car, a person and a bicycle in plain colours; some rows are unlabelled."""
    image = torch.zeros((3, *IMAGE_HW), dtype=torch.uint8)
    mask = torch.zeros(IMAGE_HW, dtype=torch.uint8)
    image[2, :40], image[:, 40:] = 200, 90
    mask[:40], mask[90:] = 4, 255
    boxes = torch.tensor([[10, 30, 60, 70], [80 + shift, 50, 94 + shift, 80], [150, 44, 178, 64]])
    for label, (left, top, right, bottom) in enumerate(boxes.tolist()):
        image[label, top:bottom, left:right] = 255
        mask[top:bottom, left:right] = (10, 2, 9)[label]
    return Sample(
        image=image,
        mask=mask if masked else None,
        boxes=boxes.float() if boxed else None,
        labels=torch.arange(3) if boxed else None,
        name=f'scene {shift}',
    )


def stack_images(samples: list[Sample]) -> torch.Tensor:
    """(B, 3, H, W) uint8."""
    return torch.stack([sample.image for sample in samples])
