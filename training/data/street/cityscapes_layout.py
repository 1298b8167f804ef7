"""Writes drawn sequences as a data set in the layout and formats of Cityscapes (gtFine, leftImg8bit).

leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_{labelIds.png, instanceIds.png, polygons.json}
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from perception.errors import ConfigError
from training.data.street.sequence import StreetConfig, StreetFrame, draw_street

CITY = 'drawnstreet'


def prepare_output(root: Path, *, overwrite: bool) -> None:
    """Make the output folder.

    Raises:
        ConfigError: If it holds files already and ``overwrite`` is off; or, with it, files that are no such data set.
    """
    ours = ('leftImg8bit', 'gtFine')
    if root.exists() and not root.is_dir():
        raise ConfigError(f'Output {root} is a file; name a folder.')
    present = sorted(entry.name for entry in root.iterdir()) if root.exists() else []
    if present and not overwrite:
        raise ConfigError(
            f'Output {root} is not empty; name another folder, or pass --overwrite to replace its data set.'
        )
    foreign = [name for name in present if name not in ours]
    if foreign:
        raise ConfigError(f'Output {root} holds {foreign[0]!r}, which no drawn data set has; name another folder.')
    # A download of the real Cityscapes has the same two folders, but other cities.
    cities = sorted(path.relative_to(root) for path in root.glob('*/*/*') if path.name != CITY)
    if cities:
        raise ConfigError(f'Output {root} holds {cities[0]}, which no drawn data set has; name another folder.')
    for name in present:
        shutil.rmtree(root / name)
    root.mkdir(parents=True, exist_ok=True)


def write_cityscapes(
    root: Path, split: str, sequences: Sequence[StreetConfig], *, workers: int = 1, show_progress: bool = True
) -> int:
    """Draw the sequences and write them as one split; returns the number of frames.

    Args:
        root: The data set's folder.
        split: ``train``, ``val`` or ``test``.
        sequences: One configuration per sequence; its place in the list becomes the sequence number.
        workers: Processes to draw with; the files do not depend on it.
        show_progress: Whether to show a bar.
    """
    root = Path(root)
    jobs = list(enumerate(sequences))
    total = sum(config.frames for config in sequences)
    with tqdm(total=total, desc=split, unit='frame', disable=not show_progress) as bar:
        processes = min(workers, len(jobs))
        if processes <= 1:
            for number, config in jobs:
                for index, frame in enumerate(draw_street(config)):
                    write_frame(root, split, number, index, frame)
                    bar.update()
        else:
            # spawn: OpenCV's threads do not survive a fork
            with ProcessPoolExecutor(processes, mp_context=get_context('spawn')) as pool:
                tasks = [pool.submit(_write_sequence, root, split, number, config) for number, config in jobs]
                for task in as_completed(tasks):
                    bar.update(task.result())
    return total


def write_frame(root: Path, split: str, sequence: int, index: int, frame: StreetFrame) -> None:
    """Write the four files of one frame."""
    stem = f'{CITY}_{sequence:06d}_{index:06d}'
    images, truth = root / 'leftImg8bit' / split / CITY, root / 'gtFine' / split / CITY
    images.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    _write_png(images / f'{stem}_leftImg8bit.png', cv2.cvtColor(frame.image_rgb, cv2.COLOR_RGB2BGR))
    _write_png(truth / f'{stem}_gtFine_labelIds.png', frame.label_ids)
    _write_png(truth / f'{stem}_gtFine_instanceIds.png', frame.instance_ids)
    height, width = frame.label_ids.shape
    objects = [{'label': polygon.label, 'polygon': polygon.points_px.tolist()} for polygon in frame.polygons]
    text = json.dumps({'imgHeight': height, 'imgWidth': width, 'objects': objects})
    (truth / f'{stem}_gtFine_polygons.json').write_text(text, encoding='utf-8')


def _write_sequence(root: Path, split: str, number: int, config: StreetConfig) -> int:
    cv2.setNumThreads(1)
    for index, frame in enumerate(draw_street(config)):
        write_frame(root, split, number, index, frame)
    return config.frames


def _write_png(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 2]):
        raise OSError(f'Could not write {path}; is the disk full or read-only?')
