import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_scores import LABELS, draw_pair, no_detections

from perception.errors import ConfigError
from perception.interfaces import GroundTruth, LabelClass, SceneResult
from perception.labels import BUILT_IN, load_label_space
from perception.metrics import Evaluator
from perception.metrics.cityscapes_scoring import (
    LABEL_IDS,
    CityscapesWriter,
    has_official_ids,
    save_official_scores,
)


def write_and_score(folder: Path, pairs):
    evaluator, writer = Evaluator(LABELS), CityscapesWriter(folder, LABELS)
    for index, (result, truth) in enumerate(pairs):
        evaluator.add(result, truth)
        writer.add(f'city-val/frame_{index}', result.mask, truth.mask)
    return writer, evaluator.report()


def test_equals_cityscapesscripts(tmp_path: Path):
    random = np.random.default_rng(0)
    writer, report = write_and_score(tmp_path, [draw_pair(random) for _ in range(4)])
    official = writer.score()
    assert official.mean_iou == pytest.approx(report.segmentation.mean_iou, abs=1e-6)
    assert official.average_score_classes == pytest.approx(report.segmentation.mean_iou, abs=1e-6)
    assert official.difference(report) <= 1e-6
    assert 0.3 < official.mean_iou < 0.7
    save_official_scores(tmp_path / 'official.json', official)
    assert json.loads((tmp_path / 'official.json').read_text())['mean_iou'] == official.mean_iou


def test_files_hold_label_ids(tmp_path: Path):
    result, truth = draw_pair(np.random.default_rng(1))
    writer, _ = write_and_score(tmp_path, [(result, truth)])
    predicted = cv2.imread(str(tmp_path / 'predictions' / 'frame_0_labelIds.png'), cv2.IMREAD_UNCHANGED)
    true = cv2.imread(str(tmp_path / 'truth' / 'frame_0_labelIds.png'), cv2.IMREAD_UNCHANGED)
    assert predicted.shape == result.mask.shape
    road = [label.name for label in LABELS.segmentation].index('road')
    assert ((predicted == LABEL_IDS['road']) == (result.mask == road)).all()
    assert ((true == 0) == (truth.mask == 255)).all()
    assert len(writer) == 1


def test_a_class_that_is_only_predicted_lowers_only_the_official_mean(tmp_path: Path):
    truth = GroundTruth(mask=np.zeros((4, 4), np.uint8))
    mask = truth.mask.copy()
    mask[0] = 5
    writer, report = write_and_score(tmp_path, [(SceneResult(detections=no_detections(), mask=mask), truth)])
    official = writer.score()
    assert official.difference(report) <= 1e-6
    assert official.mean_iou == pytest.approx(0.75)
    assert official.average_score_classes == pytest.approx(0.375)


def test_difference_sees_a_wrong_and_a_missing_score(tmp_path: Path):
    writer, report = write_and_score(tmp_path, [draw_pair(np.random.default_rng(2))])
    official = writer.score()
    wrong = replace(official, iou=(official.iou[0] + 0.1, *official.iou[1:]))
    assert wrong.difference(report) == pytest.approx(0.1, abs=1e-6)
    assert replace(official, iou=(None, *official.iou[1:])).difference(report) == float('inf')


def test_refuses_foreign_classes_equal_names_and_nothing(tmp_path: Path):
    foreign = replace(LABELS, segmentation=(LabelClass(name='boat', color_rgb=(1, 2, 3)),))
    with pytest.raises(ConfigError, match='boat'):
        CityscapesWriter(tmp_path, foreign)
    writer = CityscapesWriter(tmp_path, LABELS)
    with pytest.raises(ConfigError, match='No masks'):
        writer.score()
    mask = np.zeros((2, 2), np.uint8)
    writer.add('a/one', mask, mask)
    with pytest.raises(ConfigError, match='b/one'):
        writer.add('b/one', mask, mask)


def test_only_classes_with_ids_of_their_own_have_a_second_opinion():
    official = {name for name in BUILT_IN if has_official_ids(load_label_space(name))}
    assert official == {'cityscapes_11_3', 'cityscapes_19_8'}
    twice = (*LABELS.segmentation, LabelClass(name='car', color_rgb=(1, 2, 3)))  # written as car/truck/bus is
    assert not has_official_ids(replace(LABELS, segmentation=twice))
