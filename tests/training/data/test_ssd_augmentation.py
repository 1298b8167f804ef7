"""SSD's augmentation: boxes and masks in step, torchvision's draws, and nothing that hangs or draws globally."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from perception.boxes import pairwise_iou
from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from perception.labels import load_label_space
from training.configuration import parse_arguments
from training.data.mixture import seeded_generator
from training.data.sample import Sample
from training.data.ssd_augmentation import (
    IoUCropConfig,
    PhotometricConfig,
    ZoomOutConfig,
    class_beyond,
    crop_to_object,
    distort_color,
    zoom_out,
)
from training.data.transforms import TrainTransform, TrainTransformConfig
from training.data.view import View, whole_view

HW = (120, 200)
OBJECTS = [[30.0, 20.0, 80.0, 60.0], [110.0, 30.0, 190.0, 110.0]]
CROWD = [10.0, 70.0, 60.0, 110.0]
SSD = TrainTransformConfig(
    scale=(1.0, 1.0),
    min_box_side_px=0.1,
    zoom_out=ZoomOutConfig(),
    iou_crop=IoUCropConfig(),
    photometric=PhotometricConfig(),
)


def drawn_sample(boxes: list[list[float]] | None = OBJECTS) -> Sample:
    """Objects 1 and 2 and the crowd 3 are drawn into mask and image; the background is 0."""
    mask = torch.zeros(HW, dtype=torch.uint8)
    for index, (left, top, right, bottom) in enumerate([*OBJECTS, CROWD], 1):
        mask[int(top) : int(bottom), int(left) : int(right)] = index
    return Sample(
        image=(60 * mask).expand(3, *HW).contiguous(),
        boxes=None if boxes is None else torch.tensor(boxes).reshape(-1, 4),
        labels=None if boxes is None else torch.arange(len(boxes)),
        ignore_boxes=torch.tensor([CROWD]),
        mask=mask,
        name='drawn',
    )


def bounds(seen: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.nonzero(seen, as_tuple=True)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize('image_hw', [HW, (96, 96), (250, 250)])
def test_boxes_ignored_boxes_image_and_mask_move_together(image_hw: tuple[int, int]) -> None:
    transform, sample = TrainTransform(replace(SSD, photometric=None), image_hw), drawn_sample()
    found, crowds, dropped = 0, 0, 0
    for seed in range(60):
        result = transform(sample, seeded_generator(seed))
        assert result.mask is not None
        assert result.boxes is not None
        assert result.labels is not None
        assert result.image.shape == (3, *image_hw)
        assert result.mask.shape == image_hw
        assert len(result.boxes) == len(result.labels)
        for label, box in zip(result.labels.tolist(), result.boxes, strict=True):
            assert (bounds(result.mask == label + 1) - box).abs().max() <= 1
            found += 1
        for box in result.ignore_boxes:
            if (box[2:] - box[:2]).min() > 2:
                assert (bounds(result.mask == 3) - box).abs().max() <= 1
                crowds += 1
        plain = (
            (result.mask != UNLABELLED)
            & (result.mask == result.mask.roll(1, 0))
            & (result.mask == result.mask.roll(1, 1))
        )
        difference = (result.image[0].float() - 60 * result.mask).abs()[plain]
        assert (difference < 8).float().mean() > 0.8  # but for edges, which are smoothed
        dropped += 2 - len(result.boxes)
    assert found > 60
    assert crowds > 20
    assert dropped > 8


@pytest.mark.parametrize(('fill', 'labels', 'expected'), [('unlabelled', 'voc_21_20', 255), ('auto', 'voc_21_20', 0)])
def test_what_the_mask_has_beyond_the_image(fill: str, labels: str, expected: int) -> None:
    config = ZoomOutConfig(probability=1.0, fill=fill)  # type: ignore[arg-type]
    padding_class = class_beyond(config, load_label_space(labels))
    assert padding_class == expected
    transform = TrainTransform(TrainTransformConfig(scale=(1, 1), zoom_out=config), HW, padding_class)
    sample = replace(drawn_sample(), mask=torch.full(HW, 7, dtype=torch.uint8))
    result = transform(sample, seeded_generator(1))
    assert result.mask is not None
    assert result.mask.unique().tolist() == sorted([7, expected])
    beyond = result.mask == expected
    assert (result.image[:, beyond].float() - torch.tensor([[124.0], [116.0], [104.0]])).abs().max() == 0


def test_only_a_label_space_with_a_background_has_one_beyond_the_image() -> None:
    streets = load_label_space('cityscapes_11_3')
    assert class_beyond(None, load_label_space('voc_21_20')) == UNLABELLED
    assert class_beyond(ZoomOutConfig(), streets) == UNLABELLED
    with pytest.raises(ConfigError, match=r"no segmentation class of cityscapes_11_3 is named 'background'"):
        class_beyond(ZoomOutConfig(fill='background'), streets)
    voc = load_label_space('voc_21_20')
    last = replace(voc, segmentation=(*voc.segmentation[1:], voc.segmentation[0]))
    assert class_beyond(ZoomOutConfig(fill='background'), last) == 20


def test_a_zoomed_out_view_holds_the_whole_image() -> None:
    views = [zoom_out(View(0, 0, *HW), ZoomOutConfig(largest=3.0), seeded_generator(seed)) for seed in range(200)]
    for view in views:
        assert view.top <= 0 <= view.top + view.height - HW[0]
        assert view.left <= 0 <= view.left + view.width - HW[1]
        assert view.height <= 3 * HW[0]
        assert view.width / view.height == pytest.approx(HW[1] / HW[0], rel=0.01)
    assert 70 < sum(view == View(0, 0, *HW) for view in views) < 130
    assert max(view.height for view in views) > 2.7 * HW[0]
    assert len({(view.top, view.left) for view in views}) > 80


@pytest.mark.parametrize('zoomed', [False, True])
def test_crops_overlap_an_object_so_much(zoomed: bool) -> None:
    config = IoUCropConfig(overlaps=(0.4, 1.0), sides=(0.2, 0.9), aspect=(0.8, 1.25))
    sample = drawn_sample()
    around = View(-40, -70, 200, 340) if zoomed else whole_view(sample)
    parts = [crop_to_object(sample, around, config, seeded_generator(seed)) for seed in range(100)]
    cropped = [part for part in parts if part != around]
    assert 10 < len(cropped) < 100
    for part in cropped:
        box = torch.tensor([[part.left, part.top, part.left + part.width, part.top + part.height]]).float()
        assert pairwise_iou(torch.tensor(OBJECTS), box).max() >= 0.4
        assert 0.8 <= part.width / part.height <= 1.25
        assert 0.2 * around.height - 1 <= part.height <= 0.9 * around.height
        assert around.top <= part.top <= part.top + part.height <= around.top + around.height
        assert around.left <= part.left <= part.left + part.width <= around.left + around.width


@pytest.mark.parametrize('boxes', [None, []], ids=['not annotated', 'no object'])
def test_a_sample_without_objects_is_cropped_as_if_it_were_one(boxes: list[list[float]] | None) -> None:
    transform, sample, scales = TrainTransform(replace(SSD, zoom_out=None), HW), drawn_sample(boxes), set()
    for seed in range(30):
        result = transform(sample, seeded_generator(seed))
        assert (result.boxes is None) == (boxes is None)
        assert result.mask is not None
        scales.add(tuple(torch.bincount(result.mask.flatten(), minlength=4).tolist()))
    assert len(scales) > 10


def test_draws_are_torchvisions() -> None:
    """The image in torchvision's own transforms, with the global generator in the state that ours is given."""
    sample, seed = drawn_sample(), int(torch.randint(2**62, (), generator=seeded_generator(3)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = v2.RandomPhotometricDistort(hue=(-0.05, 0.05))(sample.image)
    changed = distort_color(sample.image, PhotometricConfig(swap_channels=True), seeded_generator(3))
    assert torch.equal(changed, expected)
    assert not torch.equal(changed, sample.image)


def test_colours_change_and_nothing_else() -> None:
    plain, colored = TrainTransform(replace(SSD, photometric=None), HW), TrainTransform(SSD, HW)
    changed = 0
    for seed in range(20):
        before, after = (transform(drawn_sample(), seeded_generator(seed)) for transform in (plain, colored))
        assert after.mask is not None
        assert torch.equal(after.mask, before.mask)
        assert torch.equal(after.boxes, before.boxes)
        changed += not torch.equal(after.image, before.image)
    assert changed > 10
    image = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    for seed in range(5):
        assert torch.equal(distort_color(image, PhotometricConfig(probability=0.0), seeded_generator(seed)), image)
        grey = image[:1].expand(3, -1, -1)
        found = distort_color(grey, PhotometricConfig(probability=1.0), seeded_generator(seed))
        assert (found[0] - found[1:]).abs().max() <= 1, 'without swapped channels grey stays grey'


def test_the_result_depends_on_sample_and_generator_alone() -> None:
    transform, state = TrainTransform(SSD, HW), torch.get_rng_state()
    results = [transform(drawn_sample(), seeded_generator(seed)) for seed in (5, 6, 5)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(results[0].image, results[2].image)
    assert torch.equal(results[0].mask, results[2].mask)  # type: ignore[arg-type]
    assert torch.equal(results[0].boxes, results[2].boxes)  # type: ignore[arg-type]
    assert not torch.equal(results[0].image, results[1].image)
    torch.manual_seed(7)
    assert torch.equal(transform(drawn_sample(), seeded_generator(5)).image, results[0].image)
    torch.set_rng_state(state)


def test_a_configuration_file_reaches_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / 'run.yaml'
    file.write_text(
        'data: [{name: camvid, root: somewhere}]\n'
        'transform:\n  scale: [1.0, 1.0]\n  zoom_out: {largest: 3.0, fill: unlabelled}\n'
        '  iou_crop: {sides: [0.5, 1.0]}\n  photometric: {hue: 0.07, probability: 1.0}\n'
    )
    config, _ = parse_arguments(['--config', str(file), '--transform.zoom_out.probability', '0.25'])
    assert config.transform == TrainTransformConfig(
        scale=(1.0, 1.0),
        zoom_out=ZoomOutConfig(probability=0.25, largest=3.0, fill='unlabelled'),
        iou_crop=IoUCropConfig(sides=(0.5, 1.0)),
        photometric=PhotometricConfig(hue=0.07, probability=1.0),
    )
    assert config.transform.largest_scale == 2
    file.write_text('data: [{name: camvid, root: somewhere}]\ntransform: {zoom_out: {larges: 2.0}}\n')
    with pytest.raises(ConfigError, match=r"transform, zoom_out: there is no field 'larges'.*largest"):
        parse_arguments(['--config', str(file)])


@pytest.mark.parametrize(
    ('kind', 'options', 'said'),
    [
        (ZoomOutConfig, {'probability': 1.1}, '1.1'),
        (ZoomOutConfig, {'largest': 0.9}, '0.9'),
        (ZoomOutConfig, {'largest': float('nan')}, 'nan'),
        (ZoomOutConfig, {'fill': 'zero'}, 'zero'),
        (IoUCropConfig, {'overlaps': (0.1, 0.5)}, 'the whole image'),
        (IoUCropConfig, {'overlaps': ()}, 'the whole image'),
        (IoUCropConfig, {'overlaps': (-0.1, 1.0)}, '-0.1'),
        (IoUCropConfig, {'sides': (0.0, 1.0)}, 'sides'),
        (IoUCropConfig, {'sides': (0.5, 1.1)}, 'sides'),
        (IoUCropConfig, {'aspect': (2.0, 0.5)}, 'aspect'),
        (PhotometricConfig, {'brightness': 1.5}, 'brightness'),
        (PhotometricConfig, {'hue': 0.6}, 'hue'),
        (PhotometricConfig, {'probability': -1.0}, 'probability'),
        (TrainTransformConfig, {'photometric': PhotometricConfig(), 'contrast': 0.2}, 'leave these out'),
        (TrainTransformConfig, {'iou_crop': IoUCropConfig(), 'focus_probability': 0.2}, 'focus_probability'),
    ],
)
def test_values_out_of_range_are_refused(kind: type, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        kind(**options)
