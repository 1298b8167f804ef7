"""Box scores: average precision as COCO defines it, by faster_coco_eval (a C++ port of pycocotools, same figures).

At most 100 detections of a class count in an image, as everywhere COCO figures are compared.

Shape letters: N detections, G true objects, M ignored regions; T IoU thresholds, R recall levels,
S sizes (all, small, medium, large).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from perception.errors import ConfigError, ShapeError
from perception.interfaces import ANY_CLASS, Detections, GroundTruth
from perception.metrics.libraries import BOX_LIBRARY, require
from perception.metrics.report import SCORE_LEVELS, DetectionScores, PrecisionRecallCurve, Score

SIZES = ('small', 'medium', 'large')
MAX_DETECTIONS = 100
RECALL_LEVELS: tuple[float, ...] = tuple(np.linspace(0, 1, 101).tolist())


@dataclass(frozen=True, kw_only=True)
class BoxTable:
    """Boxes of some images, found and true: all that the scores need of them. Column 0 is the image, from 0."""

    found: np.ndarray
    """(N, 7) float32: image, class, score, x1, y1, x2, y2."""
    true: np.ndarray
    """(G, 6) float64: image, class, x1, y1, x2, y2."""
    ignored: np.ndarray
    """(M, 6) float64: image, class or ANY_CLASS, x1, y1, x2, y2."""
    images: int


@dataclass(frozen=True, kw_only=True)
class ImageDetections:
    """The detections of one image by themselves, as ``FrameScore`` has them."""

    ap50: Score
    objects: tuple[int, ...]
    right: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]


class DetectionScorer:
    """Accumulates boxes; its memory is some 3 kB per image with 100 detections.

    The scores at the end take 1.5 kB more for every box of one class at a time: 9 GB for 100,000 images with 60 cars.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._found, self._true, self._ignored = _Rows(7, np.float32), _Rows(6, np.float64), _Rows(6, np.float64)
        self._images = 0

    @property
    def table(self) -> BoxTable:
        """Everything added so far."""
        return BoxTable(
            found=self._found.view(), true=self._true.view(), ignored=self._ignored.view(), images=self._images
        )

    def prepare(self, detections: Detections, truth: GroundTruth) -> BoxTable:
        """Check and copy one image's boxes, without taking them in.

        Raises:
            ShapeError: If the truth's arrays do not belong together.
            ConfigError: If a label is not in the label space.
        """
        image = _one_image(detections, truth)
        for which, labels, lowest in (
            ('Detected', image.found[:, 1], 0),
            ('True', image.true[:, 1], 0),
            ('Ignored', image.ignored[:, 1], ANY_CLASS),
        ):
            unknown = labels[(labels < lowest) | (labels >= len(self.classes))]
            if len(unknown):
                raise ConfigError(
                    f'{which} box has class {int(unknown[0])}, but the label space has {len(self.classes)} detection '
                    'classes. Evaluate with the label space that both use.'
                )
        return image

    def add(self, image: BoxTable) -> ImageDetections:
        """Take one image in; returns what there is to say of it by itself."""
        self._append(image)
        found = [_judge_image(image, kind) for kind in range(len(self.classes))]
        ap50, objects, right, wrong = zip(*found, strict=True)
        return ImageDetections(ap50=_average_classes(ap50), objects=objects, right=right, wrong=wrong)

    def merge(self, other: DetectionScorer) -> None:
        """Take over what another scorer has seen, behind what is here."""
        self._append(other.table)

    def _append(self, table: BoxTable) -> None:
        rows = ((self._found, table.found), (self._true, table.true), (self._ignored, table.ignored))
        for kept, more in rows:
            kept.append(more, first_image=self._images)
        self._images += table.images

    def scores(self) -> DetectionScores:
        """The scores over everything added."""
        kinds = range(len(self.classes))
        thresholds = np.linspace(0.5, 0.95, 10).tolist()
        # Class by class, because of the memory for every box.
        boxes = self.table
        tables = [_class_tables(boxes, kind, thresholds) for kind in kinds]
        ap50 = tuple(_average(precision[0, :, 0]) for precision, _ in tables)
        ap = tuple(_average(precision[:, :, 0]) for precision, _ in tables)
        by_size = {
            size: tuple(_average(precision[:, :, place]) for precision, _ in tables)
            for place, size in enumerate(SIZES, start=1)
        }
        return DetectionScores(
            classes=self.classes,
            ap50=ap50,
            ap=ap,
            mean_ap50=_average_classes(ap50),
            mean_ap=_average_classes(ap),
            ap_by_size=by_size,
            mean_ap_by_size={size: _average_classes(scores) for size, scores in by_size.items()},
            recall_levels=RECALL_LEVELS,
            curves=tuple(_curve(precision[0, :, 0], confidence[0, :, 0]) for precision, confidence in tables),
            boxes=tuple(int((boxes.true[:, 1] == kind).sum()) for kind in kinds),
            ignore_regions=len(boxes.ignored),
            detections=len(boxes.found),
            images=boxes.images,
        )


