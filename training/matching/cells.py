"""Which prediction answers for which object, and which predictions are left alone.

The interdependent paper sorts nine anchors by area and gives three to each branch of the trident, so that an object is
learned by the branch whose dilation suits its size. As in YOLO (Redmon and Farhadi: "YOLO9000"), an object belongs to
the cell that holds its centre and to the anchor with the largest IoU on the same centre. Predictions that cover an
object well without being its own are not punished (YOLOv3's rule), nor are those in ignored regions.

Shape letters: B images, A predictions per image, N objects of the batch, M claims of objects on branches, P positives,
R regions, T branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from perception.boxes import pairwise_size_iou, xyxy_to_cxcywh
from perception.networks.anchors import AnchorLayout, prediction_index
from training.data.sample import send
from training.matching.regions import centred_in_any

AssignmentRule = Literal['scale_aware', 'every_branch']
"""``scale_aware``: an object is learned by the branch of its best anchor alone (the paper). ``every_branch``: by the
best anchor of each branch, as in a TridentNet whose branches have no valid ranges; the ablation."""


@dataclass(frozen=True, kw_only=True)
class MorePositives:
    """Which predictions learn an object besides its own, as in YOLOv4 and its successors: small batches of few objects
    give few examples otherwise.

    Attributes:
        anchor_iou: Anchors whose IoU with the object, on one centre, is larger; of all branches.
        neighbours: Whether also those of the two cells beside its own that are nearest to its centre; a network learns
            from them with a ``centre_reach`` of 2.
    """

    anchor_iou: float
    neighbours: bool


class Positives(NamedTuple):
    """The predictions of a batch that have an object to learn, each at most once."""

    image: Tensor
    """(P,) int64."""
    prediction: Tensor
    """(P,) int64, index among the A predictions of the image."""
    object: Tensor
    """(P,) int64, index among the N objects of the batch, counted through the images."""
    cells_xy: Tensor
    """(P, 2) int64, column and row."""
    anchors_wh: Tensor
    """(P, 2) in pixels."""


class _Claims(NamedTuple):
    """An object's wish for a place in a branch, with the branch's anchors from best to worst."""

    object: Tensor
    """(M,) int64."""
    anchors: Tensor
    """(M, anchors_per_branch) int64, numbered through all branches."""
    overlaps: Tensor
    """(M, anchors_per_branch) IoU, falling."""


def assign(
    boxes: Sequence[Tensor],
    layout: AnchorLayout,
    rule: AssignmentRule = 'scale_aware',
    more: MorePositives | None = None,
) -> Positives:
    """Give every object its prediction.

    Where several objects of an image want the same anchor of the same cell, the one with the largest IoU gets it and
    the others turn to the next-best anchor of the same branch, once all first wishes are settled; an object without a
    free anchor is left out. The result does not depend on the order of the objects, unless two are of equal size.

    Args:
        boxes: For each of the B images (N_i, 4) xyxy in input pixels, with an area, on the CPU; at least one image.
        layout: The predictions to choose from.
        rule: Whether an object is learned by one branch or by all.
        more: Which predictions learn it besides, where no object has them; the one with the largest IoU gets them.

    Returns:
        The positives, on the CPU; the objects' own predictions first.
    """
    counts = torch.tensor([len(of_image) for of_image in boxes])
    image = torch.repeat_interleave(torch.arange(len(boxes)), counts)  # (N,)
    objects = xyxy_to_cxcywh(torch.cat(list(boxes)))  # (N, 4)
    cells_xy = _cells(objects[:, :2], layout)
    claims = _claims(objects[:, 2:], layout, rule)
    slot_base = image[claims.object] * layout.predictions
    claim_cells = cells_xy[claims.object]

    slots = len(boxes) * layout.predictions
    taken = torch.zeros(slots, dtype=torch.bool)
    waiting = torch.ones(len(claims.object), dtype=torch.bool)
    settled_slot, settled_anchor = torch.zeros((2, len(waiting)), dtype=torch.int64)
    for wish in range(layout.anchors_per_branch):
        anchor = claims.anchors[:, wish]
        slot = slot_base + prediction_index(
            claim_cells, anchor, layout.feature_hw, anchors_per_branch=layout.anchors_per_branch
        )
        wins = _first_in_slot(slot, claims.overlaps[:, wish], waiting & ~taken[slot], slots)
        settled_slot[wins], settled_anchor[wins] = slot[wins], anchor[wins]
        taken[slot[wins]] = True
        waiting &= ~wins

    placed = ~waiting
    chosen = _Choice(claims.object[placed], settled_slot[placed], settled_anchor[placed], claim_cells[placed])
    if more is not None:
        others = _choose_more(objects, cells_xy, image * layout.predictions, taken, layout, more)
        chosen = _Choice(*(torch.cat(parts) for parts in zip(chosen, others, strict=True)))
    return Positives(
        image=image[chosen.object],
        prediction=chosen.slot % layout.predictions,
        object=chosen.object,
        cells_xy=chosen.cells_xy,
        anchors_wh=layout.anchors_wh[chosen.anchor],
    )


class _Choice(NamedTuple):
    """P predictions for objects: int64 each."""

    object: Tensor
    slot: Tensor
    anchor: Tensor
    cells_xy: Tensor


def _choose_more(
    objects: Tensor, cells_xy: Tensor, slot_base: Tensor, taken: Tensor, layout: AnchorLayout, more: MorePositives
) -> _Choice:
    """Objects (N, 4) centre and size, their cells (N, 2), the first slot of their image (N,), slots that are gone."""
    overlaps = pairwise_size_iou(objects[:, 2:], layout.anchors_wh)  # (N, anchors)
    owner, anchor = (overlaps > more.anchor_iou).nonzero().unbind(dim=1)  # (M,)
    cells = cells_xy[owner]  # (M, 2)
    if more.neighbours:
        part = objects[owner, :2] / layout.stride - cells  # of the cell, from its corner
        beside = torch.where(part < 0.5, -1, 1)  # (M, 2)
        across = torch.tensor([[0, 0], [1, 0], [0, 1]])
        cells = (cells[None] + across[:, None] * beside[None]).flatten(0, 1)  # (3 * M, 2)
        owner, anchor = owner.repeat(3), anchor.repeat(3)
    height, width = layout.feature_hw
    inside = ((cells >= 0) & (cells < torch.tensor([width, height]))).all(dim=1)
    owner, anchor, cells = owner[inside], anchor[inside], cells[inside]
    slot = slot_base[owner] + prediction_index(
        cells, anchor, layout.feature_hw, anchors_per_branch=layout.anchors_per_branch
    )
    wins = _first_in_slot(slot, overlaps[owner, anchor], ~taken[slot], len(taken))
    return _Choice(owner[wins], slot[wins], anchor[wins], cells[wins])


def _cells(centres: Tensor, layout: AnchorLayout) -> Tensor:
    """Centres (N, 2) to the column and row of their cells; those on the right or bottom edge stay in the grid."""
    height, width = layout.feature_hw
    last = torch.tensor([width - 1, height - 1])
    return torch.minimum((centres / layout.stride).floor().long().clamp(min=0), last)


def _claims(sizes_wh: Tensor, layout: AnchorLayout, rule: AssignmentRule) -> _Claims:
    overlaps = pairwise_size_iou(sizes_wh, layout.anchors_wh)  # (N, T * anchors_per_branch)
    branches = overlaps.shape[1] // layout.anchors_per_branch
    if rule == 'scale_aware':
        owner = torch.arange(len(overlaps))
        branch = overlaps.argmax(dim=1) // layout.anchors_per_branch
    else:
        owner, branch = torch.cartesian_prod(torch.arange(len(overlaps)), torch.arange(branches)).unbind(dim=1)
    of_branch = overlaps.unflatten(1, (branches, -1))[owner, branch]  # (M, anchors_per_branch)
    ranked = of_branch.sort(dim=1, descending=True, stable=True)
    return _Claims(owner, branch[:, None] * layout.anchors_per_branch + ranked.indices, ranked.values)


def _first_in_slot(slot: Tensor, overlap: Tensor, candidate: Tensor, slots: int) -> Tensor:
    """Which candidates (M,) have the largest overlap of all candidates for their slot -> (M,) bool, one per slot."""
    rank = torch.empty_like(slot)
    rank[overlap.argsort(descending=True, stable=True)] = torch.arange(len(slot))
    best = torch.full((slots,), len(slot)).scatter_reduce(0, slot[candidate], rank[candidate], 'amin')
    return candidate & (best[slot] == rank)


def overlaps_any(predicted_xyxy: Tensor, boxes_xyxy: Tensor, iou: float) -> Tensor:
    """Which predicted boxes (A, 4) have an IoU above a threshold with any of (N, 4) -> (A,) bool.

    The same as comparing ``pairwise_iou``, several times faster on a CPU: this runs on all predictions at every step.
    """
    left, top, right, bottom = predicted_xyxy.t().contiguous()  # (A,) each
    box_left, box_top, box_right, box_bottom = boxes_xyxy[:, :, None].unbind(dim=1)  # (N, 1) each
    width = torch.minimum(right, box_right).sub_(torch.maximum(left, box_left)).clamp_(min=0)  # (N, A)
    height = torch.minimum(bottom, box_bottom).sub_(torch.maximum(top, box_top))  # negative is as good as no overlap
    area = (right - left) * (bottom - top)
    box_area = (box_right - box_left) * (box_bottom - box_top)
    # shared / (area + box_area - shared) > iou, solved for the prediction's area.
    return width.mul_(height).mul_((1 + iou) / iou).sub_(box_area).amax(dim=0) > area


@torch.no_grad()
def ignored_predictions(
    predicted_xyxy: Tensor, boxes: Sequence[Tensor], regions: Sequence[Tensor], *, iou: float
) -> Tensor:
    """Predictions that are no background even if they have no object.

    Args:
        predicted_xyxy: (B, A, 4) decoded boxes in input pixels.
        boxes: For each image (N_i, 4) objects.
        regions: For each image (R_i, 4) regions in which objects are not told apart.
        iou: A prediction that overlaps an object by more is left alone.

    Returns:
        (B, A) bool, on the device of the predictions; positives are not excepted.
    """
    ignored = torch.zeros(predicted_xyxy.shape[:2], dtype=torch.bool, device=predicted_xyxy.device)
    for row, predicted, objects, crowds in zip(ignored, predicted_xyxy, boxes, regions, strict=True):
        if len(objects):
            row |= overlaps_any(predicted, send(objects.to(predicted.dtype), predicted.device), iou)
        if len(crowds):
            row |= centred_in_any(predicted, send(crowds.to(predicted.dtype), predicted.device))
    return ignored
