"""Average precision as Pascal VOC's, against a plain writing-down of what its devkit does."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from drawn_scores import KINDS, LABELS, draw_boxes, draw_detections, draw_truth, no_detections

from perception.interfaces import ANY_CLASS, Detections, GroundTruth
from perception.metrics.detection import DetectionScorer
from perception.metrics.voc_scoring import VocScores, average_precision_11_point, average_precision_area, score_voc

NAMES = tuple(label.name for label in LABELS.detection)
Pair = tuple[Detections, GroundTruth]


def score(pairs: list[Pair]) -> VocScores:
    scorer = DetectionScorer(NAMES)
    for detections, truth in pairs:
        scorer.add(scorer.prepare(detections, truth))
    return score_voc(scorer.table, NAMES)


def devkit(pairs: list[Pair], kind: int) -> tuple[float, float] | None:
    """VOCevaldet and VOCap, step by step, on inclusive pixels that count from 1: area and 11 points."""
    objects: dict[int, list[dict[str, Any]]] = {}
    found = []
    for image, (detections, truth) in enumerate(pairs):
        objects[image] = []
        rows = [(box, False) for box, label in zip(truth.boxes_xyxy, truth.labels, strict=True) if label == kind]
        for box, label in zip(truth.ignore_boxes_xyxy, truth.ignore_labels, strict=True):
            if label in (kind, ANY_CLASS):
                rows.append((box, True))
        for box, difficult in rows:
            left, top, right, bottom = (float(side) for side in box)
            objects[image].append({'box': (left + 1, top + 1, right, bottom), 'difficult': difficult, 'found': False})
        for box, value, label in zip(detections.boxes_xyxy, detections.scores, detections.labels, strict=True):
            if label == kind:
                left, top, right, bottom = (float(side) for side in box)
                found.append((float(value), image, (left + 1, top + 1, right, bottom)))
    positives = sum(not each['difficult'] for found_in in objects.values() for each in found_in)
    if not positives:
        return None
    true_positives = false_positives = 0
    curve: list[tuple[Fraction, Fraction]] = []
    for _, image, box in sorted(found, key=lambda row: -row[0]):
        largest, best = -np.inf, None
        for each in objects[image]:
            other = each['box']
            shared = [min(box[2 + axis], other[2 + axis]) - max(box[axis], other[axis]) + 1 for axis in (0, 1)]
            if min(shared) > 0:
                area, other_area = ((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other))
                overlap = shared[0] * shared[1] / (area + other_area - shared[0] * shared[1])
                if overlap > largest:
                    largest, best = overlap, each
        if largest >= 0.5:
            if best['difficult']:
                continue
            true_positives += not best['found']
            false_positives += best['found']
            best['found'] = True
        else:
            false_positives += 1
        precision = Fraction(true_positives, true_positives + false_positives)
        curve.append((Fraction(true_positives, positives), precision))
    points = [max((p for r, p in curve if r >= Fraction(step, 10)), default=0) for step in range(11)]
    recalls = [Fraction(0), *(r for r, _ in curve), Fraction(1)]
    precisions = [Fraction(0), *(p for _, p in curve), Fraction(0)]
    for place in range(len(precisions) - 2, -1, -1):
        precisions[place] = max(precisions[place], precisions[place + 1])
    area = sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls)))
    return float(area), float(sum(points) / Fraction(11))


def draw_pairs(seed: int, images: int = 12) -> list[Pair]:
    """Objects, difficult ones of a class and of any, and detections of them that are shifted, doubled and made up."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        truth = draw_truth(random, boxes=int(random.integers(1, 10)))
        difficult = draw_boxes(random, 3)
        assert truth.boxes_xyxy is not None
        assert truth.labels is not None
        kinds = random.integers(0, KINDS, 3)
        everything = GroundTruth(
            boxes_xyxy=np.concatenate((truth.boxes_xyxy, truth.boxes_xyxy[:2], difficult)),
            labels=np.concatenate((truth.labels, truth.labels[:2], kinds)),
        )
        kinds[2] = ANY_CLASS
        truth = GroundTruth(
            boxes_xyxy=truth.boxes_xyxy, labels=truth.labels, ignore_boxes_xyxy=difficult, ignore_labels=kinds
        )
        pairs.append((draw_detections(random, everything), truth))
    return pairs


