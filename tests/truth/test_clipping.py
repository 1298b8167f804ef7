"""One rule for the borders of a picture, whatever the boxes come from."""

from __future__ import annotations

import numpy as np
import pytest

from perception.errors import DatasetError
from perception.interfaces import GroundTruth
from perception.truth.clipping import clip_boxes, clip_truth

IMAGE_HW = (100, 200)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_boxes_are_clipped_and_what_has_no_area_is_left_out() -> None:
    found = boxes((10, 20, 30, 40), (-5, -5, 250, 150), (-10, 0, 0, 50), (200, 10, 230, 20), (40, 50, 40, 60))
    clipped, kept = clip_boxes(found, IMAGE_HW)
    assert clipped[:2].tolist() == [[10, 20, 30, 40], [0, 0, 200, 100]]
    assert clipped.dtype == np.float32
    assert kept.tolist() == [True, True, False, False, False]
    assert found[1].tolist() == [-5, -5, 250, 150], 'the boxes that came are left as they are'


def test_no_boxes_stay_none() -> None:
    clipped, kept = clip_boxes(np.zeros((0, 4), np.float32), IMAGE_HW)
    assert clipped.shape == (0, 4)
    assert kept.shape == (0,)


@pytest.mark.parametrize(
    'outside',
    [
        (500, 500, 560, 540),
        (-60, 10, -20, 40),
        (10, -60, 40, -20),
        (10, 101, 40, 120),
        (float('nan'), 0, 10, 10),
        (0, 0, float('inf'), 10),
    ],
)
def test_a_box_without_a_part_in_the_picture_is_refused(outside: tuple[float, float, float, float]) -> None:
    with pytest.raises(DatasetError, match=r'from \(.*\) to \(.*\) lies wholly outside of its picture.*100x200'):
        clip_boxes(boxes((10, 20, 30, 40), outside), IMAGE_HW)


def test_a_truth_is_clipped_with_its_labels_and_ignored_regions() -> None:
    truth = GroundTruth(
        boxes_xyxy=boxes((200, 0, 220, 10), (190, 90, 230, 130)),
        labels=np.array([0, 2]),
        ignore_boxes_xyxy=boxes((-20, -20, 20, 20), (0, 100, 50, 120)),
        mask=np.zeros(IMAGE_HW, np.uint8),
    )
    clipped = clip_truth(truth, IMAGE_HW)
    assert clipped.boxes_xyxy is not None
    assert clipped.boxes_xyxy.tolist() == [[190, 90, 200, 100]]
    assert clipped.labels is not None
    assert clipped.labels.tolist() == [2]
    assert clipped.ignore_boxes_xyxy is not None
    assert clipped.ignore_boxes_xyxy.tolist() == [[0, 0, 20, 20]]
    assert clipped.mask is truth.mask


def test_ignored_regions_outside_are_refused_too_and_masks_alone_stay() -> None:
    region = GroundTruth(boxes_xyxy=boxes(), labels=np.zeros(0, np.int64), ignore_boxes_xyxy=boxes((500, 0, 510, 9)))
    with pytest.raises(DatasetError, match='wholly outside'):
        clip_truth(region, IMAGE_HW)
    alone = GroundTruth(mask=np.zeros(IMAGE_HW, np.uint8))
    assert clip_truth(alone, IMAGE_HW) == alone


def test_regions_keep_the_class_that_they_are_ignored_for() -> None:
    truth = GroundTruth(
        ignore_boxes_xyxy=boxes((0, 0, 0, 50), (10, 20, 300, 40)), ignore_labels=np.array([2, 1], np.int64)
    )
    clipped = clip_truth(truth, IMAGE_HW)
    assert clipped.ignore_labels is not None
    assert clipped.ignore_boxes_xyxy is not None
    assert (clipped.ignore_boxes_xyxy.tolist(), clipped.ignore_labels.tolist()) == ([[10, 20, 200, 40]], [1])
