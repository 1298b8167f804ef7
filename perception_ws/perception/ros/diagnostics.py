"""The node's health as a DiagnosticStatus.

The key names are those that dashboards for such nodes already read. A value that does not exist yet is ``n/a``, not 0.
"""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from perception.ros.findings import (
    OK,
    Limits,
    Situation,
    findings,
    input_state,
    is_too_slow,
    lost_share,
    unanswered_share,
)
from perception.ros.statistics import Snapshot

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


def camera_status(name: str, snapshot: Snapshot, situation: Situation, limits: Limits) -> DiagnosticStatus:
    """One camera's status: the worst finding gives the level, all findings the message."""
    found = findings(snapshot, situation, limits)
    level = max((level for level, _ in found), default=OK)
    status = DiagnosticStatus(level=_LEVELS[level], name=name, hardware_id=situation.model)
    status.message = '; '.join(text for _, text in found) or 'active, input ok'
    status.values = [KeyValue(key=key, value=value) for key, value in _values(snapshot, situation, limits).items()]
    return status


def _values(snapshot: Snapshot, situation: Situation, limits: Limits) -> dict[str, str]:
    def median(stage: str) -> str:
        return f'{snapshot.times_ms[stage][0]:.2f}' if stage in snapshot.times_ms else 'n/a'

    def share(value: float | None) -> str:
        return 'n/a' if value is None else f'{value:.3f}'

    in_range = 'n/a'
    if limits.max_allowed_processing_time_ms and snapshot.last_processing_ms is not None:
        in_range = str(not is_too_slow(snapshot, limits))
    values = {
        'lifecycle_state': situation.lifecycle,
        'input_state': input_state(snapshot, situation, limits),
        'model': situation.model or 'n/a',
        'frame_rate_node': f'{snapshot.frame_rate_node_hz:.2f}',
        'frame_rate_msg': f'{snapshot.frame_rate_msg_hz:.2f}',
        'expected_frequency': f'{limits.expected_frequency:.2f}' if limits.expected_frequency else 'n/a',
        'current_delay_from_realtime_ms': median('delay'),
        'age_at_arrival_ms': median('age_at_arrival'),
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
        'frames_dropped': str(sum(snapshot.dropped.values())),
        'frames_waiting': str(snapshot.waiting),
        'frames_lost_by_middleware': f'at least {snapshot.lost}' if snapshot.lost_at_least else str(snapshot.lost),
        'lost_share': share(lost_share(snapshot.window)),
        'unanswered_share': share(unanswered_share(snapshot.window)),
        'last_bad_image': situation.last_bad_image or 'n/a',
    }
    for stage, (_, high, longest) in sorted(snapshot.times_ms.items()):
        values[f'{stage}_p95_ms'] = f'{high:.2f}'
        values[f'{stage}_max_ms'] = f'{longest:.2f}'
    values.update({f'dropped.{reason}': str(count) for reason, count in sorted(snapshot.dropped.items())})
    return values
