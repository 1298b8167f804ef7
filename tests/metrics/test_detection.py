import contextlib
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from drawn_scores import KINDS, LABELS, draw_detections, draw_truth, no_detections
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from perception.errors import ConfigError, ShapeError
from perception.interfaces import ANY_CLASS, Detections, GroundTruth
from perception.metrics.detection import DetectionScorer

NAMES = tuple(label.name for label in LABELS.detection)
Pair = tuple[Detections, GroundTruth]


def score(pairs: list[Pair]):
    scorer = DetectionScorer(NAMES)
    for detections, truth in pairs:
        scorer.add(scorer.prepare(detections, truth))
    return scorer.scores()


def pycocotools_evaluation(pairs: list[Pair]) -> COCOeval:
    """The reference implementation on the same boxes, through its own files' format."""

    def row(box: np.ndarray, **rest: object) -> dict[str, object]:
        left, top, right, bottom = (float(side) for side in box)
        area = (right - left) * (bottom - top)
        return {'bbox': [left, top, right - left, bottom - top], 'area': area, **rest}

    true, found = [], []
    for image, (detections, truth) in enumerate(pairs, start=1):
        for box, label in zip(truth.boxes_xyxy, truth.labels, strict=True):
            true.append(row(box, image_id=image, category_id=int(label), iscrowd=0, id=len(true) + 1))
        regions = () if truth.ignore_boxes_xyxy is None else truth.ignore_boxes_xyxy
        kinds = [ANY_CLASS] * len(regions) if truth.ignore_labels is None else truth.ignore_labels
        for box, kind in zip(regions, kinds, strict=True):
            for label in range(KINDS) if kind == ANY_CLASS else (int(kind),):
                true.append(row(box, image_id=image, category_id=label, iscrowd=1, id=len(true) + 1))
        for box, value, label in zip(detections.boxes_xyxy, detections.scores, detections.labels, strict=True):
            found.append(row(box, image_id=image, category_id=int(label), score=float(value)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO()
        truth_set.dataset = {
            'info': {},
            'images': [{'id': image} for image in range(1, len(pairs) + 1)],
            'categories': [{'id': label} for label in range(KINDS)],
            'annotations': true,
        }
        truth_set.createIndex()
        evaluation = COCOeval(truth_set, truth_set.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def with_crowds(random: np.random.Generator, truth: GroundTruth) -> GroundTruth:
    """Two crowds of one class each, and one of any, around objects of other classes."""
    corners = random.uniform(0, 200, (3, 2))
    return replace(
        truth,
        ignore_boxes_xyxy=np.concatenate((corners, corners + 150), axis=1).astype(np.float32),
        ignore_labels=np.array([*random.integers(0, KINDS, 2), ANY_CLASS]),
    )


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('crowds', [False, True])
def test_equals_pycocotools_on_random_boxes(seed: int, crowds: bool):
    random = np.random.default_rng(seed)
    truths = [draw_truth(random, boxes=int(count)) for count in random.integers(1, 12, 15)]
    if crowds:
        truths = [with_crowds(random, truth) for truth in truths]
    pairs = [(draw_detections(random, truth), truth) for truth in truths]
    scores, reference = score(pairs), pycocotools_evaluation(pairs)
    ours = [scores.mean_ap, scores.mean_ap50, *scores.mean_ap_by_size.values()]
    assert 0.1 < scores.mean_ap < 0.9
    assert ours == pytest.approx([reference.stats[place] for place in (0, 1, 3, 4, 5)], abs=1e-12)
    precision = reference.eval['precision'][..., -1]  # (T, R, K, S)
    for label in range(KINDS):
        assert scores.ap50[label] == pytest.approx(precision[0, :, label, 0].mean(), abs=1e-12)
        assert scores.ap[label] == pytest.approx(precision[:, :, label, 0].mean(), abs=1e-12)
        assert scores.ap_by_size['small'][label] == pytest.approx(precision[:, :, label, 1].mean(), abs=1e-12)
        np.testing.assert_allclose(scores.curves[label].precision, precision[0, :, label, 0], atol=1e-12)
        np.testing.assert_allclose(scores.curves[label].scores, reference.eval['scores'][0, :, label, 0, -1])


def test_the_hundredth_detection_counts_and_the_next_does_not():
    boxes = np.array([[10 * place, 0, 10 * place + 9, 9] for place in range(101)], np.float32)
    found = Detections(
        boxes_xyxy=boxes, scores=np.linspace(0.9, 0.1, 101).astype(np.float32), labels=np.zeros(101, np.int64)
    )
    scores = score([(found, GroundTruth(boxes_xyxy=boxes[99:100], labels=np.zeros(1, np.int64)))])
    assert scores.ap50[0] == pytest.approx(0.01)
    scores = score([(found, GroundTruth(boxes_xyxy=boxes[100:], labels=np.zeros(1, np.int64)))])
    assert scores.ap50[0] == 0


def test_detections_in_an_ignored_region_are_neither_right_nor_wrong():
    truth = GroundTruth(boxes_xyxy=np.array([[0, 0, 40, 40]], np.float32), labels=np.array([0]))
    region = np.array([[100, 100, 300, 300]], np.float32)
    found = Detections(
        boxes_xyxy=np.array([[150, 150, 180, 180], [200, 200, 250, 250], [0, 0, 40, 40]], np.float32),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        labels=np.array([0, 0, 0]),
    )
    with_region = GroundTruth(boxes_xyxy=truth.boxes_xyxy, labels=truth.labels, ignore_boxes_xyxy=region)
    assert score([(found, truth)]).ap50[0] == pytest.approx(1 / 3)
    scorer = DetectionScorer(NAMES)
    alone = scorer.add(scorer.prepare(found, with_region))
    assert (alone.right[0], alone.wrong[0]) == ((700,), ())
    ignored = score([(found, with_region)])
    assert ignored.ap50[0] == 1
    assert ignored.ignore_regions == 1
    assert ignored.boxes == (1, 0, 0)
    of_its_class, of_another = (replace(with_region, ignore_labels=np.array([kind])) for kind in (0, 1))
    assert score([(found, of_its_class)]) == ignored
    assert score([(found, of_another)]).ap50[0] == pytest.approx(1 / 3)


def test_classes_without_truth_are_not_measured():
    truth = GroundTruth(boxes_xyxy=np.array([[0, 0, 20, 20]], np.float32), labels=np.array([1]))
    found = Detections(
        boxes_xyxy=np.array([[0, 0, 20, 20]], np.float32), scores=np.array([0.9], np.float32), labels=np.array([0])
    )
    scores = score([(found, truth)])
    assert scores.ap50 == (None, 0.0, None)
    assert scores.mean_ap50 == 0
    assert scores.mean_ap_by_size == {'small': 0.0, 'medium': None, 'large': None}
    assert [len(curve.precision) for curve in scores.curves] == [0, len(scores.recall_levels), 0]


def test_an_image_by_itself():
    scorer = DetectionScorer(NAMES)
    truth = GroundTruth(boxes_xyxy=np.array([[0, 0, 20, 20], [50, 50, 90, 90]], np.float32), labels=np.array([0, 2]))
    found = Detections(
        boxes_xyxy=truth.boxes_xyxy[:1], scores=np.array([0.5], np.float32), labels=np.array([0], np.int64)
    )
    alone = scorer.add(scorer.prepare(found, truth))
    assert alone.ap50 == pytest.approx(0.5)
    assert (alone.objects, alone.right, alone.wrong) == ((1, 0, 1), ((500,), (), ()), ((), (), ()))
    empty = GroundTruth(boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    alone = scorer.add(scorer.prepare(found, empty))
    assert (alone.ap50, alone.wrong) == (None, ((500,), (), ()))
    assert scorer.scores().images == 2


def test_nothing_at_all():
    empty = GroundTruth(boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    for scores in (score([]), score([(no_detections(), empty)])):
        assert scores.mean_ap50 is None
        assert scores.ap == (None, None, None)


def test_refuses_what_does_not_belong_together():
    scorer = DetectionScorer(NAMES)
    with pytest.raises(ShapeError, match=r'\(2, 4\) and \(1,\)'):
        scorer.prepare(no_detections(), GroundTruth(boxes_xyxy=np.zeros((2, 4), np.float32), labels=np.zeros(1, int)))
    with pytest.raises(ConfigError, match='True box has class 3'):
        scorer.prepare(no_detections(), GroundTruth(boxes_xyxy=np.ones((1, 4), np.float32), labels=np.array([3])))
    region = GroundTruth(
        boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, int),
        ignore_boxes_xyxy=np.ones((2, 4), np.float32),
        ignore_labels=np.array([0, 3]),
    )
    with pytest.raises(ConfigError, match='Ignored box has class 3'):
        scorer.prepare(no_detections(), region)
    with pytest.raises(ShapeError, match=r'2 ignored regions need as many labels; got \(1,\)'):
        scorer.prepare(no_detections(), replace(region, ignore_labels=np.array([0])))
    assert scorer.table.images == len(scorer.table.found) == 0


def test_takes_over_from_another_process_even_when_that_is_read_only():
    random = np.random.default_rng(3)
    truths = [draw_truth(random) for _ in range(4)]
    whole, first, second = (DetectionScorer(NAMES) for _ in range(3))
    for index, truth in enumerate(truths):
        found = draw_detections(random, truth)
        for scorer in (whole, first if index < 2 else second):
            scorer.add(scorer.prepare(found, truth))
    for rows in (first._found, first._true, first._ignored):
        rows._content.flags.writeable = False
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.scores() == whole.scores()
