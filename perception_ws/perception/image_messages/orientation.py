"""The orientation tag of EXIF (CIPA DC-008, tag 274): how a stored picture has to be turned to be looked at.

Shape letters: H W rows and columns of the image, C channels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np

_EXIF_BEGIN = b'Exif\0\0'
_TAG = 0x0112
_INTEGERS = {1: 'B', 3: 'H', 4: 'I'}
"""Formats of TIFF's BYTE, SHORT and LONG. The standard says SHORT; some tools write another one."""
_MOST_BYTES = 1 << 16
"""What a JPEG's segment can hold. A PNG's chunk can hold more; its directory is not searched without an end."""

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda stored: cv2.flip(stored, 1),
    3: lambda stored: cv2.rotate(stored, cv2.ROTATE_180),
    4: lambda stored: cv2.flip(stored, 0),
    5: cv2.transpose,
    6: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE),
    7: lambda stored: cv2.flip(cv2.transpose(stored), -1),
    8: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def read_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF; 1, as stored, where there is none or it makes no sense."""
    tiff = exif.removeprefix(_EXIF_BEGIN)[:_MOST_BYTES]
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f'{order}I', tiff, 4)
        (entries,) = struct.unpack_from(f'{order}H', tiff, directory)
        for place in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f'{order}HH', tiff, place)
            if tag == _TAG:
                (orientation,) = struct.unpack_from(f'{order}{_INTEGERS[kind]}', tiff, place + 8)
                return orientation if orientation in _TURNS else 1
    except (struct.error, KeyError):
        pass
    return 1


def turn(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W[, C]) pixels as stored to how they are looked at: (W, H[, C]) for orientations 5 to 8."""
    return _TURNS[orientation](stored) if orientation in _TURNS else stored
