"""The measuring command runs on a data set in the Cityscapes layout and prints its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data.drawn_layouts import draw_cityscapes
from training.data.measure_loading import images_per_second, main


def test_the_command_prints_a_rate_for_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_cityscapes(tmp_path, 'val', frames=2)
    assert main(['--root', str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for way in ('image and mask files', 'files with boxes', 'cache,', "SSD's", '384x768', '360x480', '300x300'):
        assert way in table


def test_a_missing_folder_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--root', str(tmp_path / 'none')]) == 2
    assert 'leftImg8bit' in capsys.readouterr().err


def test_every_sample_is_loaded_in_every_round() -> None:
    loaded: list[int] = []

    def load(index: int) -> int:
        loaded.append(index)
        return sum(range(20_000))

    assert images_per_second(load, 3, rounds=2) > 0
    assert loaded == [0, 1, 2] * 3
