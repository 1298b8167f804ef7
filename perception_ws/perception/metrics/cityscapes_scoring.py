"""A second opinion on masks: cityscapesscripts' own evaluation, on PNG files as its benchmark wants them.

Its classes are finer than ours. Each of our classes is written as one Cityscapes id that stands for it, in prediction
and truth alike, and unlabelled pixels as id 0, which it ignores: its IoU of that id must be our IoU of the class.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from perception.errors import ConfigError
from perception.interfaces import LabelSpace
from perception.metrics.libraries import require
from perception.metrics.report import Report, Score

LABEL_IDS = {
    'road': 7,
    'sidewalk': 8,
    'building': 11,
    'fence': 13,
    'pole': 17,
    'traffic sign': 20,
    'vegetation': 21,
    'sky': 23,
    'pedestrian': 24,
    'rider/cycle': 25,
    'car/truck/bus': 26,
    'wall': 12,
    'traffic light': 19,
    'terrain': 22,
    'person': 24,
    'rider': 25,
    'car': 26,
    'truck': 27,
    'bus': 28,
    'train': 31,
    'motorcycle': 32,
    'bicycle': 33,
}
"""The Cityscapes id that a class is written as, of ours and of its own."""
_UNLABELED_ID = 0


def has_official_ids(labels: LabelSpace) -> bool:
    """Whether each segmentation class has an id of its own there, so that there is a second opinion on them."""
    ids = [LABEL_IDS.get(label.name) for label in labels.segmentation]
    return None not in ids and len(set(ids)) == len(ids)


@dataclass(frozen=True, kw_only=True)
class OfficialScores:
    """What cityscapesscripts says."""

    classes: tuple[str, ...]
    iou: tuple[Score, ...]
    """None for a class without truth."""
    mean_iou: Score
    """Over the classes that have truth, as ours."""
    average_score_classes: Score
    """Its own mean, which counts a class that is only predicted, never true, as 0."""

    def difference(self, report: Report) -> float:
        """The largest difference to a report's IoU, over classes and mean; infinite if one has what the other lacks."""
        ours = (*report.segmentation.iou, report.segmentation.mean_iou)
        return max(_difference(a, b) for a, b in zip((*self.iou, self.mean_iou), ours, strict=True))


class CityscapesWriter:
    """Writes masks as labelIds PNG files: ``predictions/<name>_labelIds.png`` and ``truth/<name>_labelIds.png``.

    Args:
        folder: Where to.
        labels: The label space of the masks.

    Raises:
        ConfigError: If a segmentation class has no Cityscapes id.
        MissingDependencyError: If cityscapesscripts is not installed.
    """

    def __init__(self, folder: Path | str, labels: LabelSpace) -> None:
        self._scripts = require('cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling')
        names = [label.name for label in labels.segmentation]
        foreign = [name for name in names if name not in LABEL_IDS]
        if foreign:
            raise ConfigError(f'Segmentation class {foreign[0]!r} has no Cityscapes id; known: {", ".join(LABEL_IDS)}.')
        self.folder = Path(folder)
        self.labels = labels
        self._table = np.full(256, _UNLABELED_ID, np.uint8)
        self._table[: len(names)] = [LABEL_IDS[name] for name in names]
        self._pairs: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        """Masks written."""
        return len(self._pairs)

    def add(self, name: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Write one (H, W) uint8 mask and its truth. Of the name, <data set>/<path>, the path with its folders is used.

        Raises:
            ConfigError: If the name was used before, or the files cannot be written.
        """
        stem = name.partition('/')[2] or name
        if not stem or stem in self._pairs:
            raise ConfigError(f'Mask name {name!r} is empty or was written before; names must differ.')
        paths = [self.folder / kind / f'{stem}_labelIds.png' for kind in ('predictions', 'truth')]
        for path, mask in zip(paths, (predicted, truth), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), cv2.LUT(mask, self._table)):
                raise ConfigError(f'Cannot write {path}; is the disk full or read-only?')
        self._pairs[stem] = (str(paths[0]), str(paths[1]))

    def score(self) -> OfficialScores:
        """Run cityscapesscripts on all files written.

        Raises:
            ConfigError: If nothing was written, or cityscapesscripts refuses the files.
        """
        if not self._pairs:
            raise ConfigError('No masks were written; cityscapesscripts needs images with true masks.')
        scripts = self._scripts
        settings = copy.copy(scripts.args)
        settings.evalInstLevelScore = False
        settings.JSONOutput = False
        settings.quiet = True
        predictions, truths = zip(*self._pairs.values(), strict=True)
        try:
            found = scripts.evaluateImgLists(list(predictions), list(truths), settings)
        except SystemExit as error:  # its way to report errors
            raise ConfigError(
                f'cityscapesscripts refused the files in {self.folder}; see its message above.'
            ) from error
        present = np.asarray(found['confMatrix'], np.float64).sum(axis=1) > 0
        names = {label.id: label.name for label in scripts.labels}
        classes = tuple(label.name for label in self.labels.segmentation)
        ids = [LABEL_IDS[name] for name in classes]
        iou = tuple(float(found['classScores'][names[index]]) if present[index] else None for index in ids)
        measured = [score for score in iou if score is not None]
        average = float(found['averageScoreClasses'])
        return OfficialScores(
            classes=classes,
            iou=iou,
            mean_iou=sum(measured) / len(measured) if measured else None,
            average_score_classes=None if math.isnan(average) else average,
        )


def save_official_scores(path: Path | str, scores: OfficialScores) -> None:
    """Write the scores as JSON."""
    Path(path).write_text(json.dumps(asdict(scores), indent=2, allow_nan=False) + '\n', encoding='utf-8')


def _difference(one: Score, other: Score) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other)
