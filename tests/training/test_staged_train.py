"""A whole run: phases, checkpoints, kill and resume to the bit, and every way in which it must stop and say so."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from safetensors.torch import load_file

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError, DatasetError, PerceptionError
from perception.interfaces import PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, NetworkEntry, build_network, resolve_config
from perception.networks.interdependent import InterdependentNetwork
from tests.conftest import TINY_CONFIG
from tests.training.conftest import PHASES
from tests.training.data.drawn_layouts import DRAWERS
from training.configuration import TrainingConfig, parse_arguments
from training.data.batch import Batch
from training.engine import Trainer
from training.errors import TrainingError
from training.phases import Phase
from training.rehearsal import rehearse
from training.run_folder import RunFolder
from training.staged_train import train


def _config(path: Path, *options: str) -> TrainingConfig:
    config, _ = parse_arguments(['--config', str(path), *options])
    return config


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / 'last.safetensors')


def test_killed_and_resumed_run_ends_with_the_same_bits(
    config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # States between records, and validations between both: losses that were not written down yet are not lost.
    rhythm = ('--log_every', '3', '--save_every', '2', '--validate_every', '4')
    whole = train(_config(config_file, '--output', str(tmp_path / 'whole'), *rhythm))

    killed = tmp_path / 'killed'
    command = [sys.executable, 'training/staged_train.py', '--config', str(config_file), *rhythm]
    command += ['--output', str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _wait_for_step(killed / 'metrics.jsonl', 9, process)  # its state is that of step 8, within a record
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= torch.load(killed / 'state.pt', weights_only=True)['step'] < 13

    train(_config(config_file, '--output', str(killed), *rhythm), resume=True)
    assert 'not what this run began with' not in caplog.text
    expected, found = _weights(whole), _weights(killed)
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


def test_run_folder_and_checkpoint_describe_the_run(config_file: Path) -> None:
    config = _config(config_file)
    folder = train(config)
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
    with pytest.raises(ConfigError, match='other values of batch_size'):
        train(replace(config, batch_size=4), resume=True)

    (folder / 'state.pt').unlink()
    with pytest.raises(TrainingError, match=r'state.pt is gone.*--start_from .*last.safetensors'):
        train(config, resume=True)
    (folder / 'state.pt').write_bytes(b'')
    with pytest.raises(TrainingError, match=r'state.pt cannot be read \(EOFError.*--start_from .*last.safetensors'):
        train(config, resume=True)
    (folder / 'config.yaml').write_bytes(b'')
    with pytest.raises(ConfigError, match='holds no configuration'):
        train(config, resume=True)


def test_a_run_that_cannot_start_leaves_its_folder_free(config_file: Path, tmp_path: Path) -> None:
    config = _config(config_file, '--phases', json.dumps(PHASES[:1]))
    with pytest.raises(DatasetError, match='nowhere'):
        train(replace(config, data=(replace(config.data[0], root=str(tmp_path / 'nowhere')),)))
    assert not (tmp_path / 'run' / 'config.yaml').exists()
    with pytest.raises(ConfigError, match='no run'):
        train(config, resume=True)
    train(config)


def test_one_process_writes_in_a_folder(config_file: Path, tmp_path: Path) -> None:
    config = _config(config_file)
    with RunFolder(tmp_path / 'run', {}, resume=False), pytest.raises(PerceptionError, match='Another run is writing'):
        train(config)
    with pytest.raises(PerceptionError, match='Cannot write to --output'):
        train(replace(config, output=str(config_file / 'below a file')))


def test_masks_alone_train_with_the_anchors_of_the_preset(config_file: Path) -> None:
    config = _config(config_file, '--phases', json.dumps(PHASES[1:2]))
    masks_only = replace(config, data=(replace(config.data[0], options={'boxes': False}),), validation=())
    network = load_checkpoint(train(masks_only) / 'last.safetensors').network
    preset = build_network('interdependent', CITYSCAPES_11_3, TINY_CONFIG, config.input_spec)
    assert torch.equal(network.anchors_wh, preset.anchors_wh)


def test_as_many_anchors_are_found_as_the_network_has(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = resolve_config('interdependent', {**TINY_CONFIG, 'trident_dilations': (1, 2), 'anchors_wh': [[8, 8]] * 4})
    monkeypatch.setitem(NETWORKS, 'four', NetworkEntry(network=InterdependentNetwork, config=preset))
    config = _config(config_file, '--network', 'four', '--phases', json.dumps(PHASES[:1]))
    network = load_checkpoint(train(config) / 'last.safetensors').network
    assert network.anchors_wh.shape == (4, 2)
    assert len(network.anchors_wh.unique(dim=0)) == 4


def test_data_without_annotation_is_refused(config_file: Path, streets: Path, tmp_path: Path) -> None:
    roots = {'cityscapes': shutil.copytree(streets, tmp_path / 'streets'), 'camvid': tmp_path / 'camvid'}
    DRAWERS['camvid'](roots['camvid'])
    for pattern, nothing in (('streets/gtFine/train/*/*_labelIds.png', 0), ('camvid/trainannot/*.png', 255)):
        for path in tmp_path.glob(pattern):
            cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), nothing))
    config = _config(config_file)
    for name, message in (
        ('cityscapes', 'cityscapes-train is not annotated: its 8 images'),
        ('camvid', r'camvid-train has \d+ masks, and not one labelled pixel'),
    ):
        with pytest.raises(ConfigError, match=message):
            train(replace(config, data=(replace(config.data[0], name=name, root=str(roots[name])),)))


def test_another_network_or_size_is_no_start(config_file: Path, tmp_path: Path) -> None:
    joint = train(_config(config_file, '--phases', json.dumps(PHASES[:1])))
    options = ['--start_from', str(joint / 'last.safetensors'), '--output', str(tmp_path / 'next')]
    with pytest.raises(ConfigError, match=r'holds interdependent at \[96, 192\].*at \[64, 128\]. Set'):
        train(_config(config_file, *options, '--image_hw', '[64, 128]'))
    with pytest.raises(ConfigError, match='train interdependent_small at'):
        train(_config(config_file, *options, '--network', 'interdependent_small'))
    with pytest.raises(ConfigError, match=r'is not what .* was built with'):
        train(_config(config_file, *options, '--network_config', '{"trident_dilations": [2]}'))
    with pytest.raises(ConfigError, match='leave one out'):
        train(_config(config_file, *options, '--imagenet_weights', 'torchvision'))


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


def test_a_resumed_run_keeps_what_it_began_with(
    config_file: Path,
    streets: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsed = []

    def noted(config: TrainingConfig, network: PerceptionNetwork) -> list[set[str]]:
        rehearsed.append(network.config)
        return rehearse(config, network)

    data = tmp_path / 'streets'
    shutil.copytree(streets, data)
    values = json.dumps([{'name': 'cityscapes', 'root': str(data)}])
    first = train(_config(config_file, '--phases', json.dumps(PHASES[:1]), '--output', str(tmp_path / 'first')))
    start = tmp_path / 'start.safetensors'
    shutil.copy(first / 'last.safetensors', start)
    options = ['--data', values, '--start_from', str(start), '--criterion.segmentation.class_weights', 'balanced']
    config = _config(config_file, *options)
    monkeypatch.setattr('training.preparation.rehearse', noted)
    _kill_at(config, step=5)
    before = torch.load(tmp_path / 'run' / 'state.pt', weights_only=True)['start']

    start.unlink()
    (mask, *_) = (data / 'gtFine' / 'train').glob('*/*_labelIds.png')
    cv2.imwrite(str(mask), np.full_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), 7))
    finished = train(config, resume=True)
    assert 'not what this run began with' in caplog.text
    assert torch.load(finished / 'state.pt', weights_only=True)['start'] == before
    checkpoint = load_checkpoint(finished / 'last.safetensors')
    assert checkpoint.network.config == load_checkpoint(first / 'last.safetensors').network.config
    assert rehearsed == [checkpoint.network.config] * 2, 'phases are rehearsed with the network that they will train'
    assert checkpoint.provenance['started_from'] == load_checkpoint(first / 'last.safetensors').provenance


def _kill_at(config: TrainingConfig, *, step: int) -> None:
    """Train until a step, and lose what was not saved."""
    take = Trainer._step

    def killed(trainer: Trainer, *rest: Any) -> Any:
        if trainer.progress.step == step:
            raise KeyboardInterrupt
        return take(trainer, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, '_step', killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)


def test_the_figure_that_chooses_must_be_measurable(config_file: Path, streets: Path) -> None:
    for select_by, options in (('mean_ap50', {'boxes': False}), ('mean_iou', {'masks': False})):
        data = json.dumps([{'name': 'cityscapes', 'root': str(streets), 'split': 'val', 'options': options}])
        with pytest.raises(ConfigError, match=f'select_by {select_by} cannot be measured on cityscapes-val'):
            train(_config(config_file, '--validation', data, '--select_by', select_by))


def test_a_phase_without_anything_to_learn_is_refused(config_file: Path, streets: Path) -> None:
    data = json.dumps([{'name': 'cityscapes', 'root': str(streets), 'options': {'boxes': False}}])
    said = "Phase 'detection' has nothing to learn: the data has masks, the phase learns from boxes"
    with pytest.raises(ConfigError, match=said):
        train(_config(config_file, '--data', data))
    both_tasks = json.dumps([{**PHASES[2], 'segment': True, 'w_seg': None}])
    with pytest.raises(ConfigError, match=said):
        train(_config(config_file, '--data', data, '--phases', both_tasks))


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['detection_haed']}])], "mean 'detection_head'"),
        (['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['mask_head']}])], 'have no part in what it'),
        (['--phases', json.dumps([{**PHASES[0], 'trains': ['detection_head'], 'w_det': 0}])], 'have no part in what'),
        (
            ['--phases', json.dumps([PHASES[2], {**PHASES[1], 'trains': ['encoder', 'detection_head']}])],
            "trains 'detection_head', which has",
        ),
        (['--network', 'interdependant'], "did you mean 'interdependent'"),
        (['--network_config', '{"stem_width": 0}'], 'stem_width: expected 1 or more'),
        (['--image_hw', '[90, 192]'], 'both sides must be multiples of 16'),
        (['--image_hw', '[0, 192]'], 'must be positive'),
        (['--transform.crop_hw', '[50, 64]'], r'crop_hw: both sides must be multiples of 16; got \[50, 64\]'),
        (
            ['--phases', json.dumps([PHASES[0], {**PHASES[2], 'crop_hw': [48, 72]}])],
            r"'detection'.crop_hw: .* got \[48, 72",
        ),
        (['--phases', json.dumps([{**PHASES[0], 'crop_hw': [48, 0]}])], "'joint': crop_hw must be two positive sides"),
        (['--transform.focus_classes', '[3, 11]'], 'the network has classes 0 to 10'),
        (['--criterion.segmentation.auxiliary_weights', '[0.6]'], '2 auxiliary outputs, got 1'),
        (['--criterion.segmentation.class_weights', '[1, 2]'], '11 classes, got 2'),
        (['--start_from', 'nowhere.safetensors'], 'nowhere.safetensors'),
        (['--network', 'interdependent', '--network_config', '{}', '--imagenet_weights', 'no.pth'], 'no.pth'),
    ],
)
def test_what_a_late_phase_would_fail_on_is_told_before_the_data_is_read(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.setattr('training.preparation.prepare_cache', None)  # is not reached
    with pytest.raises(PerceptionError, match=said):
        train(_config(config_file, *options))


@pytest.mark.parametrize('network', NETWORKS)
def test_every_network_can_be_rehearsed(config_file: Path, network: str) -> None:
    balanced = ['--criterion.segmentation.class_weights', 'balanced', '--network_config', '{}']
    config = _config(config_file, '--network', network, *balanced)
    learned = rehearse(config, build_network(network, CITYSCAPES_11_3, {}, config.input_spec))
    assert learned == [{'masks', 'boxes'}, {'masks'}, {'boxes'}, {'masks', 'boxes'}]


def test_a_phase_may_crop_otherwise(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    take = Trainer._step

    def noted(trainer: Trainer, phase: Phase, *rest: Any) -> Any:
        batch = next(part for part in rest if isinstance(part, Batch))
        seen.append((phase.name, tuple(batch.images.shape[2:])))
        return take(trainer, phase, *rest)

    monkeypatch.setattr(Trainer, '_step', noted)
    phases = json.dumps([PHASES[0], {**PHASES[3], 'name': 'whole', 'crop_hw': [96, 192]}])
    train(_config(config_file, '--transform.crop_hw', '[64, 96]', '--phases', phases))
    assert seen == [('joint', (64, 96))] * 3 + [('whole', (96, 192))] * 3


def test_broken_weights_replace_no_good_ones(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer._step

    def spoiled(trainer: Trainer, *rest: Any) -> Any:
        result = take(trainer, *rest)
        if trainer.progress.step == 3:
            with torch.no_grad():
                next(trainer.network.parameters()).view(-1)[0] = float('nan')
        return result

    monkeypatch.setattr(Trainer, '_step', spoiled)
    with pytest.raises(TrainingError, match=r'step 4: encoder\.\S+ is not finite.*last\.safetensors is intact'):
        train(_config(config_file))
    assert load_checkpoint(tmp_path / 'run' / 'last.safetensors').provenance['step'] == 3


def test_a_validation_that_is_not_finite_says_where(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer._step

    def spoiled(trainer: Trainer, *rest: Any) -> Any:
        result = take(trainer, *rest)
        if trainer.progress.step == 2:
            assert trainer.average is not None
            with torch.no_grad():
                next(trainer.average.module.mask_head.parameters()).fill_(float('nan'))
        return result

    monkeypatch.setattr(Trainer, '_step', spoiled)
    said = r"Phase 'joint', step 3: cityscapes-val, \S+: The network gave mask .*last\.safetensors is intact"
    with pytest.raises(TrainingError, match=said):
        train(_config(config_file))


def test_an_infinite_gradient_is_not_applied(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fabric, 'clip_gradients', lambda *_, **__: torch.tensor(float('inf')))
    with pytest.raises(TrainingError, match='step 0: norm of the gradient = inf'):
        train(_config(config_file, '--clip_norm', '1'))


def test_processes_do_not_wait_for_one_that_cannot_validate(config_file: Path, streets: Path, tmp_path: Path) -> None:
    data = tmp_path / 'streets'
    shutil.copytree(streets, data)
    *_, last = sorted((data / 'leftImg8bit' / 'val').glob('*/*.png'))
    last.write_bytes(b'no image')
    validation = json.dumps([{'name': 'cityscapes', 'root': str(data), 'split': 'val'}])
    options = ['--config', str(config_file), '--validation', validation, '--devices', '2', '--accelerator', 'cpu']
    result = subprocess.run(
        [sys.executable, 'training/staged_train.py', *options], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 1
    assert last.name in result.stderr


def test_a_head_that_does_not_run_stands_still_in_several_processes(config_file: Path, tmp_path: Path) -> None:
    phases = json.dumps([{'name': 'masks', 'detect': False, 'iterations': 3, 'learning_rate': 1e-3}])
    options = ['--config', str(config_file), '--phases', phases, '--average_decay', '0', '--accelerator', 'cpu']
    alone = train(_config(config_file, *options[2:]))
    result = subprocess.run(
        [sys.executable, 'training/staged_train.py', *options, '--devices', '2', '--output', str(tmp_path / 'two')],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    before, after = _weights(alone), _weights(tmp_path / 'two')
    head = [name for name in before if name.startswith('detection_head')]
    assert head
    assert all(torch.equal(before[name], after[name]) for name in head)


def test_phase_three_changes_no_bit_of_the_frozen_parts(config_file: Path, tmp_path: Path) -> None:
    joint = train(_config(config_file, '--average_decay', '0', '--phases', json.dumps(PHASES[:1])))
    options = ['--average_decay', '0', '--phases', json.dumps(PHASES[2:3]), '--output', str(tmp_path / 'detection')]
    frozen = train(_config(config_file, *options, '--start_from', str(joint / 'last.safetensors')))
    before, after = _weights(joint), _weights(frozen)
    changed = {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'detection_head'}
    earlier = load_checkpoint(frozen / 'last.safetensors').provenance['started_from']
    assert earlier == load_checkpoint(joint / 'last.safetensors').provenance


def test_a_loss_that_is_not_a_number_stops_with_its_name(config_file: Path, tmp_path: Path) -> None:
    phases = json.dumps([{'name': 'joint', 'iterations': 40, 'learning_rate': 1e30}])
    with pytest.raises(TrainingError, match=r"Phase 'joint', step \d+: .*= (nan|inf)"):
        train(_config(config_file, '--phases', phases, '--save_every', '1', '--average_decay', '0'))
    kept = load_checkpoint(tmp_path / 'run' / 'last.safetensors')
    assert kept.provenance['step'] >= 1


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
        train(_config(config_file, *options))
    # Values are refused by us, names and types by the command line, which prints the reason and exits.
    assert said in f'{refusal.value} {capsys.readouterr().err}'


@pytest.mark.parametrize('path', sorted(Path('config/training').glob('*.yaml')), ids=lambda path: path.stem)
def test_presets_are_valid(path: Path) -> None:
    config = _config(path)
    assert config.iterations > 0
    assert path.read_text().startswith('# python training/staged_train.py --config')


def test_scaled_losses_of_half_precision_are_clipped_by_their_true_gradient_and_resumed(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_precision_fabric(_config: TrainingConfig) -> Fabric:
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12, growth_interval=4)
        return Fabric(accelerator='cpu', plugins=[MixedPrecision('16-mixed', 'cpu', scaler)])

    monkeypatch.setattr('training.staged_train.build_fabric', half_precision_fabric)
    phases = json.dumps([{'name': 'joint', 'iterations': 6, 'learning_rate': 1e-3}])
    options = ['--phases', phases, '--average_decay', '0', '--save_every', '3']

    free = train(_config(config_file, *options, '--output', str(tmp_path / 'free')))
    # Far above the gradient's norm, far below that of the gradient of the scaled loss.
    clipped = train(_config(config_file, *options, '--clip_norm', '1e5', '--output', str(tmp_path / 'clipped')))
    weights = _weights(free)
    assert all(torch.equal(weights[name], value) for name, value in _weights(clipped).items())

    killed = _config(config_file, *options, '--output', str(tmp_path / 'killed'))
    _kill_at(killed, step=4)
    resumed = train(killed, resume=True)
    assert all(torch.equal(weights[name], value) for name, value in _weights(resumed).items())
    scalers = [torch.load(run / 'state.pt', weights_only=True)['precision'] for run in (free, resumed)]
    assert scalers[0] == scalers[1]
    assert scalers[0]['scale'] < 2.0**12  # it has met infinite gradients
