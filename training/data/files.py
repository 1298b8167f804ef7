"""Reading the pictures of data sets, with errors that name the file.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from perception.errors import DatasetError, ImageError, list_names
from perception.image_messages import decode_picture, picture_kind
from perception.truth.index_maps import decode_by_opencv, read_bytes, undecodable

_PICTURE_SUFFIXES = ('.jpg', '.png')
LISTED_SUFFIXES = (*_PICTURE_SUFFIXES, '.jpeg', '.bmp', '.tif', '.tiff', '.ppm', '.webp')
"""Endings in a list, which may have been made before the images were converted; other dots are part of a name."""
_JPEG_END = b'\xff\xd9'


def require_folder(folder: Path, purpose: str, check: str = 'root and split') -> Path:
    """Return the folder, which the settings named in ``check`` lead to.

    Raises:
        DatasetError: If it is missing; names the nearest parent that exists and what lies there.
    """
    if not folder.is_dir():
        raise _missing('folder', folder, purpose, check)
    return folder


def require_file(file: Path, purpose: str, check: str = 'root and split') -> Path:
    """Return the file, which the settings named in ``check`` lead to.

    Raises:
        DatasetError: If it is missing; names the nearest parent that exists and what lies there.
    """
    if not file.is_file():
        raise _missing('file', file, purpose, check)
    return file


def _missing(kind: str, path: Path, purpose: str, check: str) -> DatasetError:
    parent = next((above for above in path.parents if above.is_dir()), Path('/'))
    present = list_names(sorted(entry.name for entry in parent.iterdir()))
    return DatasetError(f'{purpose}: {kind} {path} is missing; {parent} holds {present}. Check {check}.')


def require_files(files: list[Path], purpose: str) -> None:
    """Check that all files exist.

    Raises:
        DatasetError: Names the first one missing and says how many are.
    """
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(
            f'{purpose}: file {missing[0]} is missing ({len(missing)} of {len(files)} in all). '
            'Is the download or the copy complete?'
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without those that are empty.

    Raises:
        DatasetError: If it is no text, or holds none.
    """
    try:
        # Editors on Windows begin a file with a byte order mark, which is no part of the first name.
        text = path.read_text(encoding='utf-8-sig')
    except ValueError as error:
        raise DatasetError(f'{path} is no text in UTF-8 ({error}); save it as such.') from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DatasetError(f'{path} lists no images; expected one name a line.')
    return lines


def find_picture(folder: Path, name: str) -> Path:
    """The picture as JPEG, else as PNG, whether that exists or not.

    Raises:
        DatasetError: If it is there as both: nobody says which of them the annotation is of.
    """
    jpeg, png = (folder / f'{name}{suffix}' for suffix in _PICTURE_SUFFIXES)
    if jpeg.is_file() and png.is_file():
        raise DatasetError(f'{jpeg} and {png} are both there for one annotation; remove the one that it is not of.')
    return jpeg if jpeg.is_file() else png


def require_pictures(pictures: Sequence[Path], purpose: str) -> None:
    """Check that all pictures of ``find_picture`` exist.

    Raises:
        DatasetError: Names the first one missing and says how many are.
    """
    missing = [picture for picture in pictures if not picture.is_file()]
    if missing:
        raise DatasetError(
            f'{purpose}: neither {missing[0].with_suffix(_PICTURE_SUFFIXES[0])} nor {missing[0].name} exists '
            f'({len(missing)} of {len(pictures)} images are missing). Is the download or the copy complete?'
        )


def name_images(files: Sequence[Path], ending: str = '') -> list[str]:
    """A name for each image, no two alike: its path from the folder that all lie in, without its ending where it can.

    Args:
        ending: What else ends the names of all, before their suffix.
    """
    whole = [Path(os.path.abspath(file)) for file in files]
    folder = os.path.commonpath([file.parent for file in whole]) if whole else ''
    paths = [file.relative_to(folder) for file in whole]
    short = [path.with_name(path.stem.removesuffix(ending)).as_posix() for path in paths]
    taken = Counter(short)
    return [name if taken[name] == 1 else path.as_posix() for name, path in zip(short, paths, strict=True)]


def read_image(path: Path) -> Tensor:
    """Read a picture as (3, H, W) uint8 RGB, turned by its orientation tag as the runtime does.

    The memory is (H, W, 3): a channels-last tensor, as OpenCV and the fast resize kernels want it.

    Raises:
        DatasetError: If the file is missing, truncated or no picture.
    """
    data = read_bytes(path)
    kind = picture_kind(data)
    if kind is None:
        return _as_tensor(decode_by_opencv(data, path, cv2.IMREAD_COLOR_RGB))
    if kind == 'jpeg':
        # Phones and cameras write more behind a picture's end: a depth map, a film. In a recording that is damage.
        end = data.rfind(_JPEG_END)
        data = data[: end + len(_JPEG_END)] if end > 0 else data
    try:
        return _as_tensor(decode_picture(data, kind).to_rgb())
    except ImageError as error:
        raise undecodable(path, error) from error


def _as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)
