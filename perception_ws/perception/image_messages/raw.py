"""sensor_msgs/Image: encodings, row step, byte order.

Shape letters: H W rows and columns of the image, C channels.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import cv2
import numpy as np

from perception.errors import ImageError, ShapeError, nearest
from perception.image_messages.decoded import DecodedImage, as_byte_array, view_bytes
from perception.interfaces import PixelOrder


class ImageFields(TypedDict):
    """All of sensor_msgs/Image but its header.

    In rclpy assign the fields to an empty message: its constructor copies data element by element.
    """

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: array.array[int]


class _Layout(NamedTuple):
    """How the bytes of an encoding lie; ``to_rgb`` is the OpenCV conversion it needs, None for a plain view."""

    order: PixelOrder
    channels: int = 1
    channel_bytes: int = 1
    to_rgb: int | None = None
    even_hw: tuple[bool, bool] = (False, False)
    chroma_plane: bool = False
    assumed: str | None = None

    @property
    def pixel_bytes(self) -> int:
        return self.channels * self.channel_bytes


def _count_channels(order: PixelOrder) -> int:
    return {PixelOrder.MONO: 1, PixelOrder.RGB: 3, PixelOrder.BGR: 3}.get(order, 4)


def _layouts() -> dict[str, _Layout]:
    layouts = {}
    for bits in (8, 16):
        for order in PixelOrder:
            layouts[order.value.replace('8', str(bits))] = _Layout(order, _count_channels(order), bits // 8)
        # The constants with four letters name the pattern from the first pixel, as ROS does; those with two
        # letters (BayerBG2RGB) name it from the second row and column.
        for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
            code = getattr(cv2, f'COLOR_Bayer{pattern.upper()}2RGB')
            layouts[f'bayer_{pattern}{bits}'] = _Layout(PixelOrder.RGB, 1, bits // 8, code)
    for name in ('uyvy', 'yuv422'):
        layouts[name] = _Layout(PixelOrder.RGB, 2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, even_hw=(False, True))
    for name in ('yuyv', 'yuv422_yuy2'):
        layouts[name] = _Layout(PixelOrder.RGB, 2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, even_hw=(False, True))
    for name, code in (('nv12', cv2.COLOR_YUV2RGB_NV12), ('nv21', cv2.COLOR_YUV2RGB_NV21)):
        layouts[name] = _Layout(PixelOrder.RGB, to_rgb=code, even_hw=(True, True), chroma_plane=True)
    for name, meant in (('8UC1', 'mono8'), ('8UC3', 'bgr8'), ('8UC4', 'bgra8'), ('16UC1', 'mono16')):
        layouts[name] = layouts[meant]._replace(assumed=f'{name} names no colours and was read as {meant}')
    return layouts


_LAYOUTS = _layouts()
_BAYER_ENCODINGS = tuple(name for name in _LAYOUTS if name.startswith('bayer_'))


def decode_image(message: Any) -> DecodedImage:
    """Decode a sensor_msgs/Image.

    rgb8, bgr8, rgba8, bgra8 and mono8 (and 8UC1, 8UC3, 8UC4) are a view on ``message.data``; the view is writeable
    only where the data is. NV12 and NV21 are expected with the picture's height and step * height * 3 / 2 bytes.

    Raises:
        ImageError: With reason ``unsupported_encoding``, ``zero_size``, ``wrong_step``, ``wrong_length``,
            ``odd_size`` or ``undecodable`` (the data are no bytes).
    """
    height, width = int(message.height), int(message.width)
    if height <= 0 or width <= 0:
        raise ImageError('zero_size', f'Image is {height}x{width} (height x width); both must be above zero.')
    layout = _LAYOUTS.get(str(message.encoding))
    if layout is None:
        return _decode_by_cv_bridge(message)
    _check_pattern_fits(height, width, str(message.encoding), layout)
    pixels = _view_pixels(message, height * 3 // 2 if layout.chroma_plane else height, width, layout)
    if layout.channel_bytes == 2:
        # value >> 8 is the high byte: the first of two in a big-endian image, the second otherwise.
        pixels = np.ascontiguousarray(pixels[..., 0 if message.is_bigendian else 1])
    if layout.to_rgb is not None:
        pixels = cv2.cvtColor(pixels, layout.to_rgb)
    return DecodedImage(pixels, layout.order, layout.assumed)


def demosaic(mosaic: np.ndarray, encoding: str) -> DecodedImage:
    """The colours of a (H, W) uint8 Bayer mosaic; its encoding, such as bayer_rggb8, names the pattern.

    Raises:
        ImageError: With reason ``unsupported_encoding`` (no known pattern) or ``odd_size``.
    """
    layout = _LAYOUTS.get(encoding) if encoding in _BAYER_ENCODINGS else None
    if layout is None or layout.to_rgb is None:
        known = nearest(encoding, list(_BAYER_ENCODINGS))
        raise ImageError('unsupported_encoding', f'Encoding {encoding!r} of a mosaic is not supported: {known}')
    height, width = mosaic.shape
    _check_pattern_fits(height, width, encoding, layout)
    return DecodedImage(cv2.cvtColor(np.ascontiguousarray(mosaic), layout.to_rgb), layout.order)


def _check_pattern_fits(height: int, width: int, encoding: str, layout: _Layout) -> None:
    if (layout.even_hw[0] and height % 2) or (layout.even_hw[1] and width % 2):
        sides = 'height and width' if layout.even_hw[0] else 'width'
        raise ImageError('odd_size', f'{encoding} image is {height}x{width}; its shared chroma needs an even {sides}.')
    if encoding.startswith('bayer') and min(height, width) < 3:
        # OpenCV returns black below this size instead of an error.
        raise ImageError('odd_size', f'{encoding} image is {height}x{width}; demosaicing needs at least 3x3 pixels.')


def _view_pixels(message: Any, rows: int, width: int, layout: _Layout) -> np.ndarray:
    """View the data as (rows, W[, C][, 2 bytes]) after checking that step and length agree with the other fields."""
    step, needed = int(message.step), width * layout.pixel_bytes
    what = f'{message.encoding} image of width {width}'
    if step < needed:
        raise ImageError(
            'wrong_step',
            f'{what} has step {step}; it must be at least {needed} '
            f'({width} pixels of {layout.pixel_bytes} bytes). Fix the publisher of this topic.',
        )
    data = view_bytes(message.data)
    if len(data) != step * rows:
        raise ImageError(
            'wrong_length',
            f'{what} has {len(data)} bytes of data; expected {step * rows} ({rows} rows with step {step}).',
        )
    shape: tuple[int, ...] = (rows, width)
    if layout.channels > 1:
        shape += (layout.channels,)
    if layout.channel_bytes > 1:
        shape += (layout.channel_bytes,)
    return data.reshape(rows, step)[:, :needed].reshape(shape)  # only row padding is cut off, so both stay views


@functools.cache
def _find_cv_bridge() -> Callable[..., np.ndarray] | str:
    """The conversion of cv_bridge, or why there is none. Built against another NumPy, its import fails in many ways."""
    try:
        from cv_bridge import CvBridge
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return CvBridge().imgmsg_to_cv2


def _decode_by_cv_bridge(message: Any) -> DecodedImage:
    known = f'Encoding {str(message.encoding)!r} is not supported: {nearest(str(message.encoding), list(_LAYOUTS))}'
    convert = _find_cv_bridge()
    if isinstance(convert, str):
        raise ImageError('unsupported_encoding', f'{known} Other encodings need a working cv_bridge: {convert}')
    try:
        pixels = convert(message, 'bgr8')
    except Exception as error:  # CvBridgeError, cv2.error, TypeError and more
        raise ImageError('unsupported_encoding', f'{known} cv_bridge cannot convert it to bgr8: {error}') from error
    return DecodedImage(pixels, PixelOrder.BGR)


def encode_image_fields(image: np.ndarray, order: PixelOrder = PixelOrder.RGB) -> ImageFields:
    """Fields of a sensor_msgs/Image for (H, W) or (H, W, C) uint8; two dimensions are always mono8.

    The data is an array.array: rclpy takes it at the speed of memory; an ndarray would be copied element by element.

    Raises:
        ShapeError: If the image is not uint8 or its channels do not fit ``order``.
    """
    order = PixelOrder.MONO if image.ndim == 2 else order
    channels = _count_channels(order)
    if image.dtype != np.uint8 or image.shape[2:] != (() if order is PixelOrder.MONO else (channels,)):
        raise ShapeError(
            f'Image to encode as {order.value} is {image.dtype} of shape {image.shape}; expected uint8 of shape '
            '(H, W) for mono, (H, W, 3) for rgb and bgr, (H, W, 4) for rgba and bgra.'
        )
    height, width = image.shape[:2]
    return ImageFields(
        encoding=order.value,
        height=height,
        width=width,
        step=width * channels,
        is_bigendian=0,
        data=as_byte_array(image),
    )
