"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bag.drawn_bags import JPEG, DrawnBag, draw_frame


@pytest.fixture
def draw_bag(tmp_path: Path) -> Callable[..., Path]:
    """``draw_bag(storage, msgtype, count)`` writes a bag with one topic, /camera, and returns its path."""

    def draw(storage: str = 'mcap', msgtype: str = JPEG, count: int = 4, name: str = 'drive') -> Path:
        path = tmp_path / (f'{name}.bag' if storage == 'ros1' else name)
        with DrawnBag(path, storage) as bag:
            for index in range(count):
                bag.write('/camera', msgtype, draw_frame(index))
        return path

    return draw
