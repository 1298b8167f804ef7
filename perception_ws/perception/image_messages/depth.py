"""Distances in messages of images: no picture, and no camera."""

from __future__ import annotations

from typing import Any

_DEPTH_ENCODINGS = ('16UC1', '32FC1')
"""Millimetres and metres, REP 118. mono16 is brightness: infrared and thermal cameras send it."""


def holds_depth(message: Any) -> bool:
    """Whether a sensor_msgs/Image or CompressedImage holds distances, by its encoding or format."""
    name = str(getattr(message, 'encoding', '') or getattr(message, 'format', ''))
    return 'compressedDepth' in name or name.partition(';')[0].strip() in _DEPTH_ENCODINGS
