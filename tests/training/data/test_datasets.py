"""The contract that every data set in DATASETS keeps, on a tiny one in its layout."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED
from tests.training.data.drawn_layouts import DRAWERS, HW
from training.data import DATASETS, build_dataset
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


@each_dataset
def test_a_missing_split_says_what_is_there(build: Builder, name: str, tmp_path: Path) -> None:
    build(name)
    with pytest.raises(DatasetError, match='missing'):
        build_dataset(name, tmp_path / name, 'validation')


@each_dataset
def test_an_unknown_option_names_the_nearest(build: Builder, name: str) -> None:
    with pytest.raises(ConfigError, match=f'{name}.*unknown.*Known: '):
        build(name, boxess=True)


def test_an_unknown_dataset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
        build_dataset('cityscape', tmp_path, 'train')
