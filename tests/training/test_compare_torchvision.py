"""The networks of torchvision that ours is held against: each trains on its own task for the time it is given."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.errors import ConfigError
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Report
from tests.ros.command_process import read_until
from tests.second_device import second_device
from training.baselines import build_baseline
from training.compare_torchvision import (
    AnnotatedFor,
    TruthFor,
    choose_data,
    main,
    one_cycle,
    open_stream,
    train_for,
)
from training.configuration import parse_arguments
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.run_folder import RunFolder


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_a_baseline_is_trained_and_scored_on_its_own_task(config_file: Path, tmp_path: Path, task: str) -> None:
    output = tmp_path / 'baseline'
    command = ['--task', task, '--minutes', '0.05', '--split', 'val', '--config', str(config_file)]
    assert main([*command, '--baseline-output', str(output)]) == 0
    effort = json.loads((output / task / 'effort.json').read_text())
    assert effort['steps'] >= 1
    assert 2_000_000 < effort['parameters'] < 4_000_000
    report = Report.load(output / task / 'cityscapes-val.json')

    weights = output / task / 'weights.pt'
    config = replace(parse_arguments(['--config', str(config_file)])[0], seed=1)
    again = build_baseline(task, config, [dataset for _, dataset in choose_data(task, config)], weights)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in torch.load(weights).items())
    other = {'segmentation': 'detection', 'detection': 'segmentation'}[task]
    with pytest.raises(ConfigError, match=f'expected weights.pt of a {other} baseline'):
        build_baseline(other, config, [dataset for _, dataset in choose_data(other, config)], weights)
    assert (report.segmentation.images > 0) == (task == 'segmentation')
    assert (report.detection.images > 0) == (task == 'detection')


@pytest.mark.parametrize('decay', ['0', '0.9'])
def test_optimizer_and_average_are_the_configuration_s(config_file: Path, tmp_path: Path, decay: str) -> None:
    options = ['--optimizer', '{"name": "adam", "betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.3}']
    config, _ = parse_arguments(['--config', str(config_file), '--average_decay', decay, *options])
    with RunFolder(tmp_path / 'baseline', {}, resume=False) as folder:
        train_for(0.01, 'segmentation', config, folder)
        state = folder.load_state()
    assert state is not None
    decaying, spared = state['optimizer']['param_groups']
    assert (decaying['betas'], decaying['eps'], decaying['decoupled_weight_decay']) == ((0.8, 0.9), 1e-6, False)
    assert (decaying['weight_decay'], spared['weight_decay']) == (0.3, 0.0)
    assert ('average' in state) == (decay != '0')


@pytest.mark.parametrize(('number', 'save_every', 'code'), [(signal.SIGKILL, '1', -9), (signal.SIGTERM, '1000', 130)])
def test_a_stopped_baseline_goes_on_with_the_time_that_is_left(
    config_file: Path, tmp_path: Path, number: int, save_every: str, code: int
) -> None:
    output = tmp_path / 'baseline'
    options = ['--task', 'segmentation', '--minutes', '1', '--split', 'val', '--config', str(config_file)]
    options += ['--save_every', save_every, '--baseline-output', str(output)]
    command = [sys.executable, '-m', 'training.compare_torchvision', *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        read_until(process, 'steps=2')
        process.send_signal(number)
        process.communicate(timeout=50)
    assert process.returncode == code

    state_file = output / 'segmentation' / 'state.pt'
    state = torch.load(state_file, weights_only=True)
    assert state['step'] >= 1
    assert 0 < state['seconds'] < 60
    torch.save({**state, 'seconds': 59.0}, state_file)
    assert main([*options, '--resume']) == 0
    effort = json.loads((output / 'segmentation' / 'effort.json').read_text())
    assert state['step'] < effort['steps'] < 60
    assert main(options) == 1, 'a finished run is not overwritten'


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_a_loss_that_is_not_a_number_stops_and_names_the_step(
    config_file: Path, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = '[{"name": "joint", "iterations": 1, "learning_rate": 1e30}]'
    command = ['--task', task, '--minutes', '1', '--split', 'val', '--config', str(config_file), '--phases', phases]
    assert main([*command, '--clip_norm', '0', '--baseline-output', str(tmp_path / 'baseline')]) == 1
    assert re.search(rf'{task}, step \d+: (total|norm of the gradient) = (nan|inf)', capsys.readouterr().err)


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_a_baseline_brings_no_two_devices_together(config_file: Path, task: str) -> None:
    config = parse_arguments(['--config', str(config_file), '--criterion.segmentation.class_weights', 'balanced'])[0]
    chosen = choose_data(task, config)
    batch = next(iter(open_stream(task, chosen, config, 0)))

    def learn(device: torch.device) -> tuple[float, np.ndarray]:
        baseline = build_baseline(task, config, [dataset for _, dataset in chosen]).to(device)
        loss = baseline.train().loss(batch)
        loss.backward()
        seen = baseline.eval().look(batch[0].image.permute(1, 2, 0).numpy())
        return loss.item(), seen.mask if task == 'segmentation' else seen.detections.boxes_xyxy

    loss, seen = learn(torch.device('cpu'))
    with second_device() as device:
        loss_there, seen_there = learn(device)
    assert loss_there == loss
    np.testing.assert_array_equal(seen_there, seen)


def test_several_processes_are_refused(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--task', 'detection', '--minutes', '1', '--config', str(config_file), '--devices', '2']
    assert main([*options, '--baseline-output', str(tmp_path / 'baseline')]) == 1
    assert 'Baselines train in one process' in capsys.readouterr().err


def test_a_task_is_trained_on_its_images_and_scored_on_its_truth() -> None:
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    mask, boxes, labels = torch.zeros(4, 5), torch.zeros(0, 4), torch.zeros(0)
    samples = [
        Sample(image=image, name='nothing'),
        Sample(image=image, mask=mask, name='mask'),
        Sample(image=image, boxes=boxes, labels=labels, name='boxes'),
        Sample(image=image, mask=mask, boxes=boxes, labels=labels, name='both'),
    ]

    class Drawn(SceneDataset):
        name, labels = 'drawn', CITYSCAPES_11_3

        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: int) -> Sample:
            return samples[index]

        def fingerprint(self) -> str:
            return '0'

    names = {task: [sample.name for sample in AnnotatedFor(task, Drawn())] for task in ('segmentation', 'detection')}
    assert names == {'segmentation': ['mask', 'both'], 'detection': ['boxes', 'both']}

    for task, shown in (('segmentation', ['mask', 'both']), ('detection', ['boxes', 'both'])):
        scored = list(TruthFor(task, Drawn()))
        assert [sample.name for sample in scored] == [sample.name for sample in samples]
        assert [sample.name for sample in scored if sample.mask is not None or sample.boxes is not None] == shown
        assert not any(sample.mask is not None and sample.boxes is not None for sample in scored)


def test_the_rate_rises_and_falls() -> None:
    rates = [one_cycle(share / 20) for share in range(21)]
    assert rates[0] == 0
    assert max(rates) == rates[2] == 1
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_a_start_from_weights_takes_the_baselines_own(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--task', 'detection', '--minutes', '1', '--config', str(config_file), '--start_from', 'x.safetensors']
    assert main(options) == 1
    assert 'give the baseline its own by --weights' in capsys.readouterr().err


def test_options_that_would_be_ignored_are_refused(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--task', 'detection', '--minutes', '1', '--config', str(config_file)]
    assert main([*options, '--output', 'elsewhere']) == 1
    assert '--output has no effect here: name the folder by --baseline-output' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*options, '--weight', 'elsewhere'])  # not short for --weights


def test_minutes_must_be_above_zero(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--task', 'detection', '--minutes', '0', '--config', str(config_file)]) == 1
    assert '--minutes must be above 0' in capsys.readouterr().err


def test_the_help_and_an_error_name_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['--help'])
    assert '--config FILE' in capsys.readouterr().out
    assert main(['--task', 'detection', '--minutes', '1']) == 2
    error = capsys.readouterr().err
    assert error.startswith('compare_torchvision: --config FILE is missing')
    assert error.count('\n') == 1
