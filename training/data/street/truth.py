"""The truth of a frame, painted from its polygons exactly as the Cityscapes tools paint it.

Objects in list order, later ones over earlier ones; an instance id is ``1000 * label id + number``, numbered per label
from 0 in list order; stuff and groups keep the plain label id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.data.street.labels import INSTANCE_LABELS, LABEL_IDS, base_label
from training.data.street.painter import LabelledPolygon

_FEWEST_PX = 6


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What one frame shows.

    Attributes:
        label_ids: (H, W) uint8.
        instance_ids: (H, W) uint16.
        polygons: Those of which something can be seen, far ones first.
    """

    label_ids: np.ndarray
    instance_ids: np.ndarray
    polygons: tuple[LabelledPolygon, ...]


def paint_truth(polygons: Sequence[LabelledPolygon], image_hw: tuple[int, int]) -> Truth:
    """Leave out the polygons that others hide, and paint label and instance ids from the rest."""
    visible = np.bincount(_paint_indices(polygons, image_hw).ravel(), minlength=len(polygons) + 1)
    kept = [polygon for polygon, area in zip(polygons, visible[1:], strict=True) if area >= _FEWEST_PX]
    labels, instances = [0], [0]
    numbers: Counter[str] = Counter()
    for polygon in kept:
        label_id = LABEL_IDS[base_label(polygon.label)]
        labels.append(label_id)
        if polygon.label in INSTANCE_LABELS:
            instances.append(1000 * label_id + numbers[polygon.label])
            numbers[polygon.label] += 1
        else:
            instances.append(label_id)
    indices = _paint_indices(kept, image_hw)
    return Truth(
        label_ids=np.array(labels, np.uint8)[indices],
        instance_ids=np.array(instances, np.uint16)[indices],
        polygons=tuple(kept),
    )


def _paint_indices(polygons: Sequence[LabelledPolygon], image_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) int32: 1 + index of the last polygon over each pixel, 0 for none."""
    indices = np.zeros(image_hw, np.int32)
    for index, polygon in enumerate(polygons):
        cv2.fillPoly(indices, [polygon.points_px], index + 1)
    return indices
