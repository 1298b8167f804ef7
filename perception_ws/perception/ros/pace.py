"""The pace of a recording: when each of its frames is due, and how far behind that it was sent."""

from time import monotonic
from typing import Any

from perception.ros.demo_summary import spread


class Pace:
    """Times the frames of one recording.

    Args:
        speed: 1 plays at the pace of the recording, 2 twice as fast.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_ns: int | None = None
        self._begin = self._last_due = 0.0
        self._late_ms: list[float] = []

    def due(self, stamp_ns: int) -> float:
        """When a frame is due, as time.monotonic counts; the first one: now.

        Args:
            stamp_ns: Of the frame, as recorded.
        """
        if self._first_ns is None:
            self._first_ns, self._begin = stamp_ns, monotonic()
        return self._begin + (stamp_ns - self._first_ns) / 1e9 / self._speed

    def note_sent(self, due: float) -> None:
        """Take note that a frame that was due then is sent now."""
        self._last_due = due
        self._late_ms.append(max(0.0, monotonic() - due) * 1000)

    def summary(self) -> dict[str, Any]:
        """``late_ms`` (median, p95, max), the mean ``interval_ms`` at which frames were due, and whether it was kept.

        Kept is a pace when 95 % of the frames were late by less than one interval; else the node was not given as many
        frames a second as it should have been.
        """
        if len(self._late_ms) < 2:
            return {'kept': True, 'interval_ms': None, 'late_ms': spread(self._late_ms) if self._late_ms else None}
        interval_ms = (self._last_due - self._begin) * 1000 / (len(self._late_ms) - 1)
        late_ms = spread(self._late_ms)
        return {'kept': late_ms['p95'] < interval_ms, 'interval_ms': round(interval_ms, 3), 'late_ms': late_ms}


def pace_text(pace: dict[str, Any]) -> str:
    """What a pace that was not kept means, for people."""
    return (
        f'frames were due every {pace["interval_ms"]:.0f} ms, 5 % were sent {pace["late_ms"]["p95"]:.0f} ms late or '
        'more. The node had less to do than it should have had: its latency and its drops may look too good. Lower '
        '--speed, or give the machine less else to do.'
    )
