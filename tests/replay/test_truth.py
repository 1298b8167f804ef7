"""Truth that cannot be used is refused before a frame is read, and so are options that would do nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.bag.frames import open_frames
from perception.cli import main
from perception.errors import ConfigError, DatasetError, MissingDependencyError
from perception.labels import CITYSCAPES_11_3
from perception.replay.truth import open_truth
from perception.resources import SAMPLE_BAG
from tests.training.data.drawn_layouts import draw_camvid, write_picture


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    draw_camvid(tmp_path, 'test', 2)
    return tmp_path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / 'photo' / 'a.png', np.zeros((8, 12, 3), np.uint8))
    return tmp_path / 'photo' / 'a.png'


def test_scoring_libraries_are_asked_for_where_a_truth_is_found(
    annotated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    source = open_frames(annotated / 'test')
    assert open_truth('none', source, CITYSCAPES_11_3).description == 'none'
    with pytest.raises(MissingDependencyError, match=r'faster_coco_eval.*requirements/evaluation\.txt'):
        open_truth(str(annotated), source, CITYSCAPES_11_3)


@pytest.mark.parametrize(
    ('truth', 'options', 'said'),
    [
        ('', {'split': 'test'}, r'--truth is not given\. Give --truth FOLDER'),
        ('', {'classes': {'van': 'car/truck/bus'}}, r'--truth-classes are about .*--truth is not given'),
        ('', {'match': 'stamp'}, r'--truth is not given\. Give --truth FOLDER'),
        ('topics', {'split': 'test'}, r'--truth is topics\. Give --truth FOLDER'),
        ('none', {'match': 'order'}, r'--truth is none\. Give --truth FOLDER'),
        ('none', {'mask_topic': '/m'}, r'--truth is none\. Give --truth topics'),
        ('none', {'detections_topic': '/d'}, r'--truth is none\. Give --truth topics'),
        ('FOLDER', {'mask_topic': '/m'}, r'--truth is /.*\. Give --truth topics'),
        ('FOLDER', {'detections_topic': '/d'}, r'--truth is /.*\. Give --truth topics'),
    ],
)
def test_options_of_a_truth_that_is_not_asked_for_are_refused(
    truth: str, options: dict[str, Any], said: str, annotated: Path
) -> None:
    source = open_frames(annotated / 'test')
    with pytest.raises(ConfigError, match=said):
        open_truth(truth.replace('FOLDER', str(annotated)), source, CITYSCAPES_11_3, **options)


def test_a_photo_has_no_topics(picture: Path) -> None:
    with pytest.raises(DatasetError, match='has no truth topics beside its images'):
        open_truth('', open_frames(picture), CITYSCAPES_11_3, mask_topic='/m')


def test_a_replay_that_would_go_unscored_does_not_start(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = ['replay', str(SAMPLE_BAG), '--output', str(tmp_path / 'out'), '--model', str(tiny_checkpoint_path)]
    assert main([*replay, '--truth-split', 'test']) == 1
    assert 'Give --truth FOLDER' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
