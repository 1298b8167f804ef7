"""Means over the classes that all have, and what is said where networks were not scored on the same."""

from __future__ import annotations

import numpy as np
import pytest

from perception.interfaces import UNLABELLED, Detections, GroundTruth, LabelClass, LabelSpace, SceneResult
from perception.metrics import Evaluator
from perception.network_comparison.classes import Classes, find_unfairness, shared_classes, take_means
from perception.replay.report import ReplayReport, Skip

NOTHING = Detections(
    boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64)
)


def space(*areas: str) -> LabelSpace:
    classes = tuple(LabelClass(name=name, color_rgb=(1, 2, 3)) for name in areas)
    return LabelSpace(name='drawn', segmentation=classes, detection=(LabelClass(name='car', color_rgb=(0, 0, 0)),))


def replayed(areas: tuple[str, ...], truth: list[int], seen: list[int], skipped: int = 0) -> ReplayReport:
    """A replay of one frame of one row."""
    evaluator = Evaluator(space(*areas))
    result = SceneResult(detections=NOTHING, mask=np.array([seen], np.uint8))
    evaluator.add(result, GroundTruth(mask=np.array([truth], np.uint8)))
    return ReplayReport(
        scores=evaluator.report(),
        agreement=(),
        recorded_ns=(),
        streams=(),
        stream_names=('drive',),
        truth=('drawn',),
        with_truth=1,
        skipped=(Skip(stream='drive', stamp_ns=1, reason='not_finite', message=''),) * skipped,
    )


def test_means_of_all_classes_are_those_of_the_report() -> None:
    report = replayed(('road', 'sky', 'tree'), [0, 0, 1, 1], [0, 1, 1, 1])
    classes = shared_classes([report.scores])
    assert classes == Classes(segmentation=('road', 'sky'), detection=())
    assert take_means(report.scores, classes).iou == report.scores.segmentation.mean_iou
    assert take_means(report.scores, classes).ap50 is None
    assert find_unfairness({'a': report, 'b': report}, classes) == []


def test_means_of_networks_with_other_classes_are_over_those_that_all_have() -> None:
    reports = {
        'a': replayed(('road', 'sky', 'tree'), [0, 0, 1, 2], [0, 0, 1, 1]),
        'b': replayed(('plant', 'sky', 'road'), [2, 2, 1, 0], [2, 1, 1, 0]),
    }
    classes = shared_classes([report.scores for report in reports.values()])
    assert classes.segmentation == ('road', 'sky')
    means = [take_means(report.scores, classes).iou for report in reports.values()]
    assert means == [pytest.approx((1 + 1 / 2) / 2), pytest.approx((1 / 2 + 1 / 2) / 2)]
    (note,) = find_unfairness(reports, classes)
    assert note.endswith('have by name: areas road, sky; objects none.')


def test_networks_that_share_no_measured_class_have_no_mean() -> None:
    reports = [replayed(('road',), [0], [0]), replayed(('sky',), [0], [0])]
    classes = shared_classes([report.scores for report in reports])
    assert classes == Classes()
    assert [take_means(report.scores, classes).iou for report in reports] == [None, None]


def test_pixels_that_only_some_were_scored_on_are_told() -> None:
    reports = {
        'a': replayed(('road', 'sky'), [0, 0, 1, 1], [0, 0, 1, 1]),
        'b': replayed(('road', 'sky'), [0, 0, 1, UNLABELLED], [0, 0, 1, 1], skipped=2),
    }
    (note,) = find_unfairness(reports, shared_classes([report.scores for report in reports.values()]))
    assert note.startswith(
        'THE NETWORKS ARE NOT SCORED ON THE SAME: a 4 pixels, 0 objects, 0 frames or truths skipped; '
        'b 3 pixels, 0 objects, 2 frames or truths skipped.'
    )
