"""A network of some thousand parameters with prior boxes, for tests of what is trained with it."""

from dataclasses import dataclass

import torch
from drawn_scenes import IMAGE_HW
from torch import Tensor, nn
from torch.nn import functional as F

from perception.interfaces import InputSpec, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks.layers import InputNormalization, check_images, conv_norm, initialize_he
from perception.networks.multibox import MultiBoxHead, PriorLayout, level_sizes, prior_scales, prior_shapes
from perception.networks.predictions import no_predictions

LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class DrawnMultiBoxConfig:
    """Whose normalisation the colours have, and the channels of all maps."""

    encoder: str = 'adapnet'
    width: int = 16


class DrawnMultiBox(PerceptionNetwork):
    """Convolutions to strides 4 and 8; levels at strides 8, 16 and 32 and one of a single cell."""

    divisor = 8
    class_activation = 'softmax'
    auxiliary_weights = (0.6, 0.5)

    def __init__(self, *, name: str, config: DrawnMultiBoxConfig, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.name, self.config, self.labels, self.input_spec = name, config, labels, input_spec
        width = config.width

        def halve(in_width: int) -> nn.Module:
            return conv_norm(in_width, width, 3, stride=2, activation=nn.ReLU())

        self.normalize = InputNormalization(input_spec.mean_rgb, input_spec.std_rgb)
        self.encoder = nn.Sequential(halve(3), halve(width))
        self.decoder = nn.ModuleList(halve(width) for _ in range(LEVELS - 1))
        self.mask_head = nn.ModuleList(nn.Conv2d(width, len(labels.segmentation), 1) for _ in range(3))
        shapes = prior_shapes(prior_scales(LEVELS, smallest=0.1, least=0.2, largest=0.7))
        self.detection_head = MultiBoxHead([width] * LEVELS, len(labels.detection), shapes)
        initialize_he(self)

    def prediction_layout(self, image_hw: tuple[int, int]) -> PriorLayout:
        return self.detection_head.layout(image_hw, level_sizes(image_hw, stride=8, levels=LEVELS, pooled=True))

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        check_images(images, self.divisor)
        image_hw = (images.shape[2], images.shape[3])
        stride4 = self.encoder(self.normalize(images))
        levels = [stride4]
        for halve in self.decoder:
            levels.append(halve(levels[-1]))
        levels = [*levels[1:], stride4.mean(dim=(2, 3), keepdim=True)]
        if detect:
            predictions = self.detection_head(levels, image_hw)
        else:
            predictions = no_predictions(stride4, len(self.labels.detection))
        masks = [head(x) for head, x in zip(self.mask_head, (stride4, stride4, levels[0]), strict=True)]
        return NetworkOutput(
            predictions.boxes,
            predictions.objectness,
            predictions.class_logits,
            F.interpolate(masks[0], image_hw) if segment else stride4.new_zeros(len(images), 0, *image_hw),
            predictions.box_codes if self.training else None,
            tuple(masks[1:]) if segment and self.training else (),
        )


def build_multi_box_network(*, seed: int = 0) -> DrawnMultiBox:
    """In training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DrawnMultiBox(
            name='drawn_multi_box',
            config=DrawnMultiBoxConfig(),
            labels=CITYSCAPES_11_3,
            input_spec=InputSpec(image_hw=IMAGE_HW),
        )
