"""Boxes in COCO JSON (Lin et al., ECCV 2014): photos with boxes and without masks.

``CocoBoxes`` reads any such file through a table from category names to our classes; categories outside the table are
left out, so an image may count as annotated and empty. Crowds become ignore boxes. Its defaults are the layout and the
street categories of COCO itself; ``DrivingBoxes`` is the same for road photos in bad weather.

Shape letters: N objects, M ignored regions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from perception.errors import ConfigError, DatasetError, nearest
from perception.labels import CITYSCAPES_11_3
from perception.truth.index_maps import ImageSize, check_same_size
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import read_image, require_files
from training.data.sample import Sample


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
            DatasetError: If files are missing, or the JSON contradicts itself.
        """
        self.name = f'{self.dataset_name}-{split}'
        self._root = Path(root)
        self._annotations = self._root / (annotations or self.default_annotations).replace('{split}', split)
        self._classes = dict(self.default_classes if classes is None else classes)
        require_files([self._annotations], self.name)
        text = self._annotations.read_bytes()
        # All boxes are in this one file: its content tells two of them apart for certain, and a copy is the same.
        self._digest = hashlib.sha256(text).hexdigest()
        content = _parse_json(text, self._annotations)
        try:
            category_classes = self._map_categories(content['categories'])
            folder = self._root / (images or self.default_images).replace('{split}', split)
            self._frames = {int(image['id']): _Frame(folder / image['file_name'], image) for image in content['images']}
            if len(self._frames) != len(content['images']) or not self._frames:
                raise DatasetError(f'{self._annotations}: images must be at least one, each with an id of its own.')
            for annotation in content['annotations']:
                self._add(annotation, category_classes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f'{self._annotations} is not COCO detection JSON ({type(error).__name__}: {error}); '
                'expected lists images, categories and annotations.'
            ) from error
        self._order = sorted(self._frames)
        self._files = [self._frames[image_id].path for image_id in self._order]
        require_files(self._files, self.name)

    def _map_categories(self, categories: list[dict[str, Any]]) -> dict[int, int | None]:
        """Our class by category id; None for categories that are not in the table."""
        ours = [label.name for label in self.labels.detection]
        present = {str(category['name']): int(category['id']) for category in categories}
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

    def _add(self, annotation: dict[str, Any], category_classes: dict[int, int | None]) -> None:
        frame = self._frames.get(int(annotation['image_id']))
        category_id = int(annotation['category_id'])
        if frame is None or category_id not in category_classes:
            raise DatasetError(
                f'{self._annotations}: annotation {annotation.get("id")} names image {annotation["image_id"]} and '
                f'category {category_id}; one of them is not in the file.'
            )
        label = category_classes[category_id]
        if label is None:
            return
        left, top, width, height = (float(number) for number in annotation['bbox'])
        if not np.isfinite([left, top, width, height]).all() or width < 0 or height < 0:
            raise DatasetError(
                f'{self._annotations}: annotation {annotation.get("id")} has bbox {annotation["bbox"]}; '
                'expected finite [left, top, width, height].'
            )
        rows, columns = frame.image_hw
        box = np.clip([left, top, left + width, top + height], 0, [columns, rows, columns, rows])
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        if annotation.get('iscrowd', 0):
            frame.ignored.append(box)
        else:
            frame.boxes.append(box)
            frame.labels.append(label)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[self._order[index]]
        image = read_image(frame.path)
        check_same_size(self._annotations, frame.image_hw, ImageSize(str(frame.path), (image.shape[1], image.shape[2])))
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

    def __init__(self, path: Path, entry: Mapping[str, Any]) -> None:
        self.path = path
        self.image_hw = (int(entry['height']), int(entry['width']))
        self.boxes: list[np.ndarray] = []
        self.labels: list[int] = []
        self.ignored: list[np.ndarray] = []


def _parse_json(text: bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DatasetError(f'{path} is not valid JSON: {error}. Copy or download it again.') from error


def _boxes_tensor(boxes: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
