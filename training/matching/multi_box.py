"""Matching of the SSD line: which prior boxes learn which object.

Liu et al. ("SSD: Single shot multibox detector", section 2.2): an object is learned by the prior that overlaps it most,
whatever the overlap, and by every prior whose own best object it is with an IoU of at least 0.5.

Shape letters: N objects of an image, A prior boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perception.boxes import pairwise_iou


@torch.no_grad()
def match_priors(objects_xyxy: Tensor, priors_xyxy: Tensor, *, iou: float) -> Tensor:
    """Give every prior its object, on the device of the two, which is not waited for.

    Where several objects have the same best prior, the one with the largest IoU gets it, the first of equal ones. An
    object that touches no prior has none.

    Args:
        objects_xyxy: (N, 4) in input pixels, with an area.
        priors_xyxy: (A, 4).
        iou: A prior learns the object that it overlaps most from this IoU on.

    Returns:
        (A,) int64, index of the object; -1: none.
    """
    count = len(objects_xyxy)
    if not count:
        return torch.full((len(priors_xyxy),), -1, device=priors_xyxy.device)
    overlaps = pairwise_iou(objects_xyxy, priors_xyxy)  # (N, A)
    largest, matched = overlaps.max(dim=0)  # (A,)
    matched = torch.where(largest >= iou, matched, -1)

    own_overlap, own_prior = overlaps.max(dim=1)  # (N,)
    by_overlap = own_overlap.argsort(descending=True, stable=True)
    rank = torch.empty_like(by_overlap).scatter_(0, by_overlap, torch.arange(count, device=by_overlap.device))
    rank = torch.where(own_overlap > 0, rank, count)
    first = torch.full_like(matched, count).scatter_reduce(0, own_prior, rank, 'amin')  # (A,)
    return torch.where(first < count, by_overlap[first.clamp(max=count - 1)], matched)
