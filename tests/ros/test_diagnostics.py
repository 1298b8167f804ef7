"""Every finding of the diagnostics, its level, and n/a where nothing was measured."""

from dataclasses import replace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from perception.ros import statistics as statistics_module
from perception.ros.diagnostics import Limits, Situation, camera_status
from perception.ros.statistics import CameraStatistics, Failure, Snapshot

pytestmark = pytest.mark.ros

IDLE = CameraStatistics().snapshot()
RUNNING = replace(
    IDLE,
    received=10,
    published=8,
    dropped={'superseded': 1, 'paused': 1},
    frame_rate_msg_hz=10.0,
    frame_rate_node_hz=9.0,
    since_last_frame_s=0.1,
    last_processing_ms=40.0,
    times_ms={'processing': (40.0, 50.0, 60.0), 'inference': (30.0, 35.0, 36.0)},
)
SLOW = replace(RUNNING, too_slow_for_s=6.0)
UNANSWERED = replace(RUNNING, unanswered_for_s=3.0)
MEMORY = Failure(reason='internal_error', detail='CUDA out of memory')
NO_IMAGE = Failure(reason='wrong_step', detail='x', bad_image=True)
ACTIVE = Situation(lifecycle='active', active_for_s=10.0, model='net@1234')


@pytest.mark.parametrize(
    ('snapshot', 'situation', 'limits', 'level', 'said'),
    [
        (RUNNING, {}, {}, DiagnosticStatus.OK, 'active, input ok'),
        (IDLE, {'lifecycle': 'inactive'}, {}, DiagnosticStatus.WARN, 'inactive: no frame is looked at'),
        (IDLE, {'active_for_s': 0.5}, {}, DiagnosticStatus.WARN, 'no image for 0.5 s'),
        (IDLE, {}, {}, DiagnosticStatus.ERROR, 'no image for 10.0 s'),
        (IDLE, {'incompatible_qos': 'RELIABILITY'}, {}, DiagnosticStatus.ERROR, 'QoS'),
        (IDLE, {'enabled': False}, {}, DiagnosticStatus.OK, 'paused'),
        (replace(RUNNING, since_last_frame_s=3.0), {}, {}, DiagnosticStatus.ERROR, 'no image for 3.0 s'),
        (UNANSWERED, {}, {}, DiagnosticStatus.ERROR, 'none was answered for 3.0 s; the one in hand is not finished'),
        (replace(UNANSWERED, last_failure=MEMORY), {}, {}, DiagnosticStatus.ERROR, 's; internal_error: CUDA out of'),
        (replace(UNANSWERED, published=0), {}, {}, DiagnosticStatus.ERROR, 'none was answered'),
        (replace(UNANSWERED, since_last_frame_s=3.0), {}, {}, DiagnosticStatus.ERROR, 'no image for 3.0 s'),
        (replace(UNANSWERED, last_failure=NO_IMAGE), {'last_bad_image': 'x'}, {}, DiagnosticStatus.ERROR, 'decoded: x'),
        (replace(RUNNING, published=0, last_failure=NO_IMAGE), {}, {}, DiagnosticStatus.ERROR, 'can be decoded'),
        (replace(RUNNING, published=0, last_failure=MEMORY), {}, {}, DiagnosticStatus.OK, 'input ok'),
        (replace(RUNNING, unanswered_for_s=1.0, last_failure=NO_IMAGE), {}, {}, DiagnosticStatus.OK, 'input ok'),
        (UNANSWERED, {}, {'timeout_ms': 0.0}, DiagnosticStatus.OK, 'input ok'),
        (UNANSWERED, {'enabled': False}, {}, DiagnosticStatus.OK, 'paused'),
        (RUNNING, {}, {'expected_frequency': 30.0}, DiagnosticStatus.WARN, 'input at 10.0 Hz'),
        (RUNNING, {}, {'expected_frequency': 10.5}, DiagnosticStatus.OK, 'input ok'),
        (RUNNING, {}, {'max_allowed_processing_time_ms': 30.0}, DiagnosticStatus.WARN, 'took 40 ms'),
        (SLOW, {}, {'max_allowed_processing_time_ms': 30.0}, DiagnosticStatus.ERROR, 'too slow for 6.0 s'),
        (SLOW, {}, {'max_allowed_processing_time_ms': 0.0}, DiagnosticStatus.OK, 'input ok'),
        (RUNNING, {'trained': False}, {}, DiagnosticStatus.WARN, 'UNTRAINED'),
    ],
)
def test_level_and_message(
    snapshot: Snapshot, situation: dict[str, Any], limits: dict[str, float], level: bytes, said: str
) -> None:
    status = camera_status('camera', snapshot, replace(ACTIVE, **situation), Limits(**limits))
    assert status.level == level
    assert said in status.message


def test_values() -> None:
    status = camera_status('camera', RUNNING, ACTIVE, Limits(max_allowed_processing_time_ms=45.0))
    values = {item.key: item.value for item in status.values}
    assert values['inference_time_ms'] == '30.00'
    assert values['inference_p95_ms'] == '35.00'
    assert values['postprocess_time_ms'] == 'n/a'
    assert values['is_processing_time_ms_in_expected_range'] == 'True'
    assert values['frames_dropped'] == '1'  # paused frames are no fault
    assert values['dropped.superseded'] == '1'
    idle = {item.key: item.value for item in camera_status('camera', IDLE, ACTIVE, Limits()).values}
    assert idle['processing_time_ms'] == idle['is_processing_time_ms_in_expected_range'] == 'n/a'


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
