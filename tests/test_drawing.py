"""Pictures for people, pixel by pixel where it matters."""

from collections.abc import Sequence

import numpy as np
import pytest

from perception.drawing import color_mask, draw_overlay
from perception.interfaces import UNLABELLED, Detections, LabelClass, LabelSpace, SceneResult
from perception.labels import CITYSCAPES_11_3

CAR, PERSON, BICYCLE = (label.color_rgb for label in CITYSCAPES_11_3.detection)


def scene(
    image_hw: tuple[int, int],
    boxes: Sequence[Sequence[float]] = (),
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    class_id: int = UNLABELLED,
) -> SceneResult:
    return SceneResult(
        detections=Detections(
            boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.array(scores or [0.9 - index / 10 for index in range(len(boxes))], np.float32),
            labels=np.array(labels or [0] * len(boxes), np.int64),
        ),
        mask=np.full(image_hw, class_id, np.uint8),
    )


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def is_near(pixel: np.ndarray, color_rgb: tuple[int, int, int]) -> bool:
    """Smoothed lines are not quite of their colour."""
    return bool(np.abs(pixel.astype(int) - color_rgb).max() <= 30)


def test_color_mask_is_a_look_up() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (67, 43), np.uint8)
    mask[0, :4] = [0, 10, 11, UNLABELLED]
    found = color_mask(mask, CITYSCAPES_11_3.segmentation)
    assert found.shape == (67, 43, 3)
    assert found.dtype == np.uint8
    table = np.zeros((256, 3), np.uint8)
    for class_id, label in enumerate(CITYSCAPES_11_3.segmentation):
        table[class_id] = label.color_rgb
    assert np.array_equal(found, table[mask])
    assert found[0, :4].tolist() == [[128, 64, 128], [0, 0, 142], [0, 0, 0], [0, 0, 0]]


def test_unlabelled_is_black_in_a_full_label_space() -> None:
    classes = tuple(LabelClass(name=str(index), color_rgb=(index, 7, 255 - index)) for index in range(256))
    mask = np.array([[0, 254, UNLABELLED]], np.uint8)
    assert color_mask(mask, classes).tolist() == [[[0, 7, 255], [254, 7, 1], [0, 0, 0]]]


