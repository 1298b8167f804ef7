"""The mask loss against plain loops and PyTorch, and its weights for thin and rare classes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.errors import ConfigError
from training.segmentation_loss import (
    SegmentationLossConfig,
    resolve_class_weights,
    segmentation_names,
    segmentation_terms,
)

CLASSES = 4
PUBLISHED = SegmentationLossConfig(auxiliary_weights=(0.6, 0.5))


def draw(images: int = 2, outputs: int = 3) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(images, CLASSES, 5, 6, generator=generator, dtype=torch.float64) for _ in range(outputs)]
    target = torch.randint(0, CLASSES, (images, 5, 6), generator=generator, dtype=torch.uint8)
    target[0, :2] = 255
    return logits, target


def pixel_losses(logits: Tensor, target: Tensor, weights: tuple[float, ...] = (1.0,) * CLASSES) -> list[list[float]]:
    """-log of the softmax of the true class of each labelled pixel, image by image."""
    losses: list[list[float]] = []
    for scores, classes in zip(logits.permute(0, 2, 3, 1).tolist(), target.tolist(), strict=True):
        pairs = [pair for rows in zip(scores, classes, strict=True) for pair in zip(*rows, strict=True)]
        losses.append(
            [
                weights[label] * (math.log(sum(math.exp(score) for score in pixel)) - pixel[label])
                for pixel, label in pairs
                if label != 255
            ]
        )
    return losses


def compute(outputs: list[Tensor], target: Tensor, config: SegmentationLossConfig) -> dict[str, Tensor]:
    per_pixel = (1 / (target != 255).sum().double()).expand(len(outputs))
    return segmentation_terms(outputs, range(len(target)), [target] * len(outputs), config, per_pixel=per_pixel)


def test_published_loss_is_the_pixel_mean_of_three_outputs() -> None:
    outputs, target = draw()
    terms = compute(outputs, target, PUBLISHED)
    assert tuple(sorted(terms)) == tuple(sorted(segmentation_names(PUBLISHED)))
    assert all(term.shape == () for term in terms.values())
    means = [sum(map(sum, losses)) / sum(map(len, losses)) for losses in (pixel_losses(o, target) for o in outputs)]
    assert terms['segmentation_main'].item() == pytest.approx(means[0])
    assert terms['segmentation_auxiliary1'].item() == pytest.approx(means[1])
    assert terms['segmentation_auxiliary2'].item() == pytest.approx(means[2])
    assert terms['segmentation'].item() == pytest.approx(means[0] + 0.6 * means[1] + 0.5 * means[2])


def test_unlabelled_pixels_have_no_gradient() -> None:
    (logits,), target = draw(outputs=1)
    logits.requires_grad_()
    compute([logits], target, SegmentationLossConfig())['segmentation'].backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:].abs().sum(dim=0) > 0).all()


def mean_soft_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits (C, H, W) -> the mean over the classes that are there, by the words of its definition."""
    labelled = mask != 255
    probability = logits.softmax(dim=0)[:, labelled]
    values = []
    for label in range(CLASSES):
        truth = (mask[labelled] == label).double()
        if truth.any():
            overlap = (probability[label] * truth).sum()
            values.append(overlap / (probability[label] + truth - probability[label] * truth).sum())
    return torch.stack(values).mean()


def test_iou_term_weighs_images_by_their_pixels_and_has_the_gradient_of_its_definition() -> None:
    outputs, target = draw(images=3)
    target[1][target[1] == 2] = 0  # a class that is not there
    target[2] = 255
    for logits in outputs:
        logits.requires_grad_()
    config = replace(PUBLISHED, iou_weight=0.7, class_weights=(1.0, 2.0, 0.5, 1.5))
    loss = compute(outputs, target, config)['segmentation']
    gradients = torch.autograd.grad(loss, outputs)

    pixels = (target != 255).sum(dim=(1, 2))
    regions = [
        sum((1 - mean_soft_iou(logits[image], target[image])) * pixels[image] for image in (0, 1)) / pixels.sum()
        for logits in outputs
    ]
    plain = compute(outputs, target, replace(config, iou_weight=0.0))['segmentation']
    expected = plain + 0.7 * (regions[0] + 0.6 * regions[1] + 0.5 * regions[2])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for gradient, oracle in zip(gradients, torch.autograd.grad(expected, outputs), strict=True):
        torch.testing.assert_close(gradient, oracle, rtol=1e-10, atol=1e-14)


def test_class_weights_multiply_pixels_and_leave_the_divisor() -> None:
    outputs, target = draw(outputs=1)
    weights = (0.5, 2.0, 1.0, 3.0)
    losses = pixel_losses(outputs[0], target, weights)
    terms = compute(outputs, target, SegmentationLossConfig(class_weights=weights))
    assert terms['segmentation'].item() == pytest.approx(sum(map(sum, losses)) / sum(map(len, losses)))


