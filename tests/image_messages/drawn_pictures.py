"""Pictures as other tools write them: with an orientation tag, with a palette, as a mosaic."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image

INTEGERS = {1: 'B', 3: 'H', 4: 'I'}


def draw_smooth(height: int, width: int) -> np.ndarray:
    """(H, W, 3) slow ramps, each colour in a direction of its own: no turn of it looks like another one."""
    y, x = np.mgrid[:height, :width]
    return np.stack((40 + 2 * x, 200 - 2 * y, 60 + x + y), axis=-1).astype(np.uint8)


def encode(kind: str, pixels: np.ndarray) -> bytes:
    """A picture of (H, W), or (H, W, 3) in OpenCV's order."""
    return cv2.imencode(kind, pixels)[1].tobytes()


def exif_block(orientation: int, *, order: str = '<', kind: int = 3, before: Sequence[int] = ()) -> bytes:
    """TIFF with one directory: some other tags, then the orientation as BYTE (1), SHORT (3) or LONG (4)."""
    begin = b'II*\0' if order == '<' else b'MM\0*'
    entries = [struct.pack(f'{order}HHI4s', tag, 3, 1, b'\7\7\7\7') for tag in before]
    value = struct.pack(f'{order}{INTEGERS[kind]}', orientation).ljust(4, b'\0')
    entries.append(struct.pack(f'{order}HHI4s', 0x0112, kind, 1, value))
    directory = struct.pack(f'{order}H', len(entries)) + b''.join(entries) + bytes(4)
    return begin + struct.pack(f'{order}I', 8) + directory


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def add_exif(picture: bytes, exif: bytes, *, behind: bool = False) -> bytes:
    """The same JPEG or PNG with a block of EXIF; ``behind`` the pixels of a PNG, or other segments of a JPEG."""
    if picture.startswith(b'\xff\xd8'):
        body = b'Exif\0\0' + exif
        place = picture.index(b'\xff\xda') if behind else 2
        return picture[:place] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + picture[place:]
    place = len(picture) - 12 if behind else 33  # IEND, or what follows IHDR
    return picture[:place] + png_chunk(b'eXIf', exif) + picture[place:]


def palette_png(ids: np.ndarray, bits: int = 8) -> bytes:
    """A PNG whose palette paints each of the (H, W) ids in a colour that is none of them."""
    picture = PIL.Image.new('P', ids.shape[::-1])
    picture.putdata(ids.ravel().tolist())
    picture.putpalette([(37 * value + part * 90) % 256 for value in range(2**bits) for part in range(3)])
    content = io.BytesIO()
    picture.save(content, 'PNG', bits=bits)
    return content.getvalue()


def grey_png(ids: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits that stores the (H, W) ids as they are."""
    shifts = np.arange(8 - bits, -1, -bits)
    padded = np.pad(ids, ((0, 0), (0, -ids.shape[1] % len(shifts)))).reshape(len(ids), -1, len(shifts))
    rows = (padded << shifts).sum(axis=2).astype(np.uint8)
    header = struct.pack('>IIBBBBB', ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    content = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
    chunks = png_chunk(b'IHDR', header) + png_chunk(b'IDAT', content) + png_chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


def mosaic_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """(H, W) uint8: what a sensor with that pattern, such as ``rggb``, sees of a (H, W, 3) image."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for index, color in enumerate(pattern):
        y, x = divmod(index, 2)
        mosaic[y::2, x::2] = rgb[y::2, x::2, 'rgb'.index(color)]
    return mosaic