@pytest.mark.parametrize('alpha', [0.0, 0.45, 1.0])
def test_mask_is_blended_over_the_image(alpha: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    found = draw_overlay(image, scene((20, 30), class_id=2), CITYSCAPES_11_3, alpha=alpha)
    expected = (1 - alpha) * image + alpha * np.array(CITYSCAPES_11_3.segmentation[2].color_rgb)
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.5 + 1e-6


def test_box_has_its_class_color_at_its_border() -> None:
    boxes = [[40.0, 60.0, 140.0, 160.0], [180.4, 80.3, 260.2, 170.6]]
    found = draw_overlay(grey(200, 300), scene((200, 300), boxes, [1, 2]), CITYSCAPES_11_3, alpha=0)
    for (left, top, right, bottom), color in (((40, 60, 140, 160), PERSON), ((180, 80, 260, 171), BICYCLE)):
        middle_row, middle_column = (top + bottom) // 2, (left + right) // 2
        for row, column in ((top, middle_column), (bottom, middle_column), (middle_row, left), (middle_row, right)):
            assert is_near(found[row, column], color)
        assert (found[top + 5 : bottom - 5, left + 5 : right - 5] == 100).all()
    assert (found[180:] == 100).all()
    assert (found[65:, 145:175] == 100).all()


def test_name_and_score_stand_above_the_box() -> None:
    image = grey(200, 300)
    found = draw_overlay(image, scene((200, 300), [[40, 60, 140, 160]], scores=[0.87]), CITYSCAPES_11_3, alpha=0)
    strip = found[45:59, 40:140]
    assert (strip == CAR).all(axis=2).any()
    assert (strip.astype(int).sum(axis=2) > 700).any() or (strip.sum(axis=2) < 60).any(), 'no ink on the strip'
    other = draw_overlay(image, scene((200, 300), [[40, 60, 140, 160]], scores=[0.12]), CITYSCAPES_11_3, alpha=0)
    assert not np.array_equal(found[45:59], other[45:59]), 'the score is not written'
    assert np.array_equal(found[62:], other[62:])


def test_best_detection_lies_on_top() -> None:
    boxes = [[20, 60, 120, 160], [20, 60, 120, 160]]
    found = draw_overlay(grey(200, 300), scene((200, 300), boxes, [1, 0], [0.9, 0.5]), CITYSCAPES_11_3)
    assert is_near(found[110, 20], PERSON)


def test_banner_is_written_across_the_top() -> None:
    image, result = grey(240, 480), scene((240, 480))
    plain = draw_overlay(image, result, CITYSCAPES_11_3, alpha=0)
    found = draw_overlay(image, result, CITYSCAPES_11_3, alpha=0, banner='untrained weights')
    changed = (found != plain).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[0] == 0
    assert rows[-1] < 40
    assert len(columns) > 80
    assert abs((columns[0] + columns[-1]) / 2 - 240) < 40
    strip = found[: rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (strip == (200, 30, 30)).all(axis=2).mean() > 0.4
    assert (strip > 220).all(axis=2).any(), 'no ink on the banner'
    longer = draw_overlay(image, result, CITYSCAPES_11_3, alpha=0, banner='untrained weights!!')
    assert (longer != plain).any(axis=2).sum() > changed.sum()


def test_input_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    result = scene((60, 80), [[5, 5, 50, 50]], class_id=1)
    before, boxes, mask = image.copy(), result.detections.boxes_xyxy.copy(), result.mask.copy()
    image.flags.writeable = result.mask.flags.writeable = False
    for alpha in (0.0, 0.45):
        found = draw_overlay(image, result, CITYSCAPES_11_3, alpha=alpha, banner='x')
        assert not np.shares_memory(found, image)
        assert not np.array_equal(found, image)
    assert np.array_equal(image, before)
    assert np.array_equal(result.detections.boxes_xyxy, boxes)
    assert np.array_equal(result.mask, mask)


def test_rows_may_be_padded() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    view, result = wide[:, :80], scene((60, 80), [[5, 5, 50, 50]], class_id=1)
    expected = draw_overlay(view.copy(), result, CITYSCAPES_11_3)
    assert np.array_equal(draw_overlay(view, result, CITYSCAPES_11_3), expected)


def test_boxes_reach_over_the_edge() -> None:
    boxes = [[-30, -20, 40, 40], [80, 70, 200, 300], [-500, 50, -400, 60], [0, 0, 120, 90]]
    found = draw_overlay(grey(90, 120), scene((90, 120), boxes, [0, 1, 2, 2]), CITYSCAPES_11_3, alpha=0)
    assert found.shape == (90, 120, 3)
    assert is_near(found[30, 40], CAR)
    assert is_near(found[80, 80], PERSON)


@pytest.mark.parametrize(
    'image_hw', [(1, 1), (1, 50), (50, 1), (7, 5), (1600, 20)], ids=lambda size: f'{size[0]}x{size[1]}'
)
def test_image_of_any_size(image_hw: tuple[int, int]) -> None:
    height, width = image_hw
    result = scene(image_hw, [[0, 0, width, height], [0.2, 0.2, 0.7, 0.7]], class_id=0)
    found = draw_overlay(grey(*image_hw), result, CITYSCAPES_11_3, banner='untrained weights')
    assert found.shape == (height, width, 3)


def test_label_space_gives_names_and_colors() -> None:
    labels = LabelSpace(
        name='two',
        segmentation=(LabelClass(name='ground', color_rgb=(1, 2, 3)),),
        detection=(LabelClass(name='a', color_rgb=(9, 200, 30)), LabelClass(name='b', color_rgb=(200, 9, 30))),
    )
    found = draw_overlay(grey(100, 100), scene((100, 100), [[20, 40, 80, 90]], [1], class_id=0), labels, alpha=1.0)
    assert is_near(found[60, 20], (200, 9, 30))
    assert is_near(found[60, 50], (1, 2, 3))


def test_text_grows_with_the_image() -> None:
    def strip_height(side: int) -> int:
        found = draw_overlay(grey(side, side), scene((side, side)), CITYSCAPES_11_3, alpha=0, banner='x')
        return int((found != 100).any(axis=(1, 2)).sum())

    assert strip_height(1800) > 2 * strip_height(450)
