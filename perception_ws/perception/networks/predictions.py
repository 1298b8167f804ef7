"""What the detection head of a network says about a batch, and the output of a whole network.

Shape letters: B images in a batch, A predictions per image, K detection classes, C segmentation classes, H W rows and
columns of the input.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from perception.interfaces import NetworkOutput, PerceptionNetwork


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


def assemble_output(
    network: PerceptionNetwork,
    features: Tensor,
    image_hw: tuple[int, int],
    predictions: Predictions | None,
    mask_logits: Tensor | None,
    auxiliary_mask_logits: tuple[Tensor, ...] = (),
    agnostic_mask_logits: tuple[Tensor, ...] = (),
) -> NetworkOutput:
    """The output of a network, with nothing in the places of a task that was switched off.

    Args:
        network: Whose output it is.
        features: Any of its maps: says how many images there are, where they lie, and in which type.
        image_hw: Height and width of the input.
        predictions: None where detection is off.
        mask_logits: (B, C, H, W); None where segmentation is off.
        auxiliary_mask_logits, agnostic_mask_logits: Of training, nearest to the output first.
    """
    if predictions is None:
        predictions = no_predictions(features, len(network.labels.detection))
    return NetworkOutput(
        boxes=predictions.boxes,
        objectness=predictions.objectness,
        class_logits=predictions.class_logits,
        mask_logits=features.new_zeros(features.shape[0], 0, *image_hw) if mask_logits is None else mask_logits,
        box_codes=predictions.box_codes if network.training else None,
        auxiliary_mask_logits=auxiliary_mask_logits,
        agnostic_mask_logits=agnostic_mask_logits,
    )
