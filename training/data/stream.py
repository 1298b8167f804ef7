"""TrainingStream: the batches of a run, each a pure function of (seed, step).

Step s of rank r takes samples k = s * (batch_size * world_size) + r * batch_size + i of the run. Which image that is
comes from MixtureSampler, how it is augmented from a generator seeded with (seed, k). So worker processes change
nothing, several ranks see what one would, and a resumed run needs its step number and nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from perception.errors import ConfigError
from training.data.batch import Batch, pack_samples
from training.data.dataset import SceneDataset
from training.data.mixture import MixtureSampler, seeded_generator
from training.data.sample import Sample

Transform = Callable[[Sample, torch.Generator], Sample]


class TrainingStream:
    """Iterates over the local batches of a run, without end unless ``stop_step`` says where."""

    def __init__(
        self,
        datasets: Sequence[SceneDataset],
        weights: Sequence[float] | None,
        transform: Transform,
        seed: int,
        batch_size: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        stop_step: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Plan the stream.

        Args:
            datasets, weights: The mixture; None weighs every sample equally.
            transform: Makes all samples one size.
            seed: Of the run; decides order and augmentation.
            batch_size: Samples per step and rank.
            start_step: First step, counted from the start of the run.
            rank, world_size: Place of this process among those that train together.
            stop_step: Step before which to end.
            workers: Loader processes; 0 loads in this one.
            pin_memory: Whether to hand over page-locked memory, for a GPU.

        Raises:
            ConfigError: If a number is out of range or the weights do not fit.
        """
        if batch_size < 1 or start_step < 0 or workers < 0 or not 0 <= rank < world_size:
            raise ConfigError(
                'A stream needs batch_size >= 1, start_step >= 0, workers >= 0 and 0 <= rank < world_size; got '
                f'{batch_size}, {start_step}, {workers}, {rank} and {world_size}.'
            )
        sampler = MixtureSampler([len(dataset) for dataset in datasets], weights, seed)
        self._samples = _RunSamples(datasets, sampler, transform, seed)
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._start_step, self._stop_step = start_step, stop_step
        self._workers, self._pin_memory = workers, pin_memory

    def _numbers(self) -> Iterator[range]:
        """For each step the numbers k of its samples."""
        steps = itertools.count(self._start_step)
        for step in itertools.takewhile(lambda step: self._stop_step is None or step < self._stop_step, steps):
            first = (step * self._world_size + self._rank) * self._batch_size
            yield range(first, first + self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            self._samples,
            batch_sampler=self._numbers(),  # type: ignore[arg-type]
            collate_fn=pack_samples,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            worker_init_fn=partial(_start_worker, os.getpid()),
            multiprocessing_context=loader_context() if self._workers else None,
            generator=torch.Generator(),  # or starting the stream would move the global random state
        )
        return map(Batch, loader)


class _RunSamples(Dataset[Sample]):
    """The augmented sample number k of a run."""

    def __init__(
        self, datasets: Sequence[SceneDataset], sampler: MixtureSampler, transform: Transform, seed: int
    ) -> None:
        self._datasets, self._sampler, self._transform, self._seed = list(datasets), sampler, transform, seed

    def __getitem__(self, k: int) -> Sample:
        dataset_index, sample_index = self._sampler.draw(k)
        sample = self._datasets[dataset_index][sample_index]
        return self._transform(sample, seeded_generator(self._seed, 0, k))


def loader_context() -> multiprocessing.context.BaseContext:
    """How loader processes are started."""
    # Not fork: OpenCV's, OpenMP's and CUDA's threads do not survive it. The server imports once for all workers.
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__, 'training.data.cache', 'training.data.transforms'])
    return context


def _start_worker(trainer: int, _worker: int) -> None:
    # Ctrl-C and a stop of a whole group of processes reach loaders, too; the trainer still needs them then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()


def _end_with(process: int) -> None:
    """End this process when another one does. PyTorch watches the parent, which is the fork server and lives on."""
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        select.select([os.pidfd_open(process)], [], [])  # readable once the process has ended
    os._exit(1)
