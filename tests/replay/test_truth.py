"""Truth that cannot be used is refused before a frame is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perception.bag.frames import open_frames
from perception.errors import MissingDependencyError
from perception.labels import CITYSCAPES_11_3
from perception.replay.truth import open_truth
from tests.training.data.drawn_layouts import draw_camvid


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    draw_camvid(tmp_path, 'test', 2)
    return tmp_path


def test_scoring_libraries_are_asked_for_where_a_truth_is_found(
    annotated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    source = open_frames(annotated / 'test')
    assert open_truth('none', source, CITYSCAPES_11_3).description == 'none'
    with pytest.raises(MissingDependencyError, match=r'faster_coco_eval.*requirements/evaluation\.txt'):
        open_truth(str(annotated), source, CITYSCAPES_11_3)
