"""The runs of the papers' tables as configurations: each is read; its network, parts, classes and data are there."""

from __future__ import annotations

import inspect
import json
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch

from perception.labels import load_label_space
from perception.networks import build_network
from training.configuration import TrainingConfig, parse_arguments
from training.data import DATASETS
from training.data.ssd_augmentation import class_beyond
from training.phases import freeze_all_but

FOLDER = Path('config/training/papers')
RUNS = sorted(FOLDER.glob('*.yaml'))
BASES = sorted((FOLDER / 'base').glob('*_*.yaml'))
PAPERS = {'blitznet': 'BlitzNet', 'pairnet': 'TripleNet', 'triplenet': 'TripleNet', 'ivanet': 'IvaNet'}


@cache
def read_config(path: Path) -> TrainingConfig:
    config, resume = parse_arguments(['--config', str(path)])
    assert not resume
    return config


def head_of(path: Path) -> list[str]:
    return [line.removeprefix('#').strip() for line in path.read_text().splitlines() if line.startswith('#')]


@pytest.mark.parametrize('path', RUNS, ids=lambda path: path.stem)
def test_a_run_is_headed_by_its_command_and_the_published_score(path: Path) -> None:
    command, *said = head_of(path)
    program, script, *words = shlex.split(command)
    assert (program, script, words) == ('python', 'training/staged_train.py', ['--config', str(path)])
    config = read_config(path)
    assert said[0].startswith(f'{PAPERS[config.network.rstrip("0123456789")]}, table')
    assert 'ublished' in ' '.join(said)
    assert config.output == f'out/training/papers/{path.stem}'
    (phase,) = config.phases
    assert (phase.learning_rate, config.optimizer.weight_decay) == (1e-4, 5e-4)
    assert len(config.schedule.drops) == 2
    mining, betas = (config.criterion.multi_box.mining, config.optimizer.betas)
    assert (mining, betas) == (('image', (0.5, 0.999)) if 'ivanet' in config.network else ('batch', (0.9, 0.999)))
    assert config.batch_size == {300: 32, 512: 16}[config.image_hw[0]]
    assert config.image_hw[0] == config.image_hw[1] == config.input_spec.image_hw[0]
    assert config.transform.largest_scale < 2
    assert class_beyond(config.transform.zoom_out, config.label_space) == 0


def test_no_two_runs_are_one() -> None:
    runs = [read_config(path) for path in RUNS]
    seen = [(run.network, str(run.network_config), run.data, run.phases, run.schedule, run.image_hw) for run in runs]
    assert len({str(each) for each in seen}) == len(RUNS)


@pytest.mark.parametrize('path', RUNS, ids=lambda path: path.stem)
def test_a_run_trains_parts_that_its_network_has(path: Path) -> None:
    config = read_config(path)
    with torch.device('meta'):
        network = build_network(config.network, config.label_space, config.network_config, config.input_spec)
    for phase in config.phases:
        freeze_all_but(network, phase.trains)
        assert phase.detect == ('segmentation' not in path.stem)
        assert phase.segment == ('detection' not in path.stem)


@pytest.mark.parametrize('path', [*RUNS, *BASES], ids=lambda path: path.stem)
def test_readers_take_what_is_asked_of_them(path: Path) -> None:
    for data in read_config(path).data:
        signature = inspect.signature(DATASETS[data.name])
        signature.bind(Path(data.root), data.split, **data.options)


@pytest.mark.parametrize('path', BASES, ids=lambda path: path.stem)
def test_a_base_says_how_its_runs_are_scored(path: Path) -> None:
    words = shlex.split(' '.join(head_of(path)).partition('python -m training.evaluate')[2].replace('\\', ''))
    stated = dict(zip(words[::2], words[1::2], strict=True))
    assert stated['--checkpoint'] == 'RUN/last.safetensors'
    config = read_config(path)
    assert (stated['--dataset'], stated['--root']) == (config.data[0].name, config.data[0].root)
    inspect.signature(DATASETS[stated['--dataset']]).bind(Path(), stated['--split'], **json.loads(stated['--options']))
    assert load_label_space(config.labels).name == config.labels
