"""The annotation of Pascal VOC (Everingham et al., IJCV 2010), and of everything in its form, as many tools write it.

    <name>.xml    size: width, height; for each object: name, difficult, bndbox (xmin, ymin, xmax, ymax)
    <name>.png    8 bit with a palette, whose indices are ids of a table (tables/voc): 0 background, 255 void

VOC counts pixels from 1, and a box holds its last ones: in continuous coordinates it goes from xmin - 1 to xmax, and is
xmax - xmin + 1 wide, as in the devkit's IoU. Tools such as labelme count from 0 and write the edges themselves.

Difficult objects become ignore boxes of their class. The parts of a person (head, hands, feet), poses and ``truncated``
are not used: a truncated object is one that is seen in part.

Shape letters: N objects, M ignored regions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree import ElementTree

import numpy as np

from perception.errors import DatasetError, nearest
from perception.interfaces import GroundTruth, LabelSpace
from perception.truth.class_table import IdClasses, find_table, read_categories
from perception.truth.clipping import clip_boxes
from perception.truth.index_maps import ImageSize, read_bytes

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
_DIFFICULT = {'': False, '0': False, 'false': False, 'unspecified': False, '1': True, 'true': True}


class VocNames(NamedTuple):
    """What the objects of a name are.

    Attributes:
        source: The table, for errors.
        labels: Detection class by name; None: objects of that name are left out.
    """

    source: str
    labels: Mapping[str, int | None]


def read_names(labels: LabelSpace, table: str | Path | None = None) -> VocNames:
    """The names of the user's table, else of the usual one.

    Raises:
        ConfigError: If there is none for this label space, or it does not fit; names the file and the class.
    """
    path, ours = find_table('voc', labels, table), [label.name for label in labels.detection]
    categories = read_categories(path, labels)
    known = {name: ours.index(each.detection) if each.detection else None for name, each in categories.items()}
    return VocNames(path.name if table is None else str(path), known)


class _Object(NamedTuple):
    label: int
    box_xyxy: np.ndarray
    difficult: bool


@dataclass(frozen=True, kw_only=True)
class VocAnnotations:
    """Reads the annotation files of one image.

    Attributes:
        names: What each name is, for boxes; None: they are not read.
        ids: What each id is, for masks; None: they are not read.
        first_pixel: 1: boxes are in VOC's pixels; 0: their values are the edges, and the picture begins at 0.
    """

    names: VocNames | None
    ids: IdClasses | None
    first_pixel: Literal[0, 1] = 1

    def read(self, boxes: Path | None, mask: Path | None, image: ImageSize) -> GroundTruth:
        """Read the annotation of one image.

        Args:
            boxes: Its XML file; None: boxes are not annotated.
            mask: Its picture of class ids; None: there is none.
            image: Its size.

        Raises:
            DatasetError: If a file is missing, broken, of another size than the image, or holds an unknown name or id,
                or a box is none or lies wholly outside of the image.
        """
        truth = GroundTruth() if boxes is None or self.names is None else self._read_boxes(boxes, self.names, image)
        if mask is None or self.ids is None:
            return truth
        _, classes = self.ids.read_mask(mask, image)
        return replace(truth, mask=classes)

    def _read_boxes(self, path: Path, names: VocNames, image: ImageSize) -> GroundTruth:
        root = _parse(path)
        _check_size(root, path, image)
        found = [
            self._read_object(element, f'{path}: object {number} (from 0)', names, image)
            for number, element in enumerate(root.findall('object'))
        ]
        objects, difficult = (
            [one for one in found if one is not None and one.difficult is kind] for kind in (False, True)
        )
        return GroundTruth(
            boxes_xyxy=_boxes(objects),
            labels=_labels(objects),
            ignore_boxes_xyxy=_boxes(difficult),
            ignore_labels=_labels(difficult),
        )

    def _read_object(
        self, element: ElementTree.Element, place: str, names: VocNames, image: ImageSize
    ) -> _Object | None:
        """What an object says; None: it is of a name that is left out, or only touches the border."""
        name = (element.findtext('name') or '').strip()
        if name not in names.labels:
            known = nearest(name, list(names.labels))
            raise DatasetError(
                f'{place} is named {name!r}, which {names.source} does not list: {known} Give it a row in a table '
                'of your own (option classes); with an empty cell for detection it is left out.'
            )
        label, place = names.labels[name], f'{place}, {name!r},'
        if label is None:
            return None
        difficult = (element.findtext('difficult') or '').strip().lower()
        if difficult not in _DIFFICULT:
            raise DatasetError(f'{place} has difficult {difficult!r}; expected 0 or 1.')
        try:
            boxes, has_area = clip_boxes(self._read_box(element, place), image.hw)
        except DatasetError as error:
            raise DatasetError(f'{place} in {image.name}: {error}') from error
        return _Object(label, boxes[0], _DIFFICULT[difficult]) if has_area[0] else None

    def _read_box(self, element: ElementTree.Element, place: str) -> np.ndarray:
        """The box of an object (1, 4), not clipped; its parts have boxes, too."""
        left, top, right, bottom = values = [_number(element.find(f'bndbox/{corner}')) for corner in _CORNERS]
        if not all(map(math.isfinite, values)) or right < left or bottom < top:
            said = ', '.join(element.findtext(f'bndbox/{corner}') or 'nothing' for corner in _CORNERS)
            raise DatasetError(
                f'{place} has bndbox {said}; expected numbers {", ".join(_CORNERS)}, of which the first two are not '
                'the larger ones.'
            )
        if min(left, top) < self.first_pixel == 1:
            raise DatasetError(
                f'{place} begins at ({left:g}, {top:g}), but the first pixel of Pascal VOC is (1, 1). If a tool wrote '
                'it that counts from 0, such as labelme, say so with the option first_pixel: 0.'
            )
        return np.array([[left - self.first_pixel, top - self.first_pixel, right, bottom]], np.float32)


def _parse(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(read_bytes(path))
    except ElementTree.ParseError as error:
        raise DatasetError(f'{path} is no XML: {error}. Copy or download it again.') from error
    if root.tag != 'annotation':
        raise DatasetError(f'{path} holds <{root.tag}>; expected <annotation>, as Pascal VOC has it.')
    return root


def _number(element: ElementTree.Element | None) -> float:
    """Its value; not finite where there is none."""
    try:
        return math.nan if element is None else float(element.text or '')
    except ValueError:
        return math.nan


def _check_size(root: ElementTree.Element, path: Path, image: ImageSize) -> None:
    """Boxes count in a picture of the size that the file states; tools leave it out, or write 0."""
    stated = [_number(root.find(f'size/{side}')) for side in ('height', 'width')]
    if all(side > 0 for side in stated) and tuple(stated) != image.hw:
        raise DatasetError(
            f'{path} states {stated[0]:g}x{stated[1]:g} (height x width), but its image {image.name} is '
            f'{image.hw[0]}x{image.hw[1]} as a viewer shows it. Was it resized or turned after its boxes were drawn?'
        )


def _boxes(objects: list[_Object]) -> np.ndarray:
    return np.array([found.box_xyxy for found in objects], np.float32).reshape(-1, 4)


def _labels(objects: list[_Object]) -> np.ndarray:
    return np.array([found.label for found in objects], np.int64)