class _Rows:
    """An array that grows at its end. Its few large blocks leave the memory between other arrays free."""

    def __init__(self, width: int, dtype: DTypeLike) -> None:
        self._content = np.empty((0, width), dtype)
        self._length = 0

    def append(self, rows: np.ndarray, first_image: int) -> None:
        end = self._length + len(rows)
        # Ray hands out arrays of other processes read-only.
        if end > len(self._content) or not self._content.flags.writeable:
            larger = np.empty((max(2 * end, 1024), self._content.shape[1]), self._content.dtype)
            larger[: self._length] = self.view()
            self._content = larger
        self._content[self._length : end] = rows
        self._content[self._length : end, 0] += first_image
        self._length = end

    def view(self) -> np.ndarray:
        return self._content[: self._length]


def _one_image(detections: Detections, truth: GroundTruth) -> BoxTable:
    boxes, labels = truth.boxes_xyxy, truth.labels
    if boxes is None or labels is None or boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        found = [None if array is None else array.shape for array in (boxes, labels)]
        raise ShapeError(f'True boxes must be (G, 4) with labels (G,); got {found[0]} and {found[1]}.')
    ignored = np.zeros((0, 4)) if truth.ignore_boxes_xyxy is None else truth.ignore_boxes_xyxy.reshape(-1, 4)
    ignored_for = np.full(len(ignored), ANY_CLASS) if truth.ignore_labels is None else truth.ignore_labels
    if ignored_for.shape != (len(ignored),):
        raise ShapeError(f'{len(ignored)} ignored regions need as many labels; got {ignored_for.shape}.')
    return BoxTable(
        found=np.column_stack(
            (np.zeros(len(detections)), detections.labels, detections.scores, detections.boxes_xyxy.reshape(-1, 4))
        ).astype(np.float32),
        true=np.column_stack((np.zeros(len(boxes)), labels, boxes)),
        ignored=np.column_stack((np.zeros(len(ignored)), ignored_for, ignored)),
        images=1,
    )


def _judge_image(image: BoxTable, kind: int) -> tuple[Score, int, tuple[int, ...], tuple[int, ...]]:
    """Of one class in one image: AP50, objects, and the scores of right and of wrong detections in thousandths."""
    scores = image.found[image.found[:, 1] == kind, 2]
    objects = int((image.true[:, 1] == kind).sum())
    if not objects and not len(scores):
        return None, 0, (), ()
    result = _evaluate(image, kind, [0.5], by_size=False)
    # Ids of a detection and of what it overlaps; behind the objects come the ignored regions.
    pairs = (pair.split('_') for pair in result['matched'])
    partners = {int(detection) - 1: int(true) for detection, true in pairs}
    right: list[int] = []
    wrong: list[int] = []
    for place in np.argsort(-scores, kind='stable')[:MAX_DETECTIONS].tolist():
        partner = partners.get(place, 0)
        if partner <= objects:
            level = min(int(scores[place] * SCORE_LEVELS), SCORE_LEVELS - 1)
            (right if partner else wrong).append(level)
    precision, _ = _tables(result)
    return _average(precision[:, :, 0]), objects, tuple(right), tuple(wrong)


