"""Pictures whose values are class or instance ids, with errors that name the file.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception.errors import DatasetError

_JPEG_BEGIN = b'\xff\xd8'


@dataclass(frozen=True)
class ImageSize:
    """The image that an annotation belongs to: its name, for messages, and its height and width."""

    name: str
    hw: tuple[int, int]


def read_picture(path: Path, flags: int) -> np.ndarray:
    """Read a picture that is no JPEG, by OpenCV's flags.

    Raises:
        DatasetError: If the file is missing, truncated, a JPEG or no picture.
    """
    if is_jpeg(path):
        # Besides, OpenCV fills what a damaged JPEG lacks with grey and says nothing.
        raise DatasetError(f'{path} is a JPEG, which changes the ids that it should hold; save annotations as PNG.')
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DatasetError(f'File {path} cannot be decoded; it is truncated or no picture. Copy or download it again.')
    return pixels


def is_jpeg(path: Path) -> bool:
    """Whether a file is a JPEG, by its first bytes; its name may say otherwise.

    Raises:
        DatasetError: If the file is missing or cannot be read.
    """
    if not path.is_file():
        raise DatasetError(f'File {path} is missing; was the data set moved or changed while it was read?')
    try:
        with path.open('rb') as file:
            return file.read(len(_JPEG_BEGIN)) == _JPEG_BEGIN
    except OSError as error:
        raise DatasetError(f'File {path} cannot be read: {error}.') from error


def read_index_map(path: Path, *, dtypes: tuple[type[np.generic], ...] = (np.uint8,)) -> np.ndarray:
    """Read a picture whose values are class or instance ids, as (H, W) of one of the given types.

    Raises:
        DatasetError: If the file is missing, truncated, a JPEG, has colours, or another depth.
    """
    values = read_picture(path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype not in dtypes:
        expected = ' or '.join(np.dtype(kind).name for kind in dtypes)
        raise DatasetError(
            f'{path} is a {values.dtype} picture of shape {values.shape}; expected one channel of {expected} ids. '
            'A coloured picture for people is not an annotation.'
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
