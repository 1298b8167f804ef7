"""What the bytes of a JPEG, PNG or BMP say before anything is decoded: kind, size, orientation, and whether all came.

Shape letters: H W rows and columns of the image.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from perception.image_messages.orientation import read_orientation

Kind = Literal['jpeg', 'png', 'bmp']

_SCAN, _END = b'\xff\xda', b'\xff\xd9'
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _SOS = 0xE1, 0xDA
_PNG_BEGIN = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xaeB`\x82'
_OS2_HEADER = 12


class Header(NamedTuple):
    """Height and width as stored, and the orientation of EXIF, 1 to 8."""

    hw: tuple[int, int]
    orientation: int = 1


def picture_kind(data: bytes) -> Kind | None:
    """The kind of a picture by its first bytes; None if it is none of ours."""
    return next((kind for kind, (begin, _, _) in _KINDS.items() if data.startswith(begin)), None)


def is_whole(data: bytes, kind: Kind) -> bool:
    """Whether a picture has its end marker. What lies behind that does not matter: phones append films."""
    return _KINDS[kind][1](data)


def read_header(data: bytes, kind: Kind) -> Header:
    """Size and orientation; a missing or broken EXIF block is orientation 1.

    Raises:
        ValueError: If the header states no size, or the parts of a PNG do not fit together.
    """
    try:
        return _KINDS[kind][2](data)
    except struct.error as error:
        raise ValueError('its header is cut short') from error


def read_png_pixels(data: bytes) -> tuple[int, int]:
    """Bits of a channel, and the colour type, of a PNG whose header can be read.

    Colour types are 0 grey, 2 colours, 3 palette, 4 grey with alpha, 6 colours with alpha.
    """
    return data[24], data[25]


def _read_jpeg_header(data: bytes) -> Header:
    hw, orientation = None, 1
    for marker, content in _jpeg_segments(data):
        if marker in _FRAMES and hw is None:
            height, width = struct.unpack_from('>HH', data, content + 1)
            hw = height, width
        elif marker == _APP1 and orientation == 1 and data.startswith(b'Exif', content):
            (length,) = struct.unpack_from('>H', data, content - 2)
            orientation = read_orientation(data[content : content - 2 + length])
    if hw is None:
        raise ValueError('its header states no size')
    return Header(hw, orientation)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of the content of each segment up to the first scan, or to what is no segment."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0x01 or marker in range(0xD0, 0xD8):  # markers without a length
            position += 2
        else:
            yield marker, position + 4
            if marker == _SOS:
                return
            position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')


def _read_png_header(data: bytes) -> Header:
    width, height, _, _ = struct.unpack_from('>IIBB', data, 16)
    name, orientation = b'', 1
    for name, start, end in _png_chunks(data):
        if name == b'eXIf' and zlib.crc32(data[start - 4 : end]) == int.from_bytes(data[end : end + 4], 'big'):
            orientation = read_orientation(data[start:end])
    if name != b'IEND':
        # OpenCV takes memory for a chunk before it reads it: up to 2 GB for what a damaged length promises.
        raise ValueError('its chunks do not fit together')
    return Header((height, width), orientation)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each whole chunk, up to the end's."""
    position = len(_PNG_BEGIN)
    while position + 12 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], 'big')
        if end + 4 > len(data):
            return
        name = data[start - 4 : start]
        yield name, start, end
        if name == b'IEND':
            return
        position = end + 4


def _read_bmp_header(data: bytes) -> Header:
    (header_bytes,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if header_bytes == _OS2_HEADER else '<ii', data, 18)
    return Header((abs(height), abs(width)))  # a negative height means top row first


def _is_whole_jpeg(data: bytes) -> bool:
    # A thumbnail in the header has an end, too.
    return data.endswith(_END) or data.rfind(_SCAN) < data.rfind(_END)


def _is_whole_png(data: bytes) -> bool:
    return data.endswith(_PNG_END) or any(name == b'IEND' for name, _, _ in _png_chunks(data))


def _has_no_end(data: bytes) -> bool:
    return True


_KINDS: dict[Kind, tuple[bytes, Callable[[bytes], bool], Callable[[bytes], Header]]] = {
    'jpeg': (b'\xff\xd8', _is_whole_jpeg, _read_jpeg_header),
    'png': (_PNG_BEGIN, _is_whole_png, _read_png_header),
    'bmp': (b'BM', _has_no_end, _read_bmp_header),
}
