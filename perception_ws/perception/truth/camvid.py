"""CamVid's annotation with 11 classes, as in the SegNet tutorial (Badrinarayanan et al., PAMI 2017).

A picture of 8 bit, 0..10 in the order of CAMVID_CLASSES; 11 or 255 unlabelled.

CamVid has no boxes. Weak boxes are those of the connected components of cars, pedestrians and bicyclists: objects that
touch are one box, and an object behind a pole is two.

The bicyclist class is rider and bicycle in one region. Its box covers both, so it is labelled bicycle/motorcycle: as a
person/rider it would teach boxes that reach down to the wheels, and two boxes of one extent would be wrong twice.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED, GroundTruth
from perception.labels import CITYSCAPES_11_3
from perception.truth.index_maps import ImageSize, check_same_size, read_index_map
from perception.truth.regions import component_boxes

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
WEAK_BOXES = 'boxes weak (components of the mask)'
"""What figures on them must say."""
_UNKNOWN = 254


@dataclass(frozen=True, kw_only=True)
class CamVidAnnotations:
    """Reads annotation pictures.

    Attributes:
        weak_boxes: Whether to take boxes out of the masks.
        min_box_area_px: Components with fewer pixels become ignore boxes: fragments and far objects, which are
            neither a good example nor background.
    """

    weak_boxes: bool = True
    min_box_area_px: int = 100

    def __post_init__(self) -> None:
        if self.min_box_area_px < 1:
            raise ConfigError(f'CamVid takes min_box_area_px >= 1; got {self.min_box_area_px}.')

    def read(self, path: Path, image: ImageSize) -> GroundTruth:
        """Read the annotation of one image.

        Raises:
            DatasetError: If it is missing, broken, of another size than the image, or holds an unknown id.
        """
        ids = read_index_map(path)
        check_same_size(path, ids.shape, image)
        mask = cv2.LUT(ids, _class_table())
        if (mask == _UNKNOWN).any():
            unknown = ids[mask == _UNKNOWN][0]
            raise DatasetError(f'{path} holds id {unknown}; expected 0 to 10, or 11 or 255 for none.')
        if not self.weak_boxes:
            return GroundTruth(mask=mask)
        boxes, labels, ignored = self._objects(mask)
        return GroundTruth(boxes_xyxy=boxes, labels=labels, ignore_boxes_xyxy=ignored, mask=mask)

    def _objects(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and ignore boxes out of the components of a (H, W) mask."""
        boxes, labels, ignored = [], [], []
        for segmentation_class, detection_class in _box_classes().items():
            found, areas = component_boxes(mask == segmentation_class)
            large = areas >= self.min_box_area_px
            boxes.append(found[large])
            labels.append(np.full(int(large.sum()), detection_class, np.int64))
            ignored.append(found[~large])
        return np.concatenate(boxes), np.concatenate(labels), np.concatenate(ignored)


def _class_table() -> np.ndarray:
    names = [label.name for label in CITYSCAPES_11_3.segmentation]
    table = np.full(256, _UNKNOWN, np.uint8)
    table[: len(CAMVID_CLASSES)] = [names.index(name) for name in CAMVID_CLASSES]
    table[[len(CAMVID_CLASSES), UNLABELLED]] = UNLABELLED
    return table


def _box_classes() -> dict[int, int]:
    areas, objects = (
        [label.name for label in classes] for classes in (CITYSCAPES_11_3.segmentation, CITYSCAPES_11_3.detection)
    )
    return {areas.index(key): objects.index(value) for key, value in WEAK_BOX_CLASSES.items()}
