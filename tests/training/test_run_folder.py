"""The folder of a run: one writer, whole files, and nothing left behind by a run that never began."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perception.errors import ConfigError, DatasetError, PerceptionError
from tests.training.conftest import PHASES, read_config
from training.errors import TrainingError
from training.run_folder import RunFolder
from training.staged_train import train


def test_a_run_that_cannot_start_leaves_its_folder_free(config_file: Path, tmp_path: Path) -> None:
    config = read_config(config_file, '--phases', json.dumps(PHASES[:1]))
    with pytest.raises(DatasetError, match='nowhere'):
        train(replace(config, data=(replace(config.data[0], root=str(tmp_path / 'nowhere')),)))
    assert not (tmp_path / 'run' / 'config.yaml').exists()
    with pytest.raises(ConfigError, match='no run'):
        train(config, resume=True)
    assert not (tmp_path / 'run').exists()
    train(config)


def test_one_process_writes_in_a_folder(config_file: Path, tmp_path: Path) -> None:
    config = read_config(config_file)
    with RunFolder(tmp_path / 'run', {}, resume=False), pytest.raises(PerceptionError, match='Another run is writing'):
        train(config)
    with pytest.raises(PerceptionError, match='Cannot write to --output'):
        train(replace(config, output=str(config_file / 'below a file')))


@pytest.mark.parametrize('given_first', [True, False])
def test_a_group_that_was_left_out_is_another_value_and_no_other_version(tmp_path: Path, given_first: bool) -> None:
    runs = [{'transform': {'photometric': value, 'scale': 1}} for value in ({'hue': 0.1}, None)]
    first, second = runs if given_first else reversed(runs)
    with RunFolder(tmp_path / 'run', first, resume=False) as folder:
        folder.begin()
        folder.save_state({'step': 1})
    with pytest.raises(ConfigError, match='with other values of transform'):
        RunFolder(tmp_path / 'run', second, resume=True)


def test_a_full_disk_leaves_the_last_state_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / 'run', {'seed': 0}, resume=False)
    folder.save_state({'step': 1, 'weights': torch.ones(3)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(TrainingError, match='No space left on device'):
        folder.save_state({'step': 2, 'weights': torch.zeros(3)})
    with pytest.raises(TrainingError, match='nothing was trained'):
        folder.begin()
    (tmp_path / 'run' / 'metrics.jsonl').mkdir()  # opening it fails as a full disk does, with an OSError
    with pytest.raises(TrainingError, match='Step 2: the metrics could not be written'):
        folder.log({'step': 2, 'losses': {'total': 1.0}})
    assert folder.load_state() == {'step': 1, 'weights': pytest.approx(torch.ones(3))}
    assert not list((tmp_path / 'run').glob('*.partial'))
