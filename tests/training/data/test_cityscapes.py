"""The Cityscapes reader on a hand-made tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.errors import DatasetError
from perception.labels import CITYSCAPES_11_3
from tests.training.data.drawn_layouts import HW, draw_cityscapes, write_picture
from training.data.cityscapes import Cityscapes

_SEGMENTATION = [label.name for label in CITYSCAPES_11_3.segmentation]
_DETECTION = [label.name for label in CITYSCAPES_11_3.detection]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw_cityscapes(tmp_path)
    return tmp_path


def _truth(root: Path, end: str) -> Path:
    return sorted((root / 'gtFine').rglob(f'*_{end}.png'))[0]


def test_boxes_come_from_instances(root: Path) -> None:
    sample = Cityscapes(root, 'train')[0]
    assert sample.boxes is not None
    assert sample.labels is not None
    found = {tuple(box): _DETECTION[label] for box, label in zip(sample.boxes.tolist(), sample.labels, strict=True)}
    assert found == {
        (5, 10, 15, 20): 'car/truck/bus',
        (30, 10, 42, 20): 'car/truck/bus',
        (50, 22, 54, 28): 'person/rider',
        (48, 28, 56, 34): 'bicycle/motorcycle',
    }


def test_each_group_region_is_an_ignore_box_of_its_own(root: Path) -> None:
    assert sorted(Cityscapes(root, 'train')[0].ignore_boxes.tolist()) == [[44, 5, 48, 9], [58, 5, 62, 9]]


def test_the_mask_maps_ids_to_classes(root: Path) -> None:
    mask = Cityscapes(root, 'train')[0].mask
    assert mask is not None
    places = {
        'sky': (0, 10),
        'road': (39, 60),
        'car/truck/bus': (15, 35),
        'pedestrian': (6, 45),
        'rider/cycle': (24, 51),
    }
    assert {_SEGMENTATION[mask[place]] for place in places.values()} == set(places)
    assert all(_SEGMENTATION[mask[place]] == name for name, place in places.items())
    assert mask[1, 1] == 255  # wall
    assert mask[37, 4] == 255  # train


def test_annotation_can_be_left_out(root: Path) -> None:
    masks_only = Cityscapes(root, 'train', boxes=False)[0]
    assert (masks_only.boxes, masks_only.labels) == (None, None)
    assert masks_only.mask is not None
    assert len(masks_only.ignore_boxes) == 0
    boxes_only = Cityscapes(root, 'train', masks=False)[0]
    assert boxes_only.mask is None
    assert boxes_only.boxes is not None


def test_void_annotation_of_the_public_test_split_counts_as_none(root: Path) -> None:
    for end in ('labelIds', 'instanceIds'):
        write_picture(_truth(root, end), np.full(HW, 3, np.uint8))
    sample = Cityscapes(root, 'train')[0]
    assert (sample.boxes, sample.labels, sample.mask) == (None, None, None)


def test_an_unknown_label_id_is_named(root: Path) -> None:
    path = _truth(root, 'labelIds')
    write_picture(path, np.full(HW, 77, np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name} holds id 77'):
        Cityscapes(root, 'train')[0]


def test_an_unknown_instance_id_is_named(root: Path) -> None:
    path = _truth(root, 'instanceIds')
    write_picture(path, np.full(HW, 40_001, np.uint16))
    with pytest.raises(DatasetError, match=rf'{path.name} holds instance id 40001'):
        Cityscapes(root, 'train')[0]


@pytest.mark.parametrize('end', ['labelIds', 'instanceIds'])
def test_a_size_mismatch_names_both_files(root: Path, end: str) -> None:
    path = _truth(root, end)
    write_picture(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:30])
    with pytest.raises(DatasetError, match=rf'{path.name} is 30x64.*leftImg8bit.png is 40x64'):
        Cityscapes(root, 'train')[0]


def test_a_coloured_annotation_is_refused(root: Path) -> None:
    path = _truth(root, 'labelIds')
    write_picture(path, np.zeros((*HW, 3), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}.*one channel of uint8'):
        Cityscapes(root, 'train')[0]


def test_an_annotation_without_its_image_is_noticed(root: Path) -> None:
    image = sorted((root / 'leftImg8bit').rglob('*.png'))[2]
    image.unlink()
    with pytest.raises(DatasetError, match=image.name):
        Cityscapes(root, 'train')


def test_an_empty_split_is_refused(root: Path) -> None:
    for kind in ('leftImg8bit', 'gtFine'):
        (root / kind / 'val').mkdir()
    with pytest.raises(DatasetError, match='holds no'):
        Cityscapes(root, 'val')


def _train_ids(ids: np.ndarray) -> np.ndarray:
    """What cityscapesscripts' labelTrainIds hold in place of these ids."""
    table = np.full(256, 255, np.uint8)
    table[[7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]] = np.arange(19)
    return table[ids]


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    write_picture(path, change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def test_train_ids_taken_for_ids_are_refused_with_the_cause(root: Path) -> None:
    labels, instances = _truth(root, 'labelIds'), _truth(root, 'instanceIds')
    _rewrite(labels, _train_ids)
    expected = rf'{instances.name} says class 26 .*{labels.name} says class 13; .* labelIds look like train ids'
    with pytest.raises(DatasetError, match=expected):
        Cityscapes(root, 'train')[0]


def test_train_ids_with_their_unlabelled_are_refused_with_the_cause(root: Path) -> None:
    path = _truth(root, 'labelIds')
    _rewrite(path, lambda ids: np.where(ids == 12, 255, _train_ids(ids)).astype(np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name} holds id 255, .* labelIds look like train ids'):
        Cityscapes(root, 'train', boxes=False)[0]


def test_train_ids_of_instances_are_refused_with_the_cause(root: Path) -> None:
    def shrink(values: np.ndarray) -> np.ndarray:
        ids = np.where(values >= 1000, values // 1000, values)
        return np.where(values >= 1000, _train_ids(ids).astype(int) * 1000 + values % 1000, _train_ids(ids))

    _rewrite(_truth(root, 'instanceIds'), lambda values: shrink(values).astype(np.uint16))
    with pytest.raises(DatasetError, match=r'labelIds\.png says class .*instanceIds look like train ids'):
        Cityscapes(root, 'train')[0]


def test_instances_of_another_image_are_refused(root: Path) -> None:
    _rewrite(_truth(root, 'instanceIds'), lambda values: np.ascontiguousarray(values[:, ::-1]))
    with pytest.raises(DatasetError, match=r'expected one class in both\. Do both belong to one image\?'):
        Cityscapes(root, 'train')[0]


@pytest.mark.parametrize(
    'change',
    [
        lambda ids: np.where(np.arange(len(ids))[:, None] >= 30, 1, ids),  # the ego vehicle, laid over one of them
        lambda ids: np.where(ids == 26, 0, ids),
        lambda ids: np.roll(ids, 1, axis=1),  # resized otherwise
    ],
)
@pytest.mark.parametrize('end', ['labelIds', 'instanceIds'])
def test_void_and_borders_are_no_contradiction(
    root: Path, end: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    _rewrite(_truth(root, end), lambda ids: change(ids).astype(ids.dtype))
    assert Cityscapes(root, 'train')[0].mask is not None


def test_equal_names_in_two_cities_are_two_frames(tmp_path: Path) -> None:
    for city, ids in (('one', 7), ('two', 23)):
        write_picture(tmp_path / f'leftImg8bit/val/{city}/000000_leftImg8bit.png', np.full((*HW, 3), ids, np.uint8))
        write_picture(tmp_path / f'gtFine/val/{city}/000000_gtFine_labelIds.png', np.full(HW, ids, np.uint8))
    samples = list(Cityscapes(tmp_path, 'val', boxes=False))
    assert [sample.name for sample in samples] == ['cityscapes-val/one/000000', 'cityscapes-val/two/000000']
    masks = [sample.mask for sample in samples]
    assert [_SEGMENTATION[int(mask[0, 0])] for mask in masks if mask is not None] == ['road', 'sky']


def test_without_any_instances_the_option_is_named(root: Path) -> None:
    for path in (root / 'gtFine').rglob('*_instanceIds.png'):
        path.unlink()
    with pytest.raises(DatasetError, match='masks alone with the option boxes: false'):
        Cityscapes(root, 'train')
    assert Cityscapes(root, 'train', boxes=False)[0].mask is not None
