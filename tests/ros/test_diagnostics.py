"""Every finding of the diagnostics, its level, and n/a where nothing was measured."""

from dataclasses import replace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from perception.ros.diagnostics import camera_status
from perception.ros.findings import Limits, Situation
from perception.ros.statistics import CameraStatistics, Failure, Snapshot, Window

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


def seen(**window: Any) -> Snapshot:
    """A node that runs, with this in the window of its rates."""
    return replace(RUNNING, window=Window(**{'dropped': {}, **window}))


def timed(**times_ms: float) -> Snapshot:
    return replace(RUNNING, times_ms={name: (value,) * 3 for name, value in times_ms.items()})


LOSSY = seen(received=25, published=25, lost=125, missing=125)
BUSY = seen(received=25, published=25, lost=3, missing=125)
OVERLOADED = seen(received=150, published=10, dropped={'superseded': 130, 'too_old': 9})
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
        (IDLE, {'lifecycle': 'configuring'}, {}, DiagnosticStatus.WARN, 'configuring: no frame is looked at'),
        (RUNNING, {'lifecycle': 'finalized'}, {}, DiagnosticStatus.WARN, 'finalized: shut down for good'),
        (RUNNING, {'clock': 'no /clock'}, {}, DiagnosticStatus.WARN, 'no /clock'),
        (IDLE, {'clock': 'no /clock', 'lifecycle': 'inactive'}, {}, DiagnosticStatus.WARN, 'no /clock; inactive'),
        (IDLE, {'lifecycle': 'inactive', 'enabled': False}, {}, DiagnosticStatus.WARN, 'at; paused by ~/enable'),
        (IDLE, {'silence': '/a (T): nobody'}, {}, DiagnosticStatus.ERROR, 'no image for 10.0 s on /a (T): nobody'),
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
        (
            LOSSY,
            {},
            {},
            DiagnosticStatus.WARN,
            '83% of the frames are lost before they reach the node: start the camera',
        ),
        (LOSSY, {}, {}, DiagnosticStatus.WARN, '--shm-size'),
        (LOSSY, {}, {'expected_frequency': 30.0}, DiagnosticStatus.WARN, '(67% fewer); 83% of the frames are lost'),
        (LOSSY, {}, {'max_lost_share': 0.9}, DiagnosticStatus.OK, 'input ok'),
        (LOSSY, {}, {'max_lost_share': 0.0}, DiagnosticStatus.OK, 'input ok'),
        (
            replace(IDLE, window=Window(dropped={}, lost=90, missing=90)),
            {'silence': '/a (T): silent'},
            {},
            DiagnosticStatus.ERROR,
            'on /a (T): silent; 100% of the frames are lost',
        ),
        (LOSSY, {'enabled': False}, {}, DiagnosticStatus.OK, 'paused'),
        (BUSY, {}, {}, DiagnosticStatus.WARN, 'this process is too busy'),
        (seen(received=1, published=1, missing=3), {}, {}, DiagnosticStatus.OK, 'input ok'),
        (
            OVERLOADED,
            {},
            {},
            DiagnosticStatus.WARN,
            '93% of the frames get no answer (9.0 of 10.0 a second; superseded',
        ),
        (OVERLOADED, {}, {}, DiagnosticStatus.WARN, 'superseded 130, too_old 9): overload'),
        (OVERLOADED, {}, {'max_unanswered_share': 0.95}, DiagnosticStatus.OK, 'input ok'),
        (OVERLOADED, {}, {'max_unanswered_share': 0.0}, DiagnosticStatus.OK, 'input ok'),
        (seen(received=9, dropped={'wrong_step': 9}), {}, {}, DiagnosticStatus.OK, 'input ok'),
        (
            seen(received=9, dropped={'wrong_step': 9}),
            {},
            {'timeout_ms': 0.0},
            DiagnosticStatus.WARN,
            '100% of the frames',
        ),
        (seen(published=9, dropped={'wrong_step': 20}), {}, {}, DiagnosticStatus.WARN, 'wrong_step 20): the log names'),
        (
            timed(delay=1400.0, age_at_arrival=20.0),
            {},
            {},
            DiagnosticStatus.WARN,
            'out 1.4 s after the stamp, 1.4 s of',
        ),
        (timed(delay=1400.0, age_at_arrival=1300.0), {}, {}, DiagnosticStatus.WARN, '1.3 s old when they come'),
        (timed(delay=1400.0), {}, {'max_delay_ms': 1500.0}, DiagnosticStatus.OK, 'input ok'),
        (timed(delay=1400.0, age_at_arrival=1300.0), {}, {'max_delay_ms': 0.0}, DiagnosticStatus.OK, 'input ok'),
        (replace(RUNNING, stamp_ahead_ms=3600e3), {}, {}, DiagnosticStatus.WARN, 'stamps are 3600.000 s in the future'),
        (replace(RUNNING, stamp_ahead_ms=50.0), {}, {}, DiagnosticStatus.OK, 'input ok'),
        (replace(RUNNING, stamp_ahead_ms=9e3), {}, {'max_stamp_ahead_ms': 0.0}, DiagnosticStatus.OK, 'input ok'),
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
    assert (values['frames_received'], values['frames_published'], values['frames_dropped']) == ('10', '8', '2')
    assert values['dropped.superseded'] == values['dropped.paused'] == '1'
    assert values['frames_lost_by_middleware'] == '0'
    assert values['lost_share'] == values['unanswered_share'] == 'n/a'
    idle = {item.key: item.value for item in camera_status('camera', IDLE, ACTIVE, Limits()).values}
    assert idle['processing_time_ms'] == idle['is_processing_time_ms_in_expected_range'] == 'n/a'


def test_values_of_what_was_lost() -> None:
    status = camera_status('camera', replace(LOSSY, lost=125, lost_at_least=True), ACTIVE, Limits())
    values = {item.key: item.value for item in status.values}
    assert values['frames_lost_by_middleware'] == 'at least 125'
    assert values['lost_share'] == '0.833'
    assert values['unanswered_share'] == '0.000'
