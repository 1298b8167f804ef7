"""CamVid with 11 classes, in the layout of the SegNet tutorial (Badrinarayanan et al., PAMI 2017).

    <split>.txt                  one frame a line; the stem of its first word counts
    <split>/<stem>.jpg or .png   images, 480x360
    <split>annot/<stem>.png      8 bit, 0..10 in the order of CAMVID_CLASSES; 11 or 255 unlabelled

CamVid has no boxes. ``boxes='weak'`` takes those of the connected components of cars, pedestrians and bicyclists:
objects that touch are one box, and an object behind a pole is two. Any figure on them must say so.

The bicyclist class is rider and bicycle in one region. Its box covers both, so it is labelled bicycle/motorcycle: as a
person/rider it would teach boxes that reach down to the wheels, and two boxes of one extent would be wrong twice.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from perception.labels import CITYSCAPES_11_3
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.errors import DatasetError
from training.data.files import check_same_size, read_image, read_index_map, require_files, require_folder
from training.data.regions import component_boxes
from training.data.sample import Sample

CAMVID_CLASSES = (
    'sky',
    'building',
    'pole',
    'road',
    'sidewalk',
    'vegetation',
    'traffic sign',
    'fence',
    'car/truck/bus',
    'pedestrian',
    'rider/cycle',
)
"""Our name of each CamVid index; traffic lights are in CamVid's sign class, walls in its building class."""
WEAK_BOX_CLASSES = {
    'car/truck/bus': 'car/truck/bus',
    'pedestrian': 'person/rider',
    'rider/cycle': 'bicycle/motorcycle',
}
"""Detection class of the components of a segmentation class."""
_UNKNOWN = 254


def _class_table() -> np.ndarray:
    names = [label.name for label in CITYSCAPES_11_3.segmentation]
    table = np.full(256, _UNKNOWN, np.uint8)
    table[: len(CAMVID_CLASSES)] = [names.index(name) for name in CAMVID_CLASSES]
    table[[len(CAMVID_CLASSES), UNLABELLED]] = UNLABELLED
    return table


class CamVid(SceneDataset):
    """Driving video frames with masks and, if wanted, weak boxes."""

    labels = CITYSCAPES_11_3

    def __init__(
        self, root: Path, split: str, *, boxes: Literal['weak', 'none'] = 'weak', min_box_area_px: int = 100
    ) -> None:
        """Find the files of a split.

        Args:
            root: Folder that holds the lists and folders of the splits.
            split: ``train``, ``val`` or ``test``.
            boxes: ``none`` leaves the frames without box annotation.
            min_box_area_px: Components with fewer pixels become ignore boxes: fragments and far objects, which are
                neither a good example nor background.

        Raises:
            ConfigError: If an option is out of range.
            DatasetError: If folders or files are missing.
        """
        if boxes not in ('weak', 'none') or min_box_area_px < 1:
            raise ConfigError(
                f"CamVid takes boxes 'weak' or 'none' and min_box_area_px >= 1; got {boxes!r} and {min_box_area_px}."
            )
        self.name = f'camvid-{split}'
        self._root, self._weak_boxes, self._min_box_area_px = Path(root), boxes == 'weak', min_box_area_px
        images = require_folder(self._root / split, 'CamVid images')
        truth = require_folder(self._root / f'{split}annot', 'CamVid annotations')
        list_path = self._root / f'{split}.txt'
        require_files([list_path], 'CamVid frame list')
        lines = list_path.read_text(encoding='utf-8').splitlines()
        stems = [Path(line.split()[0]).stem for line in lines if line.strip()]
        if not stems:
            raise DatasetError(f'{list_path} lists no frames; expected one stem a line.')
        self._frames = [(_find_image(images, stem), truth / f'{stem}.png') for stem in stems]
        self._files = [file for frame in self._frames for file in frame]
        require_files(self._files, self.name)
        self._classes = _class_table()
        names = [[label.name for label in classes] for classes in (self.labels.segmentation, self.labels.detection)]
        self._box_classes = {names[0].index(key): names[1].index(value) for key, value in WEAK_BOX_CLASSES.items()}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image_path, truth_path = self._frames[index]
        image = read_image(image_path)
        ids = read_index_map(truth_path)
        check_same_size(truth_path, ids.shape, image_path, image.shape[1:])
        mask = cv2.LUT(ids, self._classes)
        if (mask == _UNKNOWN).any():
            unknown = ids[mask == _UNKNOWN][0]
            raise DatasetError(f'{truth_path} holds id {unknown}; expected 0 to 10, or 11 or 255 for none.')
        name = f'{self.name}/{image_path.stem}'
        if not self._weak_boxes:
            return Sample(image=image, mask=torch.from_numpy(mask), name=name)
        boxes, labels, ignored = self._weak_objects(mask)
        return Sample(
            image=image,
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            ignore_boxes=torch.from_numpy(ignored),
            mask=torch.from_numpy(mask),
            name=name,
        )

    def _weak_objects(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and ignore boxes out of the components of a (H, W) mask."""
        boxes, labels, ignored = [], [], []
        for segmentation_class, detection_class in self._box_classes.items():
            found, areas = component_boxes(mask == segmentation_class)
            large = areas >= self._min_box_area_px
            boxes.append(found[large])
            labels.append(np.full(int(large.sum()), detection_class, np.int64))
            ignored.append(found[~large])
        return np.concatenate(boxes), np.concatenate(labels), np.concatenate(ignored)

    def fingerprint(self) -> str:
        settings = {'weak_boxes': self._weak_boxes, 'min_box_area_px': self._min_box_area_px}
        return fingerprint_files(self, self._root, settings, self._files)


def _find_image(folder: Path, stem: str) -> Path:
    """The frame as JPEG, else as PNG, whether that exists or not."""
    jpeg = folder / f'{stem}.jpg'
    return jpeg if jpeg.is_file() else folder / f'{stem}.png'
