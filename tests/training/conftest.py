"""A run small enough for tests: drawn streets of postage-stamp size and a tiny network in four short phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from perception.networks import NETWORKS, NetworkEntry
from tests.conftest import TINY_CONFIG
from training.configuration import TrainingConfig, parse_arguments
from training.data.synthetic_street import main as draw_streets
from training.engine import Trainer
from training.staged_train import train

PHASES = [
    {'name': 'joint', 'iterations': 3, 'learning_rate': 1e-3},
    {
        'name': 'segmentation',
        'trains': ['encoder', 'bottleneck', 'decoder', 'mask_head'],
        'iterations': 3,
        'learning_rate': 1e-3,
    },
    {
        'name': 'detection',
        'trains': ['detection_head'],
        'iterations': 4,
        'learning_rate': 1e-4,
    },
    {'name': 'fine_tuning', 'iterations': 3, 'learning_rate': 1e-4},
]


@pytest.fixture(scope='session')
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('streets')
    size = ['--size', '96x192', '--sequence-frames', '4']
    assert draw_streets(['--output', str(root), '--train', '8', '--val', '2', '--test', '0', '--overwrite', *size]) == 0
    return root


@pytest.fixture
def config_file(streets: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 13 steps in four phases, as a file."""
    values: dict[str, Any] = {
        'data': [{'name': 'cityscapes', 'root': str(streets), 'split': 'train'}],
        'validation': [{'name': 'cityscapes', 'root': str(streets), 'split': 'val'}],
        'network': 'interdependent',
        'network_config': json.loads(json.dumps(TINY_CONFIG)),
        'image_hw': [96, 192],
        'phases': PHASES,
        'batch_size': 2,
        'workers': 0,
        'threads': 1,
        'save_every': 2,
        'log_every': 1,
        'average_decay': 0.9,
        'cache': str(tmp_path_factory.getbasetemp() / 'cache'),
        'output': str(tmp_path / 'run'),
    }
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def multi_box_options(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network with prior boxes in the registry, and options that train it in three phases."""
    from drawn_multi_box import DrawnMultiBox, DrawnMultiBoxConfig

    monkeypatch.setitem(NETWORKS, 'drawn', NetworkEntry(network=DrawnMultiBox, config=DrawnMultiBoxConfig()))
    phases = json.dumps([PHASES[0], PHASES[2], PHASES[3]])
    return ['--network', 'drawn', '--network_config', '{}', '--phases', phases]


def read_config(path: Path, *options: str) -> TrainingConfig:
    """The configuration of a file and options behind it."""
    config, _ = parse_arguments(['--config', str(path), *options])
    return config


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The last weights of a run."""
    return load_file(folder / 'last.safetensors')


def lose_run_at(config: TrainingConfig, *, step: int) -> None:
    """Train until a step, and lose what was not saved."""
    take = Trainer._losses

    def killed(trainer: Trainer, *rest: Any) -> Any:
        if trainer.progress.step == step:
            raise KeyboardInterrupt
        return take(trainer, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, '_losses', killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
