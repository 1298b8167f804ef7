"""What auxiliary and class-agnostic masks learn, and the losses of them against PyTorch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.errors import ConfigError
from perception.interfaces import LabelClass, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.networks.multibox import MultiBoxHead, PriorLayout, level_sizes, prior_scales, prior_shapes
from tests.second_device import second_device
from training.criterion import Criterion, CriterionConfig, unlearned
from training.data.sample import Sample
from training.mask_truth import mask_truths
from training.segmentation_loss import SegmentationLossConfig

IMAGE_HW = (24, 32)
ROAD, PEDESTRIAN, RIDER_CYCLE, CAR = 0, 2, 9, 10
CARS, PERSONS, CYCLES = 0, 1, 2
LEVELS = 3


class Supervised(PerceptionNetwork):
    """Only what a criterion asks: as many levels as there are outputs, of objects by the parity of their left side."""

    auxiliary_weights = (1.0,) * LEVELS

    def __init__(self, labels: LabelSpace = CITYSCAPES_11_3, *, specific: bool = False) -> None:
        super().__init__()
        self.labels, self.specific = labels, specific
        shapes = prior_shapes(prior_scales(LEVELS, smallest=0.1, least=0.2, largest=0.7))
        self.head = MultiBoxHead([1] * LEVELS, len(labels.detection), shapes)

    def prediction_layout(self, image_hw: tuple[int, int]) -> PriorLayout:
        return self.head.layout(image_hw, level_sizes(image_hw, stride=8, levels=LEVELS))

    def auxiliary_objects(self, boxes_xyxy: Tensor, image_hw: tuple[int, int]) -> Tensor | None:
        """Objects in the left half are the first level's, others the second's; the last level has all of them."""
        left = boxes_xyxy[:, 0] < image_hw[1] / 2
        return torch.stack((left, ~left, torch.ones_like(left)), dim=1) if self.specific else None


def draw_output(network: Supervised, batch: int, *, auxiliary: int = LEVELS, agnostic: int = LEVELS) -> NetworkOutput:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator).requires_grad_()

    count, sizes = network.prediction_layout(IMAGE_HW).predictions, [(6, 8), (3, 4), (2, 2)]
    classes = len(network.labels.segmentation)
    return NetworkOutput(
        torch.zeros(batch, count, 4),
        draw(count),
        draw(count, len(network.labels.detection)),
        draw(classes, *IMAGE_HW),
        draw(count, 4),
        tuple(draw(classes, *hw) for hw in sizes[:auxiliary]),
        tuple(draw(2, *hw) for hw in sizes[:agnostic]),
    )


def street(*, boxed: bool = True, masked: bool = True) -> Sample:
    """A car on the left, a rider on a cycle on the right, and another car without a box; the sky is unlabelled."""
    mask = torch.full(IMAGE_HW, ROAD, dtype=torch.uint8)
    mask[:4] = 255
    mask[10:16, 2:10] = CAR
    mask[8:20, 20:24] = RIDER_CYCLE
    mask[20:23, 28:31] = CAR
    return Sample(
        image=torch.zeros(3, *IMAGE_HW, dtype=torch.uint8),
        boxes=torch.tensor([[2.0, 10.0, 9.5, 16.0], [20.0, 8.0, 24.0, 14.0], [20.0, 13.2, 24.0, 20.0]])
        if boxed
        else None,
        labels=torch.tensor([CARS, PERSONS, CYCLES]) if boxed else None,
        mask=mask if masked else None,
    )


def masks_of(*samples: Sample) -> Tensor:
    return torch.stack([sample.mask for sample in samples if sample.mask is not None])


def test_background_is_what_no_object_is_made_of() -> None:
    network, sample = Supervised(), street()
    truths = mask_truths(network, draw_output(network, 1), [sample], masks_of(sample))
    expected = torch.where(torch.isin(masks_of(sample), torch.tensor([PEDESTRIAN, RIDER_CYCLE, CAR])), 1, 0)
    expected[:, :4] = 255
    assert len(truths.agnostic) == LEVELS
    for truth in truths.agnostic:
        assert truth.dtype == torch.uint8
        assert torch.equal(truth.long(), expected)
    assert all(torch.equal(truth, masks_of(sample)) for truth in (truths.main, *truths.auxiliary))


def test_a_label_space_with_a_background_has_its_own() -> None:
    labels = load_label_space('voc_21_20')
    network = Supervised(labels)
    values = [*range(21), 255]
    mask = torch.tensor(values, dtype=torch.uint8).expand(1, 2, -1)
    truths = mask_truths(network, draw_output(network, 1), [replace(street(), mask=mask[0])], mask)
    assert truths.agnostic[0][0, 0].tolist() == [0] + [1] * 20 + [255]


def test_objects_of_which_nobody_says_what_they_are_made_of_are_told() -> None:
    classes = (LabelClass(name='ground', color_rgb=(0, 0, 0)),)
    labels = LabelSpace(name='yard', segmentation=classes, detection=(LabelClass(name='crate', color_rgb=(1, 1, 1)),))
    sample = replace(street(), mask=torch.zeros(IMAGE_HW, dtype=torch.uint8))
    network = Supervised(labels)
    mask_truths(network, draw_output(network, 1, agnostic=0), [sample], masks_of(sample))
    with pytest.raises(ConfigError, match="'yard' does not say which areas its objects are made of"):
        mask_truths(network, draw_output(network, 1), [sample], masks_of(sample))
    network = Supervised(labels, specific=True)
    with pytest.raises(ConfigError, match='switch class_agnostic and scale_specific of network_config off'):
        mask_truths(network, draw_output(network, 1, agnostic=0), [sample], masks_of(sample))


def test_a_level_keeps_the_pixels_of_its_objects_and_leaves_the_others_out() -> None:
    network, sample = Supervised(specific=True), street()
    first, second, third = mask_truths(network, draw_output(network, 1), [sample], masks_of(sample)).auxiliary
    whole = masks_of(sample)[0]
    without_car = torch.zeros(IMAGE_HW, dtype=torch.bool)
    without_car[20:23, 28:31] = True  # no box, so nobody's
    for truth, left, right in ((first[0], True, False), (second[0], False, True), (third[0], True, True)):
        out = without_car.clone()
        out[10:16, 2:10] = not left
        out[8:20, 20:24] = not right
        assert torch.equal(truth, torch.where(out, 255, whole))


def test_a_box_keeps_only_what_such_an_object_is_made_of() -> None:
    network = Supervised(specific=True)
    sample = street()
    sample = replace(sample, boxes=torch.tensor([[0.0, 0.0, 32.0, 24.0]]), labels=torch.tensor([PERSONS]))
    first = mask_truths(network, draw_output(network, 1), [sample], masks_of(sample)).auxiliary[0][0]
    assert (first[8:20, 20:24] == RIDER_CYCLE).all(), 'a rider is a person'
    assert (first[10:16, 2:10] == 255).all(), 'a car is none'
    assert (first[17, :18] == ROAD).all(), 'what is no object is always learned'


def test_without_boxes_no_size_is_known() -> None:
    network, sample = Supervised(specific=True), street(boxed=False)
    truths = mask_truths(network, draw_output(network, 1), [sample], masks_of(sample))
    objects = torch.isin(masks_of(sample), torch.tensor([RIDER_CYCLE, CAR]))
    for mask in truths.auxiliary:
        assert torch.equal(mask, torch.where(objects, 255, masks_of(sample)))
    for mask in truths.agnostic:
        assert torch.equal(mask, torch.where(objects | (masks_of(sample) == 255), 255, 0))
    assert torch.equal(truths.main, masks_of(sample))


def pixel_mean(logits: Tensor, truth: Tensor) -> Tensor:
    resized = F.interpolate(logits, IMAGE_HW, mode='bilinear', align_corners=False)
    return F.cross_entropy(resized, truth.long(), ignore_index=255)


@pytest.mark.parametrize('specific', [False, True])
def test_losses_are_the_sum_of_pixel_means_of_all_levels(specific: bool) -> None:
    network = Supervised(specific=specific)
    samples = [street(), street(masked=False), street(boxed=False)]
    output = draw_output(network, 3)
    terms = Criterion()(network, output, samples)
    rows, masks = [0, 2], masks_of(samples[0], samples[2])
    truths = mask_truths(network, output, [samples[0], samples[2]], masks)
    per_level = [
        pixel_mean(logits[rows], truth)
        for logits, truth in zip(output.auxiliary_mask_logits, truths.auxiliary, strict=True)
    ]
    for number, expected in enumerate(per_level, 1):
        torch.testing.assert_close(terms[f'segmentation_auxiliary{number}'], expected)
    agnostic = sum(
        pixel_mean(logits[rows], truth)
        for logits, truth in zip(output.agnostic_mask_logits, truths.agnostic, strict=True)
    )
    torch.testing.assert_close(terms['segmentation_agnostic'], agnostic)
    torch.testing.assert_close(terms['segmentation_main'], pixel_mean(output.mask_logits[rows], masks))
    torch.testing.assert_close(terms['segmentation'], terms['segmentation_main'] + sum(per_level) + agnostic)

    expected = torch.autograd.grad(agnostic, output.agnostic_mask_logits, retain_graph=True)
    found = torch.autograd.grad(terms['total'], output.agnostic_mask_logits)
    for gradient, one in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-7)
        assert (gradient[1] == 0).all(), 'this image has no mask'


def test_weights_of_the_configuration_come_before_the_networks() -> None:
    network, samples = Supervised(), [street()]
    output = draw_output(network, 1)
    settings = SegmentationLossConfig(
        auxiliary_weights=(0.5, 0.25, 0.0), agnostic_weight=0.1, class_weights=tuple(float(n) for n in range(11))
    )
    terms = Criterion(CriterionConfig(w_seg=1.0, segmentation=settings))(network, output, samples)
    weighted = (terms['segmentation_main'], 1), (terms['segmentation_auxiliary1'], 0.5)
    weighted = (*weighted, (terms['segmentation_auxiliary2'], 0.25), (terms['segmentation_agnostic'], 0.1))
    torch.testing.assert_close(terms['segmentation'], sum(term * weight for term, weight in weighted))
    # Weights of the classes are none of background and objects.
    plain = Criterion()(network, output, samples)
    torch.testing.assert_close(terms['segmentation_agnostic'], plain['segmentation_agnostic'])


@pytest.mark.parametrize('specific', [False, True])
def test_a_batch_split_over_processes_has_the_gradient_of_the_whole(specific: bool) -> None:
    network = Supervised(specific=specific)
    samples = [street(), street(boxed=False), street(masked=False), street()]
    mask = masks_of(samples[3])[0]
    mask[:12] = 255
    samples[3] = replace(samples[3], mask=mask)  # the two processes label unequal numbers of pixels
    whole = draw_output(network, 4)
    Criterion()(network, whole, samples)['total'].backward()
    expected = [logits.grad.clone() for logits in whole.agnostic_mask_logits + whole.auxiliary_mask_logits]  # type: ignore[union-attr]

    counts: list[Tensor] = []
    halves = [slice(0, 2), slice(2, 4)]
    outputs = [_rows_of(whole, half) for half in halves]
    for output, half in zip(outputs, halves, strict=True):
        Criterion(reduce=lambda count: counts.append(count) or count)(network, output, samples[half])
    total = sum(counts[1:], start=counts[0])
    for output, half in zip(outputs, halves, strict=True):
        Criterion(reduce=lambda _: total)(network, output, samples[half])['total'].backward()
    for index, expect in enumerate(expected):
        grads = [(output.agnostic_mask_logits + output.auxiliary_mask_logits)[index].grad for output in outputs]
        torch.testing.assert_close(torch.cat(grads) / 2, expect, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def _rows_of(output: NetworkOutput, rows: slice) -> NetworkOutput:
    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach()[rows].clone().requires_grad_()

    return NetworkOutput(*(tuple(map(leaf, part)) if isinstance(part, tuple) else leaf(part) for part in output))


@pytest.mark.parametrize('specific', [False, True])
def test_another_device_gives_the_same(specific: bool) -> None:
    network, samples = Supervised(specific=specific), [street(), street(boxed=False)]
    output = draw_output(network, 2)
    expected = Criterion()(network, output, samples)
    with second_device() as device:
        there = NetworkOutput(
            *(tuple(x.to(device) for x in part) if isinstance(part, tuple) else part.to(device) for part in output)
        )
        for name, value in Criterion()(network, there, samples).items():
            torch.testing.assert_close(value.cpu(), expected[name], msg=name)


def test_what_no_image_is_annotated_for_still_has_a_gradient_of_zero() -> None:
    network, samples = Supervised(), [street(masked=False)]
    output = draw_output(network, 1)
    losses = Criterion()(network, output, samples)
    assert losses['segmentation_agnostic'] == 0
    (losses['total'] + 0 * unlearned(losses, output)).backward()
    for logits in output.agnostic_mask_logits:
        assert logits.grad is not None
        assert not logits.grad.any()


def test_a_network_without_such_masks_has_no_such_term() -> None:
    network = Supervised()
    terms = Criterion()(network, draw_output(network, 1, agnostic=0), [street()])
    assert 'segmentation_agnostic' not in terms
    assert isinstance(network, nn.Module)
