"""Whatever ends a run early, its reason is told and what had come until then is kept."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perception.errors import RecordingError
from perception.output_folder import STOPPED, StopRequest
from perception.ros.node_process import NodeProcessError
from perception.ros.playing import Check, play_to_end

pytestmark = pytest.mark.ros

CUT, DEAD = RecordingError('cut short'), NodeProcessError('camera_node ended')


def raising(error: BaseException | None) -> Callable[[Any], None]:
    """What raises an error when it is called, or does nothing."""

    def act(check: Check) -> None:
        if error is not None:
            raise error

    return act


@pytest.mark.parametrize(
    ('in_play', 'in_wait', 'told'),
    [
        (None, None, ''),
        (CUT, None, 'cut short'),
        (DEAD, DEAD, 'camera_node ended'),
        (None, DEAD, 'camera_node ended'),
        (CUT, DEAD, 'cut short'),
        (KeyboardInterrupt(), None, STOPPED),
        (KeyboardInterrupt(), KeyboardInterrupt(), STOPPED),
        (KeyboardInterrupt(), DEAD, STOPPED),
    ],
)
def test_what_ended_a_run_is_told(in_play: BaseException | None, in_wait: BaseException | None, told: str) -> None:
    player: Any = SimpleNamespace(await_final_report=raising(in_wait), last_arrival=time.monotonic() + 5)
    stop = StopRequest()
    stop.requested = True
    seconds, interrupted = play_to_end(player, raising(in_play), stop, lambda: None)
    assert interrupted == told
    assert 4 < seconds <= 5
    stop.check()  # what follows is finished


def test_while_frames_are_played_both_are_looked_at() -> None:
    player: Any = SimpleNamespace(await_final_report=raising(None), last_arrival=0.0)
    stop = StopRequest()

    def play(check: Check) -> None:
        check()

    assert play_to_end(player, play, stop, lambda: None)[1] == ''
    assert play_to_end(player, play, stop, lambda: raising(DEAD)(None))[1] == 'camera_node ended'
    stop.requested = True
    assert play_to_end(player, play, stop, lambda: None)[1] == STOPPED