def _evaluate(boxes: BoxTable, kind: int, thresholds: list[float], *, by_size: bool = True) -> dict[str, Any]:
    """Run the evaluator on one class; what it finds, by COCO's names."""
    library = require(BOX_LIBRARY)
    images = [{'id': index} for index in range(1, boxes.images + 1)]
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, _, *box in boxes.true[boxes.true[:, 1] == kind].tolist():
        true.append(_annotation(true, image, box, iscrowd=0))
    # A crowd: detections in it are neither right nor wrong.
    for image, _, *box in ignored_for_class(boxes, kind).tolist():
        true.append(_annotation(true, image, box, iscrowd=1))
    for image, _, score, *box in boxes.found[boxes.found[:, 1] == kind].tolist():
        found.append(_annotation(found, image, box, score=score))
    truth, detections = (
        library.COCO({'images': images, 'categories': [{'id': 1, 'name': 'class'}], 'annotations': annotations})
        for annotations in (true, found)
    )
    evaluator = library.COCOeval_faster(truth, detections, iouType='bbox')
    evaluator.params.iouThrs = np.array(thresholds)
    evaluator.params.recThrs = np.array(RECALL_LEVELS)
    if not by_size:
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], ['all']
    evaluator.evaluate()
    evaluator.accumulate()
    return dict(evaluator.eval)


def ignored_for_class(boxes: BoxTable, kind: int) -> np.ndarray:
    """The rows of the regions that are to be ignored where that class is looked for."""
    return boxes.ignored[np.isin(boxes.ignored[:, 1], (kind, ANY_CLASS))]


def _class_tables(boxes: BoxTable, kind: int, thresholds: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """As ``_tables``, of one class; where it has no truth, no library is needed."""
    if (boxes.true[:, 1] == kind).any():
        return _tables(_evaluate(boxes, kind, thresholds))
    nothing = np.full((len(thresholds), len(RECALL_LEVELS), 1 + len(SIZES)), -1.0)
    return nothing, nothing


def _tables(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Precision and score threshold, both (T, R, S), -1 where there is no truth."""
    # (T, R, class, S, limit of detections per image): our class, and the last of the limits 1, 10, 100.
    precision, scores = (np.asarray(result[key], np.float64) for key in ('precision', 'scores'))
    return precision[:, :, 0, :, -1], scores[:, :, 0, :, -1]


def _annotation(before: list[dict[str, Any]], image: float, box_xyxy: list[float], **rest: float) -> dict[str, Any]:
    """COCO's, whose boxes are corner and size and whose ids count from 1."""
    left, top, right, bottom = box_xyxy
    width, height = right - left, bottom - top
    return {
        'id': len(before) + 1,
        'image_id': int(image) + 1,
        'category_id': 1,
        'bbox': [left, top, width, height],
        'area': width * height,
        **rest,
    }


def _average(precision: np.ndarray) -> Score:
    """Average precision out of the evaluator's table; -1 marks what has no truth."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None


def _average_classes(scores: Sequence[Score]) -> Score:
    measured = [score for score in scores if score is not None]
    return sum(measured) / len(measured) if measured else None


def _curve(precision: np.ndarray, scores: np.ndarray) -> PrecisionRecallCurve:
    if (precision < 0).any():
        return PrecisionRecallCurve(precision=(), scores=())
    return PrecisionRecallCurve(precision=tuple(precision.tolist()), scores=tuple(scores.tolist()))
