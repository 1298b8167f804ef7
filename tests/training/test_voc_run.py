"""From files of Pascal VOC to a checkpoint that is scored as its devkit does, in VOC's own classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perception.checkpoint import load_checkpoint
from perception.labels import load_label_space
from tests.training.conftest import PHASES, read_config
from tests.training.data.drawn_layouts import draw_voc
from training.evaluate import main as evaluate
from training.staged_train import train


def test_voc_trains_and_is_scored(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for year in (2007, 2012):
        draw_voc(tmp_path / f'VOCdevkit/VOC{year}', 'trainval')
    draw_voc(tmp_path / 'VOCdevkit/VOC2007', 'test')
    data = {'name': 'voc', 'root': str(tmp_path), 'split': 'trainval', 'options': {'years': [2007, 2012]}}
    held_out = {'name': 'voc', 'root': str(tmp_path), 'split': 'test', 'options': {'years': [2007]}}
    options = {'--labels': 'voc_21_20', '--data': json.dumps([data]), '--validation': json.dumps([held_out])}
    options |= {'--phases': json.dumps(PHASES[:1]), '--anchors': 'preset'}
    config = read_config(config_file, *(word for pair in options.items() for word in pair))
    train(config)
    checkpoint = Path(config.output) / 'best.safetensors'
    assert load_checkpoint(checkpoint).network.labels == load_label_space('voc_21_20')
    capsys.readouterr()

    output = tmp_path / 'scores'
    arguments = ['--checkpoint', str(checkpoint), '--dataset', 'voc', '--root', str(tmp_path), '--split', 'test']
    arguments += ['--options', json.dumps(held_out['options']), '--output', str(output), '--device', 'cpu']
    assert evaluate(arguments) == 0
    report, voc = (json.loads((output / name).read_text()) for name in ('report.json', 'voc_ap.json'))
    assert (len(report['segmentation']['classes']), len(report['detection']['classes'])) == (21, 20)
    objects = dict(zip(voc['classes'], voc['objects'], strict=True))
    assert {name: count for name, count in objects.items() if count} == {'car': 3, 'person': 3, 'dog': 3}
    assert report['detection']['ignore_regions'] == 3
    measured = [iou for iou in report['segmentation']['iou'] if iou is not None]
    assert len(measured) == 3, 'background, car and person are in the masks'
