"""Networks of torchvision for one task each, trained on the same data for the same time, to hold ours against.

    python -m training.compare_torchvision --task segmentation --minutes 60 --config config/training/X.yaml
    python -m training.compare_torchvision --task detection --minutes 60 --config config/training/X.yaml

Segmentation is lraspp_mobilenet_v3_large (Howard et al., "Searching for MobileNetV3"), detection its ssdlite320, both
from scratch. They get the configuration's data (what is annotated for their task), augmentation, optimizer, class
weights, average of weights, device, precision and threads, and torchvision's own losses for boxes. Their rate follows
one cycle of the minutes. A run that was killed goes on with --resume; the time that it was not running does not count.
Where a configuration starts from weights of ours, --weights gives the baseline its own of the run before.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from perception.errors import ConfigError, PerceptionError
from perception.metrics import Report
from perception.metrics.tables import format_report
from perception.output_folder import StopRequest
from training.average import average_of
from training.baselines import Baseline, build_baseline
from training.configuration import DataConfig, TrainingConfig, config_values, parse_arguments, refuse_options
from training.data.batch import Batch
from training.data.cache import prepare_cache
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.data.ssd_augmentation import class_beyond
from training.data.stream import TrainingStream
from training.data.transforms import TrainTransform
from training.descent import Descent
from training.distributed import build_fabric
from training.errors import StepError, TrainingError
from training.evaluation import evaluate_dataset
from training.phases import optimizer_of
from training.preparation import open_dataset
from training.run_folder import RunFolder

WARM_UP = 0.1


class AnnotatedFor(SceneDataset):
    """The samples of a data set that are annotated for a task.

    Args:
        task: ``segmentation`` or ``detection``.
        dataset: All samples.
    """

    def __init__(self, task: str, dataset: SceneDataset) -> None:
        self.name, self.labels, self.remark = dataset.name, dataset.labels, dataset.remark
        self._task, self._all = task, dataset
        self._places = [
            place
            for place, sample in enumerate(dataset)
            if (sample.mask if task == 'segmentation' else sample.boxes) is not None
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        return self._all[self._places[index]]

    def fingerprint(self) -> str:
        return f'{self._task} {self._all.fingerprint()}'


class TruthFor(SceneDataset):
    """All samples of a data set, with what is annotated for a task and nothing else: a baseline says nothing of it."""

    def __init__(self, task: str, dataset: SceneDataset) -> None:
        self.name, self.labels, self.remark = dataset.name, dataset.labels, dataset.remark
        self._task, self._all = task, dataset

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Sample:
        sample = self._all[index]
        if self._task == 'segmentation':
            return replace(sample, boxes=None, labels=None)
        return replace(sample, mask=None)

    def fingerprint(self) -> str:
        return f'{self._task} alone {self._all.fingerprint()}'


def choose_data(task: str, config: TrainingConfig) -> list[tuple[DataConfig, SceneDataset]]:
    """The data sets of the configuration that have something annotated for a task, at network size.

    Raises:
        ConfigError: If there are none.
    """
    chosen: list[tuple[DataConfig, SceneDataset]] = []
    for data in config.data:
        dataset = prepare_cache(open_dataset(data, config.label_space), config.prepared_hw, Path(config.cache))
        annotated = AnnotatedFor(task, dataset)
        if len(annotated):
            chosen.append((data, annotated))
    if not chosen:
        raise ConfigError(f'No data set of the configuration is annotated for {task}.')
    return chosen


def open_stream(
    task: str, chosen: Sequence[tuple[DataConfig, SceneDataset]], config: TrainingConfig, start_step: int
) -> TrainingStream:
    """The batches from a step on, with the data sets' own shares (not those of phases) and augmentation."""
    # ssdlite squeezes crop and image into the same square, so a crop would show things at another size.
    transform = config.transform
    if task == 'detection':
        transform = replace(transform, crop_hw=(0, 0))
    shares = [data.share for data, _ in chosen]
    return TrainingStream(
        [dataset for _, dataset in chosen],
        None if None in shares else [share for share in shares if share is not None],
        TrainTransform(transform, config.image_hw, class_beyond(transform.zoom_out, config.label_space)),
        config.seed,
        config.batch_size,
        start_step=start_step,
        workers=config.workers,
    )


