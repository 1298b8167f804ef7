"""Batch: the samples of one step, held in few tensors so that they cross processes and devices in few copies.

Shape letters: B samples, P samples with a mask, H W rows and columns, N objects and M ignored regions of all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from perception.errors import ShapeError
from training.data.sample import Sample


class PackedSamples(NamedTuple):
    """Samples of one size, joined; what a loader process sends."""

    images: Tensor
    """(B, H, W, 3) uint8."""
    masks: Tensor
    """(P, H, W) uint8."""
    boxes: Tensor
    """(N, 4) float32."""
    labels: Tensor
    """(N,) int64."""
    ignore_boxes: Tensor
    """(M, 4) float32."""
    has_mask: list[bool]
    box_counts: list[int]
    """Objects of each sample; -1 where boxes are not annotated."""
    ignore_counts: list[int]
    names: list[str]


def pack_samples(samples: Sequence[Sample]) -> PackedSamples:
    """Join samples.

    Raises:
        ShapeError: If their images differ in size.
    """
    sizes = {tuple(sample.image.shape) for sample in samples}
    if len(sizes) != 1:
        raise ShapeError(f'A batch needs images of one size; got {sorted(sizes)}. Give the stream a transform.')
    height, width = samples[0].image.shape[1:]
    boxes = [sample.boxes for sample in samples if sample.boxes is not None]
    labels = [sample.labels for sample in samples if sample.labels is not None]
    masks = [sample.mask for sample in samples if sample.mask is not None]
    return PackedSamples(
        images=torch.stack([sample.image.permute(1, 2, 0) for sample in samples]),
        masks=torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.uint8),
        boxes=torch.cat(boxes) if boxes else torch.zeros(0, 4),
        labels=torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64),
        ignore_boxes=torch.cat([sample.ignore_boxes for sample in samples]),
        has_mask=[sample.mask is not None for sample in samples],
        box_counts=[-1 if sample.boxes is None else len(sample.boxes) for sample in samples],
        ignore_counts=[len(sample.ignore_boxes) for sample in samples],
        names=[sample.name for sample in samples],
    )


class Batch(list[Sample]):
    """A list of samples whose tensors are views of joined ones."""

    def __init__(self, packed: PackedSamples) -> None:
        self.packed = packed
        masks = iter(packed.masks)
        counts = [max(count, 0) for count in packed.box_counts]
        boxes, labels = packed.boxes.split(counts), packed.labels.split(counts)
        ignored = packed.ignore_boxes.split(packed.ignore_counts)
        super().__init__(
            Sample(
                image=image,
                boxes=boxes[place] if packed.box_counts[place] >= 0 else None,
                labels=labels[place] if packed.box_counts[place] >= 0 else None,
                ignore_boxes=ignored[place],
                mask=next(masks) if packed.has_mask[place] else None,
                name=packed.names[place],
            )
            for place, image in enumerate(self.images)
        )

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) uint8 in channels-last memory."""
        return self.packed.images.permute(0, 3, 1, 2)
