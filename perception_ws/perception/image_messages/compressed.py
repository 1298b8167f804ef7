"""sensor_msgs/CompressedImage: JPEG, PNG and BMP pictures, checked before they are decoded.

Shape letters: H W rows and columns of the image.
"""

from __future__ import annotations

import array
import re
import struct
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict

import cv2
import numpy as np
import simplejpeg

from perception.errors import ImageError, ShapeError
from perception.image_messages.decoded import DecodedImage, as_byte_array, view_bytes
from perception.interfaces import PixelOrder

MAX_PIXELS = 100_000_000
"""Compressed pictures that unpack to more than this are refused before they are decoded."""
_HARMLESS = re.compile(r'\b(\d|10) extraneous bytes before marker|Adobe color transform')
"""What decoders warn of though no pixel is wrong: webcams leave up to 10 bytes between the parts of pictures. In 85
pictures with damage that left bytes over there were 13 or more."""
_JPEG_SCAN, _JPEG_END = b'\xff\xda', b'\xff\xd9'


class CompressedImageFields(TypedDict):
    """All of sensor_msgs/CompressedImage but its header."""

    format: str
    data: array.array[int]


def decode_compressed_image(message: Any) -> DecodedImage:
    """Decode a sensor_msgs/CompressedImage: JPEG, PNG (8 or 16 bit) or BMP, to RGB, BGR or, where it is grey, MONO.

    Raises:
        ImageError: As ``decode_picture``; also ``unsupported_compression`` for compressedDepth.
    """
    name = str(message.format)
    if 'compressedDepth' in name:
        raise ImageError('unsupported_compression', f'Format {name!r} holds depth; choose a topic with pictures.')
    return decode_picture(view_bytes(message.data).tobytes(), name)


def decode_picture(data: bytes, name: str = '', name_of: Literal['format', 'file'] = 'format') -> DecodedImage:
    """Decode the bytes of a picture file; the bytes tell its kind; its format's or file's name only serves the error.

    The orientation tag is ignored: calibration and masks belong to the pixels as they are stored.

    Raises:
        ImageError: With reason ``undecodable`` (empty, junk or damaged), ``truncated`` (no end marker), ``too_large``
            or ``unsupported_compression`` (a format whose size cannot be checked before decoding).
    """
    what = f'picture of {len(data)} bytes ({name_of} {name!r})'
    # Checked before OpenCV sees the bytes: many of its versions fill what a cut JPEG lacks with grey, silently.
    picture = data.rstrip(b'\0')  # senders with fixed buffers pad with zeros
    kind = next((kind for kind in _PICTURE_KINDS if picture.startswith(kind.begin)), None)
    if kind is None and picture and not re.search('jpe?g|png|^$', name.lower()):
        raise ImageError('unsupported_compression', f'Cannot decode a {what}; publish jpeg or png.')
    if kind is None:
        raise ImageError('undecodable', f'A {what} begins with {data[:8]!r}, which is neither JPEG nor PNG.')
    if not kind.is_whole(picture):
        raise ImageError('truncated', f'A {what} has no end marker: it was cut short on its way.')
    try:
        height, width = kind.read_size(picture)
    except (struct.error, IndexError) as error:
        raise ImageError('undecodable', f'A {what} has no readable header.') from error
    if height * width > MAX_PIXELS:
        raise ImageError('too_large', f'A {what} unpacks to {height}x{width}; the limit is {MAX_PIXELS} pixels.')
    return kind.decode(data, what)


def _decode_jpeg(data: bytes, what: str) -> DecodedImage:
    # Not by OpenCV, which fills what is damaged with grey and says nothing. The pixels are the same.
    try:
        colors = simplejpeg.decode_jpeg_header(data, strict=False)[2]
    except KeyError as error:
        raise ImageError('undecodable', f'The {what} is damaged: its header is cut short.') from error
    except ValueError:
        colors = ''  # a rare subsampling
    if colors not in ('Gray', 'YCbCr', 'RGB'):
        return _imdecode(data, what)
    target = 'GRAY' if colors == 'Gray' else 'RGB'
    try:
        pixels = simplejpeg.decode_jpeg(data, target)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise ImageError('undecodable', f'The {what} is damaged: {error}.') from error
        pixels = simplejpeg.decode_jpeg(data, target, strict=False)
    return DecodedImage(pixels[:, :, 0], PixelOrder.MONO) if target == 'GRAY' else DecodedImage(pixels, PixelOrder.RGB)


def _imdecode(data: bytes, what: str) -> DecodedImage:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError('undecodable', f'OpenCV cannot decode the {what}: {error.err}') from error
    if pixels is None:
        raise ImageError('undecodable', f'OpenCV cannot decode the {what}: its content is damaged.')
    return DecodedImage(pixels, PixelOrder.MONO if pixels.ndim == 2 else PixelOrder.BGR)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width from the first frame header (SOF), walking the segments before it."""
    position = 2
    while True:
        if data[position] != 0xFF:
            raise IndexError('no marker where a segment should begin')
        marker = data[position + 1]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, position + 5)
            return height, width
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0x01 or marker in range(0xD0, 0xD8):  # markers without a length
            position += 2
        else:
            position += 2 + struct.unpack_from('>H', data, position + 2)[0]


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from('>II', data, 16)
    return height, width


def _bmp_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from('<ii', data, 18)
    return abs(height), abs(width)  # a negative height means top row first


def _is_whole_jpeg(data: bytes) -> bool:
    # Phones append films, action cameras their own data; a thumbnail in the header has an end, too.
    return data.endswith(_JPEG_END) or data.rfind(_JPEG_SCAN) < data.rfind(_JPEG_END)


def _is_whole_png(data: bytes) -> bool:
    return data.endswith(b'IEND\xaeB`\x82')


def _has_no_end(data: bytes) -> bool:
    return True


class _PictureKind(NamedTuple):
    begin: bytes
    is_whole: Callable[[bytes], bool]
    read_size: Callable[[bytes], tuple[int, int]]
    decode: Callable[[bytes, str], DecodedImage]


_PICTURE_KINDS = (
    _PictureKind(b'\xff\xd8', _is_whole_jpeg, _jpeg_size, _decode_jpeg),
    _PictureKind(b'\x89PNG\r\n\x1a\n', _is_whole_png, _png_size, _imdecode),
    _PictureKind(b'BM', _has_no_end, _bmp_size, _imdecode),
)


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
