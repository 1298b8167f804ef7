"""The loss of anchor predictions: objectness of all, class and box of those that have an object.

As in YOLO (Redmon and Farhadi: "YOLOv3"), with the focal loss that the interdependent paper names (Lin et al.: "Focal
loss for dense object detection"). Ten thousand predictions stand against some tens of objects, and this imbalance is
in the objectness; so that is where its alpha acts. Everything is a sum over an image, the scale on which the paper's
W_seg of 30 to 50 balances a mean over pixels.

Shape letters: L images with boxes, A predictions per image, K detection classes, N objects of all images, P positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from perception.boxes import centre_offset, paired_iou, xyxy_to_cxcywh, yolo_targets
from perception.errors import ConfigError
from perception.interfaces import NetworkOutput
from perception.networks.anchors import AnchorLayout
from training.checks import check_weights, require_box_codes
from training.data.sample import Sample, send
from training.matching.cells import AssignmentRule, MorePositives, Positives, assign, ignored_predictions

DETECTION_NAMES = ('detection', 'detection_objectness', 'detection_class', 'detection_box')

BoxLoss = Literal['squared', 'giou']
ObjectnessTarget = Literal['one', 'iou']

NO_ALPHA = -1.0


@dataclass(frozen=True, kw_only=True)
class DetectionLossConfig:
    """Weights and choices; why the defaults are what they are: docs/decisions.md#targets-and-losses.

    Attributes:
        assignment: Which branches learn an object: ``scale_aware`` or ``every_branch``.
        more_positives_iou: Anchors that overlap an object by more, on one centre, learn it besides its own; 1: none.
        neighbour_cells: Whether the two cells beside an object's own that are nearest to its centre learn it, too.
        objectness_target: What objectness learns at positives: ``one``, or the ``iou`` of box and object, so that
            scores rank boxes by their quality (Li et al.: "Generalized focal loss", the quality focal loss).
        ignore_iou: A prediction that overlaps an object by more is no background.
        focal_gamma, focal_alpha: Of the focal loss; alpha, the weight of positives, is for objectness only.
        objectness_weight, class_weight, box_weight: Of the three terms.
        box_loss: ``squared`` error in the space of the code, where small boxes weigh up to twice as much as large ones;
            or ``giou`` of the decoded boxes, which is free of scale.
    """

    assignment: AssignmentRule = 'scale_aware'
    more_positives_iou: float = 1.0
    neighbour_cells: bool = False
    objectness_target: ObjectnessTarget = 'one'
    ignore_iou: float = 0.5
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    objectness_weight: float = 1.0
    class_weight: float = 1.0
    box_weight: float = 1.0
    box_loss: BoxLoss = 'squared'

    def __post_init__(self) -> None:
        choices = {
            'assignment': ('scale_aware', 'every_branch'),
            'box_loss': ('squared', 'giou'),
            'objectness_target': ('one', 'iou'),
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f'{key}: expected one of {", ".join(allowed)}, got {getattr(self, key)!r}.')
        for key in ('ignore_iou', 'more_positives_iou'):
            if not 0 < getattr(self, key) <= 1:
                raise ConfigError(f'{key}: expected an overlap in (0, 1], got {getattr(self, key)}.')
        if self.neighbour_cells and self.more_positives_iou == 1:
            raise ConfigError('neighbour_cells: set more_positives_iou below 1, too; it says for which anchors.')
        for key in ('focal_gamma', 'objectness_weight', 'class_weight', 'box_weight'):
            check_weights(key, getattr(self, key))
        if not 0 <= self.focal_alpha <= 1 and self.focal_alpha != NO_ALPHA:
            raise ConfigError(f'focal_alpha: expected a share in 0..1, got {self.focal_alpha}.')


class CellLoss:
    """``detection_terms`` of the images of a batch that have boxes, by their number."""

    settings: ClassVar[str] = 'detection'
    names: ClassVar[tuple[str, ...]] = DETECTION_NAMES

    def __init__(
        self, layout: AnchorLayout, samples: Sequence[Sample], config: DetectionLossConfig, device: torch.device
    ) -> None:
        self._layout, self._samples, self._config = layout, samples, config
        self.count = len(samples)

    def terms(self, output: NetworkOutput, per_count: Tensor) -> dict[str, Tensor]:
        """See ``detection_terms``."""
        return detection_terms(output, self._samples, self._layout, self._config, per_image=per_count)


def detection_terms(
    output: NetworkOutput,
    samples: Sequence[Sample],
    layout: AnchorLayout,
    config: DetectionLossConfig,
    *,
    per_image: Tensor,
) -> dict[str, Tensor]:
    """The loss of some images and its parts.

    Args:
        output: Predictions for these images, of a network in training mode.
        samples: L samples with boxes.
        layout: Anchors and cells of the predictions.
        config: Weights and choices.
        per_image: One over the number of images with boxes in the joint batch.

    Returns:
        ``detection``, the weighted sum, and its parts ``detection_objectness``, ``detection_class``, ``detection_box``.

    Raises:
        PerceptionError: If the output has no box codes.
        ConfigError: If cells are to learn what the network cannot say of them.
    """
    codes = require_box_codes(output)
    if config.neighbour_cells and layout.centre_reach < 2:
        raise ConfigError(
            f'neighbour_cells: a centre can leave its cell where the network has a centre_reach of 2; it has '
            f'{layout.centre_reach}. Set it in network_config, or leave neighbour_cells out.'
        )
    device = output.objectness.device
    boxes = [sample.boxes.cpu() for sample in samples if sample.boxes is not None]
    more = MorePositives(anchor_iou=config.more_positives_iou, neighbours=config.neighbour_cells)
    positives = assign(boxes, layout, config.assignment, more if config.more_positives_iou < 1 else None)
    labels = torch.cat([sample.labels.cpu() for sample in samples if sample.labels is not None])
    objects = send(torch.cat(boxes)[positives.object], device)  # (P, 4)
    labels = send(labels[positives.object], device)  # (P,)
    positives = Positives(*(send(part, device) for part in positives))

    ignored = ignored_predictions(
        output.boxes.detach(), boxes, [sample.ignore_boxes for sample in samples], iou=config.ignore_iou
    )
    at_positives = (positives.image, positives.prediction)
    terms = {
        'detection_objectness': config.objectness_weight
        * _objectness_sum(output, at_positives, objects, ignored, config),
        'detection_class': config.class_weight * _class_sum(output.class_logits[at_positives], labels, config),
        'detection_box': config.box_weight
        * _box_errors(
            codes[at_positives], output.boxes[at_positives], objects, positives, layout, config.box_loss
        ).sum(),
    }
    terms = {name: term * per_image for name, term in terms.items()}
    return terms | {'detection': torch.stack(list(terms.values())).sum()}


def _objectness_sum(
    output: NetworkOutput,
    at_positives: tuple[Tensor, Tensor],
    objects: Tensor,
    ignored: Tensor,
    config: DetectionLossConfig,
) -> Tensor:
    """Predictions of L images, positives by image and prediction, their objects (P, 4), ignored (L, A) bool."""
    positive = torch.zeros_like(ignored)
    positive[at_positives] = True
    target = positive.to(output.objectness)
    if config.objectness_target == 'iou':
        target[at_positives] = paired_iou(output.boxes[at_positives].detach(), objects).to(target)
        losses = _quality_focal_loss(output.objectness, target, positive, config)
    else:
        losses = sigmoid_focal_loss(output.objectness, target, config.focal_alpha, config.focal_gamma)  # (L, A)
    return (losses * (positive | ~ignored)).sum()


def _quality_focal_loss(logits: Tensor, target: Tensor, positive: Tensor, config: DetectionLossConfig) -> Tensor:
    """Least where the probability is the target; each (L, A). The focal loss where targets are 0 and 1."""
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    losses = losses * (target - logits.sigmoid()).abs() ** config.focal_gamma
    if config.focal_alpha == NO_ALPHA:
        return losses
    return losses * torch.where(positive, config.focal_alpha, 1 - config.focal_alpha)


def _class_sum(class_logits: Tensor, labels: Tensor, config: DetectionLossConfig) -> Tensor:
    """Logits (P, K) and labels (P,)."""
    target = F.one_hot(labels, class_logits.shape[1]).to(class_logits)
    return sigmoid_focal_loss(class_logits, target, NO_ALPHA, config.focal_gamma, reduction='sum')


def _box_errors(
    codes: Tensor, decoded: Tensor, objects: Tensor, positives: Positives, layout: AnchorLayout, kind: BoxLoss
) -> Tensor:
    """Codes, decoded boxes and objects, each (P, 4) -> (P,)."""
    if kind == 'giou':
        return generalized_box_iou_loss(decoded, objects)
    predicted = torch.cat((centre_offset(codes[:, :2], layout.centre_reach), codes[:, 2:]), dim=1)
    target = yolo_targets(objects, positives.cells_xy, positives.anchors_wh, layout.stride)
    share = xyxy_to_cxcywh(objects)[:, 2:].prod(dim=1) / layout.image_area
    return F.mse_loss(predicted, target.to(predicted), reduction='none').sum(dim=1) * (2 - share)
