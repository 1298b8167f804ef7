"""The prepared cache: exact, repeatable, whole or absent."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from perception.errors import ConfigError, DatasetError
from perception.image import prepare_image
from perception.interfaces import InputSpec
from tests.training.data.drawn_layouts import DRAWERS, HW
from training.data import DATASETS, build_dataset, cache
from training.data.cache import CachedDataset, prepare_cache, resize_sample
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.data.stream import loader_context

_SMALL = (20, 48)


@pytest.fixture
def dataset(tmp_path: Path) -> SceneDataset:
    DRAWERS['cityscapes'](tmp_path / 'data')
    return build_dataset('cityscapes', tmp_path / 'data', 'train')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'cache'


def _prepare(dataset: SceneDataset, folder: Path, image_hw: tuple[int, int] = _SMALL) -> CachedDataset:
    return prepare_cache(dataset, image_hw, folder, show_progress=False)


def _places(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != '.lock')


def _assert_equal(first: Sample, second: Sample) -> None:
    assert first.name == second.name
    for name in ('image', 'boxes', 'labels', 'ignore_boxes', 'mask'):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        assert one is None or (one.dtype == other.dtype and torch.equal(one, other)), name


def test_a_resized_sample_is_what_inference_sees(dataset: SceneDataset) -> None:
    sample = dataset[0]
    resized = resize_sample(sample, _SMALL)
    expected, _ = prepare_image(sample.image.permute(1, 2, 0).numpy(), InputSpec(image_hw=_SMALL))
    assert np.array_equal(resized.image.permute(1, 2, 0).numpy(), expected)
    assert sample.mask is not None
    nearest = cv2.resize(sample.mask.numpy(), _SMALL[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert resized.mask is not None
    assert np.array_equal(resized.mask.numpy(), nearest)
    assert sample.boxes is not None
    assert resized.boxes is not None
    scale = torch.tensor([_SMALL[1] / HW[1], _SMALL[0] / HW[0]]).repeat(2)
    assert torch.equal(resized.boxes, sample.boxes * scale)


@pytest.mark.parametrize('name', sorted(DATASETS))
def test_the_cache_holds_the_resized_samples(name: str, tmp_path: Path, folder: Path) -> None:
    DRAWERS[name](tmp_path / name)
    dataset = build_dataset(name, tmp_path / name, 'train')
    cached = _prepare(dataset, folder)
    assert (len(cached), cached.name, cached.labels, cached.image_hw) == (3, dataset.name, dataset.labels, _SMALL)
    for index in range(3):
        assert cached[index].image.shape == (3, *_SMALL)
        _assert_equal(cached[index], resize_sample(dataset[index], _SMALL))
    with pytest.raises(IndexError):
        cached[3]


class _Mixed(SceneDataset):
    """Samples that are annotated differently."""

    def __init__(self, dataset: SceneDataset) -> None:
        self.name, self.labels = 'mixed', dataset.labels
        whole = dataset[0]
        self._samples = [
            whole,
            Sample(image=whole.image, mask=whole.mask, name='mask only'),
            Sample(image=whole.image, boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), name='empty'),
            Sample(image=whole.image, boxes=whole.boxes, labels=whole.labels, name='boxes only'),
            Sample(image=whole.image, name='nothing'),
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def fingerprint(self) -> str:
        return 'mixed'


def test_missing_and_empty_annotation_stay_apart(dataset: SceneDataset, folder: Path) -> None:
    mixed = _Mixed(dataset)
    for found, sample in zip(_prepare(mixed, folder), mixed, strict=True):
        _assert_equal(found, resize_sample(sample, _SMALL))


def test_a_cache_without_masks_has_no_file_for_them(tmp_path: Path, folder: Path) -> None:
    DRAWERS['coco'](tmp_path / 'coco')
    _prepare(build_dataset('coco', tmp_path / 'coco', 'train'), folder)
    assert sorted(path.name for path in _places(folder)[0].iterdir()) == ['images.npy', 'manifest.json', 'objects.npz']


def test_a_second_call_opens_what_is_there(dataset: SceneDataset, folder: Path) -> None:
    _prepare(dataset, folder)
    images = _places(folder)[0] / 'images.npy'
    before = images.stat().st_mtime_ns, images.stat().st_ino
    _prepare(dataset, folder)
    assert (images.stat().st_mtime_ns, images.stat().st_ino) == before


def test_sizes_and_options_have_caches_of_their_own(dataset: SceneDataset, folder: Path, tmp_path: Path) -> None:
    _prepare(dataset, folder)
    assert _prepare(dataset, folder, (16, 32))[0].image.shape == (3, 16, 32)
    _prepare(build_dataset('cityscapes', tmp_path / 'data', 'train', boxes=False), folder)
    assert len(_places(folder)) == 3


def test_a_changed_annotation_gives_a_new_cache(dataset: SceneDataset, folder: Path, tmp_path: Path) -> None:
    before = _prepare(dataset, folder)[0].mask
    path = sorted((tmp_path / 'data').rglob('*labelIds.png'))[0]
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    ids[ids == 7] = 0  # void contradicts no instance
    cv2.imwrite(str(path), ids)
    after = _prepare(build_dataset('cityscapes', tmp_path / 'data', 'train'), folder)[0].mask
    assert before is not None
    assert after is not None
    assert not torch.equal(before, after)


@pytest.mark.parametrize('name', ['images.npy', 'masks.npy', 'objects.npz', 'manifest.json'])
@pytest.mark.parametrize('damage', ['truncated', 'deleted'])
def test_a_broken_cache_is_refused_when_opened_and_rebuilt_when_prepared(
    dataset: SceneDataset, folder: Path, name: str, damage: str
) -> None:
    _prepare(dataset, folder)
    place = _places(folder)[0]
    if damage == 'truncated':
        (place / name).write_bytes((place / name).read_bytes()[:-7])
    else:
        (place / name).unlink()
    with pytest.raises(DatasetError, match=place.name):
        CachedDataset(place)
    _assert_equal(_prepare(dataset, folder)[2], resize_sample(dataset[2], _SMALL))


def test_a_cache_with_another_fingerprint_in_this_place_is_rebuilt(dataset: SceneDataset, folder: Path) -> None:
    _prepare(dataset, folder)
    manifest = _places(folder)[0] / 'manifest.json'
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {'fingerprint': 'other'}))
    fingerprint = _prepare(dataset, folder).fingerprint()
    assert fingerprint != 'other'
    assert json.loads(manifest.read_text())['fingerprint'] == fingerprint


def test_a_cache_of_another_format_is_refused(dataset: SceneDataset, folder: Path) -> None:
    _prepare(dataset, folder)
    manifest = _places(folder)[0] / 'manifest.json'
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {'format': 'cache 99'}))
    with pytest.raises(DatasetError, match='cache 99'):
        CachedDataset(manifest.parent)


def test_foreign_files_in_the_place_are_never_deleted(dataset: SceneDataset, folder: Path) -> None:
    _prepare(dataset, folder)
    place = _places(folder)[0]
    shutil.rmtree(place)
    place.mkdir()
    (place / 'thesis.tex').write_text('years of work')
    with pytest.raises(DatasetError, match=r'thesis\.tex'):
        _prepare(dataset, folder)
    assert (place / 'thesis.tex').exists()


class _FailsAtTheEnd(_Mixed):
    def __getitem__(self, index: int) -> Sample:
        if index == len(self) - 1:
            raise DatasetError('frame 4 is broken')
        return super().__getitem__(index)


def test_a_failed_build_leaves_nothing_behind(dataset: SceneDataset, folder: Path) -> None:
    with pytest.raises(DatasetError, match='frame 4 is broken'):
        _prepare(_FailsAtTheEnd(dataset), folder)
    assert _places(folder) == []


def test_what_a_killed_builder_left_is_swept(dataset: SceneDataset, folder: Path) -> None:
    _prepare(dataset, folder)
    place = _places(folder)[0]
    partial = place.rename(place.with_name(f'{place.name}.partial'))
    (partial / 'images.npy').write_bytes(b'half')
    assert len(_prepare(dataset, folder)) == 3
    assert _places(folder) == [place]


def test_a_full_disk_is_noticed_before_writing(
    dataset: SceneDataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.shutil, 'disk_usage', lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(DatasetError, match='needs 0 MiB and 0 are free'):
        _prepare(dataset, folder)
    assert _places(folder) == []


def test_a_write_error_names_the_cache(dataset: SceneDataset, folder: Path) -> None:
    folder.write_text('a file')
    with pytest.raises(DatasetError, match=f'{folder.name}.*cannot be written'):
        _prepare(dataset, folder)


def _prepare_in_process(root: Path, folder: Path) -> bytes:
    cached = _prepare(build_dataset('cityscapes', root, 'train'), folder)
    return b''.join(sample.image.numpy().tobytes() for sample in cached)


def test_several_builders_at_once_give_one_cache(dataset: SceneDataset, folder: Path, tmp_path: Path) -> None:
    with loader_context().Pool(3) as pool:
        found = pool.starmap(_prepare_in_process, [(tmp_path / 'data', folder)] * 3)
    assert len(set(found)) == 1
    assert len(_places(folder)) == 1
    with ThreadPoolExecutor(4) as threads:
        assert len({len(cached) for cached in threads.map(lambda _: _prepare(dataset, folder), range(4))}) == 1


def test_a_cache_travels_without_its_data_and_pickles_small(
    dataset: SceneDataset, folder: Path, tmp_path: Path
) -> None:
    expected = _prepare(dataset, folder)[1].image.clone()
    shutil.rmtree(tmp_path / 'data')
    moved = shutil.move(_places(folder)[0], tmp_path / 'elsewhere')
    cached = CachedDataset(Path(moved))
    content = pickle.dumps(cached)
    assert len(content) < 1_000
    assert torch.equal(pickle.loads(content)[1].image, expected)


def test_writing_to_a_sample_does_not_change_the_file(dataset: SceneDataset, folder: Path) -> None:
    cached = _prepare(dataset, folder)
    before = (_places(folder)[0] / 'images.npy').read_bytes()
    cached[0].image.zero_()
    assert (_places(folder)[0] / 'images.npy').read_bytes() == before


def test_a_size_that_is_none_is_refused(dataset: SceneDataset, folder: Path) -> None:
    with pytest.raises(ConfigError, match='positive'):
        _prepare(dataset, folder, (0, 48))
