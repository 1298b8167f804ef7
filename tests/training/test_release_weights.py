"""Weights that ship: small, equal to the trained ones but for rounding, silent about the machine, with figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perception.checkpoint import load_checkpoint, save_checkpoint
from perception.errors import CheckpointError
from perception.interfaces import Detections, GroundTruth, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from tests.conftest import build_tiny_network
from training.configuration import DataConfig, TrainingConfig, config_values
from training.release_weights import main, model_card, release

SECRET = '/home/somebody/secret'


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = TrainingConfig(
        data=(DataConfig(name='camvid', root=f'{SECRET}/camvid'),),
        validation=(DataConfig(name='camvid', root=f'{SECRET}/camvid', split='val'),),
        cache=f'{SECRET}/cache',
        output=f'{SECRET}/run',
        start_from=f'{SECRET}/before.safetensors',
    )
    provenance = {
        'step': 7,
        'of': 9,
        'phase': 'joint',
        'validation': {'mean_iou': 0.5},
        'training': config_values(config),
        'environment': {'command': ['staged_train.py', '--output', SECRET], 'commit': 'abc123'},
    }
    provenance['started_from'] = provenance | {'step': 3, 'of': 4}
    save_checkpoint(tmp_path / 'best.safetensors', build_tiny_network(), provenance)
    return tmp_path / 'best.safetensors'


def test_the_card_says_where_the_first_weights_are_from(trained: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trained)
    for imagenet, said in (('', 'From scratch: no pre-training.'), (f'{SECRET}/resnet.pt', 'on ImageNet (resnet.pt).')):
        checkpoint.provenance['started_from']['training']['imagenet_weights'] = imagenet
        released = release(checkpoint, tmp_path / 'small.safetensors')
        assert said in model_card(released, {'camvid-test': Evaluator(CITYSCAPES_11_3).report()})
        assert SECRET.encode() not in (tmp_path / 'small.safetensors').read_bytes()


def test_the_card_names_folders_and_teachers(trained: Path, tmp_path: Path) -> None:
    labels = tmp_path / 'secret' / 'labels'
    labels.mkdir(parents=True)
    (labels / 'teacher.json').write_text('{"teacher": "yolox@123", "images": {}}')
    checkpoint = load_checkpoint(trained)
    entry = {'name': 'camvid', 'root': f'{SECRET}/labelmefacade', 'split': 'train', 'teacher': {'labels': str(labels)}}
    checkpoint.provenance['training']['data'].append(entry)
    released = release(checkpoint, tmp_path / 'small.safetensors')
    card = model_card(released, {'camvid-test': Evaluator(CITYSCAPES_11_3).report()})
    assert '**Trained on** camvid train, labelmefacade train: CamVid' in card
    assert 'What a data set is not annotated for was labelled by yolox@123.' in card
    assert 'as CamVid and LabelMeFacade are' in card
    assert b'secret' not in (tmp_path / 'small.safetensors').read_bytes()


def test_weights_are_rounded_and_nothing_else(trained: Path, tmp_path: Path) -> None:
    before = load_checkpoint(trained)
    released = release(before, tmp_path / 'weights' / 'small.safetensors')
    for name, tensor in released.network.state_dict().items():
        original = before.network.state_dict()[name]
        assert tensor.dtype == original.dtype
        wanted = original.half().float() if original.ndim > 1 else original
        assert torch.equal(tensor, wanted), name
    assert (tmp_path / 'weights' / 'small.safetensors').stat().st_size < 0.8 * trained.stat().st_size


def test_the_machine_leaves_no_trace(trained: Path, tmp_path: Path) -> None:
    released = release(load_checkpoint(trained), tmp_path / 'small.safetensors')
    assert SECRET.encode() not in (tmp_path / 'small.safetensors').read_bytes()
    assert released.provenance['training']['data'][0]['name'] == 'camvid'
    assert (released.provenance['step'], released.provenance['commit']) == (7, 'abc123')
    assert released.provenance['started_from']['step'] == 3


def test_the_card_gives_the_figures(trained: Path, tmp_path: Path) -> None:
    released = release(load_checkpoint(trained), tmp_path / 'small.safetensors')
    mask = np.zeros((8, 8), np.uint8)
    evaluator = Evaluator(CITYSCAPES_11_3)
    nothing = Detections(boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int))
    evaluator.add(SceneResult(detections=nothing, mask=mask), GroundTruth(mask=mask))
    card = model_card(released, {'camvid-test': evaluator.report()})
    assert f'# interdependent@{released.digest}' in card
    assert '| mIoU | 100.0 |' in card
    assert '| AP50 | n/a |' in card
    assert 'Step 3 of 4' in card
    assert 'Then with other settings: step 7 of 9' in card
    assert 'camvid train: CamVid (Brostow et al.)' in card
    assert 'for research only, as CamVid is' in card
    assert 'DAWN' not in card


def test_weights_of_other_data_need_no_release(trained: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trained)
    checkpoint.provenance['started_from']['training']['data'][0]['name'] = 'coco'
    with pytest.raises(CheckpointError, match='trained on coco'):
        release(checkpoint, tmp_path / 'small.safetensors')
    assert not (tmp_path / 'small.safetensors').exists()


def test_without_figures_nothing_is_left(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / 'weights' / 'small.safetensors'
    assert main(['--checkpoint', str(trained), '--data', str(tmp_path / 'none'), '--output', str(output)]) == 1
    assert 'camvid' in capsys.readouterr().err
    assert not output.parent.exists()


def test_weights_of_another_network_do_not_take_the_place_of_those_that_ship(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / 'weights' / 'interdependent_small.safetensors'
    monkeypatch.setattr('training.release_weights.SHIPPED_WEIGHTS', shipped)
    monkeypatch.setattr('training.release_weights.judge', lambda *_: {'drawn': Evaluator(CITYSCAPES_11_3).report()})
    for taken in (shipped, shipped.with_name('interdependent_lite.safetensors')):
        assert main(['--checkpoint', str(trained), '--output', str(taken)]) == 1
        assert f'is of interdependent, not of {taken.stem};' in capsys.readouterr().err
        assert not taken.exists()
    other = shipped.with_name('interdependent.safetensors')
    assert main(['--checkpoint', str(trained), '--output', str(other)]) == 0
    assert {path.name for path in other.parent.iterdir()} == {'interdependent.md', 'interdependent.safetensors'}


def test_weights_of_unknown_origin_are_not_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / 'own.safetensors', build_tiny_network())
    with pytest.raises(CheckpointError, match='no provenance of a training'):
        release(load_checkpoint(tmp_path / 'own.safetensors'), tmp_path / 'small.safetensors')
    assert main(['--checkpoint', str(tmp_path / 'missing.safetensors'), '--output', str(tmp_path / 'x')]) == 1
    assert 'There is no checkpoint file' in capsys.readouterr().err
