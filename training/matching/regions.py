"""Predictions in regions where objects are not told apart: neither objects nor background, however they are matched.

Shape letters: A predictions per image, R regions.
"""

from __future__ import annotations

from torch import Tensor

from perception.boxes import xyxy_to_cxcywh


def centred_in_any(predicted_xyxy: Tensor, regions_xyxy: Tensor) -> Tensor:
    """Which predicted boxes (A, 4) have their centre in any of the regions (R, 4) -> (A,) bool."""
    centres = xyxy_to_cxcywh(predicted_xyxy)[:, None, :2]  # (A, 1, 2)
    inside = (centres >= regions_xyxy[None, :, :2]) & (centres <= regions_xyxy[None, :, 2:])  # (A, R, 2)
    return inside.all(dim=2).any(dim=1)
