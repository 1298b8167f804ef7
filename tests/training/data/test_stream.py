"""TrainingStream: batches are a pure function of (seed, step), whoever loads them and wherever a run starts."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from perception.errors import ConfigError, ShapeError
from tests.training.data.drawn_layouts import DRAWERS
from training.data import build_dataset
from training.data.batch import Batch, pack_samples
from training.data.cache import CachedDataset, prepare_cache
from training.data.sample import Sample
from training.data.ssd_augmentation import IoUCropConfig, PhotometricConfig, ZoomOutConfig
from training.data.stream import TrainingStream
from training.data.transforms import TrainTransform, TrainTransformConfig

_HW = (24, 32)
_WEIGHTS = [2.0, 1.0]
SSD = TrainTransformConfig(zoom_out=ZoomOutConfig(), iou_crop=IoUCropConfig(), photometric=PhotometricConfig())


@pytest.fixture(scope='module')
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[CachedDataset]:
    """One with masks and boxes, one with boxes only."""
    folder: Path = tmp_path_factory.mktemp('stream')
    cached = []
    for name in ('cityscapes', 'driving_boxes'):
        DRAWERS[name](folder / name, frames=5)
        dataset = build_dataset(name, folder / name, 'train')
        cached.append(prepare_cache(dataset, _HW, folder / 'cache', show_progress=False))
    return cached


@pytest.fixture
def transform() -> TrainTransform:
    return TrainTransform(TrainTransformConfig(scale=(0.7, 1.5), brightness=0.3), _HW)


def _signature(samples: list[Sample]) -> list[tuple[object, ...]]:
    return [
        (
            sample.name,
            sample.image.sum().item(),
            None if sample.mask is None else sample.mask.sum().item(),
            None if sample.boxes is None else sample.boxes.tolist(),
            None if sample.labels is None else sample.labels.tolist(),
            sample.ignore_boxes.tolist(),
        )
        for sample in samples
    ]


def test_a_resumed_stream_goes_on_as_if_nothing_had_happened(
    datasets: list[CachedDataset], transform: TrainTransform
) -> None:
    whole = [_signature(batch) for batch in TrainingStream(datasets, _WEIGHTS, transform, 3, 4, stop_step=6)]
    rest = TrainingStream(datasets, _WEIGHTS, transform, 3, 4, start_step=4, stop_step=6)
    assert [_signature(batch) for batch in rest] == whole[4:]
    assert [_signature(batch) for batch in rest] == whole[4:]  # iterating again starts at the same step
    assert len(whole) == 6
    assert len({str(batch) for batch in whole}) == 6


@pytest.mark.parametrize('kind', ['paper', 'ssd'])
def test_worker_processes_change_nothing(datasets: list[CachedDataset], transform: TrainTransform, kind: str) -> None:
    if kind == 'ssd':
        transform = TrainTransform(SSD, _HW)
    alone = TrainingStream(datasets, _WEIGHTS, transform, 3, 4, stop_step=5)
    helped = TrainingStream(datasets, _WEIGHTS, transform, 3, 4, stop_step=5, workers=2)
    assert [_signature(batch) for batch in helped] == [_signature(batch) for batch in alone]


def test_ranks_together_see_what_one_would(datasets: list[CachedDataset], transform: TrainTransform) -> None:
    one = TrainingStream(datasets, _WEIGHTS, transform, 1, 6, stop_step=3)
    ranks = [
        TrainingStream(datasets, _WEIGHTS, transform, 1, 2, rank=rank, world_size=3, stop_step=3) for rank in range(3)
    ]
    for joint, *parts in zip(one, *ranks, strict=True):
        assert _signature(joint) == [entry for part in parts for entry in _signature(part)]


def test_the_global_random_state_is_left_alone(datasets: list[CachedDataset], transform: TrainTransform) -> None:
    state = torch.get_rng_state()
    list(TrainingStream(datasets, _WEIGHTS, transform, 0, 2, stop_step=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_mixture_follows_its_weights_and_has_no_end(
    datasets: list[CachedDataset], transform: TrainTransform
) -> None:
    batches = islice(TrainingStream(datasets, _WEIGHTS, transform, 0, 3), 10)
    with_mask = [sum(sample.mask is not None for sample in batch) for batch in batches]
    assert with_mask == [2] * 10


def test_another_seed_gives_another_run(datasets: list[CachedDataset], transform: TrainTransform) -> None:
    first, second = (_signature(next(iter(TrainingStream(datasets, _WEIGHTS, transform, seed, 4)))) for seed in (0, 1))
    assert first != second


def test_a_batch_holds_its_samples_joined(datasets: list[CachedDataset], transform: TrainTransform) -> None:
    batch = next(iter(TrainingStream(datasets, _WEIGHTS, transform, 0, 3)))
    assert isinstance(batch, list)
    assert batch.images.shape == (3, 3, *_HW)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for place, sample in enumerate(batch):
        assert sample.image.data_ptr() == batch.images[place].data_ptr()
        assert sample.mask is None or sample.mask.shape == _HW


def test_packing_keeps_every_kind_of_annotation() -> None:
    image = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    samples = [
        Sample(image=image, name='nothing'),
        Sample(image=image, boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), name='empty'),
        Sample(
            image=image + 1,
            boxes=torch.rand(2, 4),
            labels=torch.tensor([1, 2]),
            ignore_boxes=torch.rand(1, 4),
            mask=torch.ones(4, 5, dtype=torch.uint8),
            name='everything',
        ),
    ]
    packed = pack_samples(samples)
    assert packed.images.shape == (3, 4, 5, 3)
    assert packed.masks.shape == (1, 4, 5)
    assert packed.boxes.shape == (2, 4)
    assert packed.labels.shape == (2,)
    assert packed.ignore_boxes.shape == (1, 4)
    assert _signature(Batch(packed)) == _signature(samples)
    assert torch.equal(Batch(packed)[2].image, image + 1)


def test_images_of_several_sizes_do_not_make_a_batch() -> None:
    samples = [Sample(image=torch.zeros(3, 4, side, dtype=torch.uint8)) for side in (5, 6)]
    with pytest.raises(ShapeError, match='one size'):
        pack_samples(samples)


@pytest.mark.parametrize(
    'options',
    [{'batch_size': 0}, {'start_step': -1}, {'rank': 2, 'world_size': 2}, {'workers': -1}],
)
def test_numbers_out_of_range_are_refused(
    datasets: list[CachedDataset], transform: TrainTransform, options: dict[str, int]
) -> None:
    with pytest.raises(ConfigError, match='batch_size >= 1'):
        TrainingStream(datasets, _WEIGHTS, transform, 0, **({'batch_size': 2} | options))  # type: ignore[arg-type]
