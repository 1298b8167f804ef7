import json
import re
from pathlib import Path

import pytest

from perception.errors import ConfigError
from perception.metrics.loss_curves import loss_section


def write(path: Path, records: list[object]) -> Path:
    path.write_text('\n'.join(json.dumps(record) for record in records) + '\n')
    return path


def test_draws_losses_and_phases(tmp_path: Path):
    records = [
        {'step': step, 'phase': 'warm' if step < 500 else 'fine', 'losses': {'total': 2.0, 'detection': 1.0}, 'lr': 5}
        for step in range(1000)
    ]
    body = loss_section(write(tmp_path / 'm.jsonl', records)).body
    lines = re.findall(r'class="line s\d" d="(M[^H"]+)"', body)
    assert len(lines) == 2
    assert all(200 <= line.count('L') < 300 for line in lines)
    assert re.findall(r'class="mark-text"[^>]*>(\w+)<', body) == ['warm', 'fine']
    assert 'segmentation' not in body


def test_skips_what_cannot_be_drawn(tmp_path: Path):
    records = [
        {'event': 'start'},
        {'step': 1, 'total': 0.0},
        {'step': 2, 'total': float('nan')},
        {'step': 3, 'total': 1},
    ]
    assert loss_section(write(tmp_path / 'm.jsonl', records)).body.count('class="line s0"') == 2


def test_a_torn_last_line_is_no_error_but_one_before_is(tmp_path: Path):
    path = tmp_path / 'm.jsonl'
    path.write_text('{"step": 1, "total": 2}\n{"step": 2, "tot')
    loss_section(path)
    path.write_text('{"step": 1, "tot\n{"step": 2, "total": 2}\n')
    with pytest.raises(ConfigError, match='line 1'):
        loss_section(path)


def test_names_the_file_without_losses(tmp_path: Path):
    with pytest.raises(ConfigError, match='total, segmentation, detection'):
        loss_section(write(tmp_path / 'm.jsonl', [{'step': 1, 'val': 3}]))
    with pytest.raises(ConfigError, match=r'missing\.jsonl'):
        loss_section(tmp_path / 'missing.jsonl')


def test_a_line_breaks_where_a_phase_leaves_the_task_out(tmp_path: Path):
    phases = {'joint': (1.0, 2.0), 'segmentation': (1.0, 0.0), 'detection': (0.0, 2.0), 'fine_tuning': (1.0, 2.0)}
    records = []
    for number, (phase, (segmentation, detection)) in enumerate(phases.items()):
        for step in range(10 * number, 10 * number + 10):
            losses = {'total': 3.0, 'segmentation': segmentation, 'detection': detection}
            if phase == 'joint' and step == 5:
                losses['detection'] = 0.0  # a batch without boxes breaks nothing
            records.append({'step': step, 'phase': phase, 'losses': losses})
        records.append({'step': step, 'phase': phase, 'validation': {'sum': 1.0}})
    section = loss_section(write(tmp_path / 'm.jsonl', records))
    runs = {
        name: [
            re.findall(r'([\d.]+) [\d.]+', path) for path in re.findall(rf'class="line s{style}" d="M([^H"]+)"', body)
        ]
        for body in [section.body]
        for style, name in enumerate(('total', 'segmentation', 'detection'))
    }
    assert [len(run) for run in runs['total']] == [40]
    assert [len(run) for run in runs['segmentation']] == [20, 10]
    assert [len(run) for run in runs['detection']] == [9, 20]
    for name in ('total (weighted)', 'segmentation (unweighted)', 'detection (unweighted)'):
        assert f'</svg>{name}</li>' in section.body
    assert 'before they are weighted' in section.note


def test_a_loss_that_no_phase_has_is_not_in_the_legend(tmp_path: Path):
    records = [{'step': step, 'losses': {'total': 1.0, 'detection': 0.0}} for step in range(3)]
    assert 'detection' not in loss_section(write(tmp_path / 'm.jsonl', records)).body
