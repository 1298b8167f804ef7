"""The table from Cityscapes ids to our classes, against the labels of cityscapesscripts and the paper."""

from __future__ import annotations

import csv

import pytest

from perception.labels import CITYSCAPES_11_3
from perception.truth.class_table import read_ids, usual_table

_SEGMENTATION = [label.name for label in CITYSCAPES_11_3.segmentation]
_DETECTION = [label.name for label in CITYSCAPES_11_3.detection]


def test_the_table_agrees_with_cityscapesscripts() -> None:
    labels = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    table = usual_table('cityscapes', CITYSCAPES_11_3)
    assert table is not None
    with table.open(newline='') as lines:
        rows = {int(row['id']): row for row in csv.DictReader(lines)}
    assert {number: row['name'] for number, row in rows.items()} == {
        label.id: label.name for label in labels if label.id >= 0
    }
    instances = {label.id for label in labels if label.hasInstances and not label.ignoreInEval}
    assert {number for number, row in rows.items() if row['detection']} == instances - {31}  # the train


def test_the_table_gives_the_classes_of_the_paper() -> None:
    table = read_ids('cityscapes', CITYSCAPES_11_3)
    segmentation, detection = table.segmentation, table.detection
    assert {segmentation[number] for number in range(34)} == {*range(11), 255}
    assert [_SEGMENTATION[segmentation[number]] for number in (25, 32, 33)] == ['rider/cycle'] * 3
    assert all(segmentation[number] == 255 for number in (12, 19, 31))  # wall, traffic light, train
    assert _SEGMENTATION[segmentation[22]] == 'vegetation'  # terrain
    assert {number: _DETECTION[label] for number, label in detection.items()} == {
        24: 'person/rider',
        25: 'person/rider',
        26: 'car/truck/bus',
        27: 'car/truck/bus',
        28: 'car/truck/bus',
        32: 'bicycle/motorcycle',
        33: 'bicycle/motorcycle',
    }
