"""What decoding returns, and how message data becomes an array of bytes and back.

Shape letters: H W rows and columns of the image, C channels.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception.errors import ImageError
from perception.image import to_rgb
from perception.interfaces import PixelOrder


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: uint8, (H, W) for MONO, else (H, W, C). May be a view on the message's bytes, rows possibly padded.
        order: What the channels are.
        assumed: What was taken for granted because the encoding does not say it (8UC3 names no colours); else None.
    """

    pixels: np.ndarray
    order: PixelOrder
    assumed: str | None = None

    def to_rgb(self) -> np.ndarray:
        """The image as (H, W, 3) uint8 RGB, contiguous; of an unpadded rgb8 image still a view on the message."""
        return np.ascontiguousarray(to_rgb(self.pixels, self.order))


def view_bytes(data: Any) -> np.ndarray:
    """View the ``data`` field of a message as (bytes,) uint8, without a copy.

    Raises:
        ImageError: With reason ``undecodable`` if it is no contiguous sequence of bytes.
    """
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageError('undecodable', f'Image data is a {type(data).__name__}, not a sequence of bytes.') from error


def as_byte_array(values: np.ndarray) -> array.array[int]:
    """Copy uint8 values of any shape into what a uint8[] field takes fastest."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).data)
    return data
