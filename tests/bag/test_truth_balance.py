"""What of a truth in a bag was used, by which frame, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.bag.scene_messages import write_label_info, write_true_boxes
from perception.bag.truth_topics import BagTruth, TruthTopics
from perception.bag.writer import BagWriter
from perception.errors import DatasetError
from perception.interfaces import GroundTruth, LabelClass
from perception.labels import CITYSCAPES_11_3
from tests.bag.drawn_bags import FIRST_NS

MASKS, BOXES = '/cam/truth/mask/compressed', '/cam/truth/detections'
HW = (20, 30)


def write_mask(writer: BagWriter, value: int | np.ndarray, stamp_ns: int) -> None:
    mask = np.full(HW, value, np.uint8) if isinstance(value, int) else value
    writer.write_mask(MASKS, cv2.imencode('.png', mask)[1].tobytes(), stamp_ns)


def write_boxes(writer: BagWriter, boxes: list[list[float]], ignored: list[list[float]], labels: list[int]) -> None:
    truth = GroundTruth(
        boxes_xyxy=np.float32(boxes).reshape(-1, 4),
        labels=np.array(labels),
        ignore_boxes_xyxy=np.float32(ignored).reshape(-1, 4),
    )
    write_true_boxes(writer, BOXES, truth, FIRST_NS)


def masks_of(path: Path) -> BagTruth:
    return BagTruth(path, TruthTopics(mask=MASKS), CITYSCAPES_11_3)


def value_at(truth: BagTruth, stamp_ns: int, turn: int = 0) -> int | None:
    found = truth.at(stamp_ns, turn)
    return None if found is None or found.mask is None else int(found.mask[0, 0])


def test_truths_of_one_stamp_belong_to_its_frames_in_turn(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for value, stamp_ns in ((1, FIRST_NS), (2, FIRST_NS), (3, FIRST_NS + 1)):
            write_mask(writer, value, stamp_ns)
    truth = masks_of(tmp_path / 'bag')
    assert [value_at(truth, FIRST_NS, turn) for turn in range(3)] == [1, 2, None]
    assert value_at(truth, FIRST_NS + 1) == 3
    assert value_at(truth, FIRST_NS + 1, 1) is None  # an annotation is used once
    assert truth.balance().unmatched == 0


def test_truth_that_fits_no_frame_is_counted_with_the_nearest_distance(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for index in range(4):
            write_mask(writer, 1, FIRST_NS + index * 10**8 + (21 if index else 0))
    truth = masks_of(tmp_path / 'bag')
    for index in range(3):
        truth.at(FIRST_NS + index * 10**8)
    balance = truth.balance()
    assert balance.unmatched == 3
    assert balance.remarks[0].startswith(f'3 of 4 messages on {MASKS} belong to no frame')
    assert 'the nearest is 21 ns beside one' in balance.remarks[0]
    part = truth.balance(whole=False)  # the others may belong to frames that were not read
    assert part.unmatched == 1
    assert part.remarks[0].startswith(f'1 of 2 messages on {MASKS}')
    unasked = masks_of(tmp_path / 'bag').balance()
    assert (unasked.unmatched, unasked.remarks) == (0, ())


def test_true_boxes_are_clipped_and_those_outside_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        write_boxes(writer, [[-5, 2, 10, 40], [20, 5, 25, 10]], [[25, 0, 99, 99]], [0, 1])
    truth = BagTruth(tmp_path / 'bag', TruthTopics(detections=BOXES), CITYSCAPES_11_3)
    found = truth.at(FIRST_NS, image_hw=HW)
    assert found is not None
    assert found.boxes_xyxy is not None
    assert found.boxes_xyxy.tolist() == [[0, 2, 10, 20], [20, 5, 25, 10]]
    assert found.ignore_boxes_xyxy is not None
    assert found.ignore_boxes_xyxy.tolist() == [[25, 0, 30, 20]]
    with pytest.raises(DatasetError, match=rf'{BOXES} at {FIRST_NS} ns: .*lies wholly outside'):
        truth.at(FIRST_NS, image_hw=(4, 12))


FOREIGN = [LabelClass(name=name, color_rgb=(0, 0, 0)) for name in ('road', 'automobile', 'sky', 'void')]


def test_classes_that_the_network_does_not_have_are_named_with_what_is_lost(tmp_path: Path) -> None:
    mask = np.zeros(HW, np.uint8)
    mask[:, 15:20], mask[:, 20:25], mask[:, 25:] = 1, 3, 255
    with BagWriter(tmp_path / 'bag') as writer:
        write_label_info(writer, '/cam/truth/mask/label_info', FOREIGN, FIRST_NS, threshold=0, masks=True)
        objects = [LabelClass(name=name, color_rgb=(0, 0, 0)) for name in ('car/truck/bus', 'human')]
        write_label_info(writer, '/cam/truth/detections/label_info', objects, FIRST_NS, threshold=0, masks=False)
        write_mask(writer, mask, FIRST_NS)
        write_boxes(writer, [[1, 1, 5, 5], [6, 6, 9, 9], [2, 2, 8, 8]], [], [0, 1, 1])
    truth = BagTruth(tmp_path / 'bag', TruthTopics(mask=MASKS, detections=BOXES), CITYSCAPES_11_3)
    found = truth.at(FIRST_NS, image_hw=HW)
    assert found is not None
    assert found.labels is not None
    assert found.labels.tolist() == [0]
    pixels, boxes = truth.balance().remarks
    assert 'automobile (100 pixels, 25.0 %)' in pixels
    assert 'void' not in pixels
    assert 'human (2 boxes, 66.7 %)' in boxes
    assert 'rename them in the LabelInfo' in boxes


def test_classes_that_agree_leave_nothing_to_say(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        topic = '/cam/truth/mask/label_info'
        write_label_info(writer, topic, CITYSCAPES_11_3.segmentation, FIRST_NS, threshold=0, masks=True)
        write_mask(writer, 4, FIRST_NS)
    truth = masks_of(tmp_path / 'bag')
    assert value_at(truth, FIRST_NS) == 4
    assert truth.balance().remarks == ()


def test_regions_are_ignored_for_their_class_or_for_all(tmp_path: Path) -> None:
    regions = np.float32([[0, 0, 9, 9], [1, 1, 9, 9]])
    truth = GroundTruth(
        boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        ignore_boxes_xyxy=regions,
        ignore_labels=np.array([1, -1]),
    )
    classes = [LabelClass(name=name, color_rgb=(0, 0, 0)) for name in ('car/truck/bus', 'tram')]
    with BagWriter(tmp_path / 'bag') as writer:
        write_true_boxes(writer, BOXES, truth, FIRST_NS)
    found = BagTruth(tmp_path / 'bag', TruthTopics(detections=BOXES), CITYSCAPES_11_3).at(FIRST_NS)
    assert found is not None
    np.testing.assert_array_equal(found.ignore_labels, [1, -1])
    with BagWriter(tmp_path / 'other') as writer:
        write_label_info(writer, f'{BOXES}/label_info', classes, FIRST_NS, threshold=0, masks=False)
        write_true_boxes(writer, BOXES, truth, FIRST_NS)
    other = BagTruth(tmp_path / 'other', TruthTopics(detections=BOXES), CITYSCAPES_11_3)
    found = other.at(FIRST_NS)
    assert found is not None
    np.testing.assert_array_equal(found.ignore_boxes_xyxy, regions[1:], 'trams are none of the network')
    assert other.balance().remarks == (), 'and nobody misses a tram that was to be ignored'
