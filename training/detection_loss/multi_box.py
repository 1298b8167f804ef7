"""The loss of the SSD line: classes with background as one of them, and boxes of the priors that have an object.

Liu et al. ("SSD: Single shot multibox detector", section 2.2): the cross-entropy of a softmax over background and K
classes at positives and at the hardest negatives, three for each positive; smooth L1 of the box codes at positives; the
sum of both divided by the number of positives.

NetworkOutput has that softmax as sigmoid(objectness) * softmax(class_logits), with 1 - sigmoid(objectness) for the
background, so its cross-entropy is the one of objectness plus, at positives, the one of the class logits.

Shape letters: L images with boxes, A predictions per image, K detection classes, N objects and R regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from perception.boxes import cxcywh_to_xyxy, encode_ssd
from perception.errors import ConfigError
from perception.interfaces import NetworkOutput
from perception.networks.multibox import PriorLayout
from training.checks import check_weights, require_box_codes
from training.data.sample import Sample, send
from training.matching.multi_box import match_priors
from training.matching.regions import centred_in_any

MULTI_BOX_NAMES = ('detection', 'detection_class', 'detection_box')


@dataclass(frozen=True, kw_only=True)
class MultiBoxLossConfig:
    """Weights and choices; the defaults are SSD's.

    Attributes:
        match_iou: A prior learns the object that it overlaps most from this IoU on; besides, each object has its best.
        negatives_per_positive: How many of the hardest negatives learn that they are background.
        mining: Among the negatives of which images these are sought: of each ``image`` for its own positives (SSD), or
            of the whole ``batch`` (BlitzNet's code), where images without objects take part, in each process by itself.
        class_weight, box_weight: Of the two terms.
    """

    match_iou: float = 0.5
    negatives_per_positive: float = 3.0
    mining: Literal['image', 'batch'] = 'image'
    class_weight: float = 1.0
    box_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.mining not in ('image', 'batch'):
            raise ConfigError(f'mining: expected image or batch, got {self.mining!r}.')
        if not 0 < self.match_iou <= 1:
            raise ConfigError(f'match_iou: expected an overlap in (0, 1], got {self.match_iou}.')
        for key in ('negatives_per_positive', 'class_weight', 'box_weight'):
            check_weights(key, getattr(self, key))


class PriorTargets(NamedTuple):
    """What the predictions of L images learn."""

    labels: Tensor
    """(L, A) int64, class of the prior's object; -1: none."""
    codes: Tensor
    """(L, A, 4) of its box; of the prior itself where it has none."""
    ignored: Tensor
    """(L, A) bool, priors in regions, or that would learn one: without an object they are no background, either."""


class MultiBoxLoss:
    """The loss of the images of a batch that have boxes, by the number of their positives."""

    settings: ClassVar[str] = 'multi_box'
    names: ClassVar[tuple[str, ...]] = MULTI_BOX_NAMES

    def __init__(
        self, layout: PriorLayout, samples: Sequence[Sample], config: MultiBoxLossConfig, device: torch.device
    ) -> None:
        self.config = config
        self.targets = prior_targets(layout, samples, iou=config.match_iou, device=device)

    @property
    def count(self) -> Tensor:
        """Positives of all images, int64 on the device."""
        return (self.targets.labels >= 0).sum()

    def terms(self, output: NetworkOutput, per_count: Tensor) -> dict[str, Tensor]:
        """``detection``, the weighted sum, and its parts ``detection_class`` and ``detection_box``.

        Raises:
            PerceptionError: If the output has no box codes.
        """
        labels, target_codes, ignored = self.targets
        codes, positive = require_box_codes(output), labels >= 0
        losses = class_losses(output, labels)  # (L, A)
        negative = hard_negatives(losses.detach(), positive, ignored, self.config)
        box_losses = F.smooth_l1_loss(codes, target_codes.to(codes), reduction='none').sum(dim=2)  # (L, A)
        class_sum = losses.where(positive | negative, 0).sum()
        terms = {
            'detection_class': self.config.class_weight * class_sum * per_count,
            'detection_box': self.config.box_weight * box_losses.where(positive, 0).sum() * per_count,
        }
        return terms | {'detection': terms['detection_class'] + terms['detection_box']}


def prior_targets(layout: PriorLayout, samples: Sequence[Sample], *, iou: float, device: torch.device) -> PriorTargets:
    """Match the objects of L samples with the priors of a layout, on the device."""
    priors = layout.priors_cxcywh(device)
    priors_xyxy = cxcywh_to_xyxy(priors)
    rows = [_image_targets(sample, priors_xyxy, iou) for sample in samples]
    labels, boxes, ignored = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return PriorTargets(labels, encode_ssd(boxes, priors, layout.variances), ignored)


def _image_targets(sample: Sample, priors_xyxy: Tensor, iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """Class (A,), box (A, 4) and whether it is ignored (A,) for each prior."""
    assert sample.boxes is not None
    assert sample.labels is not None
    device = priors_xyxy.device
    objects, classes = send(sample.boxes.to(priors_xyxy.dtype), device), send(sample.labels, device)
    matched = match_priors(objects, priors_xyxy, iou=iou)
    ignored = torch.zeros_like(matched, dtype=torch.bool)
    if len(sample.ignore_boxes):
        regions = send(sample.ignore_boxes.to(priors_xyxy.dtype), device)
        # Those that would learn it if it were an object, too: no centre may lie in a small one.
        ignored = centred_in_any(priors_xyxy, regions) | (match_priors(regions, priors_xyxy, iou=iou) >= 0)
    if not len(objects):
        return matched, priors_xyxy, ignored
    found, place = matched >= 0, matched.clamp(min=0)
    return torch.where(found, classes[place], -1), torch.where(found[:, None], objects[place], priors_xyxy), ignored


def class_losses(output: NetworkOutput, labels: Tensor) -> Tensor:
    """Cross-entropy of background and classes (L, A) for labels (L, A), of which -1 is background."""
    positive = labels >= 0
    of_object = F.binary_cross_entropy_with_logits(output.objectness, positive.to(output.objectness), reduction='none')
    of_class = F.cross_entropy(output.class_logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction='none')
    return of_object + of_class.view_as(labels)


@torch.no_grad()
def hard_negatives(losses: Tensor, positive: Tensor, ignored: Tensor, config: MultiBoxLossConfig) -> Tensor:
    """The negatives with the largest losses, so many for each positive; all (L, A), on the device."""
    if config.mining == 'batch':
        flat = [each.reshape(1, -1) for each in (losses, positive, ignored)]
        return _hardest(flat[0], flat[1], flat[2], config.negatives_per_positive).view_as(losses)
    return _hardest(losses, positive, ignored, config.negatives_per_positive)


def _hardest(losses: Tensor, positive: Tensor, ignored: Tensor, ratio: float) -> Tensor:
    negative = ~(positive | ignored)
    order = losses.where(negative, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(losses.shape[1], device=losses.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return negative & (rank < ratio * positive.sum(dim=1, keepdim=True))
