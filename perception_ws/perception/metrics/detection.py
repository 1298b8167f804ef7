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

from perception.errors import ConfigError, ShapeError
from perception.interfaces import Detections, GroundTruth
from perception.metrics.libraries import require
from perception.metrics.report import DetectionScores, PrecisionRecallCurve, Score

SIZES = ('small', 'medium', 'large')
RECALL_LEVELS: tuple[float, ...] = tuple(np.linspace(0, 1, 101).tolist())


@dataclass(frozen=True, kw_only=True)
class BoxFrame:
    """One image's boxes, found and true, as corner and size: what the scores over all images need to keep."""

    found_xywh: np.ndarray
    """(N, 4) float64."""
    scores: np.ndarray
    """(N,)"""
    labels: np.ndarray
    """(N,)"""
    true_xywh: np.ndarray
    """(G, 4) float64."""
    true_labels: np.ndarray
    """(G,)"""
    ignored_xywh: np.ndarray
    """(M, 4) float64."""


class DetectionScorer:
    """Accumulates boxes; its memory is some 5 kB per image with 100 detections."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.frames: list[BoxFrame] = []

    def prepare(self, detections: Detections, truth: GroundTruth) -> BoxFrame:
        """Check and copy one image's boxes, without taking them in.

        Raises:
            ShapeError: If the truth's arrays do not belong together.
            ConfigError: If a label is not in the label space.
        """
        frame = _box_frame(detections, truth)
        for which, labels in (('Detected', frame.labels), ('True', frame.true_labels)):
            unknown = labels[(labels < 0) | (labels >= len(self.classes))]
            if len(unknown):
                raise ConfigError(
                    f'{which} box has class {int(unknown[0])}, but the label space has {len(self.classes)} detection '
                    'classes. Evaluate with the label space that both use.'
                )
        return frame

    def add(self, frame: BoxFrame) -> Score:
        """Take one image in; returns its AP50 by itself."""
        self.frames.append(frame)
        present = np.unique(frame.true_labels).tolist()
        return _average_classes([_average(_evaluate([frame], label, [0.5])[0][:, :, 0]) for label in present])

    def merge(self, other: DetectionScorer) -> None:
        """Take over what another scorer has seen, behind what is here."""
        self.frames.extend(other.frames)

    def scores(self) -> DetectionScores:
        """The scores over everything added."""
        kinds = range(len(self.classes))
        thresholds = np.linspace(0.5, 0.95, 10).tolist()
        # Class by class, because the evaluator takes 1 kB for every box.
        tables = [_evaluate(self.frames, kind, thresholds) for kind in kinds]
        ap50 = tuple(_average(precision[0, :, 0]) for precision, _ in tables)
        ap = tuple(_average(precision[:, :, 0]) for precision, _ in tables)
        by_size = {
            size: tuple(_average(precision[:, :, place]) for precision, _ in tables)
            for place, size in enumerate(SIZES, start=1)
        }
        boxes = tuple(sum(int((frame.true_labels == kind).sum()) for frame in self.frames) for kind in kinds)
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
            boxes=boxes,
            ignore_regions=sum(len(frame.ignored_xywh) for frame in self.frames),
            detections=sum(len(frame.scores) for frame in self.frames),
            images=len(self.frames),
        )


def _box_frame(detections: Detections, truth: GroundTruth) -> BoxFrame:
    boxes, labels = truth.boxes_xyxy, truth.labels
    if boxes is None or labels is None or boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        found = [None if array is None else array.shape for array in (boxes, labels)]
        raise ShapeError(f'True boxes must be (G, 4) with labels (G,); got {found[0]} and {found[1]}.')
    ignored = truth.ignore_boxes_xyxy
    return BoxFrame(
        found_xywh=_xywh(detections.boxes_xyxy),
        scores=detections.scores.copy(),
        labels=detections.labels.copy(),
        true_xywh=_xywh(boxes),
        true_labels=labels.astype(np.int64),
        ignored_xywh=_xywh(np.zeros((0, 4)) if ignored is None else ignored),
    )


def _xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """COCO's box: corner and size."""
    boxes = boxes_xyxy.astype(np.float64).reshape(-1, 4)
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def _evaluate(frames: Sequence[BoxFrame], kind: int, thresholds: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Run the evaluator on one class; precision and score threshold, both (T, R, S), -1 where there is no truth."""
    library = require('faster_coco_eval')
    images = [{'id': index} for index in range(1, len(frames) + 1)]
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, frame in enumerate(frames, start=1):
        for box in frame.true_xywh[frame.true_labels == kind].tolist():
            true.append(_annotation(true, image, box, iscrowd=0))
        # A crowd of every class: detections in it are neither right nor wrong.
        for box in frame.ignored_xywh.tolist():
            true.append(_annotation(true, image, box, iscrowd=1))
        ours = frame.labels == kind
        for box, score in zip(frame.found_xywh[ours].tolist(), frame.scores[ours].tolist(), strict=True):
            found.append(_annotation(found, image, box, score=score))
    truth, detections = (
        library.COCO({'images': images, 'categories': [{'id': 1, 'name': 'class'}], 'annotations': annotations})
        for annotations in (true, found)
    )
    evaluator = library.COCOeval_faster(truth, detections, iouType='bbox')
    evaluator.params.iouThrs = np.array(thresholds)
    evaluator.params.recThrs = np.array(RECALL_LEVELS)
    evaluator.evaluate()
    evaluator.accumulate()
    # (T, R, class, S, limit of detections per image): our class, and the last of the limits 1, 10, 100.
    shape = (len(thresholds), len(RECALL_LEVELS), 1, 1 + len(SIZES), 3)
    precision, scores = (np.asarray(evaluator.eval[key], np.float64).reshape(shape) for key in ('precision', 'scores'))
    return precision[:, :, 0, :, -1], scores[:, :, 0, :, -1]


def _annotation(before: list[dict[str, Any]], image: int, box_xywh: list[float], **rest: float) -> dict[str, Any]:
    area = box_xywh[2] * box_xywh[3]
    return {'id': len(before) + 1, 'image_id': image, 'category_id': 1, 'bbox': box_xywh, 'area': area, **rest}


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
