"""Boxes and masks in COCO JSON (Lin et al., ECCV 2014), read by perception.truth.coco.

``CocoBoxes`` reads any such file. Its defaults are the layout of COCO itself, and the categories that the label space
has a name or a table for; ``DrivingBoxes`` is the same for road photos in bad weather.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from perception.errors import ConfigError, list_names
from perception.interfaces import LabelSpace
from perception.labels import DEFAULT_LABELS
from perception.metrics.coco_scoring import CocoTruth
from perception.truth import CocoAnnotations
from perception.truth.class_table import read_categories, usual_categories, usual_table
from perception.truth.coco import ScoreRange
from perception.truth.coco_masks import MaskConfig
from training.data.dataset import SceneDataset, fingerprint_files
from training.data.files import name_images, read_image, require_file, require_files
from training.data.sample import Sample, annotate

LOG = logging.getLogger(__name__)


class CocoBoxes(SceneDataset):
    """Photos with boxes, and masks if wanted."""

    dataset_name: ClassVar[str] = 'coco'
    default_annotations: ClassVar[str] = 'annotations/instances_{split}2017.json'
    default_images: ClassVar[str] = '{split}2017'

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        labels: LabelSpace = DEFAULT_LABELS,
        annotations: str | None = None,
        images: str | None = None,
        classes: Mapping[str, str] | str | None = None,
        positive_from: float | None = None,
        ignore_from: float | None = None,
        masks: bool = False,
        background: str | None = None,
    ) -> None:
        """Read the annotation file.

        Args:
            root: Folder that the other two count from.
            split: Replaces ``{split}`` in them.
            labels: The label space that the classes are of.
            annotations: The JSON file.
            images: The folder that its file names count from.
            classes: Category name to the name of a detection class; or a CSV or YAML file with a row for each category.
                None: the categories with a usual name, which are those of the usual table and of the classes.
            positive_from, ignore_from: For boxes with scores, which a model made: those from the first on are objects,
                those between are ignored. The second is the first unless it is given.
            masks: Whether masks are painted of the outlines, in the order of the file.
            background: Segmentation class of what no object covers; None: ``background``, where the label space has
                that, else unlabelled.

        Raises:
            ConfigError: If the table names an unknown class or a category that the file lacks, or nothing says which
                segmentation classes there are.
            DatasetError: If files are missing, the JSON contradicts itself, or a box of ours has no part in its image.
            MissingDependencyError: If there are to be masks, and the library for them is not installed.
        """
        if background is not None and not masks:
            raise ConfigError(f'background {background!r} says nothing without masks; set masks, too.')
        if masks and positive_from is not None:
            raise ConfigError('Masks are not made of what a model guessed; leave out masks, or positive_from.')
        self.labels = labels
        self.name = f'{self.dataset_name}-{split}'
        self._root = Path(root)
        path = self._root / (annotations or self.default_annotations).replace('{split}', split)
        require_file(path, self.name, 'root, split and the option annotations')
        self._annotations = CocoAnnotations(
            path,
            self._root / (images or self.default_images).replace('{split}', split),
            classes,
            labels=labels,
            scores=score_range(positive_from, ignore_from),
            masks=MaskConfig(background) if masks else None,
        )
        if classes is None:
            self._tell_left_out()
        self._images = tuple(self._annotations.images.values())
        self._files = [image.path for image in self._images]
        require_files(self._files, self.name)
        self.image_paths = self._files
        self._names = name_images(self._files)
        if positive_from is not None:
            self.remark = f'boxes of a model (score from {positive_from:g})'

    @property
    def coco_truth(self) -> CocoTruth | None:
        """What COCO's own evaluation needs; None where a class is several categories, or a model made the boxes."""
        found = self._annotations
        ids = [found.category_ids.get(label.name, []) for label in self.labels.detection]
        if found.scores is not None or any(len(each) > 1 for each in ids):
            return None
        return CocoTruth(
            path=found.path,
            image_ids=tuple(found.images),
            category_ids=tuple(each[0] if each else None for each in ids),
        )

    def _tell_left_out(self) -> None:
        """Categories that nobody chose to leave out; those of the layout itself are known to be others."""
        found, usual = self._annotations, usual_categories(self.labels)
        table = usual_table(self.dataset_name, self.labels)
        expected = usual if table is None else read_categories(table, self.labels)
        others = [name for name in found.left_out_objects if name not in usual]
        if others and not {name for name, category in expected.items() if category.detection} <= set(found.classes):
            LOG.warning(
                '%s: the categories %s have no usual name, and their objects count as background. If they are of our '
                'classes, say so with the option classes.',
                found.path,
                list_names(others),
            )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image = self._images[index]
        return annotate(
            read_image(image.path), image.read, name=f'{self.name}/{self._names[index]}', image_path=image.path
        )

    def fingerprint(self) -> str:
        # All boxes are in one file: its content tells two of them apart for certain, and a copy is the same.
        settings: dict[str, object] = {
            'classes': self._annotations.classes,
            'annotations': self._annotations.sha256,
            'scores': self._annotations.scores,
        }
        if self._annotations.ground is not None:
            settings |= {'areas': self._annotations.areas, 'ground': self._annotations.ground}
        return fingerprint_files(self, self._root, settings, self._files)


def score_range(positive_from: float | None, ignore_from: float | None) -> ScoreRange | None:
    """The two options of a reader; None: its boxes have no scores.

    Raises:
        ConfigError: If they are no range, or the second stands alone.
    """
    if positive_from is None:
        if ignore_from is not None:
            raise ConfigError(f'ignore_from {ignore_from} says nothing without positive_from; give that, too.')
        return None
    return ScoreRange(positive_from, positive_from if ignore_from is None else ignore_from).check()


class DrivingBoxes(CocoBoxes):
    """DAWN road photos in fog, rain, snow and sand (Kenk and Hassaballah, 2020), with three categories."""

    dataset_name = 'driving_boxes'
    default_annotations = '{split}.json'
    default_images = '.'
