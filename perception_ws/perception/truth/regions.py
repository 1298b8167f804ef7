"""From pixels to boxes: the bounding boxes of regions in an index map.

A box is xyxy in continuous pixel coordinates: it ends at the far edge of the last pixel.
Shape letters: H W rows and columns, N regions.
"""

from __future__ import annotations

import cv2
import numpy as np


def component_boxes(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes of the 8-connected components of a (H, W) bool or 0/1 map.

    Returns:
        (N, 4) float32 xyxy boxes and (N,) int64 areas in pixels.
    """
    _, _, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    left, top, width, height, area = statistics[1:].T  # the first one is the background
    return np.stack((left, top, left + width, top + height), axis=1).astype(np.float32), area.astype(np.int64)


def value_box(values: np.ndarray, value: int) -> tuple[int, int, int, int]:
    """Bounding box xyxy of the pixels of a (H, W) map that have the value; it must occur."""
    left, top, width, height = cv2.boundingRect(cv2.inRange(values, value, value))
    return left, top, left + width, top + height
