"""The pace of a recording: when frames are due, and whether they were sent by then."""

import pytest

from perception.ros.pace import Pace, pace_text

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
    }


def test_an_evaluator_that_falls_behind_says_so(clock: list[float]) -> None:
    pace = Pace(1.0)
    play(pace, clock, late_s=0.15)  # 50 ms more with each frame
    summary = pace.summary()
    assert not summary['kept']
    assert summary['late_ms']['max'] == pytest.approx(150 + 20 * 50)
    assert pace_text(summary).startswith('frames were due every 100 ms, 5 % were sent 1100 ms late or more. ')


@pytest.mark.parametrize('frames', [0, 1])
def test_a_single_frame_has_no_pace(clock: list[float], frames: int) -> None:
    pace = Pace(1.0)
    play(pace, clock, late_s=1.0, frames=frames)
    assert pace.summary()['kept']
    assert pace.summary()['interval_ms'] is None