def train_for(
    minutes: float, task: str, config: TrainingConfig, folder: RunFolder, weights: Path | None = None
) -> tuple[Baseline, dict[str, float]]:
    """Train for so many minutes, less those of the folder's saved state, from random weights or those of a file.

    Returns:
        The network in evaluation mode, averaged where the configuration says so, and what was done.

    Raises:
        ConfigError: If the configuration asks for several processes.
        KeyboardInterrupt: If somebody asked to stop; the state is saved.
        TrainingError: If the loss is not a number.
    """
    if config.devices * config.num_nodes > 1:
        raise ConfigError(
            f'Baselines train in one process; got devices {config.devices}, num_nodes {config.num_nodes}.'
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = build_fabric(config)
    chosen = choose_data(task, config)
    baseline = build_baseline(task, config, [dataset for _, dataset in chosen], weights)
    baseline.to(fabric.device).to(memory_format=torch.channels_last).train()
    average = average_of(baseline, config.average_decay)
    rate = max(phase.learning_rate for phase in config.phases)
    optimizer = optimizer_of(list(baseline.parameters()), rate, config.optimizer)
    # With half precision the scale of the loss is learned, too.
    parts: dict[str, Any] = {'baseline': baseline, 'optimizer': optimizer, 'precision': fabric.strategy.precision}
    if average is not None:
        parts['average'] = average
    state = folder.load_state() or {'step': 0, 'seconds': 0.0}
    for name, part in parts.items():
        if name in state:
            part.load_state_dict(state[name])
    start, step = time.monotonic() - state['seconds'], state['step']

    def keep() -> None:
        saved = {name: part.state_dict() for name, part in parts.items()}
        folder.save_state({'step': step, 'seconds': time.monotonic() - start, **saved})

    def rate_now() -> float | None:
        elapsed = (time.monotonic() - start) / (60 * minutes)
        return None if elapsed >= 1 else rate * one_cycle(elapsed)

    def losses(batch: Batch) -> dict[str, Tensor]:
        with fabric.autocast():
            return {'total': baseline.loss(batch)}

    seconds, stop = round(minutes * 60), StopRequest()
    descent = Descent(fabric, baseline, optimizer, average=average, clip_norm=config.clip_norm, stop=stop)
    with stop, tqdm(total=seconds, initial=int(state['seconds']), unit='s', desc=task) as bar:
        try:
            for taken in descent.steps(open_stream(task, chosen, config, state['step']), rate_now, losses):
                step += 1
                if taken.stop or step % config.save_every == 0:
                    keep()
                    stop.check()
                bar.update(int(time.monotonic() - start) - bar.n)
                bar.set_postfix(loss=f'{taken.losses["total"].item():.3f}', steps=step)
        except StepError as error:
            raise TrainingError(f'{task}, step {step}: {error}. Lower the learning rate.') from error
    keep()
    trained = (baseline if average is None else average.module).eval()
    assert isinstance(trained, Baseline)
    return trained, {'minutes': minutes, 'steps': step, 'images': step * config.batch_size}


def one_cycle(elapsed: float) -> float:
    """The share of the full rate after a share of the time: a linear rise, then a cosine."""
    if elapsed < WARM_UP:
        return elapsed / WARM_UP
    return (1 + math.cos(math.pi * (elapsed - WARM_UP) / (1 - WARM_UP))) / 2


def score(baseline: Baseline, task: str, config: TrainingConfig, split: str) -> dict[str, Report]:
    """Score on the validation data sets of the configuration, at a split of them, in original pixels."""
    reports = {}
    for data in config.validation:
        dataset = TruthFor(task, open_dataset(replace(data, split=split), config.label_space))
        evaluator = evaluate_dataset(baseline, dataset)
        reports[dataset.name] = evaluator.report({'baseline': type(baseline.network).__name__})
    return reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score as the command line says. Returns the exit code, as training.compare_claims."""
    parser = argparse.ArgumentParser(
        prog='python -m training.compare_torchvision',
        description=__doc__.split('\n')[0],
        epilog='All options of staged_train.py are taken, too, first of all --config FILE.',
        allow_abbrev=False,
    )
    parser.add_argument('--task', choices=('segmentation', 'detection'), required=True)
    parser.add_argument('--minutes', type=float, required=True, help='of training')
    parser.add_argument(
        '--weights', type=Path, help='weights.pt of an earlier run to start from (default: random ones)'
    )
    parser.add_argument('--split', default='test', help='of the validation data sets (default test)')
    parser.add_argument('--baseline-output', type=Path, default=Path('out/baseline'), help='default out/baseline')
    options, rest = parser.parse_known_args(arguments)
    if not any(word.partition('=')[0] in ('--config', '--data') for word in rest):
        print('compare_torchvision: --config FILE is missing; name a file of config/training/.', file=sys.stderr)
        return 2
    try:
        if not 0 < options.minutes < float('inf'):
            raise ConfigError(f'--minutes must be above 0; got {options.minutes}.')
        refuse_options(rest, {'--output': 'name the folder by --baseline-output'})
        config, resume = parse_arguments(rest)
        path = options.baseline_output / options.task
        values = {'minutes': options.minutes, 'task': options.task, **config_values(config)}
        if config.start_from and options.weights is None:
            raise ConfigError('The configuration starts from weights; give the baseline its own by --weights.')
        with RunFolder(path, values, resume=resume) as folder:
            folder.begin()
            baseline, effort = train_for(options.minutes, options.task, config, folder, options.weights)
        torch.save(baseline.state_dict(), path / 'weights.pt')
        effort['parameters'] = sum(parameter.numel() for parameter in baseline.parameters())
        for name, report in score(baseline, options.task, config, options.split).items():
            report.save(path / f'{name}.json')
            print(f'\n{name}\n{format_report(report)}')
        (path / 'effort.json').write_text(json.dumps(effort, indent=1) + '\n')
        print(
            f'\n{effort["steps"]:,} steps, {effort["images"]:,} images, {effort["parameters"]:,} parameters. '
            f'Weights and reports: {path}'
        )
    except (PerceptionError, OSError) as error:
        print(f'compare_torchvision: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('compare_torchvision: stopped; add --resume to go on with the time that is left.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
