"""A second opinion on boxes: COCO's own evaluation (Lin et al., ECCV 2014), on results as its server takes them.

The report scores the classes of a label space on boxes that were clipped to their image. Here the annotation file
counts as it stands, with its categories, crowds, and the areas of its outlines, which say what is small: the twelve
figures of papers. By faster_coco_eval.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from perception.errors import ConfigError
from perception.metrics.detection import BoxTable
from perception.metrics.libraries import BOX_LIBRARY, require
from perception.metrics.report import Score
from perception.metrics.tables import share

FIGURES = (
    *('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large'),
    *('AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large'),
)
"""In COCO's order."""
_NEEDED = ('image_id', 'category_id', 'bbox', 'area', 'iscrowd')


@dataclass(frozen=True, kw_only=True)
class CocoTruth:
    """A data set as COCO's evaluation sees it.

    Attributes:
        path: The annotation file.
        image_ids: Of its images, in the order in which they are scored.
        category_ids: Of each detection class; None where the file has no category of it.
    """

    path: Path
    image_ids: tuple[int, ...]
    category_ids: tuple[int | None, ...]


def list_results(boxes: BoxTable, truth: CocoTruth) -> list[dict[str, Any]]:
    """What was found as COCO's results, one entry for each box; classes without a category are left out.

    Args:
        boxes: Of ``Evaluator.boxes``; their images are the first ones of the data set.
        truth: The data set.
    """
    results = []
    for image, kind, score, left, top, right, bottom in boxes.found.tolist():
        category_id = truth.category_ids[int(kind)]
        if category_id is not None:
            results.append(
                {
                    'image_id': truth.image_ids[int(image)],
                    'category_id': category_id,
                    'bbox': [left, top, right - left, bottom - top],
                    'score': score,
                }
            )
    return results


def score_coco(results: Sequence[Mapping[str, Any]], truth: CocoTruth, images: int) -> dict[str, Score]:
    """The twelve figures by their names; None: nothing of that kind is in the file.

    Args:
        results: Of ``list_results``.
        truth: The data set.
        images: How many of its images, from the first on, were looked at.

    Raises:
        ConfigError: If an annotation lacks what COCO's evaluation needs.
        MissingDependencyError: If the evaluator is not installed.
    """
    library = require(BOX_LIBRARY)
    content = json.loads(truth.path.read_text(encoding='utf-8-sig'))
    for annotation in content['annotations']:
        lacking = [key for key in _NEEDED if type(annotation.get(key)) not in (int, float, list)]
        if lacking:
            raise ConfigError(
                f"COCO's evaluation cannot take {truth.path}: annotation {annotation.get('id')} has no {lacking[0]}, "
                'or one that is no number.'
            )
    found = [{**result, 'area': result['bbox'][2] * result['bbox'][3], 'iscrowd': 0} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        expected, detections = (
            library.COCO({**content, 'annotations': _number(annotations)})
            for annotations in (content['annotations'], found)
        )
        evaluator = library.COCOeval_faster(expected, detections, iouType='bbox')
        evaluator.params.imgIds = list(truth.image_ids[:images])
        evaluator.params.catIds = [number for number in truth.category_ids if number is not None]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = [float(value) for value in evaluator.stats[: len(FIGURES)]]
    return {name: None if value < 0 else value for name, value in zip(FIGURES, values, strict=True)}


def _number(annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With ids from 1: to the evaluator 0 means unmatched, and files that were joined may have one twice."""
    return [{**annotation, 'id': number} for number, annotation in enumerate(annotations, start=1)]


def format_coco_scores(scores: Mapping[str, Score]) -> str:
    """The figures in percent, as plain text."""
    rows = [[name, share(score)] for name, score in scores.items()]
    return tabulate(rows, headers=["COCO's evaluation", '%'], colalign=('left', 'right'), disable_numparse=True)
