"""How a teacher looks at an image: at several sizes, and mirrored; what it sees is put together.

A teacher may take its time: on its answers others learn for long. Boxes of all views go into one suppression.

Shape letters: H W rows and columns of an image, N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from perception.boxes import class_wise_suppression
from perception.errors import ConfigError
from perception.interfaces import Detections


@dataclass(frozen=True, kw_only=True)
class Views:
    """Sizes and mirror.

    Attributes:
        sizes: Longer side of the input in pixels, each a multiple of 32; empty: the teacher's own size.
        flip: Whether it also sees the mirrored image.
        score_floor: Boxes with a lower score are not kept.
        nms_threshold: Boxes of one class that overlap more (IoU) are one.
    """

    sizes: tuple[int, ...] = ()
    flip: bool = True
    score_floor: float = 0.05
    nms_threshold: float = 0.6

    def __post_init__(self) -> None:
        if any(size < 32 or size % 32 for size in self.sizes):
            raise ConfigError(f'Sizes of a teacher must be multiples of 32; got {list(self.sizes)}.')
        for name in ('score_floor', 'nms_threshold'):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'{name} must lie in 0..1; got {getattr(self, name)}.')


class Answer(NamedTuple):
    """What a teacher says of an image."""

    detections: Detections
    mask: np.ndarray | None = None
    """(H, W) uint8 class of each pixel."""
    confidence: np.ndarray | None = None
    """(H, W) uint8, its probability * 255."""


def mirror_boxes(boxes_xyxy: np.ndarray, width: int) -> np.ndarray:
    """(N, 4) boxes of a mirrored image of that width, in the image itself."""
    return np.stack((width - boxes_xyxy[:, 2], boxes_xyxy[:, 1], width - boxes_xyxy[:, 0], boxes_xyxy[:, 3]), axis=1)


def join_detections(seen: Sequence[Detections], views: Views) -> Detections:
    """One list of what several views have, without doubles."""
    boxes = torch.from_numpy(np.concatenate([found.boxes_xyxy for found in seen]))
    scores = torch.from_numpy(np.concatenate([found.scores for found in seen]))
    labels = torch.from_numpy(np.concatenate([found.labels for found in seen]))
    kept = class_wise_suppression(boxes, scores, labels, views.nms_threshold)
    return Detections(boxes_xyxy=boxes[kept].numpy(), scores=scores[kept].numpy(), labels=labels[kept].numpy())
