"""sensor_msgs/CompressedImage: what its format says of the picture in it.

Shape letters: H W rows and columns of the image.
"""

from __future__ import annotations

import array
from typing import Any, TypedDict

import cv2
import numpy as np

from perception.errors import ImageError, ShapeError
from perception.image_messages.decoded import DecodedImage, as_byte_array, view_bytes
from perception.image_messages.depth import holds_depth
from perception.image_messages.picture import decode_picture


class CompressedImageFields(TypedDict):
    """All of sensor_msgs/CompressedImage but its header."""

    format: str
    data: array.array[int]


def decode_compressed_image(message: Any) -> DecodedImage:
    """Decode a sensor_msgs/CompressedImage: JPEG, PNG (8 or 16 bit) or BMP, to RGB, BGR or, where it is grey, MONO.

    A Bayer mosaic that was compressed as it is, such as ``bayer_rggb8; png compressed ``, is demosaiced.

    Raises:
        ImageError: As ``decode_picture``; also ``unsupported_encoding`` or ``unsupported_compression`` for depth.
    """
    name = str(message.format)
    if holds_depth(message):
        reason = 'unsupported_compression' if 'compressedDepth' in name else 'unsupported_encoding'
        raise ImageError(reason, f'Format {name!r} holds depth, which is no picture; choose a topic with pictures.')
    return decode_picture(view_bytes(message.data).tobytes(), name, mosaic=_mosaic_encoding(name))


def _mosaic_encoding(name: str) -> str:
    """The encoding of a Bayer mosaic in a compressed picture; '' if what was compressed is none.

    compressed_image_transport writes ``<encoding>; <codec> compressed <target>``. The target is what it made of the
    image first: bgr8 of colours and, since ROS 2 Humble and for JPEG, mono8 of all else. Only without one, or with a
    mosaic for target, the picture is the mosaic itself.
    """
    encoding, _, how = name.partition(';')
    stored = how.partition('compressed')[2].strip() or encoding.strip()
    return stored if stored.startswith('bayer_') else ''


def encode_jpeg_fields(image_rgb: np.ndarray, quality: int = 90) -> CompressedImageFields:
    """Fields of a sensor_msgs/CompressedImage with a JPEG of (H, W, 3) uint8 RGB, as image_transport writes them.

    Raises:
        ShapeError: If the image is not (H, W, 3) uint8.
    """
    if image_rgb.dtype != np.uint8 or image_rgb.shape[2:] != (3,):
        raise ShapeError(f'Image for JPEG is {image_rgb.dtype} of shape {image_rgb.shape}; expected uint8 (H, W, 3).')
    bgr = cv2.cvtColor(np.ascontiguousarray(image_rgb), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return CompressedImageFields(format='rgb8; jpeg compressed bgr8', data=as_byte_array(encoded))


def encode_png_fields(pixels: np.ndarray) -> CompressedImageFields:
    """Fields of a sensor_msgs/CompressedImage with a lossless PNG of (H, W) or RGB (H, W, 3) uint8.

    Raises:
        ShapeError: If the image is neither.
    """
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)):
        raise ShapeError(f'Image for PNG is {pixels.dtype} of shape {pixels.shape}; expected uint8 (H, W[, 3]).')
    grey = pixels.ndim == 2
    stored = np.ascontiguousarray(pixels) if grey else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode('.png', stored, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return CompressedImageFields(
        format='mono8; png compressed ' if grey else 'rgb8; png compressed bgr8', data=as_byte_array(encoded)
    )
