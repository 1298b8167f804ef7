"""The loss of mask logits: cross entropy of all outputs, with weights for thin and rare classes.

The published losses are means over all labelled pixels, auxiliary outputs weighted as their network says. Poles and
signs are a few pixels in a hundred; class weights give them more say, and so does a term for the intersection over
union of each class of an image (Rahman and Wang: "Optimizing intersection-over-union in deep neural networks for image
segmentation", ISVC 2016). All of it is a sum over images, so that batches may be split over processes.

Shape letters: L images with a mask, C segmentation classes, H W rows and columns of the input, P pixels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from training.checks import check_weights
from training.data.sample import send


@dataclass(frozen=True, kw_only=True)
class SegmentationLossConfig:
    """Weights and options. The defaults are the published loss.

    Attributes:
        auxiliary_weights: Of the auxiliary outputs, nearest to the output first; empty for the network's own.
        agnostic_weight: Of each output of background against any object, where the network has them.
        class_weights: One for each class; empty for equal ones. ``balanced`` stands for weights from the training
            masks, which ``resolve_class_weights`` puts in its place.
        balance_power: Balanced weights are the class frequencies to minus this power.
        balance_limit: Largest ratio of two balanced weights.
        iou_weight: Of one minus the mean soft IoU of the classes that an image has, beside the cross entropy.
    """

    auxiliary_weights: tuple[float, ...] = ()
    agnostic_weight: float = 1.0
    class_weights: tuple[float, ...] | Literal['balanced'] = ()
    balance_power: float = 0.5
    balance_limit: float = 10.0
    iou_weight: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, str) and self.class_weights != 'balanced':
            raise ConfigError(f'class_weights: expected a list of numbers or balanced, got {self.class_weights!r}.')
        if not isinstance(self.class_weights, str):
            check_weights('class_weights', *self.class_weights)
        check_weights('auxiliary_weights', *self.auxiliary_weights)
        check_weights('agnostic_weight', self.agnostic_weight)
        check_weights('balance_power', self.balance_power)
        check_weights('iou_weight', self.iou_weight)
        if self.balance_limit < 1:
            raise ConfigError(f'balance_limit: expected a ratio of at least 1, got {self.balance_limit}.')


def segmentation_names(config: SegmentationLossConfig, *, agnostic: bool = False) -> tuple[str, ...]:
    """The terms that ``segmentation_terms`` may give and, where there is one, that of ``agnostic_loss``."""
    auxiliary = [f'segmentation_auxiliary{number}' for number in range(1, len(config.auxiliary_weights) + 1)]
    return ('segmentation', 'segmentation_main', *auxiliary, *(('segmentation_agnostic',) if agnostic else ()))


def segmentation_terms(
    outputs: Sequence[Tensor],
    rows: Sequence[int],
    targets: Sequence[Tensor],
    config: SegmentationLossConfig,
    *,
    per_pixel: Tensor,
) -> dict[str, Tensor]:
    """The loss of the images that have a mask, and its parts.

    Args:
        outputs: Logits (B, C, h, w): the main output, then the auxiliary ones, which may be fewer than their weights.
            Coarser ones are resized to the masks, bilinearly.
        rows: L, which images of the batch have a mask.
        targets: For each output (L, H, W) uint8, class or 255; on the CPU, or where the outputs are.
        config: Weights and options.
        per_pixel: For each output, one over the number of its labelled pixels in all images of the joint batch.

    Returns:
        ``segmentation``, the weighted sum, and its parts: ``segmentation_main``, ``segmentation_auxiliary1`` ... A
        logit that is not finite makes them so, also where nothing is labelled: it is a fault of the network, wherever
        it shows.

    Raises:
        ConfigError: If there are more outputs than weights, or not one class weight for each class.
    """
    classes = outputs[0].shape[1]
    if config.class_weights and len(config.class_weights) != classes:
        raise ConfigError(f'class_weights: the network has {classes} classes, got {len(config.class_weights)} weights.')
    if len(outputs) > 1 + len(config.auxiliary_weights):
        raise ConfigError(
            f'auxiliary_weights: the network has {len(outputs) - 1} auxiliary outputs, '
            f'got {len(config.auxiliary_weights)} weights.'
        )
    weights = dict(zip(segmentation_names(config)[1:], (1.0, *config.auxiliary_weights), strict=False))
    assert not isinstance(config.class_weights, str), 'resolve_class_weights puts numbers in the place of balanced'
    sums = _loss_sums(outputs, rows, targets, config.class_weights or (1.0,) * classes, config.iou_weight)
    terms = dict(zip(weights, sums * per_pixel, strict=False))
    return terms | {'segmentation': torch.stack([weights[name] * term for name, term in terms.items()]).sum()}


def agnostic_loss(
    outputs: Sequence[Tensor], rows: Sequence[int], targets: Sequence[Tensor], *, per_pixel: Tensor
) -> Tensor:
    """The sum over the outputs of background against any object; arguments as ``segmentation_terms`` takes them.

    Both count alike, whatever the weights of the classes are.
    """
    return (_loss_sums(outputs, rows, targets, (1.0, 1.0)) * per_pixel).sum()


def _loss_sums(
    outputs: Sequence[Tensor],
    rows: Sequence[int],
    targets: Sequence[Tensor],
    class_weights: Sequence[float],
    iou_weight: float = 0.0,
) -> Tensor:
    """For each output the sum over its pixels and images (outputs,)."""
    device = outputs[0].device
    weights = send(torch.tensor(class_weights, dtype=_at_least_float32(outputs[0].dtype)), device)
    # Mostly, all outputs learn one and the same mask.
    distinct = {id(target): target for target in targets}
    truths = {key: [_Truth.of(mask, weights) for mask in send(target, device)] for key, target in distinct.items()}
    sums = [
        _LossSum.apply(logits, rows, truths[id(target)], iou_weight)
        for logits, target in zip(outputs, targets, strict=True)
    ]
    return torch.stack(sums)


class _Truth(NamedTuple):
    """The mask of an image as the loss reads it."""

    shape: tuple[int, ...]
    label: Tensor
    """(P,) int64; any class where nothing is labelled."""
    weight: Tensor
    """(P,), of the class; 0 where nothing is labelled."""

    @classmethod
    def of(cls, mask: Tensor, class_weights: Tensor) -> _Truth:
        labelled = (mask != UNLABELLED).flatten()
        label = torch.where(labelled, mask.flatten(), 0).long()
        return cls(tuple(mask.shape), label, class_weights.index_select(0, label) * labelled)


class _LossSum(torch.autograd.Function):
    """Sum over pixels and images. A weighted pixel still counts as one, which keeps the sum additive.

    Loss and gradient in one pass, image by image: on a CPU, what belongs to an image is still in the cache. Autograd
    would keep what each step of it gave, coarse logits at full size, too, fill gradients with zeros for images without
    a mask, and walk through all of it a dozen times.
    """

    @staticmethod
    def forward(
        context: Any, logits: Tensor, rows: Sequence[int], truths: Sequence[_Truth], iou_weight: float
    ) -> Tensor:
        """Logits (B, C, h, w) and the truth of some rows -> ()."""
        gradient = torch.empty_like(logits)
        for row in set(range(len(logits))) - set(rows):
            gradient[row] = 0
        total = torch.zeros((), dtype=_at_least_float32(logits.dtype), device=logits.device)
        for row, truth in zip(rows, truths, strict=True):
            coarse = logits[row].to(total.dtype, memory_format=torch.contiguous_format, copy=True)
            loss, of_coarse = _resized_losses(coarse, truth, iou_weight)
            total += loss
            # First to the gradient's type, then to its layout: PyTorch is slow in doing both at once.
            gradient[row].copy_(of_coarse.to(gradient.dtype))
        context.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """() -> (B, C, h, w)."""
        (gradient,) = context.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None


def _resized_losses(logits: Tensor, truth: _Truth, iou_weight: float) -> tuple[Tensor, Tensor]:
    """(C, h, w), which is overwritten -> the sum of the pixels' losses, and its gradient (C, h, w)."""
    if logits.shape[1:] == truth.shape:
        loss, gradient = _pixel_losses(logits.flatten(1), truth, iou_weight)
        return loss, gradient.view_as(logits)
    with torch.enable_grad():
        coarse = logits[None].requires_grad_()
        resized = F.interpolate(coarse, size=truth.shape, mode='bilinear', align_corners=False)
    loss, gradient = _pixel_losses(resized.detach()[0].flatten(1), truth, iou_weight)
    # On a CPU the way back takes a third of the time in this layout.
    gradient = gradient.view_as(resized).contiguous(memory_format=torch.channels_last)
    return loss, torch.autograd.grad(resized, coarse, gradient)[0][0]


