"""What is counted adds up, and what is measured is of the last seconds only."""

import pytest

from perception.ros import statistics as statistics_module
from perception.ros.statistics import CameraStatistics, Failure

pytestmark = pytest.mark.ros

MEMORY = Failure(reason='internal_error', detail='CUDA out of memory')


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the statistics in seconds, in its only element."""
    now = [100.0]
    monkeypatch.setattr(statistics_module, 'monotonic', lambda: now[0])
    return now


def test_unanswered_is_what_came_after_the_last_answer(clock: list[float]) -> None:
    statistics = CameraStatistics()

    def unanswered_for_s() -> float:
        return statistics.snapshot().unanswered_for_s

    statistics.count_received()
    clock[0] += 3
    assert unanswered_for_s() == 3
    statistics.count_published({'processing': 1.0})
    clock[0] += 60  # a camera that sends a frame now and then
    assert unanswered_for_s() == 0
    statistics.count_received()
    statistics.count_failed(MEMORY)
    statistics.count_received()
    statistics.count_dropped('superseded')
    clock[0] += 2
    assert unanswered_for_s() == 2
    assert statistics.snapshot().last_failure == MEMORY  # that one was superseded explains nothing
    assert statistics.snapshot().dropped == {'internal_error': 1, 'superseded': 1}
    statistics.count_received()
    statistics.count_dropped('paused')
    assert unanswered_for_s() == 0
    statistics.count_published({'processing': 1.0})
    assert statistics.snapshot().last_failure is None


def test_one_slow_frame_is_not_slow_for_ever(clock: list[float]) -> None:
    statistics = CameraStatistics()
    statistics.count_published({'processing': 50.0}, allowed_ms=15.0)
    clock[0] += 60
    assert statistics.snapshot().too_slow_for_s == 0
    statistics.count_published({'processing': 50.0}, allowed_ms=15.0)
    assert statistics.snapshot().too_slow_for_s == 60


def test_statistics_count_and_measure() -> None:
    statistics = CameraStatistics()
    for milliseconds in (10.0, 20.0, 30.0):
        statistics.count_received()
        statistics.count_published({'processing': milliseconds}, allowed_ms=15.0)
    assert statistics.count_dropped('wrong_step') == 1
    assert statistics.count_dropped('wrong_step', 2) == 3
    snapshot = statistics.snapshot()
    assert (snapshot.received, snapshot.published, snapshot.dropped) == (3, 3, {'wrong_step': 3})
    assert snapshot.times_ms['processing'] == pytest.approx((20.0, 29.0, 30.0))
    assert snapshot.too_slow_for_s > 0
    assert snapshot.frame_rate_msg_hz > 0
    statistics.count_published({'processing': 10.0}, allowed_ms=15.0)
    assert statistics.snapshot().too_slow_for_s == 0


def test_rates_shares_and_times_are_of_one_window(clock: list[float]) -> None:
    statistics = CameraStatistics()
    for _ in range(300):  # ten good seconds ...
        clock[0] += 1 / 30
        statistics.count_received(age_ms=5.0)
        statistics.count_published({'processing': 10.0, 'delay': 20.0})
    for frame in range(180):  # ... and six in which the network takes half a second
        clock[0] += 1 / 30
        statistics.count_received(age_ms=5.0)
        if frame % 15:
            statistics.count_dropped('superseded')
        else:
            statistics.count_published({'processing': 500.0, 'delay': 520.0})
    snapshot = statistics.snapshot()
    assert snapshot.times_ms['processing'] == snapshot.times_ms['processing'][:1] * 3 == (500.0, 500.0, 500.0)
    assert snapshot.times_ms['delay'][0] == 520.0
    assert snapshot.frame_rate_msg_hz == pytest.approx(30)
    assert snapshot.frame_rate_node_hz == pytest.approx(2)
    assert snapshot.window.dropped == {'superseded': pytest.approx(140, abs=1)}
    assert (snapshot.window.received, snapshot.window.published) == pytest.approx((150, 10), abs=1)
    clock[0] += 6
    quiet = statistics.snapshot()
    assert quiet.times_ms == {}
    assert quiet.window.received == quiet.frame_rate_msg_hz == 0
    assert (quiet.received, quiet.published) == (480, 312)  # the counts are of all frames


def test_what_came_is_answered_dropped_or_waits() -> None:
    statistics = CameraStatistics()
    for _ in range(7):
        statistics.count_received()
    statistics.count_dropped('paused')
    statistics.count_dropped('superseded', 2)
    statistics.count_failed(MEMORY)
    statistics.count_published({'processing': 1.0})
    statistics.count_lost(4)  # never came
    snapshot = statistics.snapshot()
    assert snapshot.waiting == 2
    assert snapshot.received == snapshot.published + sum(snapshot.dropped.values()) + snapshot.waiting
    assert snapshot.lost == 4
    assert 'paused' not in snapshot.window.dropped  # nobody wanted it


@pytest.mark.parametrize('no_count', [2147483647, -2, -2147483644])
def test_what_the_middleware_cannot_count_is_no_count(no_count: int) -> None:
    statistics = CameraStatistics()
    statistics.count_lost(12)
    assert not statistics.snapshot().lost_at_least
    statistics.count_lost(no_count)
    statistics.count_lost(1)
    snapshot = statistics.snapshot()
    assert (snapshot.lost, snapshot.lost_at_least) == (13, True)
    assert snapshot.window.missing == 13


@pytest.mark.parametrize(
    ('sequences', 'lost', 'missing'),
    [
        ([1, 2, 3, 4], 0, 0),
        ([1, 7, 13, 19], 0, 15),
        ([1, 7, 13, 19], 10, 15),  # some that were lost, and some that a newer one replaced
        ([1, 7, 13, 19], 20, 20),  # some of them after the last that came
        ([1, 1001, 2, 1002], 0, 0),  # two publishers
        ([1, 1001, 2, 1002], 6, 6),
        ([5, 6, 900_000, 900_001], 0, 0),  # another publisher took over
        ([5, 6, 1, 2], 0, 0),  # the camera's driver was started anew
        ([None, None, None, None], 3, 3),  # the middleware does not number them
        ([18446744073709551615] * 4, 3, 3),
    ],
)
def test_frames_that_never_came(clock: list[float], sequences: list[int | None], lost: int, missing: int) -> None:
    statistics = CameraStatistics()
    for sequence in sequences:
        clock[0] += 0.2
        statistics.count_received(sequence=sequence)
    statistics.count_lost(lost)
    window = statistics.snapshot().window
    assert (window.lost, window.missing) == (lost, missing)


def test_stamps_ahead_are_measured_by_the_farthest(clock: list[float]) -> None:
    statistics = CameraStatistics()
    assert statistics.snapshot().stamp_ahead_ms == 0
    for age_ms in (5.0, None, -250.0, 7.0):
        statistics.count_received(age_ms=age_ms)
    assert statistics.snapshot().stamp_ahead_ms == 250.0
    clock[0] += 6
    assert statistics.snapshot().stamp_ahead_ms == 0
