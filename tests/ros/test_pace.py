"""The pace of a recording: when frames are due, whether they were sent by then, and stamps that no camera makes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from perception.ros.pace import LONGEST_PAUSE_S, USUAL_INTERVAL_S, Pace, pace_findings

pytestmark = pytest.mark.ros


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, in its only element."""
    now = [50.0]
    monkeypatch.setattr('perception.ros.pace.monotonic', lambda: now[0])
    return now


def play(pace: Pace, clock: list[float], late_s: float, frames: int = 21) -> None:
    """Frames at 10 Hz, each so much later than the one before it should have been."""
    for index in range(frames):
        due = pace.due(7_000_000_000 + index * 100_000_000)
        clock[0] = max(clock[0], due) + late_s
        pace.note_sent(due)


def play_stamps(stamps_s: Sequence[float], speed: float = 1.0) -> tuple[list[float], dict[str, Any]]:
    """Frames with these stamps, each sent when it is due: the seconds before each but the first, and the summary."""
    pace, due_s = Pace(speed), []
    for stamp_s in stamps_s:
        due_s.append(pace.due(round(stamp_s * 1e9)))
        pace.note_sent(due_s[-1])
    return [round(later - earlier, 6) for earlier, later in pairwise(due_s)], pace.summary()


def no_jumps() -> dict[str, dict[str, float]]:
    return {direction: {'count': 0, 'longest_s': 0.0} for direction in ('forward', 'back')}


def test_due_is_counted_from_the_first_frame(clock: list[float]) -> None:
    pace = Pace(2.0)
    assert pace.due(7_000_000_000) == 50
    clock[0] += 3
    assert pace.due(8_000_000_000) == 50.5


def test_a_pace_that_is_kept(clock: list[float]) -> None:
    pace = Pace(1.0)
    play(pace, clock, late_s=0.004)
    assert pace.summary() == {
        'kept': True,
        'interval_ms': pytest.approx(100),
        'late_ms': pytest.approx({'median': 4, 'p95': 4, 'max': 4}),
        'jumps': no_jumps(),
    }
    assert pace_findings(pace.summary()) == []


def test_an_evaluator_that_falls_behind_says_so(clock: list[float]) -> None:
    pace = Pace(1.0)
    play(pace, clock, late_s=0.15)  # 50 ms more with each frame
    summary = pace.summary()
    assert not summary['kept']
    assert summary['late_ms']['max'] == pytest.approx(150 + 20 * 50)
    (finding,) = pace_findings(summary)
    assert finding.startswith('PACE NOT KEPT: frames were due every 100 ms, 5 % were sent 1100 ms late or more. ')


@pytest.mark.parametrize('frames', [0, 1])
def test_a_single_frame_has_no_pace(clock: list[float], frames: int) -> None:
    pace = Pace(1.0)
    play(pace, clock, late_s=1.0, frames=frames)
    assert pace.summary()['kept']
    assert pace.summary()['interval_ms'] is None


BOOT_S, EPOCH_S = 12.0, 1.7e9


@pytest.mark.parametrize(
    ('stamps_s', 'forward', 'back'),
    [
        ([BOOT_S, BOOT_S + 0.2, EPOCH_S, EPOCH_S + 0.2], (1, EPOCH_S - BOOT_S - 0.2), (0, 0)),
        ([EPOCH_S, EPOCH_S + 0.2, BOOT_S, BOOT_S + 0.2], (0, 0), (1, EPOCH_S - BOOT_S + 0.2)),
        # Every frame without a stamp of its own has that of its receipt, by another clock.
        ([BOOT_S, BOOT_S + 0.2, EPOCH_S, BOOT_S + 0.6, BOOT_S + 0.8], (1, EPOCH_S - 12.2), (1, EPOCH_S - 12.6)),
        # A recorder that paused for an hour, a bag that was played twice, a driver that sent a frame twice.
        ([BOOT_S, BOOT_S + 0.2, 3600.0, 3600.2], (1, 3600 - 12.2), (0, 0)),
        ([BOOT_S, BOOT_S + 0.2, BOOT_S, BOOT_S + 0.2], (0, 0), (1, 0.2)),
        ([BOOT_S, BOOT_S + 0.2, BOOT_S + 0.2, BOOT_S + 0.4], (0, 0), (1, 0.0)),
    ],
    ids=['clock_set', 'clock_set_back', 'no_stamp', 'pause', 'again', 'twice'],
)
def test_where_stamps_jump_the_pace_starts_anew(
    clock: list[float], stamps_s: list[float], forward: tuple[int, float], back: tuple[int, float]
) -> None:
    waits_s, summary = play_stamps(stamps_s, speed=2.0)
    assert waits_s == [0.1] * (len(stamps_s) - 1)
    assert summary['kept']
    assert summary['interval_ms'] == pytest.approx(100)
    for direction, (count, longest_s) in (('forward', forward), ('back', back)):
        assert summary['jumps'][direction] == {'count': count, 'longest_s': pytest.approx(longest_s, abs=1e-3)}
    (finding,) = pace_findings(summary)
    assert finding.startswith('PACE STARTED ANEW: the recorded stamps jump ')
    assert (f'{forward[0]} time forward' in finding) == bool(forward[0])
    assert (f'{back[0]} time back' in finding) == bool(back[0])


def test_an_honest_pause_is_waited_for(clock: list[float]) -> None:
    waits_s, summary = play_stamps([0.0, 0.1, 0.1 + LONGEST_PAUSE_S, 0.2 + LONGEST_PAUSE_S])
    assert waits_s == pytest.approx([0.1, LONGEST_PAUSE_S, 0.1])
    assert summary['jumps'] == no_jumps()


@pytest.mark.parametrize('stamps_s', [[5.0] * 4, [5.0, 4.0, 3.0, 2.0], [0.0, 60.0, 120.0, 180.0]])
def test_stamps_that_say_nothing_neither_wait_nor_send_all_at_once(clock: list[float], stamps_s: list[float]) -> None:
    waits_s, _ = play_stamps(stamps_s)
    assert waits_s == pytest.approx([USUAL_INTERVAL_S] * 3)
