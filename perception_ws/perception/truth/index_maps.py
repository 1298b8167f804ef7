"""Pictures whose values are class or instance ids, with errors that name the file.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception.errors import DatasetError, ImageError
from perception.image_messages import decode_ids, picture_kind


@dataclass(frozen=True)
class ImageSize:
    """The image that an annotation belongs to: its name, for messages, and its height and width."""

    name: str
    hw: tuple[int, int]


def read_bytes(path: Path) -> bytes:
    """The content of a file of a data set.

    Raises:
        DatasetError: If the file is missing or cannot be read.
    """
    if not path.is_file():
        raise DatasetError(f'File {path} is missing; was the data set moved or changed while it was read?')
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f'File {path} cannot be read: {error}.') from error


def decode_by_opencv(data: bytes, path: Path, flags: int) -> np.ndarray:
    """Decode a picture of a kind that the runtime does not know, such as TIFF, by OpenCV's flags.

    Raises:
        DatasetError: If it is truncated or no picture.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise undecodable(path, error.err) from error
    if pixels is None:
        raise undecodable(path)
    return pixels


def undecodable(path: Path, reason: object = '') -> DatasetError:
    """The error for a file whose content is damaged."""
    said = f' ({reason})' if reason else ''
    return DatasetError(
        f'File {path} cannot be decoded; it is truncated, damaged or no picture. Copy or download it again.{said}'
    )


def read_index_map(path: Path, *, dtypes: tuple[type[np.generic], ...] = (np.uint8,)) -> np.ndarray:
    """Read a picture whose values are class or instance ids, as (H, W) of one of the given types.

    Of a PNG with a palette (VOC, labelme, Mapillary) the ids are the palette's indices. An orientation tag is applied.

    Raises:
        DatasetError: If the file is missing, truncated, a JPEG, has colours, or another depth.
    """
    data = read_bytes(path)
    kind = picture_kind(data)
    if kind == 'png':
        try:
            return decode_ids(data, 'png', dtypes=dtypes)
        except ImageError as error:
            if error.reason == 'unsupported_encoding':
                raise DatasetError(f'{path} holds no ids. {error}') from error
            raise undecodable(path, error) from error
    if kind == 'jpeg':
        raise DatasetError(f'{path} is a JPEG, which changes the ids that it should hold; save annotations as PNG.')
    values = decode_by_opencv(data, path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype not in dtypes:
        expected = ' or '.join(np.dtype(kind).name for kind in dtypes)
        raise DatasetError(
            f'{path} is a {values.dtype} picture of shape {values.shape}; expected one channel of {expected} ids. '
            'Save annotations as PNG.'
        )
    return values


def check_same_size(path: Path, found_hw: tuple[int, ...], image: ImageSize) -> None:
    """Check that an annotation has its image's size.

    Raises:
        DatasetError: If not; names both.
    """
    if found_hw != image.hw:
        raise DatasetError(
            f'{path} is {found_hw[0]}x{found_hw[1]} (height x width), but its image {image.name} is '
            f'{image.hw[0]}x{image.hw[1]}; both must have the same size.'
        )
