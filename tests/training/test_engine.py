"""Steps of a run: what each phase sees and changes, and what stops it with the last good checkpoint intact."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError
from tests.training.conftest import PHASES, lose_run_at, read_config, weights_of
from training.average import average_of
from training.configuration import TrainingConfig
from training.data.batch import Batch
from training.engine import Trainer
from training.errors import TrainingError
from training.phases import Phase
from training.staged_train import train


def test_phase_three_changes_no_bit_of_the_frozen_parts(config_file: Path, tmp_path: Path) -> None:
    joint = train(read_config(config_file, '--average_decay', '0', '--phases', json.dumps(PHASES[:1])))
    options = ['--average_decay', '0', '--phases', json.dumps(PHASES[2:3]), '--output', str(tmp_path / 'detection')]
    frozen = train(read_config(config_file, *options, '--start_from', str(joint / 'last.safetensors')))
    before, after = weights_of(joint), weights_of(frozen)
    changed = {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'detection_head'}
    earlier = load_checkpoint(frozen / 'last.safetensors').provenance['started_from']
    assert earlier == load_checkpoint(joint / 'last.safetensors').provenance


def test_a_phase_that_freezes_parts_goes_on_from_the_average(config_file: Path, tmp_path: Path) -> None:
    kept = weights_of(train(read_config(config_file, '--phases', json.dumps(PHASES[:1]))))
    for phase, learns in ((PHASES[1], False), (PHASES[2], True)):
        options = ['--phases', json.dumps([PHASES[0], phase]), '--output', str(tmp_path / phase['name'])]
        state = torch.load(train(read_config(config_file, *options)) / 'state.pt', weights_only=True)
        assert not torch.equal(state['network']['encoder.stem.conv.weight'], kept['encoder.stem.conv.weight']) or learns
        frozen = [name for name in kept if name.startswith('detection_head') != learns]
        assert frozen
        for name in frozen:
            assert torch.equal(state['network'][name], kept[name]), name
            assert torch.equal(state['average'][f'module.{name}'], kept[name]), name


def test_an_average_of_what_stands_still_stands_still() -> None:
    norm = torch.nn.BatchNorm2d(4)
    for count in (1, 3, 6, 4998):
        norm.num_batches_tracked.fill_(count)
        average = average_of(norm, 0.9)
        assert average is not None
        for _ in range(3):
            average.update_parameters(norm)
        assert all(torch.equal(value, norm.state_dict()[name]) for name, value in average.module.state_dict().items())


@pytest.mark.parametrize('clip_norm', [0, 1e-3])
def test_the_norm_of_each_steps_gradient_is_written_down_as_it_was_before_clipping(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, clip_norm: float
) -> None:
    found: list[float] = []
    clip = Fabric.clip_gradients

    def noted(fabric: Fabric, module: torch.nn.Module, *rest: Any, **settings: Any) -> torch.Tensor | None:
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        found.append(float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()))
        return clip(fabric, module, *rest, **settings)

    monkeypatch.setattr(Fabric, 'clip_gradients', noted)
    options = ['--phases', json.dumps(PHASES[1:]), '--log_every', '4', '--clip_norm', str(clip_norm)]
    folder = train(read_config(config_file, *options))
    records = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    norms = [record['gradient_norms'] for record in records if 'losses' in record]
    assert [len(part) for part in norms] == [3, 1, 3, 1, 2]
    assert [norm for part in norms for norm in part] == pytest.approx(found, rel=1e-3)
    assert min(found) > 1e-3


def test_the_momentum_of_batch_norm_is_the_configurations(config_file: Path, tmp_path: Path) -> None:
    found = {}
    for momentum in (None, 0.1, 0.01):
        options = [] if momentum is None else ['--batch_norm_momentum', str(momentum)]
        options += ['--phases', json.dumps([{**PHASES[0], 'iterations': 1}]), '--output', str(tmp_path / f'{momentum}')]
        found[momentum] = weights_of(train(read_config(config_file, *options)))
    name = 'encoder.stem.norm.running_mean'
    assert torch.equal(found[None][name], found[0.1][name]), "the default is PyTorch's"
    torch.testing.assert_close(10 * found[0.01][name], found[0.1][name])
    with pytest.raises(ConfigError, match='batch_norm_momentum'):
        read_config(config_file, '--batch_norm_momentum', '0')


def test_a_phase_may_crop_otherwise(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    take = Trainer._losses

    def noted(trainer: Trainer, phase: Phase, *rest: Any) -> Any:
        batch = next(part for part in rest if isinstance(part, Batch))
        seen.append((phase.name, tuple(batch.images.shape[2:])))
        return take(trainer, phase, *rest)

    monkeypatch.setattr(Trainer, '_losses', noted)
    phases = json.dumps([PHASES[0], {**PHASES[3], 'name': 'whole', 'crop_hw': [96, 192]}])
    train(read_config(config_file, '--transform.crop_hw', '[64, 96]', '--phases', phases))
    assert seen == [('joint', (64, 96))] * 3 + [('whole', (96, 192))] * 3


def test_a_phase_may_draw_otherwise(config_file: Path, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[bool]] = {}
    take = Trainer._losses

    def noted(trainer: Trainer, phase: Phase, *rest: Any) -> Any:
        batch = next(part for part in rest if isinstance(part, Batch))
        seen.setdefault(phase.name, set()).update(sample.boxes is None for sample in batch)
        return take(trainer, phase, *rest)

    monkeypatch.setattr(Trainer, '_losses', noted)
    data = [{'name': 'cityscapes', 'root': str(streets), 'split': 'train', 'share': 1.0}]
    data.append({**data[0], 'share': 0.0, 'options': {'boxes': False}})
    phases = [
        PHASES[0],
        {**PHASES[3], 'name': 'masks', 'shares': [0, 1]},
        {**PHASES[3], 'name': 'all', 'shares': [1, 1]},
    ]
    train(read_config(config_file, '--data', json.dumps(data), '--phases', json.dumps(phases)))
    assert seen == {'joint': {False}, 'masks': {True}, 'all': {False, True}}


def test_frozen_batch_norm_goes_on_from_the_average(config_file: Path, tmp_path: Path) -> None:
    joint = train(read_config(config_file, '--phases', json.dumps(PHASES[:1])))
    phases = json.dumps([PHASES[0], {**PHASES[3], 'name': 'frozen', 'freeze_batch_norm': True}])
    options = ['--phases', phases, '--save_every', '4', '--output', str(tmp_path / 'frozen')]
    frozen = train(read_config(config_file, *options))
    before, after = weights_of(joint), weights_of(frozen)
    statistics = {name for name in before if name.endswith(('running_mean', 'running_var'))}
    assert len(statistics) > 20
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    learned = {name for name in before if not torch.equal(before[name], after[name])}
    assert learned > {name.replace('running_mean', 'weight') for name in statistics if name.endswith('mean')}

    phases = json.dumps([PHASES[0], {**PHASES[2], 'freeze_batch_norm': True}])
    options = ['--phases', phases, '--output', str(tmp_path / 'head')]
    after = weights_of(train(read_config(config_file, *options)))
    assert {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])} == {'detection_head'}


@pytest.mark.parametrize('step', [3, 5])
def test_a_run_that_is_lost_with_frozen_batch_norm_ends_the_same(config_file: Path, tmp_path: Path, step: int) -> None:
    """At the first step of the phase, which takes over the average, and within it."""
    phases = json.dumps([PHASES[0], {**PHASES[3], 'name': 'frozen', 'freeze_batch_norm': True}])
    whole = train(read_config(config_file, '--phases', phases))
    config = read_config(config_file, '--phases', phases, '--output', str(tmp_path / 'lost'))
    lose_run_at(config, step=step)
    resumed = train(config, resume=True)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_head_that_does_not_run_stands_still_in_several_processes(config_file: Path, tmp_path: Path) -> None:
    phases = json.dumps(PHASES[1:2])
    options = ['--config', str(config_file), '--phases', phases, '--average_decay', '0', '--accelerator', 'cpu']
    alone = train(read_config(config_file, *options[2:]))
    result = subprocess.run(
        [sys.executable, 'training/staged_train.py', *options, '--devices', '2', '--output', str(tmp_path / 'two')],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    before, after = weights_of(alone), weights_of(tmp_path / 'two')
    head = [name for name in before if name.startswith('detection_head')]
    assert head
    assert all(torch.equal(before[name], after[name]) for name in head)


def test_a_loss_that_is_not_a_number_stops_with_its_name(config_file: Path, tmp_path: Path) -> None:
    phases = json.dumps([{'name': 'joint', 'iterations': 40, 'learning_rate': 1e30}])
    with pytest.raises(TrainingError, match=r"Phase 'joint', step \d+: .*= (nan|inf)"):
        train(read_config(config_file, '--phases', phases, '--save_every', '1', '--average_decay', '0'))
    kept = load_checkpoint(tmp_path / 'run' / 'last.safetensors')
    assert kept.provenance['step'] >= 1


def test_an_infinite_gradient_is_not_applied(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fabric, 'clip_gradients', lambda *_, **__: torch.tensor(float('inf')))
    with pytest.raises(TrainingError, match='step 0: norm of the gradient = inf'):
        train(read_config(config_file, '--clip_norm', '1'))


def test_broken_weights_replace_no_good_ones(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, 3, lambda trainer: next(trainer.network.parameters()).view(-1)[:1])
    with pytest.raises(TrainingError, match=r'step 4: encoder\.\S+ is not finite.*last\.safetensors is intact'):
        train(read_config(config_file))
    assert load_checkpoint(tmp_path / 'run' / 'last.safetensors').provenance['step'] == 3


def _spoil(monkeypatch: pytest.MonkeyPatch, step: int, weights: Callable[[Any], torch.Tensor]) -> None:
    """After a step, weights are no numbers."""
    note = Trainer._note

    def spoiled(trainer: Trainer, *rest: Any) -> None:
        if trainer.progress.step == step:
            with torch.no_grad():
                weights(trainer).fill_(float('nan'))
        note(trainer, *rest)

    monkeypatch.setattr(Trainer, '_note', spoiled)


def test_a_validation_that_is_not_finite_says_where(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, 2, lambda trainer: next(trainer.average.module.mask_head.parameters()))
    said = r"Phase 'joint', step 3: cityscapes-val, \S+: The network gave mask .*last\.safetensors is intact"
    with pytest.raises(TrainingError, match=said):
        train(read_config(config_file))


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


def test_scaled_losses_of_half_precision_are_clipped_by_their_true_gradient_and_resumed(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_precision_fabric(_config: TrainingConfig) -> Fabric:
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12, growth_interval=4)
        return Fabric(accelerator='cpu', plugins=[MixedPrecision('16-mixed', 'cpu', scaler)])

    monkeypatch.setattr('training.staged_train.build_fabric', half_precision_fabric)
    phases = json.dumps([{'name': 'joint', 'iterations': 6, 'learning_rate': 1e-3}])
    options = ['--phases', phases, '--average_decay', '0', '--save_every', '3']

    free = train(read_config(config_file, *options, '--output', str(tmp_path / 'free')))
    # Far above the gradient's norm, far below that of the gradient of the scaled loss.
    clipped = train(read_config(config_file, *options, '--clip_norm', '1e5', '--output', str(tmp_path / 'clipped')))
    weights = weights_of(free)
    assert all(torch.equal(weights[name], value) for name, value in weights_of(clipped).items())

    killed = read_config(config_file, *options, '--output', str(tmp_path / 'killed'))
    lose_run_at(killed, step=4)
    resumed = train(killed, resume=True)
    assert all(torch.equal(weights[name], value) for name, value in weights_of(resumed).items())
    scalers = [torch.load(run / 'state.pt', weights_only=True)['precision'] for run in (free, resumed)]
    assert scalers[0] == scalers[1]
    assert scalers[0]['scale'] < 2.0**12  # it has met infinite gradients
