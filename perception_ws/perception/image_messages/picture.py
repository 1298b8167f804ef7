"""Pictures as bytes -> pixels: JPEG, PNG and BMP, checked before they are decoded, turned by their orientation.

The one decoder of all pictures, in files and in messages: for training, evaluation, demo, replay and node alike.

Shape letters: H W rows and columns of the image as it is looked at.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import PIL.Image
import simplejpeg

from perception.errors import ImageError
from perception.image_messages.decoded import DecodedImage
from perception.image_messages.headers import Kind, is_whole, picture_kind, read_header, read_png_pixels
from perception.image_messages.orientation import turn
from perception.image_messages.raw import demosaic
from perception.interfaces import PixelOrder

MAX_PIXELS = 100_000_000
"""Compressed pictures that unpack to more than this are refused before they are decoded."""
NameOf = Literal['format', 'file']
_HARMLESS = re.compile(r'\b(\d|10) extraneous bytes before marker|Adobe color transform')
"""What decoders warn of though no pixel is wrong: webcams leave up to 10 bytes between the parts of pictures. In 85
pictures with damage that left bytes over there were 13 or more."""
_GREY, _PALETTE = 0, 3
_COLOR_TYPES = {2: 'colours', 4: 'grey and alpha', 6: 'colours and alpha'}


def decode_picture(data: bytes, name: str = '', name_of: NameOf = 'format', *, mosaic: str = '') -> DecodedImage:
    """Decode the bytes of a picture file; the bytes tell its kind; its format's or file's name only serves the error.

    An orientation tag of EXIF is applied, all 8 values, so that everyone sees the picture as a viewer shows it; where
    it is missing or broken, pixels come as they are stored.

    Args:
        mosaic: ROS's encoding, such as ``bayer_rggb8``, of what a picture of one channel holds; it is demosaiced.

    Raises:
        ImageError: With reason ``undecodable`` (empty, junk or damaged), ``truncated`` (no end marker), ``too_large``
            or ``unsupported_compression`` (a format whose size cannot be checked before decoding); for a mosaic also
            ``unsupported_encoding`` and ``odd_size``.
    """
    what = f'picture of {len(data)} bytes ({name_of} {name!r})'
    kind, orientation = _check(data, name, what)
    decoded = _DECODERS[kind](data, what)
    if mosaic and decoded.order is PixelOrder.MONO:
        decoded = demosaic(decoded.pixels, mosaic)
    return DecodedImage(turn(decoded.pixels, orientation), decoded.order)


def decode_ids(
    data: bytes, name: str = '', name_of: NameOf = 'format', *, dtypes: tuple[type[np.generic], ...] = (np.uint8,)
) -> np.ndarray:
    """Decode a PNG whose values are ids: (H, W) of one of the given types, turned by its orientation.

    They are the grey values or the indices of a palette, as stored: those of 1, 2 and 4 bits are not stretched to 255.

    Raises:
        ImageError: As ``decode_picture``; also ``unsupported_compression`` for what is no PNG, ``unsupported_encoding``
            for one with colours or alpha, or of another depth.
    """
    what = f'picture of {len(data)} bytes ({name_of} {name!r})'
    if data and picture_kind(data) != 'png':
        raise ImageError('unsupported_compression', f'A {what} came; expected PNG: others change the ids.')
    _, orientation = _check(data, name, what)
    depth, color_type = read_png_pixels(data)
    expected = f'expected one channel of {" or ".join(np.dtype(kind).name for kind in dtypes)} ids'
    if color_type not in (_GREY, _PALETTE):
        raise ImageError(
            'unsupported_encoding',
            f'A PNG with {_COLOR_TYPES.get(color_type, "colours")} came; {expected}, grey or with a palette. Colours '
            'are drawn for people and name no ids, also where red, green and blue are equal. Save the ids themselves.',
        )
    ids = _palette_indices(data, what) if color_type == _PALETTE else _grey_values(data, what, depth)
    if ids.dtype not in dtypes:
        raise ImageError('unsupported_encoding', f'A PNG of another depth, {depth} bits, came; {expected}.')
    return turn(ids, orientation)


def _check(data: bytes, name: str, what: str) -> tuple[Kind, int]:
    """Kind and orientation of a picture that may be decoded."""
    # Checked before OpenCV sees the bytes: many of its versions fill what a cut JPEG lacks with grey, silently.
    picture = data.rstrip(b'\0')  # senders with fixed buffers pad with zeros
    kind = picture_kind(picture)
    if kind is None and picture and not re.search('jpe?g|png|^$', name.lower()):
        raise ImageError('unsupported_compression', f'Cannot decode a {what}; publish jpeg or png.')
    if kind is None:
        if not picture:
            raise ImageError('undecodable', f'A {what} is empty.')
        raise ImageError('undecodable', f'A {what} begins with {data[:8]!r}, which is neither JPEG nor PNG.')
    if not is_whole(picture, kind):
        raise ImageError('truncated', f'A {what} has no end marker: it was cut short on its way.')
    try:
        (height, width), orientation = read_header(picture, kind)
    except ValueError as error:
        raise ImageError('undecodable', f'A {what} is damaged: {error}.') from error
    if height * width > MAX_PIXELS:
        raise ImageError('too_large', f'A {what} unpacks to {height}x{width}; the limit is {MAX_PIXELS} pixels.')
    return kind, orientation


def _decode_jpeg(data: bytes, what: str) -> DecodedImage:
    # Not by OpenCV, which fills what is damaged with grey and says nothing. The pixels are the same.
    try:
        colors = simplejpeg.decode_jpeg_header(data, strict=False)[2]
    except KeyError as error:
        raise ImageError('undecodable', f'The {what} is damaged: its header is cut short.') from error
    except ValueError:
        colors = ''  # a rare subsampling
    if colors not in ('Gray', 'YCbCr', 'RGB'):
        return _decode_by_opencv(data, what)
    target = 'GRAY' if colors == 'Gray' else 'RGB'
    try:
        pixels = _jpeg_pixels(data, target)
    except ValueError as error:
        raise ImageError('undecodable', f'The {what} is damaged: {error}.') from error
    return DecodedImage(pixels[:, :, 0], PixelOrder.MONO) if target == 'GRAY' else DecodedImage(pixels, PixelOrder.RGB)


def _jpeg_pixels(data: bytes, target: str) -> np.ndarray:
    """(H, W, 1 or 3).

    Raises:
        ValueError: If the decoder warns of more than what is harmless.
    """
    try:
        return simplejpeg.decode_jpeg(data, target)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
    return simplejpeg.decode_jpeg(data, target, strict=False)  # which meets what lies behind the first warning


def _decode_by_opencv(data: bytes, what: str) -> DecodedImage:
    pixels = _imdecode(data, what, cv2.IMREAD_ANYCOLOR)
    return DecodedImage(pixels, PixelOrder.MONO if pixels.ndim == 2 else PixelOrder.BGR)


def _imdecode(data: bytes, what: str, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError('undecodable', f'OpenCV cannot decode the {what}: {error.err}') from error
    if pixels is None:
        raise ImageError('undecodable', f'OpenCV cannot decode the {what}: its content is damaged.')
    return pixels


_DECODERS: dict[Kind, Callable[[bytes, str], DecodedImage]] = {
    'jpeg': _decode_jpeg,
    'png': _decode_by_opencv,
    'bmp': _decode_by_opencv,
}


def _grey_values(data: bytes, what: str, depth: int) -> np.ndarray:
    values = _imdecode(data, what, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    return values // (255 // (2**depth - 1)) if depth < 8 else values  # decoders stretch fewer bits to 0..255


def _palette_indices(data: bytes, what: str) -> np.ndarray:
    """(H, W) uint8. Pillow, as OpenCV only gives the palette's colours."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=['PNG']) as picture:
            return np.array(picture)
    except Exception as error:  # of a damaged picture: OSError, SyntaxError, ValueError, struct.error and more
        raise ImageError('undecodable', f'The {what} is damaged: {error}.') from error
