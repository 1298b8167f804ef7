"""CamVid's annotation with 11 classes, as in the SegNet tutorial (Badrinarayanan et al., PAMI 2017).

A picture of 8 bit, whose ids a table maps to classes (tables/camvid): 0..10, and 11 or 255 unlabelled.

CamVid has no boxes. Weak boxes are those of the connected components of the ids that the table gives a detection class:
cars, pedestrians and bicyclists. Objects that touch are one box, and an object behind a pole is two.

The bicyclist class is rider and bicycle in one region. Its box covers both, so it is labelled bicycle/motorcycle: as a
person/rider it would teach boxes that reach down to the wheels, and two boxes of one extent would be wrong twice.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perception.errors import ConfigError
from perception.interfaces import GroundTruth
from perception.labels import DEFAULT_LABELS
from perception.truth.class_table import IdClasses, read_ids
from perception.truth.index_maps import ImageSize
from perception.truth.regions import component_boxes

WEAK_BOXES = 'boxes weak (components of the mask)'
"""What figures on them must say."""


@dataclass(frozen=True, kw_only=True)
class CamVidAnnotations:
    """Reads annotation pictures.

    Attributes:
        classes: What each id is.
        weak_boxes: Whether to take boxes out of the masks.
        min_box_area_px: Components with fewer pixels become ignore boxes: fragments and far objects, which are
            neither a good example nor background.
    """

    classes: IdClasses = field(default_factory=lambda: read_ids('camvid', DEFAULT_LABELS))
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
        ids, mask = self.classes.read_mask(path, image)
        if not self.weak_boxes:
            return GroundTruth(mask=mask)
        boxes, labels, ignored = self._objects(ids)
        return GroundTruth(boxes_xyxy=boxes, labels=labels, ignore_boxes_xyxy=ignored, mask=mask)

    def _objects(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and ignore boxes out of the components of a (H, W) map."""
        boxes, labels, ignored = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
        for class_id, detection_class in self.classes.detection.items():
            found, areas = component_boxes(ids == class_id)
            large = areas >= self.min_box_area_px
            boxes.append(found[large])
            labels.append(np.full(int(large.sum()), detection_class, np.int64))
            ignored.append(found[~large])
        return np.concatenate(boxes), np.concatenate(labels), np.concatenate(ignored)