def test_a_mask_without_labels_gives_zero_and_finite_gradients() -> None:
    logits = torch.randn(1, CLASSES, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    terms = segmentation_terms([logits], [0], [target], SegmentationLossConfig(), per_pixel=torch.ones(1))
    terms['segmentation'].backward()
    assert terms['segmentation'] == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize('options', [{}, {'class_weights': (1.0, 2.0, 3.0, 4.0)}])
def test_gradients_are_those_of_finite_differences(options: dict[str, object]) -> None:
    (logits,), target = draw(images=1, outputs=1)
    config = SegmentationLossConfig(**options)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda x: compute([x], target, config)['segmentation'], logits.requires_grad_())


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_loss_and_gradient_are_those_of_pytorch(
    dtype: torch.dtype, tolerance: float, memory_format: torch.memory_format
) -> None:
    """Of some of a batch's images, of outputs at full size and at others, in all layouts and precisions."""
    torch.manual_seed(0)
    target = torch.randint(0, CLASSES, (2, 8, 12), dtype=torch.uint8)
    target[1, 3:5] = 255
    config, rows = replace(PUBLISHED, class_weights=(0.5, 2.0, 1.0, 3.0)), [0, 2]
    outputs = [
        torch.randn(3, CLASSES, *hw).to(dtype, memory_format=memory_format).requires_grad_()
        for hw in ((8, 12), (4, 6), (1, 2))
    ]
    third = torch.ones((), dtype=dtype).div(3).expand(3)
    found = segmentation_terms(outputs, rows, [target] * 3, config, per_pixel=third)
    found['segmentation'].backward()
    gradients = [output.grad for output in outputs]

    at_least = torch.promote_types(dtype, torch.float32)
    weights = torch.tensor(config.class_weights, dtype=at_least)
    expected = {}
    for name, output in zip(segmentation_names(config)[1:], outputs, strict=True):
        output.grad = None
        resized = F.interpolate(output.to(at_least), (8, 12), mode='bilinear')[rows]
        expected[name] = F.cross_entropy(resized, target.long(), weights, ignore_index=255, reduction='sum') / 3
        torch.testing.assert_close(found[name], expected[name].to(found[name].dtype), rtol=tolerance, atol=0)
    names = segmentation_names(config)[1:]
    sum(expected[name] * weight for name, weight in zip(names, (1, 0.6, 0.5), strict=True)).backward()
    for gradient, output in zip(gradients, outputs, strict=True):
        assert gradient is not None
        assert gradient.stride() == output.stride()
        assert (gradient[1] == 0).all()
        torch.testing.assert_close(
            gradient, output.grad, rtol=tolerance, atol=tolerance * float(output.grad.abs().max())
        )


def test_the_logits_are_left_as_they_are() -> None:
    outputs, target = draw()
    before = [output.clone() for output in outputs]
    compute(outputs, target, PUBLISHED)
    for output, copy in zip(outputs, before, strict=True):
        torch.testing.assert_close(output, copy, rtol=0, atol=0)


def test_a_logit_that_is_not_finite_shows_also_where_nothing_is_labelled() -> None:
    (logits,), target = draw(outputs=1)
    logits[0, 0, 0, 0] = math.inf
    assert target[0, 0, 0] == 255
    assert math.isnan(compute([logits], target, SegmentationLossConfig())['segmentation'].item())


def test_far_apart_logits_keep_their_loss_finite() -> None:
    logits = torch.tensor([[[[400.0]], [[0.0]]]], requires_grad=True)
    target = torch.ones(1, 1, 1, dtype=torch.uint8)
    loss = compute([logits], target, SegmentationLossConfig())['segmentation']
    loss.backward()
    assert loss.item() == 400
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [1, -1]


def test_balanced_weights_keep_the_scale_of_the_loss() -> None:
    counts = torch.tensor([10_000, 2_500, 100, 1, 0])
    config = SegmentationLossConfig(class_weights='balanced', balance_limit=20.0)
    weights = torch.tensor(resolve_class_weights(config, counts).class_weights, dtype=torch.float64)
    assert ((weights * counts).sum() / counts.sum()).item() == pytest.approx(1)
    # Root of the inverse frequency, cut at 20.
    assert (weights / weights[0]).tolist() == pytest.approx([1, 2, 10, 20, 20])


def test_given_weights_are_not_balanced() -> None:
    config = SegmentationLossConfig(class_weights=(1.0, 2.0))
    assert resolve_class_weights(config, torch.tensor([1, 1])) is config


def test_weights_that_do_not_fit_are_refused() -> None:
    outputs, target = draw()
    with pytest.raises(ConfigError, match='4 classes'):
        compute(outputs, target, SegmentationLossConfig(class_weights=(1.0, 2.0)))
    with pytest.raises(ConfigError, match='2 auxiliary outputs'):
        compute(outputs, target, SegmentationLossConfig(auxiliary_weights=(1.0,)))


@pytest.mark.parametrize(
    'setting',
    [
        {'class_weights': 'equal'},
        {'class_weights': (1.0, -2.0)},
        {'auxiliary_weights': (0.6, -0.5)},
        {'balance_power': -1.0},
        {'balance_power': math.nan},
        {'balance_limit': 0.5},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        SegmentationLossConfig(**setting)  # type: ignore[arg-type]
