"""Prepared caches: a data set's samples at network size, as 8-bit arrays that are mapped into memory.

The paper resizes before it augments, so training from the cache is exact. A cache lies in a folder of its own,

    <name>-<h>x<w>-<fingerprint>/  manifest.json  images.npy  masks.npy  objects.npz

where the fingerprint covers everything that decides its content: files, options, class tables, code. It is built beside
its place and moved there when complete, under a lock, so that it is whole or absent, whoever builds. Caches of other
fingerprints stay: another run may use them.

Shape letters: h w the network input.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

import perception.image
from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED
from training.data import cached_dataset, resize
from training.data.cached_dataset import FORMAT, IMAGES, MANIFEST, MASKS, OBJECTS, CachedDataset
from training.data.dataset import SceneDataset
from training.data.resize import resize_sample
from training.data.sample import Sample

__all__ = ['CachedDataset', 'prepare_cache', 'resize_sample']

_FILES = frozenset({MANIFEST, IMAGES, MASKS, OBJECTS})
_log = logging.getLogger(__name__)


def prepare_cache(
    dataset: SceneDataset, image_hw: tuple[int, int], folder: Path, *, workers: int = 2, show_progress: bool = True
) -> CachedDataset:
    """Open the cache of a data set at network size; build it first where it is missing, outdated or broken.

    Several processes may call it at once: one builds, the others wait.

    Args:
        dataset: What to cache.
        image_hw: Height and width of the network input.
        folder: Where caches lie, one folder each; made where it is missing.
        workers: Threads to read with.
        show_progress: Whether to show a bar.

    Raises:
        ConfigError: If the size is not positive.
        DatasetError: If a sample cannot be read, the disk is full, or the cache's place is taken by something else.
    """
    if min(image_hw) < 1 or workers < 1:
        raise ConfigError(f'Cache size {image_hw} and workers {workers} must be positive.')
    fingerprint = _cache_fingerprint(dataset, image_hw)
    place = Path(folder) / f'{dataset.name}-{image_hw[0]}x{image_hw[1]}-{fingerprint[:16]}'
    # Without the lock, because a shared cache may lie in a folder that is not ours to write.
    if (cached := _open_current(place, fingerprint)) is not None:
        return cached
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{place}.lock'):
            if (cached := _open_current(place, fingerprint)) is not None:
                return cached
            if place.exists():
                _refuse_foreign(place)
                _log.warning('The cache %s is broken and is built again.', place)
                shutil.rmtree(place)
            _build(dataset, image_hw, place, fingerprint, workers, show_progress)
            return CachedDataset(place)
    except OSError as error:
        raise DatasetError(
            f'The cache {place} cannot be written: {error}. Name another folder or free space.'
        ) from error


def _open_current(place: Path, fingerprint: str) -> CachedDataset | None:
    """The cache, if it is there, whole, and has that fingerprint."""
    try:
        cached = CachedDataset(place)
    except DatasetError:
        return None
    return cached if cached.fingerprint() == fingerprint else None


def _cache_fingerprint(dataset: SceneDataset, image_hw: tuple[int, int]) -> str:
    digest = hashlib.sha256(f'{FORMAT} {dataset.fingerprint()} {tuple(image_hw)} {cv2.__version__}'.encode())
    for source in (__file__, cached_dataset.__file__, resize.__file__, perception.image.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()


def _refuse_foreign(place: Path) -> None:
    """Raise where the place of a cache holds anything that no cache has, because a broken cache is deleted."""
    foreign = [] if not place.is_dir() else sorted(entry.name for entry in place.iterdir() if entry.name not in _FILES)
    if foreign or not place.is_dir():
        what = f'holds {foreign[0]!r}, which is no part of a prepared cache' if foreign else 'is a file'
        raise DatasetError(f'{place} {what}; it is left as it is. Move it away or name another cache folder.')


@dataclass
class _Objects:
    """The boxes of all samples in one list, with the end of each sample's part."""

    boxes: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    ignore_boxes: list[Tensor] = field(default_factory=list)
    has_boxes: list[bool] = field(default_factory=list)
    has_mask: list[bool] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        boxes, labels = sample.boxes, sample.labels
        self.boxes.append(torch.zeros(0, 4) if boxes is None else boxes)
        self.labels.append(torch.zeros(0, dtype=torch.int64) if labels is None else labels)
        self.ignore_boxes.append(sample.ignore_boxes)
        self.has_boxes.append(boxes is not None)
        self.has_mask.append(sample.mask is not None)
        self.names.append(sample.name)

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            'boxes': torch.cat(self.boxes).numpy(),
            'labels': torch.cat(self.labels).numpy(),
            'ignore_boxes': torch.cat(self.ignore_boxes).numpy(),
            'box_ends': np.cumsum([len(part) for part in self.boxes]),
            'ignore_ends': np.cumsum([len(part) for part in self.ignore_boxes]),
            'has_boxes': np.array(self.has_boxes),
            'has_mask': np.array(self.has_mask),
        }


def _build(
    dataset: SceneDataset, image_hw: tuple[int, int], place: Path, fingerprint: str, workers: int, show_progress: bool
) -> None:
    """Write the cache into ``<place>.partial`` and move it to its place."""
    partial = place.with_name(f'{place.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)  # of a builder that was killed: the lock is ours
    needed = len(dataset) * image_hw[0] * image_hw[1] * 4
    free = shutil.disk_usage(place.parent).free
    if needed > free:
        raise DatasetError(f'The cache {place} needs {needed >> 20} MiB and {free >> 20} are free there.')
    partial.mkdir()
    try:
        objects = _Objects()
        shape = (len(dataset), *image_hw)
        with (partial / IMAGES).open('wb') as images, (partial / MASKS).open('wb') as masks:
            for file, array_shape in ((images, (*shape, 3)), (masks, shape)):
                header = {'descr': '|u1', 'fortran_order': False, 'shape': array_shape}
                np.lib.format.write_array_header_1_0(file, header)
            unlabelled = torch.full(image_hw, UNLABELLED, dtype=torch.uint8)
            samples = _read_resized(dataset, image_hw, workers)
            for sample in tqdm(samples, dataset.name, len(dataset), unit='image', disable=not show_progress):
                images.write(sample.image.permute(1, 2, 0).numpy().tobytes())
                masks.write((unlabelled if sample.mask is None else sample.mask).numpy().tobytes())
                objects.add(sample)
        if not any(objects.has_mask):
            (partial / MASKS).unlink()
        np.savez(partial / OBJECTS, **objects.arrays())  # type: ignore[arg-type]
        manifest = {
            'format': FORMAT,
            'name': dataset.name,
            'fingerprint': fingerprint,
            'image_hw': list(image_hw),
            'labels': asdict(dataset.labels),
            'bytes': {path.name: path.stat().st_size for path in sorted(partial.iterdir())},
            'samples': objects.names,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest), encoding='utf-8')
        for path in partial.iterdir():
            with path.open('rb') as written:
                os.fsync(written.fileno())
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_resized(dataset: SceneDataset, image_hw: tuple[int, int], workers: int) -> Iterator[Sample]:
    """The resized samples in order, read by several threads, a few ahead (decoding leaves Python's lock)."""

    def read(index: int) -> Sample:
        return resize_sample(dataset[index], image_hw)

    window = 4 * workers
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(dataset), window):
            yield from pool.map(read, range(start, min(start + window, len(dataset))))
