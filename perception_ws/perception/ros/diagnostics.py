"""The node's health as a DiagnosticStatus: is a camera heard, is it served in time, what was dropped and why.

The key names are those that dashboards for such nodes already read. A value that does not exist yet is ``n/a``, not 0.
"""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from perception.ros.statistics import NOT_DROPPED, Snapshot

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
OK, WARN, ERROR = range(3)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is judged, and how strictly; 0 switches a judgement off. The parameters diagnostics.* explain each."""

    expected_frequency: float = 0.0
    timeout_ms: float = 2000.0
    max_allowed_processing_time_ms: float = 0.0
    max_acceptable_consecutive_delay_ms: float = 5000.0


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What besides the statistics decides how the node feels."""

    lifecycle: str
    enabled: bool = True
    active_for_s: float = 0.0
    model: str = ''
    trained: bool = True
    incompatible_qos: str = ''
    last_bad_image: str = ''
    """The latest message that was no image, for people; answers since do not erase it."""


def camera_status(name: str, snapshot: Snapshot, situation: Situation, limits: Limits) -> DiagnosticStatus:
    """One camera's status: the worst finding gives the level, all findings the message."""
    input_state = _input_state(snapshot, situation, limits)
    findings = _findings(input_state, snapshot, situation, limits)
    level = max((level for level, _ in findings), default=OK)
    status = DiagnosticStatus(level=_LEVELS[level], name=name, hardware_id=situation.model)
    status.message = '; '.join(text for _, text in findings) or 'active, input ok'
    status.values = [
        KeyValue(key=key, value=value) for key, value in _values(input_state, snapshot, situation, limits).items()
    ]
    return status


def _input_state(snapshot: Snapshot, situation: Situation, limits: Limits) -> str:
    silent_s = situation.active_for_s if snapshot.since_last_frame_s is None else snapshot.since_last_frame_s
    timed_out = bool(limits.timeout_ms) and silent_s * 1000 > limits.timeout_ms
    if situation.incompatible_qos and snapshot.since_last_frame_s is None:
        return 'IncompatibleQoS'
    if snapshot.since_last_frame_s is None:
        return 'NotReceived'
    if timed_out:
        return 'Timeout'
    # An encoding that was never right is not waited for.
    unanswered = not snapshot.published or _is_unanswered(snapshot, limits)
    if unanswered and snapshot.last_failure is not None and snapshot.last_failure.bad_image:
        return 'BadEncoding'
    if limits.expected_frequency and snapshot.frame_rate_msg_hz < 0.9 * limits.expected_frequency:
        return 'Slow'
    return 'Ok'


def _findings(input_state: str, snapshot: Snapshot, situation: Situation, limits: Limits) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    if situation.model and not situation.trained:
        found.append((WARN, 'UNTRAINED WEIGHTS: the results mean nothing'))
    if situation.lifecycle != 'active':
        return [*found, (WARN, f'{situation.lifecycle}: no frame is looked at')]
    if not situation.enabled:
        return [*found, (OK, 'paused by ~/enable')]
    if input_state == 'IncompatibleQoS':
        found.append((ERROR, f'the publisher offers a QoS that does not fit input_qos ({situation.incompatible_qos})'))
    elif input_state == 'BadEncoding':
        found.append((ERROR, f'no frame can be decoded: {situation.last_bad_image}'))
    elif input_state == 'Slow':
        found.append(
            (WARN, f'input at {snapshot.frame_rate_msg_hz:.1f} Hz, expected {limits.expected_frequency:.1f} Hz')
        )
    elif input_state in ('NotReceived', 'Timeout'):
        silent_s = situation.active_for_s if snapshot.since_last_frame_s is None else snapshot.since_last_frame_s
        late = bool(limits.timeout_ms) and silent_s * 1000 > limits.timeout_ms
        found.append((ERROR if late else WARN, f'no image for {silent_s:.1f} s'))
    if input_state in ('Ok', 'Slow') and _is_unanswered(snapshot, limits):
        failure = snapshot.last_failure
        why = f'{failure.reason}: {failure.detail}' if failure else 'the one in hand is not finished'
        found.append((ERROR, f'frames come, but none was answered for {snapshot.unanswered_for_s:.1f} s; {why}'))
    if not limits.max_allowed_processing_time_ms:
        return found
    if snapshot.too_slow_for_s * 1000 > limits.max_acceptable_consecutive_delay_ms:
        found.append((ERROR, f'processing too slow for {snapshot.too_slow_for_s:.1f} s'))
    elif _too_slow(snapshot, limits):
        found.append((WARN, f'processing took {snapshot.last_processing_ms:.0f} ms'))
    return found


def _is_unanswered(snapshot: Snapshot, limits: Limits) -> bool:
    """Whether frames come and get no answer; as long as for a camera that is silent."""
    return bool(limits.timeout_ms) and snapshot.unanswered_for_s * 1000 > limits.timeout_ms


def _too_slow(snapshot: Snapshot, limits: Limits) -> bool:
    return (snapshot.last_processing_ms or 0.0) > limits.max_allowed_processing_time_ms


def _values(input_state: str, snapshot: Snapshot, situation: Situation, limits: Limits) -> dict[str, str]:
    def median(stage: str) -> str:
        return f'{snapshot.times_ms[stage][0]:.2f}' if stage in snapshot.times_ms else 'n/a'

    in_range = 'n/a'
    if limits.max_allowed_processing_time_ms and snapshot.last_processing_ms is not None:
        in_range = str(not _too_slow(snapshot, limits))
    values = {
        'lifecycle_state': situation.lifecycle,
        'input_state': input_state,
        'model': situation.model or 'n/a',
        'frame_rate_node': f'{snapshot.frame_rate_node_hz:.2f}',
        'frame_rate_msg': f'{snapshot.frame_rate_msg_hz:.2f}',
        'expected_frequency': f'{limits.expected_frequency:.2f}' if limits.expected_frequency else 'n/a',
        'current_delay_from_realtime_ms': median('delay'),
        'processing_time_ms': median('processing'),
        'decode_time_ms': median('decode'),
        'preprocess_time_ms': median('preprocess'),
        'inference_time_ms': median('inference'),
        'postprocess_time_ms': median('postprocess'),
        'publish_time_ms': median('publish'),
        'is_processing_time_ms_in_expected_range': in_range,
        'consecutive_processing_delay_ms': f'{snapshot.too_slow_for_s * 1000:.0f}',
        'frames_received': str(snapshot.received),
        'frames_published': str(snapshot.published),
        'frames_dropped': str(sum(count for reason, count in snapshot.dropped.items() if reason != NOT_DROPPED)),
        'last_bad_image': situation.last_bad_image or 'n/a',
    }
    for stage, (_, high, longest) in sorted(snapshot.times_ms.items()):
        values[f'{stage}_p95_ms'] = f'{high:.2f}'
        values[f'{stage}_max_ms'] = f'{longest:.2f}'
    values.update({f'dropped.{reason}': str(count) for reason, count in sorted(snapshot.dropped.items())})
    return values
