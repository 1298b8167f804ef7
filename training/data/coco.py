"""Boxes in COCO JSON (Lin et al., ECCV 2014): photos with boxes and without masks.

``CocoBoxes`` reads any such file through a table from category names to our classes; categories outside the table are
left out, so an image may count as annotated and empty. Crowds become ignore boxes. Its defaults are the layout and the
street categories of COCO itself; ``DrivingBoxes`` is the same for road photos in bad weather.

Shape letters: N objects, M ignored regions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from perception.errors import ConfigError, DatasetError, nearest
from perception.labels import CITYSCAPES_11_3
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import list_names, read_image, require_file, require_files
from training.data.sample import Sample

_T = TypeVar('_T')


class CocoBoxes(SceneDataset):
    """Photos with boxes. Boxes are clipped to the image; what then has no area is left out."""

    labels = CITYSCAPES_11_3
    dataset_name: ClassVar[str] = 'coco'
    default_annotations: ClassVar[str] = 'annotations/instances_{split}2017.json'
    default_images: ClassVar[str] = '{split}2017'
    default_classes: ClassVar[Mapping[str, str]] = {
        'car': 'car/truck/bus',
        'truck': 'car/truck/bus',
        'bus': 'car/truck/bus',
        'person': 'person/rider',
        'bicycle': 'bicycle/motorcycle',
        'motorcycle': 'bicycle/motorcycle',
    }

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        annotations: str | None = None,
        images: str | None = None,
        classes: Mapping[str, str] | None = None,
    ) -> None:
        """Read the annotation file.

        Args:
            root: Folder that the other two count from.
            split: Replaces ``{split}`` in them.
            annotations: The JSON file.
            images: The folder that its file names count from.
            classes: Category name to the name of a detection class.

        Raises:
            ConfigError: If the table names an unknown class or a category that the file lacks.
            DatasetError: If files are missing, the JSON contradicts itself, or a box of ours has no part in its image.
        """
        self.name = f'{self.dataset_name}-{split}'
        self._root = Path(root)
        self._annotations = self._root / (annotations or self.default_annotations).replace('{split}', split)
        self._classes = dict(self.default_classes if classes is None else classes)
        require_file(self._annotations, self.name, 'root, split and the option annotations')
        text = self._annotations.read_bytes()
        # All boxes are in this one file: its content tells two of them apart for certain, and a copy is the same.
        self._digest = hashlib.sha256(text).hexdigest()
        content = _parse_json(text, self._annotations)
        category_classes = self._map_categories(_list_entries(content, 'categories', 'category', self._annotations))
        folder = self._root / (images or self.default_images).replace('{split}', split)
        self._frames: dict[int, _Frame] = {}
        for entry in _list_entries(content, 'images', 'image', self._annotations):
            image_id = entry.read('id', int, 'an integer')
            if image_id in self._frames:
                raise entry.error('is there twice; expected an id of its own for every image.')
            self._frames[image_id] = _read_frame(entry, folder)
        if not self._frames:
            raise DatasetError(f'{self._annotations}: the list images is empty; expected at least one.')
        for entry in _list_entries(content, 'annotations', 'annotation', self._annotations):
            self._add(entry, category_classes)
        self._order = sorted(self._frames)
        self._files = [self._frames[image_id].path for image_id in self._order]
        require_files(self._files, self.name)

    def _map_categories(self, categories: list[_Entry]) -> dict[int, int | None]:
        """Our class by category id; None for categories that are not in the table."""
        ours = [label.name for label in self.labels.detection]
        present = {entry.read('name', str, 'text'): entry.read('id', int, 'an integer') for entry in categories}
        for category, label in self._classes.items():
            if label not in ours:
                raise ConfigError(f'Class {label!r} for category {category!r} is unknown: {nearest(label, ours)}')
            if category not in present:
                known = nearest(category, list(present))
                raise ConfigError(f'{self._annotations} has no category {category!r}: {known}')
        return {
            category_id: ours.index(self._classes[name]) if name in self._classes else None
            for name, category_id in present.items()
        }

    def _add(self, annotation: _Entry, category_classes: dict[int, int | None]) -> None:
        frame = self._frames[annotation.read_reference('image', self._frames)]
        label = category_classes[annotation.read_reference('category', category_classes)]
        if label is None:
            return
        whole = annotation.read('bbox', _to_corners, 'four finite numbers [left, top, width, height], no side below 0')
        rows, columns = frame.image_hw
        # A box that only touches the border may be one that was rounded: it has no area, and is left out as such.
        if (whole[2:] < 0).any() or (whole[:2] > (columns, rows)).any():
            raise annotation.error(
                f'has bbox {annotation.values["bbox"]}, wholly outside of its image {frame.path}, which is '
                f'{rows}x{columns} (height x width); expected [left, top, width, height] in pixels of that image.'
            )
        box = np.clip(whole, 0, [columns, rows, columns, rows])
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        if annotation.values.get('iscrowd', 0):
            frame.ignored.append(box)
        else:
            frame.boxes.append(box)
            frame.labels.append(label)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[self._order[index]]
        image = read_image(frame.path)
        (rows, columns), (image_rows, image_columns) = frame.image_hw, image.shape[1:]
        if (rows, columns) != (image_rows, image_columns):
            raise DatasetError(
                f'{self._annotations} states {rows}x{columns} (height x width) for the image {frame.path}, but that '
                f'file is {image_rows}x{image_columns} as a viewer shows it. Was it resized or turned after its boxes '
                'were drawn, or were they drawn without regard to its orientation tag?'
            )
        return Sample(
            image=image,
            boxes=_boxes_tensor(frame.boxes),
            labels=torch.tensor(frame.labels, dtype=torch.int64),
            ignore_boxes=_boxes_tensor(frame.ignored),
            name=f'{self.name}/{frame.path.stem}',
        )

    def fingerprint(self) -> str:
        settings = {'classes': self._classes, 'annotations': self._digest}
        return fingerprint_files(self, self._root, settings, self._files)


class DrivingBoxes(CocoBoxes):
    """DAWN road photos in fog, rain, snow and sand (Kenk and Hassaballah, 2020), with three categories."""

    dataset_name = 'driving_boxes'
    default_annotations = '{split}.json'
    default_images = '.'
    default_classes: ClassVar[Mapping[str, str]] = {
        'vehicle': 'car/truck/bus',
        'person': 'person/rider',
        'two_wheeler': 'bicycle/motorcycle',
    }


class _Frame:
    """One photo with its objects."""

    def __init__(self, path: Path, image_hw: tuple[int, int]) -> None:
        self.path = path
        self.image_hw = image_hw
        self.boxes: list[np.ndarray] = []
        self.labels: list[int] = []
        self.ignored: list[np.ndarray] = []


@dataclass(frozen=True)
class _Entry:
    """An object in one of the file's lists, and what errors call it by."""

    file: Path
    kind: str
    position: int
    values: Mapping[str, Any]

    def read(self, key: str, convert: Callable[[Any], _T], expected: str) -> _T:
        """The value of a key, converted.

        Raises:
            DatasetError: If there is none, or the conversion refuses it.
        """
        try:
            return convert(self.values[key])
        except KeyError as error:
            raise self.error(f'has no {key}; expected {expected}.') from error
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(f'has {key} {self.values[key]!r}; expected {expected}.') from error

    def read_reference(self, kind: str, known: Collection[int]) -> int:
        """The id of an image or a category.

        Raises:
            DatasetError: If there is none, or it is not a known one.
        """
        found = self.read(f'{kind}_id', int, 'an integer')
        if found not in known:
            ids = list_names([str(known_id) for known_id in sorted(known)])
            raise self.error(f'names {kind} {found}, which the file does not list; expected one of {ids}.')
        return found

    def error(self, what: str) -> DatasetError:
        name = self.values.get('id', f'at position {self.position} (from 0)')
        return DatasetError(f'{self.file}: {self.kind} {name} {what}')


