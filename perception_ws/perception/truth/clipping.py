"""True boxes and the borders of their picture: one rule for every source of truth.

A box that reaches over the border is clipped to it, as its object is. One without any part in the picture is refused:
it counts in another picture, another resolution or another unit, and so would all the others. What has no area, or only
touches the border, may be a box that was rounded, and is left out.

Regions to be ignored go by the same rule.
Shape letters: N boxes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception.errors import DatasetError
from perception.interfaces import GroundTruth


def clip_boxes(boxes_xyxy: np.ndarray, image_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Clip true boxes to their picture.

    Args:
        boxes_xyxy: (N, 4), in pixels of the picture.
        image_hw: Its height and width.

    Returns:
        All boxes (N, 4), clipped, of the same type; and (N,) bool, which of them have an area then. The others are to
        be left out.

    Raises:
        DatasetError: If a box lies wholly outside, or is not finite; names the first one.
    """
    boxes_xyxy = boxes_xyxy.reshape(-1, 4)
    rows, columns = image_hw
    size = np.array((columns, rows))
    reaches_in = (boxes_xyxy[:, 2:] >= 0) & (boxes_xyxy[:, :2] <= size)
    has_part = (reaches_in & np.isfinite(boxes_xyxy[:, :2]) & np.isfinite(boxes_xyxy[:, 2:])).all(axis=1)
    if not has_part.all():
        left, top, right, bottom = boxes_xyxy[~has_part][0].tolist()
        raise DatasetError(
            f'The box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies wholly outside of its picture, which is '
            f'{rows}x{columns} (height x width). Does it count in another picture, or at another resolution?'
        )
    clipped = np.clip(boxes_xyxy, 0, (columns, rows, columns, rows)).astype(boxes_xyxy.dtype, copy=False)
    return clipped, (clipped[:, 2:] > clipped[:, :2]).all(axis=1)


def clip_truth(truth: GroundTruth, image_hw: tuple[int, int]) -> GroundTruth:
    """The truth of a picture with its boxes and the regions to be ignored clipped; a mask stays as it is.

    Raises:
        DatasetError: If a box or a region lies wholly outside, or is not finite; names the first one.
    """
    if truth.boxes_xyxy is not None and truth.labels is not None:
        boxes, kept = clip_boxes(truth.boxes_xyxy, image_hw)
        truth = replace(truth, boxes_xyxy=boxes[kept], labels=truth.labels[kept])
    if truth.ignore_boxes_xyxy is not None:
        regions, kept = clip_boxes(truth.ignore_boxes_xyxy, image_hw)
        labels = None if truth.ignore_labels is None else truth.ignore_labels[kept]
        truth = replace(truth, ignore_boxes_xyxy=regions[kept], ignore_labels=labels)
    return truth
