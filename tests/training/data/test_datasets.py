"""The contract that every data set in DATASETS keeps, on a tiny one in its layout."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED
from tests.training.data.drawn_layouts import DRAWERS, HW
from training.data import DATASETS, build_dataset
from training.data import dataset as reading
from training.data.dataset import SceneDataset

Builder = Callable[..., SceneDataset]
each_dataset = pytest.mark.parametrize('name', sorted(DATASETS))


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    def draw_and_build(name: str, **options: object) -> SceneDataset:
        DRAWERS[name](tmp_path / name)
        return build_dataset(name, tmp_path / name, 'train', **options)

    return draw_and_build


def test_every_dataset_has_a_drawn_layout() -> None:
    assert set(DRAWERS) == set(DATASETS)


@each_dataset
def test_samples_have_the_documented_shapes(build: Builder, name: str) -> None:
    dataset = build(name)
    assert len(dataset) == 3
    assert dataset.name == f'{name}-train'
    names = set()
    for sample in dataset:
        assert sample.image.shape == (3, *HW)
        assert sample.image.dtype == torch.uint8
        assert sample.boxes is not None
        assert sample.labels is not None
        assert sample.boxes.shape == (len(sample.labels), 4)
        assert sample.boxes.dtype == sample.ignore_boxes.dtype == torch.float32
        assert sample.labels.dtype == torch.int64
        assert sample.ignore_boxes.ndim == 2
        assert len(sample.boxes)
        assert int(sample.labels.max()) < len(dataset.labels.detection)
        limits = torch.tensor([HW[1], HW[0]])
        for boxes in (sample.boxes, sample.ignore_boxes):
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2:] <= limits).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
        if sample.mask is not None:
            assert sample.mask.shape == HW
            assert sample.mask.dtype == torch.uint8
            assert set(sample.mask.unique().tolist()) <= {*range(len(dataset.labels.segmentation)), UNLABELLED}
        names.add(sample.name)
    assert len(names) == 3


@each_dataset
def test_images_are_rgb_and_in_file_order(build: Builder, name: str) -> None:
    dataset = build(name)
    blue = 0 if name in ('coco', 'driving_boxes') else 2  # these are drawn as RGB into a BGR file
    assert [round(float(sample.image[blue].float().mean()) / 10) for sample in dataset] == [1, 5, 9]


@each_dataset
def test_a_dataset_pickles_for_loader_processes(build: Builder, name: str) -> None:
    dataset = build(name)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1].image, dataset[1].image)
    assert copy.fingerprint() == dataset.fingerprint()


@each_dataset
def test_the_fingerprint_follows_the_files(build: Builder, name: str, tmp_path: Path) -> None:
    before = build(name).fingerprint()
    assert build_dataset(name, tmp_path / name, 'train').fingerprint() == before
    moved = (tmp_path / name).rename(tmp_path / 'moved')
    assert build_dataset(name, moved, 'train').fingerprint() == before
    picture = next(moved.rglob('*.png'))
    picture.write_bytes(picture.read_bytes() + b'more')
    assert build_dataset(name, moved, 'train').fingerprint() != before


@each_dataset
def test_the_fingerprint_follows_the_code_that_reads(
    build: Builder, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {'files.py', 'index_maps.py', 'orientation.py', 'picture.py'} <= {path.name for path in reading._READING}
    before = build(name).fingerprint()
    (tmp_path / 'changed.py').write_text('"""Another rule."""\n')
    monkeypatch.setattr(reading, '_READING', (*reading._READING[:-1], tmp_path / 'changed.py'))
    assert build_dataset(name, tmp_path / name, 'train').fingerprint() != before


@each_dataset
def test_a_missing_file_is_named_when_the_dataset_is_opened(build: Builder, name: str, tmp_path: Path) -> None:
    build(name)
    pictures = [path for path in sorted((tmp_path / name).rglob('*.png')) if 'annot' not in str(path)]
    pictures[1].unlink()
    with pytest.raises(DatasetError, match=pictures[1].name):
        build_dataset(name, tmp_path / name, 'train')


@each_dataset
def test_a_truncated_picture_is_named(build: Builder, name: str, tmp_path: Path) -> None:
    dataset = build(name)
    for path in (tmp_path / name).rglob('*.png'):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r'\.png cannot be decoded'):
        dataset[0]


def test_files_of_one_size_and_second_are_told_apart(tmp_path: Path) -> None:
    fingerprints = {}
    for name, time_ns in (
        ('one', 1_700_000_000_100_000_000),
        ('copy', 1_700_000_000_100_000_000),
        ('other', 1_700_000_000_900_000_000),
    ):
        DRAWERS['camvid'](tmp_path / name)
        for path in (tmp_path / name).rglob('*.png'):
            os.utime(path, ns=(time_ns, time_ns))
        fingerprints[name] = build_dataset('camvid', tmp_path / name, 'train').fingerprint()
    assert fingerprints['one'] == fingerprints['copy'] != fingerprints['other']


@pytest.mark.parametrize('name', ['coco', 'driving_boxes'])
def test_boxes_are_told_apart_by_the_content_of_their_file(name: str, tmp_path: Path) -> None:
    roots = tmp_path / 'one', tmp_path / 'other'
    for root in roots:
        DRAWERS[name](root)
        (labels,) = root.rglob('*.json')
        if root.name == 'other':
            labels.write_text(labels.read_text().replace('[4, 5, 20, 10]', '[4, 5, 20, 11]'))
        for path in root.rglob('*.*'):
            os.utime(path, ns=(0, 0))
    one, other = (build_dataset(name, root, 'train').fingerprint() for root in roots)
    assert one != other
    (labels,) = roots[0].rglob('*.json')
    os.utime(labels)
    assert build_dataset(name, roots[0], 'train').fingerprint() == one, 'the same file, copied again'


def test_pictures_outside_of_the_root_have_a_fingerprint(tmp_path: Path) -> None:
    DRAWERS['coco'](tmp_path / 'coco')
    pictures = (tmp_path / 'coco' / 'train2017').rename(tmp_path / 'my pics')
    found = [
        build_dataset('coco', tmp_path / 'coco', 'train', images=images) for images in (str(pictures), '../my pics')
    ]
    assert found[0].fingerprint() == found[1].fingerprint()


@each_dataset
def test_a_missing_split_says_what_is_there(build: Builder, name: str, tmp_path: Path) -> None:
    build(name)
    there, check = {
        'cityscapes': ('leftImg8bit holds train', 'root and split'),
        'camvid': ('camvid holds train, train.txt, trainannot', 'root and split'),
        'coco': ('annotations holds instances_train2017.json', 'root, split and the option annotations'),
        'driving_boxes': ('driving_boxes holds images, train.json', 'root, split and the option annotations'),
        'voc': ('Main holds train.txt', 'root, split and the option image_set'),
    }[name]
    with pytest.raises(DatasetError, match=f'validation.* is missing; .*{there}. Check {check}'):
        build_dataset(name, tmp_path / name, 'validation')


@each_dataset
def test_a_missing_root_says_what_is_above(build: Builder, name: str, tmp_path: Path) -> None:
    build(name)
    with pytest.raises(DatasetError, match=f'nowhere.* is missing; {tmp_path} holds {name}. Check root'):
        build_dataset(name, tmp_path / 'nowhere', 'train')


@pytest.mark.parametrize(
    ('name', 'option', 'value', 'expected'),
    [
        ('cityscapes', 'masks', 'perhaps', 'bool'),
        ('camvid', 'min_box_area_px', 1.5, 'int'),
        ('camvid', 'min_box_area_px', True, 'int'),
        ('camvid', 'boxes', 3, 'weak'),
        ('coco', 'images', ['pics'], 'str'),
        ('coco', 'classes', 3, 'Mapping'),
        ('coco', 'classes', {'car': 0}, 'str'),
        ('coco', 'masks', 'SegmentationClass', 'bool'),
        ('voc', 'years', 2012, 'tuple'),
        ('voc', 'years', ['VOC2012'], 'int'),
        ('voc', 'masks', True, 'str'),
        ('voc', 'first_pixel', 2, '0'),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(
    build: Builder, name: str, option: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigError, match=f'(?s)Data set \'{name}\'.*"{option}".*Expected a .*{expected}'):
        build(name, **{option: value})


@each_dataset
def test_an_unknown_option_names_the_nearest(build: Builder, name: str) -> None:
    with pytest.raises(ConfigError, match=f'{name}.*unknown.*[Kk]nown are '):
        build(name, boxess=True)


def test_an_option_may_be_null_as_in_a_configuration(build: Builder) -> None:
    assert [sample.mask for sample in build('voc', masks=None, years=[])] == [None] * 3


def test_an_unknown_dataset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
        build_dataset('cityscape', tmp_path, 'train')
