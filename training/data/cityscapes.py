"""Cityscapes (Cordts et al., CVPR 2016), and everything in its layout, such as the drawn streets.

    leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png
    gtFine/<split>/<city>/<stem>_gtFine_labelIds.png       8 bit, ids of cityscapes_classes.csv
    gtFine/<split>/<city>/<stem>_gtFine_instanceIds.png    16 bit, id * 1000 + number; a group keeps the plain id

cityscapes_classes.csv maps the 34 ids to the 11 + 3 classes of the interdependent paper; an empty cell means none.
Boxes are those of the visible pixels of an instance. Regions that are outlined as a group become ignore boxes.

Shape letters: H W rows and columns, N objects, M ignored regions.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from perception.interfaces import UNLABELLED
from perception.labels import CITYSCAPES_11_3
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.errors import DatasetError
from training.data.files import check_same_size, read_image, read_index_map, require_files, require_folder
from training.data.regions import component_boxes, value_box
from training.data.sample import Sample

CLASS_TABLE = Path(__file__).with_name('cityscapes_classes.csv')
_UNKNOWN = 254
_LAST_VOID_ID = 3
_IMAGE_END, _LABELS_END, _INSTANCES_END = '_leftImg8bit.png', '_gtFine_labelIds.png', '_gtFine_instanceIds.png'


def read_class_table(path: Path = CLASS_TABLE) -> tuple[np.ndarray, dict[int, int]]:
    """Read the table from ids to classes.

    Returns:
        (256,) uint8 segmentation class by id (255 unlabelled, 254 no such id), and detection class by id.
    """
    segmentation_names = [label.name for label in CITYSCAPES_11_3.segmentation]
    detection_names = [label.name for label in CITYSCAPES_11_3.detection]
    segmentation, detection = np.full(256, _UNKNOWN, np.uint8), {}
    with path.open(newline='', encoding='utf-8') as lines:
        for row in csv.DictReader(lines):
            name = row['segmentation']
            segmentation[int(row['id'])] = segmentation_names.index(name) if name else UNLABELLED
            if row['detection']:
                detection[int(row['id'])] = detection_names.index(row['detection'])
    return segmentation, detection


class Cityscapes(SceneDataset):
    """Street images with masks and boxes.

    The public test split holds only void annotations (its real ones are withheld); such frames count as not annotated.
    """

    labels = CITYSCAPES_11_3

    def __init__(self, root: Path, split: str, *, masks: bool = True, boxes: bool = True) -> None:
        """Find the files of a split.

        Args:
            root: Folder that holds leftImg8bit and gtFine.
            split: ``train``, ``val`` or ``test``.
            masks, boxes: Which annotation to use; without it the sample counts as not annotated for that task.

        Raises:
            DatasetError: If folders or files are missing.
        """
        self.name = f'cityscapes-{split}'
        self._root, self._masks, self._boxes = Path(root), masks, boxes
        images = require_folder(self._root / 'leftImg8bit' / split, 'Cityscapes images')
        truth = require_folder(self._root / 'gtFine' / split, 'Cityscapes fine annotations')
        # Both sides are listed, so that an annotation without its image is noticed too.
        stems = _stems(images, _IMAGE_END) | _stems(truth, _LABELS_END)
        if not stems:
            raise DatasetError(f'{images} holds no <city>/<stem>{_IMAGE_END}; unpack leftImg8bit_trainvaltest there.')
        self._frames = [
            (images / f'{stem}{_IMAGE_END}', truth / f'{stem}{_LABELS_END}', truth / f'{stem}{_INSTANCES_END}')
            for stem in sorted(stems)
        ]
        self._files = [file for frame in self._frames for file in (frame if boxes else frame[:2])]
        require_files(self._files, self.name)
        self._segmentation, self._detection = read_class_table()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image_path, labels_path, instances_path = self._frames[index]
        image = read_image(image_path)
        ids = read_index_map(labels_path)
        check_same_size(labels_path, ids.shape, image_path, image.shape[1:])
        mask = cv2.LUT(ids, self._segmentation)
        if (mask == _UNKNOWN).any():
            unknown = ids[mask == _UNKNOWN][0]
            raise DatasetError(f'{labels_path} holds id {unknown}, which {CLASS_TABLE.name} does not list.')
        name = f'{self.name}/{image_path.name.removesuffix(_IMAGE_END)}'
        if ids.max() <= _LAST_VOID_ID:
            return Sample(image=image, name=name)
        annotation = {}
        if self._masks:
            annotation['mask'] = torch.from_numpy(mask)
        if self._boxes:
            instances = read_index_map(instances_path, dtypes=(np.uint16, np.uint8))
            check_same_size(instances_path, instances.shape, image_path, image.shape[1:])
            boxes, labels, ignored = self._read_objects(instances, instances_path)
            annotation |= {
                'boxes': torch.from_numpy(boxes),
                'labels': torch.from_numpy(labels),
                'ignore_boxes': torch.from_numpy(ignored),
            }
        return Sample(image=image, name=name, **annotation)

    def _read_objects(self, instances: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4), labels (N,) and ignore boxes (M, 4) out of an instance map."""
        boxes, labels, ignored = [], [], [np.zeros((0, 4), np.float32)]
        for value in np.flatnonzero(np.bincount(instances.ravel())).tolist():
            class_id = value // 1000 if value >= 1000 else value
            if class_id > 255 or self._segmentation[class_id] == _UNKNOWN:
                raise DatasetError(f'{path} holds instance id {value}, whose class {CLASS_TABLE.name} does not list.')
            if class_id not in self._detection:
                continue
            if value >= 1000:
                boxes.append(value_box(instances, value))
                labels.append(self._detection[class_id])
            else:
                # One box around several groups would also cover what lies between them.
                ignored.append(component_boxes(instances == value)[0])
        return (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.concatenate(ignored),
        )

    def fingerprint(self) -> str:
        settings = {
            'masks': self._masks,
            'boxes': self._boxes,
            'segmentation': self._segmentation.tolist(),
            'detection': sorted(self._detection.items()),
        }
        return fingerprint_files(self, self._root, settings, self._files)


def _stems(folder: Path, end: str) -> set[str]:
    """``<city>/<stem>`` of the files with that ending."""
    return {path.relative_to(folder).as_posix().removesuffix(end) for path in folder.glob(f'*/*{end}')}
