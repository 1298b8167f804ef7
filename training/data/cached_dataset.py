"""CachedDataset: the samples of a prepared cache, mapped into memory. cache.py builds caches.

    manifest.json  images.npy (S, h, w, 3)  masks.npy (S, h, w), if any sample has one  objects.npz

Shape letters: S samples, h w the network input.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.errors import DatasetError
from perception.labels import parse_label_space
from training.data.dataset import SceneDataset
from training.data.sample import Sample

FORMAT = 'perception prepared cache 1'
MANIFEST, IMAGES, MASKS, OBJECTS = 'manifest.json', 'images.npy', 'masks.npy', 'objects.npz'


class CachedDataset(SceneDataset):
    """The samples of a prepared cache. Needs the cache's folder only, so that it can travel without the data set.

    Images and masks are views of the mapped files: nothing is read before it is used. Writing to them changes no file.
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache.

        Raises:
            DatasetError: If the folder holds no cache of this version, or a broken one.
        """
        self._folder = Path(folder)
        try:
            manifest = json.loads((self._folder / MANIFEST).read_text(encoding='utf-8'))
            if manifest['format'] != FORMAT:
                raise DatasetError(f'{self._folder} is {manifest["format"]!r}; this version reads {FORMAT!r}.')
            self.name, self._fingerprint, self._names = manifest['name'], manifest['fingerprint'], manifest['samples']
            self.image_hw = (int(manifest['image_hw'][0]), int(manifest['image_hw'][1]))
            self.labels = parse_label_space(manifest['labels'])
            for name, size in manifest['bytes'].items():
                if (found := (self._folder / name).stat().st_size) != size:
                    raise DatasetError(f'{self._folder / name} has {found} bytes instead of {size}.')
            self._map()
        except DatasetError:
            raise
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DatasetError(
                f'{self._folder} holds no usable prepared cache ({type(error).__name__}: {error}); '
                'build it with prepare_cache.'
            ) from error

    def _map(self) -> None:
        # Copy on write: torch wants writable memory, and no augmentation can then spoil the file.
        self._images = np.load(self._folder / IMAGES, mmap_mode='c')
        has_masks = (self._folder / MASKS).exists()
        self._masks = np.load(self._folder / MASKS, mmap_mode='c') if has_masks else None
        with np.load(self._folder / OBJECTS) as objects:
            self._objects = {key: torch.from_numpy(objects[key]) for key in objects.files}
        self._ranges = {key: self._objects.pop(key).tolist() for key in ('box_ends', 'ignore_ends')}
        self._annotated = {key: self._objects.pop(key).tolist() for key in ('has_boxes', 'has_mask')}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        boxes = labels = mask = None
        if self._annotated['has_boxes'][index]:
            place = self._range('box_ends', index)
            boxes, labels = self._objects['boxes'][place].clone(), self._objects['labels'][place].clone()
        if self._annotated['has_mask'][index] and self._masks is not None:
            mask = torch.from_numpy(self._masks[index])
        return Sample(
            image=torch.from_numpy(self._images[index]).permute(2, 0, 1),
            boxes=boxes,
            labels=labels,
            ignore_boxes=self._objects['ignore_boxes'][self._range('ignore_ends', index)].clone(),
            mask=mask,
            name=self._names[index],
        )

    def _range(self, ends: str, index: int) -> slice:
        return slice(self._ranges[ends][index - 1] if index else 0, self._ranges[ends][index])

    def fingerprint(self) -> str:
        return self._fingerprint

    # A worker process maps the files again; pickled as it is, a mapped array would be sent whole.
    def __getstate__(self) -> dict[str, Any]:
        return {'folder': self._folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state['folder'])  # type: ignore[misc]
