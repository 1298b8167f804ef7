"""The annotation of Cityscapes (Cordts et al., CVPR 2016), and of everything in its layout, such as the drawn streets.

    <stem>_gtFine_labelIds.png       8 bit, ids of a table (tables/cityscapes)
    <stem>_gtFine_instanceIds.png    16 bit, id * 1000 + number; a group keeps the plain id

Boxes are those of the visible pixels of an instance. Regions that are outlined as a group become ignore boxes.

Shape letters: H W rows and columns, N objects, M ignored regions.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED, GroundTruth
from perception.labels import DEFAULT_LABELS
from perception.truth.class_table import UNKNOWN_ID, IdClasses, read_ids
from perception.truth.index_maps import ImageSize, check_same_size, read_index_map
from perception.truth.regions import component_boxes, value_box

LABELS_END, INSTANCES_END = '_gtFine_labelIds.png', '_gtFine_instanceIds.png'
_LAST_VOID_ID = 3
_FIRST_INSTANCE = 1000
_TRAIN_IDS = np.array((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), np.uint8)
"""The id by the train id: what cityscapesscripts writes into labelTrainIds for networks, beside 255."""


_TRAIN_IDS_HINT = (
    ' The classes in {} look like train ids (0 to 18, 255), as in labelTrainIds; write the ids of Cityscapes, such as '
    '7 for road and 26 for car.'
)


@dataclass(frozen=True, kw_only=True)
class CityscapesAnnotations:
    """Reads annotation pictures.

    Attributes:
        classes: What each id is.
        masks, boxes: Which annotation to use; without it an image counts as not annotated for that task.

    Raises:
        ConfigError: If id 0 is an object, whose number would be its value.
    """

    classes: IdClasses = field(default_factory=lambda: read_ids('cityscapes', DEFAULT_LABELS))
    masks: bool = True
    boxes: bool = True

    def __post_init__(self) -> None:
        if self.boxes and 0 in self.classes.detection:
            raise ConfigError(
                f'{self.classes.source} gives id 0 a detection class, but the value of an instance is id * 1000 + '
                'number: give objects an id from 1.'
            )

    def read(self, labels_path: Path, image: ImageSize) -> GroundTruth:
        """Read the annotation of one image; that of objects lies beside the one of classes.

        The public test split holds only void annotations (its real ones are withheld): they count as none. Void are the
        ids 0 to 3, unless the table gives them a class.

        Raises:
            DatasetError: If a picture is missing, broken, of another size than the image, or holds an unknown id, or
                the two contradict each other.
        """
        ids, mask = self.classes.read_mask(labels_path, image, lambda ids: _hint_at_train_ids(ids, 'labelIds'))
        is_void = _is_void(self.classes)
        if is_void[ids].all():
            return GroundTruth()
        if not self.boxes:
            return GroundTruth(mask=mask if self.masks else None)
        instances_path = labels_path.with_name(labels_path.name.removesuffix(LABELS_END) + INSTANCES_END)
        instances = read_index_map(instances_path, dtypes=(np.uint16, np.uint8))
        check_same_size(instances_path, instances.shape, image)
        boxes, labels, ignored = _read_objects(instances, instances_path, self.classes)
        _check_agreement(ids, labels_path, instances, instances_path, is_void)
        return GroundTruth(
            boxes_xyxy=boxes, labels=labels, ignore_boxes_xyxy=ignored, mask=mask if self.masks else None
        )


def _is_void(classes: IdClasses) -> np.ndarray:
    """(256,) bool by id."""
    is_void = (np.arange(256) <= _LAST_VOID_ID) & (classes.segmentation == UNLABELLED)
    is_void[list(classes.detection)] = False
    return is_void


@functools.cache
def _class_of_values() -> np.ndarray:
    """(65536,) uint8, the class id that each value of an instance map says."""
    values = np.arange(1 << 16)
    class_ids = np.where(values >= _FIRST_INSTANCE, values // 1000, values)
    return np.where(class_ids < 256, class_ids, 0).astype(np.uint8)


def _check_agreement(
    ids: np.ndarray, labels_path: Path, instances: np.ndarray, instances_path: Path, is_void: np.ndarray
) -> None:
    """Check that both pictures (H, W) of one image mean the same classes.

    Only whole objects count, and only where both name a class: void drawn over one of the two, and borders that were
    resized, are no contradiction.

    Raises:
        DatasetError: If more than a tenth of all objects, or of all areas, by their pixels, are of another class.
    """
    claimed = _class_of_values()[instances]
    both = (instances != 0) & ~(is_void[claimed] | is_void[ids])  # 0 is what tools leave where no object is
    wrong = both & (claimed != ids)
    if not wrong.any():
        return
    counts, wrongs = (np.bincount(instances[where], minlength=1 << 16) for where in (both, wrong))
    is_object = np.arange(1 << 16) >= _FIRST_INSTANCE
    for kind in (is_object, ~is_object):
        mistaken = np.where(kind & (wrongs * 2 > counts), counts, 0)
        if mistaken.sum() * 10 > counts[kind].sum():
            value = int(mistaken.argmax())
            found = int(np.bincount(ids[wrong & (instances == value)]).argmax())
            hint = ' Do both belong to one image?'
            for name, theirs, right in (('labelIds', ids, claimed), ('instanceIds', claimed, ids)):
                if _are_train_ids(theirs[wrong], right[wrong]):
                    hint = _TRAIN_IDS_HINT.format(name)
            raise DatasetError(
                f'{instances_path} says class {_class_of_values()[value]} (value {value}) where {labels_path} says '
                f'class {found}; expected one class in both.{hint}'
            )


def _are_train_ids(found: np.ndarray, right: np.ndarray) -> bool:
    """Whether most of the classes found are the train ids of the right ones."""
    fits = found < len(_TRAIN_IDS)
    return bool((_TRAIN_IDS[found[fits]] == right[fits]).sum() * 2 > len(found))


def _hint_at_train_ids(class_ids: np.ndarray, name: str) -> str:
    """The likely cause of an unknown class, where all look like train ids; empty: they do not."""
    known = {*range(len(_TRAIN_IDS)), UNLABELLED}
    return _TRAIN_IDS_HINT.format(name) if set(np.unique(class_ids).tolist()) <= known else ''


def _read_objects(instances: np.ndarray, path: Path, classes: IdClasses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), labels (N,) and ignore boxes (M, 4) out of an instance map."""
    segmentation, detection = classes.segmentation, classes.detection
    boxes, labels, ignored = [], [], [np.zeros((0, 4), np.float32)]
    for value in np.flatnonzero(np.bincount(instances.ravel())).tolist():
        class_id = value // 1000 if value >= _FIRST_INSTANCE else value
        if class_id > 255 or segmentation[class_id] == UNKNOWN_ID:
            hint = _hint_at_train_ids(_class_of_values()[instances], 'instanceIds')
            raise DatasetError(f'{path} holds instance id {value}, whose class {classes.source} does not list.{hint}')
        if class_id not in detection:
            continue
        if value >= _FIRST_INSTANCE:
            boxes.append(value_box(instances, value))
            labels.append(detection[class_id])
        else:
            # One box around several groups would also cover what lies between them.
            ignored.append(component_boxes(instances == value)[0])
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.concatenate(ignored)
