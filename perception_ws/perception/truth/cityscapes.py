"""The annotation of Cityscapes (Cordts et al., CVPR 2016), and of everything in its layout, such as the drawn streets.

    <stem>_gtFine_labelIds.png       8 bit, ids of cityscapes_classes.csv
    <stem>_gtFine_instanceIds.png    16 bit, id * 1000 + number; a group keeps the plain id

cityscapes_classes.csv maps the 34 ids to the 11 + 3 classes of the interdependent paper; an empty cell means none.
Boxes are those of the visible pixels of an instance. Regions that are outlined as a group become ignore boxes.

Shape letters: H W rows and columns, N objects, M ignored regions.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception.errors import DatasetError
from perception.interfaces import UNLABELLED, GroundTruth
from perception.labels import CITYSCAPES_11_3
from perception.truth.index_maps import ImageSize, check_same_size, read_index_map
from perception.truth.regions import component_boxes, value_box

CLASS_TABLE = Path(__file__).with_name('cityscapes_classes.csv')
LABELS_END, INSTANCES_END = '_gtFine_labelIds.png', '_gtFine_instanceIds.png'
_UNKNOWN = 254
_LAST_VOID_ID = 3


@functools.cache
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


@dataclass(frozen=True, kw_only=True)
class CityscapesAnnotations:
    """Reads annotation pictures.

    Attributes:
        masks, boxes: Which annotation to use; without it an image counts as not annotated for that task.
    """

    masks: bool = True
    boxes: bool = True

    def read(self, labels_path: Path, image: ImageSize) -> GroundTruth:
        """Read the annotation of one image; that of objects lies beside the one of classes.

        The public test split holds only void annotations (its real ones are withheld): they count as none.

        Raises:
            DatasetError: If a picture is missing, broken, of another size than the image, or holds an unknown id.
        """
        table, _ = read_class_table()
        ids = read_index_map(labels_path)
        check_same_size(labels_path, ids.shape, image)
        mask = cv2.LUT(ids, table)
        if (mask == _UNKNOWN).any():
            unknown = ids[mask == _UNKNOWN][0]
            raise DatasetError(f'{labels_path} holds id {unknown}, which {CLASS_TABLE.name} does not list.')
        if ids.max() <= _LAST_VOID_ID:
            return GroundTruth()
        if not self.boxes:
            return GroundTruth(mask=mask if self.masks else None)
        instances_path = labels_path.with_name(labels_path.name.removesuffix(LABELS_END) + INSTANCES_END)
        instances = read_index_map(instances_path, dtypes=(np.uint16, np.uint8))
        check_same_size(instances_path, instances.shape, image)
        boxes, labels, ignored = _read_objects(instances, instances_path)
        return GroundTruth(
            boxes_xyxy=boxes, labels=labels, ignore_boxes_xyxy=ignored, mask=mask if self.masks else None
        )


def _read_objects(instances: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), labels (N,) and ignore boxes (M, 4) out of an instance map."""
    segmentation, detection = read_class_table()
    boxes, labels, ignored = [], [], [np.zeros((0, 4), np.float32)]
    for value in np.flatnonzero(np.bincount(instances.ravel())).tolist():
        class_id = value // 1000 if value >= 1000 else value
        if class_id > 255 or segmentation[class_id] == _UNKNOWN:
            raise DatasetError(f'{path} holds instance id {value}, whose class {CLASS_TABLE.name} does not list.')
        if class_id not in detection:
            continue
        if value >= 1000:
            boxes.append(value_box(instances, value))
            labels.append(detection[class_id])
        else:
            # One box around several groups would also cover what lies between them.
            ignored.append(component_boxes(instances == value)[0])
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.concatenate(ignored)
