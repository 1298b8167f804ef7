"""Reading the pictures of data sets, with errors that name the file.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from training.data.errors import DatasetError


def require_folder(folder: Path, purpose: str) -> Path:
    """Return the folder.

    Raises:
        DatasetError: If it is missing; names the nearest parent that exists and what lies there.
    """
    if folder.is_dir():
        return folder
    parent = next((above for above in folder.parents if above.is_dir()), Path('/'))
    present = ', '.join(sorted(entry.name for entry in parent.iterdir())[:8]) or 'nothing'
    raise DatasetError(f'{purpose}: folder {folder} is missing; {parent} holds {present}. Check root and split.')


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


def read_image(path: Path) -> Tensor:
    """Read a picture as (3, H, W) uint8 RGB, in the order that its pixels are stored in.

    The memory is (H, W, 3): a channels-last tensor, as OpenCV and the fast resize kernels want it.

    Raises:
        DatasetError: If the file is missing, truncated or no picture.
    """
    # Boxes and masks count in stored pixels, so an orientation tag must not turn them.
    pixels = _read(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_index_map(path: Path, *, dtypes: tuple[type[np.generic], ...] = (np.uint8,)) -> np.ndarray:
    """Read a picture whose values are class or instance ids, as (H, W) of one of the given types.

    Raises:
        DatasetError: If the file is missing, truncated, has colours, or another depth.
    """
    values = _read(path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype not in dtypes:
        expected = ' or '.join(np.dtype(kind).name for kind in dtypes)
        raise DatasetError(
            f'{path} is a {values.dtype} picture of shape {values.shape}; expected one channel of {expected} ids. '
            'A coloured picture for people is not an annotation.'
        )
    return values


def check_same_size(path: Path, found_hw: tuple[int, ...], image_path: Path, image_hw: tuple[int, ...]) -> None:
    """Check that an annotation has its image's size.

    Raises:
        DatasetError: If not; names both files.
    """
    if found_hw != image_hw:
        raise DatasetError(
            f'{path} is {found_hw[0]}x{found_hw[1]} (height x width), but its image {image_path} is '
            f'{image_hw[0]}x{image_hw[1]}; both must have the same size.'
        )


def _read(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise DatasetError(f'File {path} is missing; was the data set moved or changed while it was read?')
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DatasetError(f'File {path} cannot be decoded; it is truncated or no picture. Copy or download it again.')
    return pixels
