import pickle
from dataclasses import replace

import numpy as np
import pytest
from drawn_scores import LABELS, draw_pair, draw_truth, no_detections, perfect

from perception.errors import ConfigError, ShapeError
from perception.interfaces import GroundTruth, SceneResult
from perception.metrics import Evaluator, evaluate


def test_perfect_prediction_scores_one_everywhere():
    random = np.random.default_rng(0)
    truths = [draw_truth(random, (40, 60), boxes=20) for _ in range(4)]
    report = evaluate([(perfect(truth), truth) for truth in truths], LABELS)
    segmentation, detection = report.segmentation, report.detection
    assert segmentation.iou == (1.0,) * len(LABELS.segmentation)
    assert (segmentation.mean_iou, segmentation.pixel_accuracy) == (1.0, 1.0)
    assert detection.ap50 == detection.ap == pytest.approx((1.0, 1.0, 1.0))
    assert all(value == pytest.approx(1) for values in detection.ap_by_size.values() for value in values)
    assert all(frame.mean_iou == 1 and frame.ap50 == pytest.approx(1) for frame in report.frames)
    assert segmentation.pixels == 4 * 38 * 60
    assert sum(detection.boxes) == 4 * 20


def test_equal_runs_give_equal_text():
    def run() -> str:
        random = np.random.default_rng(5)
        return evaluate([draw_pair(random) for _ in range(6)], LABELS).to_json()

    assert run() == run()


def test_unannotated_tasks_are_not_scored():
    random = np.random.default_rng(1)
    result, truth = draw_pair(random)
    only_mask = replace(truth, boxes_xyxy=None, labels=None)
    only_boxes = replace(truth, mask=None)
    whole = evaluate([(result, truth)], LABELS)
    parts = evaluate([(result, only_mask), (result, only_boxes), (result, GroundTruth())], LABELS)
    assert parts.segmentation == whole.segmentation
    assert parts.detection == whole.detection
    mask_frame, box_frame, bare_frame = parts.frames
    assert (mask_frame.ap50, mask_frame.boxes, box_frame.mean_iou, box_frame.truth_pixels) == (None, None, None, None)
    assert mask_frame.rank == mask_frame.mean_iou is not None
    assert box_frame.rank == box_frame.ap50 is not None
    assert bare_frame.rank is None


def test_frames_add_up_to_the_whole():
    random = np.random.default_rng(2)
    report = evaluate([draw_pair(random) for _ in range(5)], LABELS)
    confusion = np.array(report.segmentation.confusion)
    for counts, whole in (
        ('truth_pixels', confusion.sum(axis=1)),
        ('predicted_pixels', confusion.sum(axis=0)),
        ('correct_pixels', confusion.diagonal()),
    ):
        assert np.sum([getattr(frame, counts) for frame in report.frames], axis=0).tolist() == whole.tolist()
    assert [frame.name for frame in report.frames] == [f'{index:06d}' for index in range(5)]


def test_merged_parts_equal_the_whole_also_through_a_pickle():
    random = np.random.default_rng(3)
    pairs = [draw_pair(random) for _ in range(7)]
    whole, parts = Evaluator(LABELS), [Evaluator(LABELS) for _ in range(3)]
    for index, (result, truth) in enumerate(pairs):
        whole.add(result, truth, f'frame {index}')
        parts[min(index // 3, 1)].add(result, truth, f'frame {index}')
    first, *rest = (pickle.loads(pickle.dumps(part)) for part in parts)
    for part in rest:
        first.merge(part)
    assert first.report({'run': 1}) == whole.report({'run': 1})
    assert len(first) == 7
    with pytest.raises(ConfigError, match='label space'):
        first.merge(Evaluator(replace(LABELS, name='other', detection=LABELS.detection[:1])))


def test_more_may_follow_a_report():
    random = np.random.default_rng(4)
    pairs = [draw_pair(random) for _ in range(4)]
    evaluator = Evaluator(LABELS)
    for result, truth in pairs:
        evaluator.add(result, truth)
        evaluator.report()
    assert evaluator.report() == evaluate(pairs, LABELS)


def test_a_result_may_be_reused_by_the_caller():
    truth = draw_truth(np.random.default_rng(6))
    result = perfect(truth)
    evaluator = Evaluator(LABELS)
    evaluator.add(result, truth)
    before = evaluator.report()
    result.detections.scores[:] = 0
    result.detections.boxes_xyxy[:] = 0
    truth.labels[:] = 0
    assert evaluator.report() == before


def test_report_without_images():
    report = Evaluator(LABELS).report()
    assert report.segmentation.mean_iou is None
    assert report.detection.mean_ap50 is None
    assert report.frames == ()


def test_no_detection_in_an_image_with_objects():
    truth = draw_truth(np.random.default_rng(7))
    frame = Evaluator(LABELS).add(SceneResult(detections=no_detections(), mask=perfect(truth).mask), truth)
    assert (frame.ap50, frame.detections, frame.boxes) == (0.0, 0, 6)


def test_a_refused_image_leaves_no_trace():
    random = np.random.default_rng(8)
    result, truth = draw_pair(random)
    assert truth.labels is not None
    evaluator = Evaluator(LABELS)
    evaluator.add(result, truth)
    before = evaluator.report()
    with pytest.raises(ShapeError):
        evaluator.add(replace(result, mask=result.mask[1:]), truth)
    with pytest.raises(ConfigError):
        evaluator.add(result, replace(truth, labels=truth.labels + 9))
    assert evaluator.report() == before
