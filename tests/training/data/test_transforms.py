"""Augmentation: geometry against coordinates painted into the image, rules for boxes, and repeatability."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from training.data.mixture import seeded_generator
from training.data.sample import Sample
from training.data.transforms import TrainTransform, TrainTransformConfig
from training.data.view import Canvas, View, flip, show_view

_HW = (120, 200)


def _coordinate_sample(**changes: object) -> Sample:
    """Red tells the column and green the row of each pixel; the mask is an object (1) on background (0)."""
    rows, columns = torch.meshgrid(torch.arange(_HW[0]), torch.arange(_HW[1]), indexing='ij')
    mask = torch.zeros(_HW, dtype=torch.uint8)
    mask[40:80, 60:110] = 1
    sample = Sample(
        image=torch.stack((columns, rows, torch.full(_HW, 7))).to(torch.uint8),
        boxes=torch.tensor([[60.0, 40, 110, 80]]),
        labels=torch.tensor([2]),
        ignore_boxes=torch.tensor([[0.0, 0, 30, 20]]),
        mask=mask,
        name='painted',
    )
    return replace(sample, **changes)  # type: ignore[arg-type]


def _transform(**options: object) -> TrainTransform:
    return TrainTransform(TrainTransformConfig(**options), _HW)  # type: ignore[arg-type]


def _bounds(mask: torch.Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask == 1, as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize('scale', [(1.0, 1.5), (0.4, 0.9), (1.0, 3.0), (0.5, 2.0)])
@pytest.mark.parametrize('image_hw', [_HW, (96, 96), (240, 400)])
def test_image_mask_and_boxes_move_together(scale: tuple[float, float], image_hw: tuple[int, int]) -> None:
    transform = TrainTransform(TrainTransformConfig(scale=scale, min_box_side_px=0.1), image_hw)
    sample, seen = _coordinate_sample(), 0
    for seed in range(30):
        result = transform(sample, seeded_generator(seed))
        assert result.image.shape == (3, *image_hw)
        assert result.mask is not None
        assert result.mask.shape == image_hw
        assert result.boxes is not None
        if not len(result.boxes):
            continue
        seen += 1
        found, box = torch.tensor(_bounds(result.mask)), result.boxes[0]
        assert (found - box).abs().max() <= 1.0
        middle_row, middle_column = ((box[1::2].sum() / 2).long(), (box[::2].sum() / 2).long())
        column, row = result.image[0, middle_row, middle_column], result.image[1, middle_row, middle_column]
        assert 59 <= int(column) <= 111
        assert 39 <= int(row) <= 81
    assert seen >= 5


@pytest.mark.parametrize('scale', [1.0, 1.5, 0.5])
def test_a_crop_shows_things_at_the_size_they_have_in_the_whole_image(scale: float) -> None:
    sample, crop_hw = _coordinate_sample(), (60, 100)
    transform = _transform(crop_hw=crop_hw, scale=(scale, scale), flip_probability=0.0)
    result = transform(sample, seeded_generator(1))
    assert result.mask is not None
    assert result.image.shape == (3, *crop_hw)
    assert result.mask.shape == crop_hw
    seen = result.mask != UNLABELLED
    columns = result.image[0].float()  # the column of the whole image that each pixel shows
    steps = (columns[:, 1:] - columns[:, :-1])[seen[:, 1:] & seen[:, :-1]]
    assert steps.mean() == pytest.approx(1 / scale, rel=0.1)


def test_the_whole_view_changes_nothing() -> None:
    sample = _coordinate_sample()
    result = show_view(sample, View(0, 0, *_HW), Canvas(image_hw=_HW))
    assert torch.equal(result.image, sample.image)
    assert result.mask is not None
    assert sample.mask is not None
    assert torch.equal(result.mask, sample.mask)
    assert result.boxes is not None
    assert torch.equal(result.boxes, sample.boxes)


def test_a_view_is_scaled_to_the_canvas() -> None:
    result = show_view(_coordinate_sample(), View(30, 50, 60, 100), Canvas(image_hw=_HW))
    assert result.boxes is not None
    assert result.boxes.tolist() == [[20, 20, 120, 100]]
    assert result.mask is not None
    assert _bounds(result.mask) == [20, 20, 120, 100]
    assert [int(result.image[0, 60, 20]), int(result.image[1, 60, 20])] == [60, 60]


def test_below_scale_one_the_image_lies_in_a_canvas() -> None:
    canvas = Canvas(image_hw=_HW, padding_rgb=(1.4, 2.0, 3.0))
    half_size = View(-60, -100, 240, 400)  # lower right of its middle
    result = show_view(_coordinate_sample(), half_size, canvas)
    assert result.mask is not None
    assert result.image[:, 0, 0].tolist() == [1, 2, 3]
    assert (result.mask[:30] == 255).all()
    assert (result.mask[30:90, 50:150] != 255).all()
    assert int((result.mask == 255).sum()) == _HW[0] * _HW[1] * 3 // 4
    assert result.boxes is not None
    assert result.boxes.tolist() == [[80, 50, 105, 70]]
    assert result.ignore_boxes.tolist() == [[50, 30, 65, 40]]


def test_a_box_stays_while_its_centre_does_and_is_clipped() -> None:
    canvas = Canvas(image_hw=(120, 100))
    stays = show_view(_coordinate_sample(), View(0, 84, 120, 100), canvas)  # centre at column 85
    assert stays.boxes is not None
    assert stays.boxes.tolist() == [[0, 40, 26, 80]]
    assert stays.labels is not None
    assert stays.labels.tolist() == [2]
    goes = show_view(_coordinate_sample(), View(0, 86, 120, 100), canvas)
    assert goes.boxes is not None
    assert goes.boxes.shape == (0, 4)
    assert goes.labels is not None
    assert goes.labels.shape == (0,)


def test_short_sides_are_dropped_after_clipping() -> None:
    sample = _coordinate_sample(
        boxes=torch.tensor([[10.0, 10, 11.5, 30], [10, 10, 12, 30]]), labels=torch.tensor([0, 1])
    )
    result = show_view(sample, View(0, 0, *_HW), Canvas(image_hw=_HW))
    assert result.labels is not None
    assert result.labels.tolist() == [1]


def test_ignore_boxes_are_clipped_and_those_outside_dropped() -> None:
    sample = _coordinate_sample(ignore_boxes=torch.tensor([[0.0, 0, 30, 20], [150, 100, 190, 119]]))
    result = show_view(sample, View(10, 20, 60, 100), Canvas(image_hw=(60, 100)))
    assert result.ignore_boxes.tolist() == [[0, 0, 10, 10]]


def test_a_flip_mirrors_everything_and_twice_is_nothing() -> None:
    sample = _coordinate_sample()
    once = flip(sample)
    assert once.boxes is not None
    assert once.boxes.tolist() == [[90, 40, 140, 80]]
    assert once.ignore_boxes.tolist() == [[170, 0, 200, 20]]
    assert once.mask is not None
    assert _bounds(once.mask) == [90, 40, 140, 80]
    assert int(once.image[0, 0, 0]) == 199
    assert torch.equal(flip(once).image, sample.image)


def test_missing_annotation_stays_missing() -> None:
    sample = Sample(image=_coordinate_sample().image)
    result = _transform(focus_probability=1.0, focus_classes=(1,))(sample, seeded_generator(0))
    assert (result.boxes, result.labels, result.mask) == (None, None, None)
    assert result.ignore_boxes.shape == (0, 4)


def test_the_result_depends_on_sample_and_generator_alone() -> None:
    options = {'scale': (0.5, 2.0), 'brightness': 0.4, 'focus_probability': 0.5, 'focus_classes': (1,)}
    transform, sample = _transform(**options), _coordinate_sample()
    first = transform(sample, seeded_generator(5))
    state = torch.get_rng_state()
    transform(sample, seeded_generator(6))
    second = pickle.loads(pickle.dumps(transform))(sample, seeded_generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.image, second.image)
    assert first.mask is not None
    assert second.mask is not None
    assert torch.equal(first.mask, second.mask)
    assert torch.equal(sample.image, _coordinate_sample().image)  # the input is left as it is


def test_scales_and_flips_follow_the_configuration() -> None:
    flips = [
        bool(result.image[0, 0, 0] > result.image[0, 0, -1])
        for result in (_transform()(_coordinate_sample(), seeded_generator(seed)) for seed in range(100))
    ]
    assert 30 < sum(flips) < 70
    never = _transform(flip_probability=0.0)
    for seed in range(20):
        result = never(_coordinate_sample(), seeded_generator(seed))
        shown = int(result.image[0, 0, -1]) - int(result.image[0, 0, 0]) + 1
        assert _HW[1] / 1.5 - 3 <= shown <= _HW[1]


def test_a_focused_crop_shows_the_rare_class() -> None:
    sample = _coordinate_sample(mask=torch.zeros(_HW, dtype=torch.uint8))
    assert sample.mask is not None
    sample.mask[3, 5] = 6
    focused = _transform(scale=(4.0, 4.0), focus_probability=1.0, focus_classes=(1, 6))
    by_chance = _transform(scale=(4.0, 4.0))
    shown = {
        name: sum(bool((transform(sample, seeded_generator(seed)).mask == 6).any()) for seed in range(20))
        for name, transform in (('focused', focused), ('by chance', by_chance))
    }
    assert shown['focused'] == 20
    assert shown['by chance'] < 10


def test_a_focused_crop_of_a_photo_without_mask_shows_a_box() -> None:
    sample = _coordinate_sample(mask=None, boxes=torch.tensor([[2.0, 2, 8, 8]]))
    focused = _transform(scale=(4.0, 4.0), focus_probability=1.0)
    for seed in range(20):
        boxes = focused(sample, seeded_generator(seed)).boxes
        assert boxes is not None
        assert len(boxes) == 1


def test_color_changes_the_image_only() -> None:
    plain, colored = _transform(), _transform(brightness=0.5, contrast=0.5, saturation=0.5)
    for seed in range(5):
        before = plain(_coordinate_sample(), seeded_generator(seed))
        after = colored(_coordinate_sample(), seeded_generator(seed))
        assert not torch.equal(before.image, after.image)
        assert after.image.shape == before.image.shape
        assert after.mask is not None
        assert torch.equal(after.mask, before.mask)
        assert torch.equal(after.boxes, before.boxes)


@pytest.mark.parametrize(
    'options',
    [
        {'crop_hw': (0, 64)},
        {'scale': (1.5, 1.0)},
        {'scale': (0.0, 1.0)},
        {'flip_probability': 1.5},
        {'focus_probability': -0.1},
        {'focus_classes': (1, 300)},
        {'focus_classes': (-1,)},
        {'brightness': 2.0},
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TrainTransformConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'view', [View(-130, 0, 130, 200), View(120, 0, 50, 60), View(0, -80, 60, 80), View(5, 200, 9, 9)]
)
def test_a_view_beside_the_image_shows_what_is_beyond_it(view: View) -> None:
    result = show_view(_coordinate_sample(), view, Canvas(image_hw=(30, 40), padding_class=3))
    assert result.mask is not None
    assert result.mask.unique().tolist() == [3]
    assert result.image.flatten(1).unique(dim=1).flatten().tolist() == [124, 116, 104]
    assert result.boxes is not None
    assert result.labels is not None
    assert len(result.boxes) == len(result.labels) == len(result.ignore_boxes) == 0


@pytest.mark.parametrize('view', [View(-399, 0, 400, 200), View(119, -10, 400, 220), View(0, -399, 120, 400)])
def test_a_view_with_a_sliver_of_the_image_shows_it(view: View) -> None:
    result = show_view(_coordinate_sample(), view, Canvas(image_hw=(40, 50)))
    assert result.mask is not None
    shown = result.mask != UNLABELLED
    assert shown.any()
    assert min(int(shown.any(dim=0).sum()), int(shown.any(dim=1).sum())) == 1
