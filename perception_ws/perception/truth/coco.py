"""Boxes and outlines in COCO JSON (Lin et al., ECCV 2014): one file holds those of all images.

    images         id, file_name, height, width
    categories     id, name; several may have one name
    annotations    image_id, category_id, bbox [left, top, width, height] in pixels, iscrowd; segmentation for masks

A mapping maps the names of categories to our classes; categories outside of it are left out, so an image may count as
annotated and empty. A table (class_table) says of every category what it is. Crowds become ignore boxes of their class.
Boxes are clipped to the image; what then has no area is left out.

Shape letters: N objects, M ignored regions.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception.errors import ConfigError, DatasetError
from perception.interfaces import ANY_CLASS, GroundTruth, LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.truth.clipping import clip_boxes
from perception.truth.coco_box_form import BoxForm
from perception.truth.coco_categories import choose_categories, read_category_names, segmentation_classes
from perception.truth.coco_entries import (
    Entry,
    list_entries,
    parse_json,
    to_corners,
    to_file_name,
    to_integer,
    to_score,
    to_size,
)
from perception.truth.coco_masks import MaskConfig, Outline, paint, read_outline, require_library
from perception.truth.index_maps import ImageSize


class ScoreRange(NamedTuple):
    """What annotations with scores, those that a model made, count as.

    Attributes:
        positive_from: Lowest score of an object.
        ignore_from: Between this and the other, a box is ignored, neither object nor background; below, left out.
    """

    positive_from: float
    ignore_from: float

    def check(self) -> ScoreRange:
        """Itself.

        Raises:
            ConfigError: If it is no range of scores.
        """
        if not 0 <= self.ignore_from <= self.positive_from <= 1:
            raise ConfigError(
                f'Expected 0 <= ignore_from <= positive_from <= 1, got ignore_from {self.ignore_from} and '
                f'positive_from {self.positive_from}.'
            )
        return self


class _Object(NamedTuple):
    """What an annotation says; the label of what a model is not sure of is ANY_CLASS."""

    annotation: Entry
    box_xyxy: tuple[float, float, float, float]
    label: int
    ignored: bool


class CocoImage:
    """One image of a file with its objects.

    Attributes:
        path: The picture, whether it exists or not.
        file_name: What the file calls it.
        image_hw: The height and width that the file states.
    """

    def __init__(self, entry: Entry, folder: Path) -> None:
        self.file_name = entry.read('file_name', to_file_name, 'the path of a picture, as text')
        self.path = folder / self.file_name
        height, width = (entry.read(key, to_size, f'its {key} in pixels, an integer') for key in ('height', 'width'))
        self.image_hw = (height, width)
        self._file = entry.file
        self._boxes = self._ignored = np.zeros((0, 4), np.float32)
        self._labels = self._ignored_labels = np.zeros(0, np.int64)
        self._outlines: tuple[Outline, ...] = ()
        self._ground: int | None = None

    def annotate(self, objects: Sequence[_Object]) -> None:
        """Set what is in it.

        Raises:
            DatasetError: If a box has no part in the image.
        """
        boxes, has_area = self._clip(objects)
        is_ignored = np.array([found.ignored for found in objects], bool)
        labels = np.array([found.label for found in objects], np.int64)
        kept, ignored = has_area & ~is_ignored, has_area & is_ignored
        self._boxes, self._labels = boxes[kept], labels[kept]
        self._ignored, self._ignored_labels = boxes[ignored], labels[ignored]

    def outline(self, outlines: Sequence[Outline], ground: int) -> None:
        """Set what its mask is made of: outlines in the order of the file, and the class of what they leave open."""
        self._outlines, self._ground = tuple(outlines), ground

    def _clip(self, objects: Sequence[_Object]) -> tuple[np.ndarray, np.ndarray]:
        try:
            boxes, has_area = clip_boxes(np.array([found.box_xyxy for found in objects]), self.image_hw)
        except DatasetError as error:
            if len(objects) > 1:
                for found in objects:
                    self._clip([found])
            rows, columns = self.image_hw
            raise objects[0].annotation.error(
                f'has bbox {objects[0].annotation.values["bbox"]}, wholly outside of its image {self.path}, which is '
                f'{rows}x{columns} (height x width); expected [left, top, width, height] in pixels of that image.'
            ) from error
        return boxes.astype(np.float32), has_area

    def read(self, image: ImageSize) -> GroundTruth:
        """What is annotated in the image: arrays of the caller's own.

        Raises:
            DatasetError: If the picture is not of the size that the file states.
        """
        if image.hw != self.image_hw:
            raise DatasetError(
                f'{self._file} states {self.image_hw[0]}x{self.image_hw[1]} (height x width) for the image '
                f'{self.file_name}, but {image.name} is {image.hw[0]}x{image.hw[1]} as a viewer shows it. Was it '
                'resized or turned after its boxes were drawn, or were they drawn without regard to its orientation '
                'tag?'
            )
        return GroundTruth(
            boxes_xyxy=self._boxes.copy(),
            labels=self._labels.copy(),
            ignore_boxes_xyxy=self._ignored.copy(),
            ignore_labels=self._ignored_labels.copy(),
            mask=None if self._ground is None else paint(self._outlines, self.image_hw, self._ground),
        )


class CocoAnnotations:
    """All annotations of a file.

    Attributes:
        path: The file.
        sha256: Of its content.
        classes: The name of our class by that of each category that is used.
        category_ids: The ids of the categories of each of our classes, by its name.
        left_out: Names of the categories that are not.
        left_out_objects: How many annotations there are of those that have any, by name.
        scores: As given.
        areas: The segmentation class of each category that masks are painted of, or UNLABELLED; empty without masks.
        ground: The class of what no object covers, or UNLABELLED; None without masks.
        images: Its images by their id, in the order of the ids.
    """

    def __init__(
        self,
        path: Path,
        images: Path = Path(),
        classes: Mapping[str, str] | str | Path | None = None,
        *,
        labels: LabelSpace = DEFAULT_LABELS,
        scores: ScoreRange | None = None,
        masks: MaskConfig | None = None,
    ) -> None:
        """Read the file.

        Args:
            path: The JSON file.
            images: The folder that its file names count from, where it matters.
            classes: Category name to the name of a detection class; each must be in the file. Or a table, a CSV or
                YAML file, with a row for every category of the file. None: whichever of the usual names are in it.
            labels: The label space that the classes are of.
            scores: For a file that a model made. Without it, annotations that a model is not sure of are refused.
            masks: How masks are made of its outlines; None: they are not read.

        Raises:
            ConfigError: If the table names an unknown class or a category that the file lacks, or there are to be masks
                of what no segmentation class is said of.
            DatasetError: If the file is missing, is no COCO JSON or contradicts itself, or a box or outline of ours has
                no part in its image, or there are to be masks and it has no outlines.
            MissingDependencyError: If there are to be masks, and the library for them is not installed.
        """
        self.path = path
        self.scores = None if scores is None else scores.check()
        try:
            text = path.read_bytes()
        except OSError as error:
            raise DatasetError(f'Cannot read {path}: {error.strerror}.') from error
        self.sha256 = hashlib.sha256(text).hexdigest()
        content = parse_json(text, path)
        names = read_category_names(list_entries(content, 'categories', 'category', path))
        present = list(dict.fromkeys(names.values()))
        self._our_names = [label.name for label in labels.detection]
        categories = choose_categories(path, present, classes, labels)
        self.classes = {name: category.detection for name, category in categories.items() if category.detection}
        self.category_ids: dict[str, list[int]] = defaultdict(list)
        for category_id, name in names.items():
            if name in self.classes:
                self.category_ids[self.classes[name]].append(category_id)
        self.left_out = tuple(name for name in present if name not in self.classes)
        self.left_out_objects: Counter[str] = Counter()
        self.images = _read_images(list_entries(content, 'images', 'image', path), path, images)
        annotations = list_entries(content, 'annotations', 'annotation', path)
        self._add_objects(annotations, names)
        self.areas: dict[str, int] = {}
        self.ground: int | None = None
        if masks is not None:
            self.areas, self.ground = segmentation_classes(path, categories, labels), masks.ground_class(labels)
            self._add_outlines(annotations, names, self.ground)

    def _add_objects(self, annotations: Sequence[Entry], names: Mapping[int, str]) -> None:
        seen: set[tuple[object, ...]] = set()
        objects: dict[int, list[_Object]] = defaultdict(list)
        form = BoxForm()
        for annotation in annotations:
            image_id = annotation.read_reference('image', self.images)
            category = names[annotation.read_reference('category', names)]
            if category not in self.classes:
                self.left_out_objects[category] += 1
                continue
            box = annotation.read('bbox', to_corners, 'four finite numbers [left, top, width, height], no side below 0')
            label, crowd = self._our_names.index(self.classes[category]), annotation.read_crowd()
            score = self._score(annotation)
            if self.scores is None or score >= self.scores.ignore_from:
                unsure = self.scores is not None and score < self.scores.positive_from
                objects[image_id].append(_Object(annotation, box, ANY_CLASS if unsure else label, crowd or unsure))
            # Files that were joined may begin to count anew; only what is there twice would be scored twice.
            if annotation.values.get('id') is not None:
                content = (str(annotation.values['id']), image_id, category, *box)
                if content in seen:
                    raise annotation.error('is there twice, with one image, category and bbox; expected it once.')
                seen.add(content)
            form.note(annotation, box, self.images[image_id].image_hw)
        form.check()
        for image_id, image in self.images.items():
            image.annotate(objects[image_id])

    def _add_outlines(self, annotations: Sequence[Entry], names: Mapping[int, str], ground: int) -> None:
        require_library()
        outlines: dict[int, list[Outline]] = defaultdict(list)
        for annotation in annotations:
            image_id = annotation.read_reference('image', self.images)
            category = names[annotation.read_reference('category', names)]
            if category not in self.areas:
                continue
            run_lengths = read_outline(annotation, self.images[image_id].image_hw)
            # Boxes stand in for outlines that are not there.
            box = (0.0, 0.0, 0.0, 0.0) if run_lengths else annotation.read('bbox', to_corners, 'an outline, or a box')
            outlines[image_id].append(Outline(self.areas[category], run_lengths, box))
        if not any(outline.run_lengths for found in outlines.values() for outline in found):
            raise DatasetError(f'{self.path} has no segmentation that is not empty; leave out the option masks.')
        for image_id, image in self.images.items():
            image.outline(outlines[image_id], ground)

    def _score(self, annotation: Entry) -> float:
        if self.scores is not None:
            return annotation.read('score', to_score, 'a number in 0..1, since positive_from and ignore_from are set')
        if annotation.values.get('score') is not None and annotation.read('score', to_score, 'a number in 0..1') < 1:
            raise annotation.error(
                f'has score {annotation.values["score"]}, so a model made it. To train on it, say with positive_from '
                'and ignore_from from which score on it is an object; nothing is scored against what a model guessed.'
            )
        return 1.0


def _read_images(entries: Sequence[Entry], path: Path, folder: Path) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    by_file: dict[str, int] = {}
    for entry in entries:
        image_id = entry.read('id', to_integer, 'an integer')
        if image_id in images:
            raise entry.error('is there twice; expected an id of its own for every image.')
        images[image_id] = CocoImage(entry, folder)
        first = by_file.setdefault(os.path.normpath(images[image_id].path), image_id)
        if first != image_id:
            # Each would know a part of the objects, and what the other knows would count as wrongly found.
            raise entry.error(
                f'has file_name {images[image_id].file_name!r}, as image {first} has; expected one image for each '
                'file, with all of its annotations.'
            )
    if not images:
        raise DatasetError(f'{path}: the list images is empty; expected at least one.')
    return dict(sorted(images.items()))
