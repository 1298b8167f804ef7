"""The networks of torchvision that ours is held against: each trains on its own task for the time it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perception.metrics import Report
from training.compare_torchvision import main, one_cycle


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_a_baseline_is_trained_and_scored_on_its_own_task(config_file: Path, tmp_path: Path, task: str) -> None:
    output = tmp_path / 'baseline'
    command = ['--task', task, '--minutes', '0.05', '--split', 'val', '--config', str(config_file)]
    assert main([*command, '--baseline-output', str(output)]) == 0
    effort = json.loads((output / task / 'effort.json').read_text())
    assert effort['steps'] >= 1
    assert 2_000_000 < effort['parameters'] < 4_000_000
    report = Report.load(output / task / 'cityscapes-val.json')
    assert (report.segmentation.images > 0) == (task == 'segmentation')
    assert (report.detection.images > 0) == (task == 'detection')


def test_the_rate_rises_and_falls() -> None:
    rates = [one_cycle(share / 20) for share in range(21)]
    assert rates[0] == 0
    assert max(rates) == rates[2] == 1
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_minutes_must_be_above_zero(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--task', 'detection', '--minutes', '0', '--config', str(config_file)]) == 1
    assert '--minutes must be above 0' in capsys.readouterr().err
