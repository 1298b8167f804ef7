"""A whole run: checkpoints, kill and resume to the bit, stopping, wrong options."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError
from tests.training.conftest import PHASES, read_config, weights_of
from training.errors import TrainingError
from training.staged_train import train


def test_killed_and_resumed_run_ends_with_the_same_bits(
    config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # States between records, and validations between both: losses that were not written down yet are not lost.
    rhythm = ('--log_every', '3', '--save_every', '2', '--validate_every', '4')
    whole = train(read_config(config_file, '--output', str(tmp_path / 'whole'), *rhythm))

    killed = tmp_path / 'killed'
    command = [sys.executable, 'training/staged_train.py', '--config', str(config_file), *rhythm]
    command += ['--output', str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _wait_for_step(killed / 'metrics.jsonl', 9, process)  # its state is that of step 8, within a record
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= torch.load(killed / 'state.pt', weights_only=True)['step'] < 13

    train(read_config(config_file, '--output', str(killed), *rhythm), resume=True)
    assert 'not what this run began with' not in caplog.text
    expected, found = weights_of(whole), weights_of(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    def losses(folder: Path) -> list[tuple[int, dict[str, float]]]:
        records = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
        return [(record['step'], record['losses']) for record in records if 'losses' in record]

    assert losses(killed) == losses(whole)
    assert [step for step, _ in losses(whole)] == [3, 6, 9, 10, 12, 13]


def _wait_for_step(metrics: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while not (metrics.exists() and f'"step": {step}' in metrics.read_text()):
        assert process.poll() is None, 'the run ended before it could be killed'
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a file gives no event to wait for


def test_run_folder_and_checkpoint_describe_the_run(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_config(config_file)
    folder = train(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('Step ')]
    assert len(lines) == 4
    assert re.match(r'Step 3, joint: mIoU [\d.]+ %, AP50 [\d.]+ %, AP50:95 [\d.]+ %; the best so far$', lines[0])
    names = {path.name for path in folder.iterdir()}
    assert names == {
        '.lock',
        'config.yaml',
        'environment.json',
        'metrics.jsonl',
        'tensorboard',
        'state.pt',
        'last.safetensors',
        'best.safetensors',
    }
    checkpoint = load_checkpoint(folder / 'last.safetensors')
    assert _sizes(checkpoint.provenance) == [list(checkpoint.network.input_spec.image_hw)] == [[96, 192]]
    assert checkpoint.provenance['phase'] == 'fine_tuning'
    assert checkpoint.provenance['step'] == checkpoint.provenance['of'] == 13
    assert set(checkpoint.provenance['validation']) >= {'mean_iou', 'sum'}
    # Anchors were clustered from the training boxes.
    assert checkpoint.network.config.anchors_wh != replace(checkpoint.network.config).__class__().anchors_wh
    records = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    phases = [record['phase'] for record in records if 'losses' in record]
    assert phases == ['joint'] * 3 + ['segmentation'] * 3 + ['detection'] * 4 + ['fine_tuning'] * 3
    by_phase = {record['phase']: record['losses'] for record in records if 'losses' in record}
    assert by_phase['segmentation']['detection'] == 0 < by_phase['segmentation']['segmentation']
    assert by_phase['detection']['segmentation'] == 0 < by_phase['detection']['detection']

    with pytest.raises(ConfigError, match='holds a run already'):
        train(config)
    with pytest.raises(ConfigError, match=r'other values of batch_size \(2, now 4\)\. Take'):
        train(replace(config, batch_size=4), resume=True)
    train(config, resume=True)
    assert 'All 13 steps were taken before; nothing is left to do.' in capsys.readouterr().out

    written = (folder / 'config.yaml').read_text()
    (folder / 'config.yaml').write_text(re.sub('  learning_rate: .*\n', '\\g<0>  detect: true\n', written))
    said = (
        r'another version, with other settings \(phases.detect\)\. .*environment.json.*--start_from .*last.safetensors'
    )
    with pytest.raises(ConfigError, match=said):
        train(config, resume=True)
    (folder / 'config.yaml').write_text(written)

    (folder / 'state.pt').unlink()
    with pytest.raises(TrainingError, match=r'state.pt is gone.*--start_from .*last.safetensors'):
        train(config, resume=True)
    (folder / 'state.pt').write_bytes(b'')
    with pytest.raises(TrainingError, match=r'state.pt cannot be read \(EOFError.*--start_from .*last.safetensors'):
        train(config, resume=True)
    (folder / 'config.yaml').write_bytes(b'')
    with pytest.raises(ConfigError, match='holds no configuration'):
        train(config, resume=True)


def _sizes(provenance: Any) -> list[list[int]]:
    """All that provenance says of the size of the network's input, at any depth."""
    if not isinstance(provenance, dict):
        return []
    here = [provenance['image_hw']] if 'image_hw' in provenance else []
    return here + [size for value in provenance.values() for size in _sizes(value)]


