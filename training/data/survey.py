"""Survey: what a data set is annotated with, in one reading of all its samples.

Shape letters: C segmentation classes, N objects of all samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from perception.boxes import xyxy_to_cxcywh
from perception.interfaces import UNLABELLED
from training.data.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What there is to learn from, or to be scored on."""

    images: int
    with_mask: int
    """Images that have one, labelled or not."""
    with_boxes: int
    """Images that are annotated for boxes, objects or not."""
    pixels: Tensor
    """(C,) int64 pixels of each class; the unlabelled ones are left out."""
    sizes_wh: Tensor
    """(N, 2) float32 width and height of each object, in pixels of its sample."""


def take_survey(samples: Iterable[Sample], classes: int) -> Survey:
    """Read samples, whose masks count C classes, once."""
    images = with_mask = with_boxes = 0
    pixels = torch.zeros(UNLABELLED + 1, dtype=torch.int64)
    sizes = [torch.zeros(0, 2)]
    for sample in samples:
        images += 1
        if sample.mask is not None:
            with_mask += 1
            pixels += torch.bincount(sample.mask.flatten(), minlength=len(pixels))
        if sample.boxes is not None:
            with_boxes += 1
            sizes.append(xyxy_to_cxcywh(sample.boxes)[:, 2:])
    return Survey(
        images=images,
        with_mask=with_mask,
        with_boxes=with_boxes,
        pixels=pixels[:classes],
        sizes_wh=torch.cat(sizes),
    )
