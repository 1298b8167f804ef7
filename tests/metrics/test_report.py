import json
from pathlib import Path

import numpy as np
import pytest
from drawn_scores import LABELS, draw_pair

from perception.errors import ConfigError
from perception.metrics import Evaluator, Report, evaluate
from perception.metrics.tables import format_report


@pytest.fixture(scope='module')
def report() -> Report:
    random = np.random.default_rng(0)
    evaluator = Evaluator(LABELS)
    for index in range(3):
        result, truth = draw_pair(random)
        assert truth.labels is not None
        truth.labels[:] = 0  # so that two classes are without truth
        evaluator.add(result, truth, f'frame {index}')
    return evaluator.report({'network': 'tiny', 'sizes': [1, 2]})


def test_json_round_trip_is_exact(report: Report, tmp_path: Path):
    assert Report.from_json(report.to_json()) == report
    report.save(tmp_path / 'report.json')
    assert Report.load(tmp_path / 'report.json') == report
    assert Report.load(tmp_path / 'report.json').to_json() == report.to_json()


def test_missing_scores_are_null(report: Report):
    document = json.loads(report.to_json())
    assert document['detection']['ap50'][1:] == [None, None]
    assert 'NaN' not in report.to_json()


def test_shapes(report: Report):
    classes, kinds = len(LABELS.segmentation), len(LABELS.detection)
    segmentation, detection = report.segmentation, report.detection
    assert len(segmentation.iou) == len(segmentation.confusion) == len(segmentation.confusion[0]) == classes
    assert len(detection.ap) == len(detection.ap50) == len(detection.boxes) == len(detection.curves) == kinds
    assert list(detection.ap_by_size) == list(detection.mean_ap_by_size) == ['small', 'medium', 'large']
    assert len(detection.recall_levels) == len(detection.curves[0].precision) == len(detection.curves[0].scores) == 101


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('not json', 'Not a report'),
        ('[]', 'Not a report'),
        ('{"format": "other"}', 'Not a report'),
        ('{"format": "perception-report", "format_version": 99}', 'version 99'),
        ('{"format": "perception-report", "format_version": 2}', 'Not a report'),
    ],
)
def test_refuses_other_files(text: str, message: str, tmp_path: Path):
    (tmp_path / 'file.json').write_text(text)
    with pytest.raises(ConfigError, match=message):
        Report.load(tmp_path / 'file.json')


def test_names_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError, match=r'nowhere\.json'):
        Report.load(tmp_path / 'nowhere.json')


def test_table_shows_every_class_and_what_was_not_measured(report: Report):
    text = format_report(report)
    for name in (*report.segmentation.classes, *report.detection.classes):
        assert name in text
    assert f'{100 * report.segmentation.mean_iou:.1f}' in text
    assert 'n/a' in text
    empty = format_report(evaluate([], LABELS))
    assert 'no image has a true mask' in empty
    assert 'no image has true boxes' in empty