@pytest.mark.parametrize(('processes', 'to_all'), [(1, True), (2, False), (2, True)])
def test_a_stopped_run_saves_and_goes_on(config_file: Path, tmp_path: Path, processes: int, to_all: bool) -> None:
    run = tmp_path / 'stopped'
    options = ['--config', str(config_file), '--output', str(run), '--devices', str(processes), '--workers', '1']
    options += ['--accelerator', 'cpu', '--phases', json.dumps([{**PHASES[0], 'iterations': 1000}])]
    with subprocess.Popen(
        [sys.executable, 'training/staged_train.py', *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        _wait_for_step(run / 'metrics.jsonl', 1, process)
        if to_all:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to loaders, too
        else:
            process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.count('add --resume to go on') == 1
    saved = torch.load(run / 'state.pt', weights_only=True)['step']
    assert saved == json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])['step']


def test_loaders_end_with_a_killed_run(config_file: Path, tmp_path: Path) -> None:
    options = ['--config', str(config_file), '--output', str(tmp_path / 'run'), '--workers', '1']
    process = subprocess.Popen(
        [sys.executable, 'training/staged_train.py', *options], stderr=subprocess.DEVNULL, start_new_session=True
    )
    _wait_for_step(tmp_path / 'run' / 'metrics.jsonl', 1, process)
    loaders = _session_of(process.pid) - {process.pid}
    assert loaders
    process.kill()
    process.wait()
    for loader in loaders:
        with contextlib.suppress(ProcessLookupError):
            assert select.select([os.pidfd_open(loader)], [], [], 30)[0], 'a loader lives on'


def _session_of(leader: int) -> set[int]:
    """The processes of a session, as the kernel lists them."""
    found = set()
    for stat in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(')')[2].split()[:4]
            if int(session) == leader and state != 'Z':
                found.add(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--batch_sise', '3'], 'batch_sise'),
        (['--batch_size', 'many'], 'batch_size'),
        (['--network_config', '{"stem_widht": 8}'], 'stem_width'),
        (['--network', 'interdependant'], 'interdependent'),
        (['--workers', '-1'], 'workers must be at least 0'),
        (['--optimizer.betas', '[2, 3]'], 'betas in [0, 1)'),
        (['--accelerator', 'abacus'], 'abacus'),
        (['--accelerator', 'cuda', '--devices', '64', '--batch_size', '64'], 'cannot be had here'),
    ],
)
def test_wrong_options_are_refused(
    config_file: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    with pytest.raises((ConfigError, SystemExit)) as refusal:
        train(read_config(config_file, *options))
    # Values are refused by us, names and types by the command line, which prints the reason and exits.
    assert said in f'{refusal.value} {capsys.readouterr().err}'


@pytest.mark.parametrize('path', sorted(Path('config/training').glob('*.yaml')), ids=lambda path: path.stem)
def test_presets_are_valid(path: Path) -> None:
    config = read_config(path)
    assert config.iterations > 0
    assert path.read_text().startswith('# python training/staged_train.py --config')


def test_a_run_of_the_ssd_line_follows_its_schedule(config_file: Path, multi_box_options: list[str]) -> None:
    """Augmentation, images that are kept larger, drops of the rate and SGD, all from the configuration."""
    transform = {'scale': [1, 1], 'zoom_out': {'fill': 'auto'}, 'iou_crop': {'sides': [0.5, 1]}, 'photometric': {}}
    own = {
        'transform': transform,
        'schedule': {'kind': 'steps', 'drops': [2, 3], 'drop_factor': 0.5},
        'optimizer': {'name': 'sgd', 'weight_decay': 5e-4},
        'criterion': {'multi_box': {'mining': 'batch'}},
        'cache_hw': [128, 256],
        'phases': [{'name': 'joint', 'iterations': 4, 'learning_rate': 1e-3}],
    }
    options = [word for name, value in own.items() for word in (f'--{name}', json.dumps(value))]
    folder = train(read_config(config_file, *multi_box_options, *options))
    records = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    steps = [record for record in records if 'losses' in record]
    assert [step['learning_rate'] for step in steps] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
    assert all(step['losses']['detection'] > 0 and step['losses']['segmentation'] > 0 for step in steps)
    background = ['--transform.zoom_out.fill', 'background', '--output', f'{folder}_2']
    config = read_config(config_file, *multi_box_options, *options, *background)
    with pytest.raises(ConfigError, match='no segmentation class of cityscapes_11_3'):
        train(config)


def test_a_network_of_prior_boxes_trains_to_a_checkpoint(config_file: Path, multi_box_options: list[str]) -> None:
    """Phases, data, checkpoint and scores, without a word about its kind; its prior boxes are its own."""
    config = read_config(config_file, *multi_box_options)
    assert config.anchors == 'cluster'
    folder = train(config)
    records = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    losses = [record['losses'] for record in records if 'losses' in record]
    assert len(losses) == config.iterations
    assert all({'detection_class', 'detection_box'} < set(step) and step['detection'] > 0 for step in losses)
    assert all('detection_objectness' not in step for step in losses)
    network = load_checkpoint(folder / 'best.safetensors').network
    assert network.class_activation == 'softmax'
    layout = network.prediction_layout(config.image_hw)
    assert network.eval()(torch.zeros(1, 3, *config.image_hw)).boxes.shape == (1, layout.predictions, 4)