def _pixel_losses(scores: Tensor, truth: _Truth, iou_weight: float) -> tuple[Tensor, Tensor]:
    """(C, P), which is overwritten -> the sum of the losses, and its gradient (C, P)."""
    label, weight = truth.label[None], truth.weight
    scores -= scores.amax(dim=0)
    score_of_truth = scores.gather(0, label)[0]
    likelihood = scores.exp_()
    total = likelihood.sum(dim=0)
    loss = ((total.log() - score_of_truth) * weight).sum()
    of_regions = _region_losses(likelihood / total, truth) if iou_weight else None
    gradient = likelihood.mul_(weight / total).scatter_add_(0, label, -weight[None])
    if of_regions is None:
        return loss, gradient
    return loss + iou_weight * of_regions[0], gradient.add_(of_regions[1], alpha=iou_weight)


def _region_losses(probability: Tensor, truth: _Truth) -> tuple[Tensor, Tensor]:
    """(C, P) -> one minus the mean soft IoU, as often as pixels are labelled, and its gradient (C, P) by logits.

    With the overlap I and the union U of a class, I / U grows by 1 / U with a pixel's probability inside of the class,
    and falls by I / U^2 outside of it.
    """
    label, labelled = truth.label, truth.weight > 0
    probability = probability * labelled
    of_truth = probability.gather(0, label[None])[0]
    nothing = probability.new_zeros(len(probability))
    area = nothing.index_add(0, label, labelled.to(probability.dtype))
    overlap = nothing.index_add(0, label, of_truth)
    union = (area + probability.sum(dim=1) - overlap).clamp(min=1)
    share = (area > 0) * labelled.sum() / (area > 0).sum().clamp(min=1)
    outside = share * overlap / union.square()
    step = (-share / union - outside)[label] * of_truth
    gradient = probability * (outside[:, None] - (outside @ probability + step))
    return (share * (1 - overlap / union)).sum(), gradient.scatter_add_(0, label[None], step[None])


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def resolve_class_weights(config: SegmentationLossConfig, pixel_counts: Tensor) -> SegmentationLossConfig:
    """Put numbers in the place of ``balanced``; any other configuration is returned as it is.

    Args:
        config: Its power and limit are used.
        pixel_counts: (C,) pixels of each class in the training masks.

    Returns:
        Weights of frequency ** -power, cut at the limit, and scaled so that the mean over all pixels is 1: the loss
        keeps its scale beside detection.
    """
    if config.class_weights != 'balanced':
        return config
    frequency = pixel_counts.double() / pixel_counts.sum().clamp(min=1)
    commonness = frequency / frequency.max().clamp(min=1e-12)
    weights = commonness.pow(-config.balance_power).clamp(max=config.balance_limit)
    scaled = weights / (weights * frequency).sum().clamp(min=1e-12)
    return replace(config, class_weights=tuple(scaled.tolist()))
