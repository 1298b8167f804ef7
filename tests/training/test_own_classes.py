"""Classes of one's own, from drawn files to the node, as docs/training.md says: its files and commands are run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from perception.checkpoint import load_checkpoint
from perception.cli import main as perception
from perception.errors import ConfigError
from perception.labels import load_label_space
from perception.pipeline import Perceiver
from tests.conftest import TINY_CONFIG
from tests.training.data.drawn_layouts import gradient_rgb, write_picture
from training.evaluate import main as evaluate
from training.staged_train import main as staged_train

PAGE = Path(__file__).parents[2] / 'docs' / 'training.md'
HW = (64, 96)
SMALL = [
    *('--network', 'interdependent', '--network_config', json.dumps(TINY_CONFIG), '--image_hw', json.dumps(HW)),
    *('--phases', '[{"name": "joint", "iterations": 3, "learning_rate": 1e-3}]', '--anchors', 'preset'),
    *('--batch_size', '2', '--workers', '0', '--threads', '1', '--accelerator', 'cpu'),
]
"""Instead of the hours of the page."""


def blocks() -> list[str]:
    """What stands in the fences of the section: label space, table, configuration, commands."""
    section = PAGE.read_text(encoding='utf-8').partition('## Your own classes\n')[2].partition('\n## ')[0]
    return re.findall(r'```\w*\n(.*?)```', section, flags=re.DOTALL)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder with the page's files and drawn pictures; gives the page's commands."""
    monkeypatch.chdir(tmp_path)
    *files, commands = blocks()
    for name, text in zip(('yard.yaml', 'yard_ids.csv', 'yard_training.yaml'), files, strict=True):
        Path(name).write_text(text)
    for split, frames in (('train', 4), ('val', 2)):
        for number in range(frames):
            ids = np.full(HW, 10, np.uint8)
            ids[:8] = 0
            ids[20:40, 10 + number : 40] = 20
            ids[30:55, 60:80] = 30
            write_picture(Path(f'data/yard/{split}/{number}.png'), gradient_rgb(number, HW))
            write_picture(Path(f'data/yard/{split}annot/{number}.png'), ids)
        Path(f'data/yard/{split}.txt').write_text(''.join(f'{number}\n' for number in range(frames)))
    return commands.replace('\\\n', ' ').splitlines()


def words(command: str, program: str) -> list[str]:
    assert command.startswith(program), command
    return shlex.split(command.removeprefix(program))


def test_own_classes_from_drawn_files_to_a_scored_checkpoint(
    yard: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert staged_train([*words(yard[0], 'python training/staged_train.py'), *SMALL]) == 0
    checkpoint = load_checkpoint('out/training/yard/best.safetensors')
    assert checkpoint.network.labels == load_label_space('yard.yaml')
    assert [label.areas for label in checkpoint.network.labels.detection] == [('crate',), ('barrel',)]

    output = Path('out/evaluation/yard')
    options = words(yard[1], 'python -m training.evaluate')
    assert evaluate([*options, '--output', str(output), '--device', 'cpu']) == 0
    report = json.loads((output / 'report.json').read_text())
    assert report['segmentation']['classes'] == ['ground', 'crate', 'barrel']
    assert report['detection']['classes'] == ['crate', 'barrel']
    assert None not in report['segmentation']['iou']  # each class is true somewhere

    assert perception([*words(yard[2], 'perception'), '--device', 'cpu']) == 0
    replayed = json.loads(Path('out/replay/yard/report.json').read_text())
    assert replayed['scores']['segmentation']['iou'] == pytest.approx(report['segmentation']['iou'], abs=1e-9)

    scene = Perceiver(checkpoint)(gradient_rgb(0, HW))
    assert set(np.unique(scene.mask)) <= {0, 1, 2}
    assert 'model_path:=$PWD/out/training/yard/best.safetensors' in yard[3]
    capsys.readouterr()


def test_a_run_starts_from_the_same_classes_only(yard: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert staged_train([*words(yard[0], 'python training/staged_train.py'), *SMALL]) == 0
    text = Path('yard.yaml').read_text().replace('name: crate', 'name: box')
    Path('boxes.yaml').write_text(text)
    options = ['--labels', 'boxes.yaml', '--start_from', 'out/training/yard/best.safetensors', '--output', 'next']
    options += [word for word in SMALL if word not in ('--network_config', json.dumps(TINY_CONFIG))]
    assert staged_train(['--config', 'yard_training.yaml', *options]) == 1
    said = capsys.readouterr().err
    assert 'areas ground, crate, barrel; objects crate, barrel' in said
    assert 'areas ground, box, barrel; objects box, barrel' in said

    # A run that goes on finds other classes in its file, in which its weights would mean something else.
    Path('yard.yaml').write_text(text)
    Path('yard_ids.csv').write_text(Path('yard_ids.csv').read_text().replace('crate,crate,crate', 'box,box,box'))
    assert staged_train(['--config', 'yard_training.yaml', *SMALL, '--resume']) == 1
    said = capsys.readouterr().err
    assert 'labels yard.yaml has label space' in said
    assert 'what this run began with has' in said


def test_without_a_table_nobody_guesses(yard: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--data', '[{"name": "camvid", "root": "data/yard"}]']
    assert staged_train(['--config', 'yard_training.yaml', *SMALL, *options]) == 1
    assert "and none for 'yard' (areas ground, crate, barrel; objects crate, barrel)" in capsys.readouterr().err


def test_an_id_that_the_table_does_not_list_is_named(yard: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    table = Path('yard_ids.csv')
    table.write_text(table.read_text().replace('30,barrel', '31,barrel'))
    assert staged_train(['--config', 'yard_training.yaml', *SMALL]) == 1
    assert re.search(r'0\.png holds id 30, which yard_ids\.csv does not list', capsys.readouterr().err)


def test_a_label_space_is_told_before_anything_is_begun(yard: list[str]) -> None:
    from training.configuration import parse_arguments

    with pytest.raises(ConfigError, match=r"no label space 'yart\.yaml'"):
        parse_arguments(['--config', 'yard_training.yaml', '--labels', 'yart.yaml'])
