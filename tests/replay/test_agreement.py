"""How far two heads agree, on scenes whose every pixel can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.interfaces import Detections, LabelClass, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.replay.agreement import AgreementMeter

_AREAS = [label.name for label in CITYSCAPES_11_3.segmentation]
_CAR, _PERSON, _CYCLE = range(3)


def scene(
    boxes: list[tuple[tuple[int, int, int, int], int, float]], areas: dict[str, tuple[slice, slice]]
) -> SceneResult:
    mask = np.full((40, 60), _AREAS.index('road'), np.uint8)
    for name, place in areas.items():
        mask[place] = _AREAS.index(name)
    return SceneResult(
        detections=Detections(
            boxes_xyxy=np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
            scores=np.array([score for _, _, score in boxes], np.float32),
            labels=np.array([label for _, label, _ in boxes], np.int64),
        ),
        mask=mask,
    )


def test_shares_are_counted_by_pixel() -> None:
    result = scene(
        [((10, 10, 30, 20), _CAR, 0.9), ((40, 0, 44, 10), _PERSON, 0.8), ((0, 0, 60, 40), _CAR, 0.1)],
        {'car/truck/bus': np.s_[10:20, 10:25], 'rider/cycle': np.s_[0:20, 40:44]},
    )
    frame = AgreementMeter(CITYSCAPES_11_3, 0.3).measure(result)
    # The car fills three quarters of its box, the rider all of the person's; half of the rider has a box.
    assert frame.supported == pytest.approx((0.75 + 1) / 2)
    assert frame.covered == pytest.approx((150 + 40) / (150 + 80))
    assert frame.detections == (1, 1, 0)
    assert frame.pixels[_AREAS.index('road')] == 40 * 60 - 230
    assert sum(frame.pixels) == 40 * 60


def test_a_car_is_not_covered_by_the_box_of_a_person() -> None:
    result = scene([((0, 0, 60, 40), _PERSON, 0.9)], {'car/truck/bus': np.s_[0:10, 0:10]})
    frame = AgreementMeter(CITYSCAPES_11_3, 0.3).measure(result)
    assert (frame.supported, frame.covered) == (0, 0)


def test_nothing_to_compare_is_not_measured() -> None:
    frame = AgreementMeter(CITYSCAPES_11_3, 0.3).measure(scene([], {}))
    assert (frame.supported, frame.covered) == (None, None)


def test_boxes_beyond_the_image_are_cut() -> None:
    result = scene(
        [((-10, -10, 10, 10), _CAR, 0.9), ((70, 50, 90, 60), _CAR, 0.9)], {'car/truck/bus': np.s_[0:10, 0:5]}
    )
    frame = AgreementMeter(CITYSCAPES_11_3, 0.3).measure(result)
    assert (frame.supported, frame.covered) == (0.5, 1.0)


def test_objects_without_areas_are_left_out() -> None:
    """Nothing could agree on them: as disagreement they would spoil the share of the others."""
    labels = replace(
        CITYSCAPES_11_3,
        detection=(*CITYSCAPES_11_3.detection, LabelClass(name='trailer', color_rgb=(1, 2, 3))),
    )
    result = scene(
        [((10, 10, 30, 20), _CAR, 0.9), ((0, 0, 60, 40), len(CITYSCAPES_11_3.detection), 0.9)],
        {'car/truck/bus': np.s_[10:20, 10:30]},
    )
    frame = AgreementMeter(labels, 0.3).measure(result)
    assert (frame.supported, frame.boxes, frame.detections) == (1.0, 1, (1, 0, 0, 1))
