"""What the detection head of a network says about a batch.

Shape letters: B images in a batch, A predictions per image, K detection classes.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Predictions(NamedTuple):
    """What the head says about a batch."""

    boxes: Tensor
    """(B, A, 4) xyxy in input pixels, float32."""
    objectness: Tensor
    """(B, A) logits."""
    class_logits: Tensor
    """(B, A, K)."""
    box_codes: Tensor
    """(B, A, 4) raw regression outputs."""


def no_predictions(features: Tensor, classes: int) -> Predictions:
    """What a head would say without a single cell, A = 0, where it would read such a map (B, C, h, w)."""
    batch = features.shape[0]
    codes, objectness = features.new_zeros(batch, 0, 4), features.new_zeros(batch, 0)
    return Predictions(codes.float(), objectness, features.new_zeros(batch, 0, classes), codes)