@pytest.mark.parametrize('seed', range(6))
def test_equals_the_devkit_written_down_plainly(seed: int) -> None:
    pairs = draw_pairs(seed)
    scores = score(pairs)
    expected = [devkit(pairs, kind) for kind in range(KINDS)]
    for kind, found in enumerate(expected):
        assert found is not None
        assert 0.1 < found[0] < 0.95
        assert scores.ap_area[kind] == pytest.approx(found[0], abs=1e-9)
        assert scores.ap_11_point[kind] == pytest.approx(found[1], abs=1e-9)
    area, points = zip(*filter(None, expected), strict=True)
    assert scores.mean_ap_area == pytest.approx(np.mean(area), abs=1e-9)
    assert scores.mean_ap_11_point == pytest.approx(np.mean(points), abs=1e-9)


@pytest.mark.parametrize(
    ('right', 'objects', 'area', 'points'),
    [
        ([True, False, True], 2, 0.5 + 0.5 * 2 / 3, (6 * 1 + 5 * 2 / 3) / 11),
        ([True] * 3, 10, 0.3, 4 / 11),  # a recall of exactly 0.3 reaches the point 0.3
        ([True] * 7, 10, 0.7, 8 / 11),
        ([False, False], 3, 0, 0),
        ([], 3, 0, 0),
        ([True], 1, 1, 1),
    ],
)
def test_curves_that_can_be_counted(right: list[bool], objects: int, area: float, points: float) -> None:
    assert average_precision_area(np.array(right, bool), objects) == pytest.approx(area, abs=1e-12)
    assert average_precision_11_point(np.array(right, bool), objects) == pytest.approx(points, abs=1e-12)


BOX, SCORES = [10, 10, 30, 30], np.array([0.9, 0.8], np.float32)


def test_a_detection_goes_to_the_object_that_it_overlaps_most_found_or_not() -> None:
    """COCO would give the second one to the other object, which it overlaps by more than half, too."""
    truth = GroundTruth(boxes_xyxy=np.array([BOX, [10, 10, 30, 36]], np.float32), labels=np.array([0, 0]))
    found = Detections(boxes_xyxy=np.array([BOX, [10, 10, 30, 31]], np.float32), scores=SCORES, labels=np.array([0, 0]))
    assert score([(found, truth)]).ap_area[0] == pytest.approx(0.5)
    scorer = DetectionScorer(NAMES)
    scorer.add(scorer.prepare(found, truth))
    assert scorer.scores().ap50[0] == pytest.approx(1)


def test_difficult_objects_are_neither_missed_nor_found_and_only_for_their_class() -> None:
    found = Detections(boxes_xyxy=np.array([BOX, BOX], np.float32), scores=SCORES, labels=np.array([1, 0]))
    truth = GroundTruth(
        boxes_xyxy=np.array([[50, 50, 60, 60]] * 2, np.float32),
        labels=np.array([0, 1]),
        ignore_boxes_xyxy=np.array([BOX], np.float32),
        ignore_labels=np.array([0]),
    )
    more = Detections(
        boxes_xyxy=np.array([BOX, BOX, *truth.boxes_xyxy], np.float32),
        scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        labels=np.array([1, 0, 0, 1]),
    )
    assert score([(found, truth)]).ap_area == (0, 0, None)
    assert score([(more, truth)]).ap_area == (1, 0.5, None)


def test_the_hundred_and_first_detection_counts() -> None:
    boxes = np.array([[10 * place, 0, 10 * place + 9, 9] for place in range(101)], np.float32)
    found = Detections(
        boxes_xyxy=boxes, scores=np.linspace(0.9, 0.1, 101).astype(np.float32), labels=np.zeros(101, np.int64)
    )
    truth = GroundTruth(boxes_xyxy=boxes[100:], labels=np.zeros(1, np.int64))
    assert score([(found, truth)]).ap_area[0] == pytest.approx(1 / 101)


def test_nothing_at_all() -> None:
    empty = GroundTruth(boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    for pairs in ([], [(no_detections(), empty)]):
        scores = score(pairs)
        assert (scores.ap_area, scores.mean_ap_area, scores.mean_ap_11_point) == ((None,) * 3, None, None)
    assert score([(no_detections(), draw_pairs(0)[0][1])]).mean_ap_area == 0
