"""A second opinion on boxes: average precision as the devkit of Pascal VOC defines it (Everingham et al., IJCV 2010).

It differs from COCO's at an IoU of 0.5. Every detection is held against the object of its class that it overlaps most,
whether that was found before or not; all detections count, not 100 of a class in an image; one that overlaps an object
to be ignored (difficult) most is neither right nor wrong. Precision is the best one at a recall or higher, averaged
over the recalls 0, 0.1, ... 1 (until 2009, and in figures on VOC2007), or over all of them: the area (from 2010 on).

VOC's boxes are inclusive pixels with sides of ``xmax - xmin + 1``; in our coordinates the same sides need no ``+ 1``.

Shape letters: n detections of one class, N those of one image, G objects.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from perception.boxes import pairwise_iou
from perception.metrics.detection import BoxTable, ignored_for_class
from perception.metrics.report import Score
from perception.metrics.tables import share

IOU_THRESHOLD = 0.5
_RECALL_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class VocScores:
    """What the devkit would say; None for a class without objects."""

    classes: tuple[str, ...]
    objects: tuple[int, ...]
    """Of each class, without the difficult ones."""
    ap_area: tuple[Score, ...]
    """The area under the curve, as from 2010 on."""
    ap_11_point: tuple[Score, ...]
    """The mean at 11 recalls, as until 2009."""
    mean_ap_area: Score
    mean_ap_11_point: Score


def score_voc(boxes: BoxTable, classes: tuple[str, ...]) -> VocScores:
    """Score boxes.

    Args:
        boxes: Found and true, of ``Evaluator.boxes``. Regions to be ignored are difficult objects of their class.
        classes: The names of the detection classes.
    """
    objects, curves = [], []
    for kind in range(len(classes)):
        objects.append(int((boxes.true[:, 1] == kind).sum()))
        curves.append(_rank(boxes, kind))
    area, points = (
        tuple(measure(right, count) if count else None for right, count in zip(curves, objects, strict=True))
        for measure in (average_precision_area, average_precision_11_point)
    )
    return VocScores(
        classes=classes,
        objects=tuple(objects),
        ap_area=area,
        ap_11_point=points,
        mean_ap_area=_mean(area),
        mean_ap_11_point=_mean(points),
    )


def average_precision_area(right: np.ndarray, objects: int) -> float:
    """The area under the curve of precision over recall.

    Args:
        right: (n,) bool, whether each detection found an object, from the best score on.
        objects: How many there are, at least 1.
    """
    found = right.cumsum()
    precision = _best_from_here(found / np.arange(1, len(right) + 1))
    return float(precision[right].sum() / objects)  # recall grows by one object at a time


def average_precision_11_point(right: np.ndarray, objects: int) -> float:
    """The mean of the best precision at a recall of at least 0, 0.1, ... 1; 0 where that is not reached.

    Args:
        right: (n,) bool, whether each detection found an object, from the best score on.
        objects: How many there are, at least 1.
    """
    found = right.cumsum()
    precision = np.append(_best_from_here(found / np.arange(1, len(right) + 1)), 0)
    # In integers: as fractions, a recall of 0.3 may count as less than 3 * 0.1.
    reached = np.searchsorted(found * _RECALL_STEPS, np.arange(_RECALL_STEPS + 1) * objects)
    return float(precision[reached].mean())


def _best_from_here(precision: np.ndarray) -> np.ndarray:
    """The best value of each place and all behind it (n,)."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _rank(boxes: BoxTable, kind: int) -> np.ndarray:
    """Whether each detection of a class that counts is right, from the best score on (n,) bool."""
    found = boxes.found[boxes.found[:, 1] == kind].astype(np.float64)
    found = found[np.argsort(-found[:, 2], kind='stable')]
    true, ignored = boxes.true[boxes.true[:, 1] == kind], ignored_for_class(boxes, kind)
    objects = np.concatenate((true, ignored))
    partners = _partners(found, objects)
    hits = np.flatnonzero((partners >= 0) & (partners < len(true)))
    _, first = np.unique(partners[hits], return_index=True)  # later ones find what was found before
    right = np.zeros(len(found), bool)
    right[hits[first]] = True
    return right[partners < len(true)]


def _partners(found: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The object that each detection overlaps most, in its image and by the threshold; -1: none (n,)."""
    partners = np.full(len(found), -1)
    places = _places_by_image(objects)
    for image, rows in _places_by_image(found).items():
        columns = places.get(image)
        if columns is None:
            continue
        iou = pairwise_iou(torch.from_numpy(found[rows, 3:]), torch.from_numpy(objects[columns, 2:]))  # (N, G)
        best, place = iou.max(dim=1)
        partners[rows] = np.where(best.numpy() >= IOU_THRESHOLD, columns[place.numpy()], -1)
    return partners


def _places_by_image(rows: np.ndarray) -> dict[float, np.ndarray]:
    """The rows of each image, in their order; column 0 is the image."""
    images, counts = np.unique(rows[:, 0], return_counts=True)
    order = np.argsort(rows[:, 0], kind='stable')
    return dict(zip(images.tolist(), np.split(order, counts.cumsum()[:-1]), strict=True)) if len(rows) else {}


def _mean(scores: tuple[Score, ...]) -> Score:
    measured = [score for score in scores if score is not None]
    return sum(measured) / len(measured) if measured else None


def save_voc_scores(path: Path | str, scores: VocScores) -> None:
    """Write the scores as JSON."""
    Path(path).write_text(json.dumps(asdict(scores), indent=2, allow_nan=False) + '\n', encoding='utf-8')


def format_voc_scores(scores: VocScores) -> str:
    """The figures in percent, as plain text."""
    rows = [
        [name, str(count), share(area), share(points)]
        for name, count, area, points in zip(
            scores.classes, scores.objects, scores.ap_area, scores.ap_11_point, strict=True
        )
    ]
    rows.append(['mean', str(sum(scores.objects)), share(scores.mean_ap_area), share(scores.mean_ap_11_point)])
    headers = ['as Pascal VOC', 'objects', 'AP area %', 'AP 11-point %']
    return tabulate(rows, headers=headers, colalign=('left', *['right'] * 3), disable_numparse=True)