def _list_entries(content: Any, key: str, kind: str, file: Path) -> list[_Entry]:
    values = content.get(key) if isinstance(content, dict) else None
    if not isinstance(values, list):
        raise DatasetError(
            f'{file} is not COCO detection JSON: it has no list {key}; '
            'expected an object with the lists images, categories and annotations.'
        )
    for position, value in enumerate(values):
        if not isinstance(value, dict):
            raise DatasetError(f'{file}: {kind} at position {position} (from 0) is {value!r}; expected an object.')
    return [_Entry(file, kind, position, value) for position, value in enumerate(values)]


def _read_frame(image: _Entry, folder: Path) -> _Frame:
    path = image.read('file_name', lambda name: folder / name, 'the path of a picture, as text')
    height, width = (image.read(key, int, f'its {key} in pixels, an integer') for key in ('height', 'width'))
    return _Frame(path, (height, width))


def _to_corners(bbox: Any) -> np.ndarray:
    """COCO's [left, top, width, height] as xyxy."""
    left, top, width, height = (float(number) for number in bbox)
    if not np.isfinite([left, top, width, height]).all() or width < 0 or height < 0:
        raise ValueError(bbox)
    return np.array([left, top, left + width, top + height])


def _parse_json(text: bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DatasetError(f'{path} is not valid JSON: {error}. Copy or download it again.') from error


def _boxes_tensor(boxes: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
