"""The pace of a recording: when each of its frames is due, and how far behind that it was sent."""

from collections import deque
from statistics import median
from time import monotonic
from typing import Any

from perception.ros.demo_summary import spread

LONGEST_PAUSE_S = 10.0
"""Of the recording; a longer one is not waited for, be it a pause of the recorder or a clock that was set."""
USUAL_INTERVAL_S = 0.1
"""Before any two stamps have said how far apart frames are."""
_REMEMBERED = 101


class Pace:
    """Times the frames of one recording.

    Where its stamps jump, by more than ``LONGEST_PAUSE_S`` forward, or do not advance, the pace starts anew: the next
    frame is due after the interval that has been usual so far, and what follows is timed from there.

    Args:
        speed: 1 plays at the pace of the recording, 2 twice as fast.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._stamp_ns: int | None = None
        self._begin = self._due = self._last_due = 0.0
        self._usual_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._late_ms: list[float] = []
        self._jumps_s: dict[str, list[float]] = {'forward': [], 'back': []}

    def due(self, stamp_ns: int) -> float:
        """When the next frame is due, as time.monotonic counts; the first one: now.

        Args:
            stamp_ns: Of the frame, as recorded.
        """
        if self._stamp_ns is None:
            self._begin = self._due = monotonic()
        else:
            self._due += self._interval_s((stamp_ns - self._stamp_ns) / 1e9) / self._speed
        self._stamp_ns = stamp_ns
        return self._due

    def _interval_s(self, step_s: float) -> float:
        """How long after the frame before it a frame is due; steps that no camera makes are taken note of."""
        if 0 < step_s <= LONGEST_PAUSE_S:
            self._usual_s.append(step_s)
            return step_s
        self._jumps_s['forward' if step_s > 0 else 'back'].append(abs(step_s))
        return median(self._usual_s) if self._usual_s else USUAL_INTERVAL_S

    def note_sent(self, due: float) -> None:
        """Take note that a frame that was due then is sent now."""
        self._last_due = due
        self._late_ms.append(max(0.0, monotonic() - due) * 1000)

    def summary(self) -> dict[str, Any]:
        """``late_ms`` (median, p95, max), the mean ``interval_ms`` at which frames were due, and whether it was kept.

        Kept is a pace when 95 % of the frames were late by less than one interval; else the node was not given as many
        frames a second as it should have been. ``jumps`` counts where it started anew, ``forward`` and ``back`` (stamps
        that stand still included), each with its longest step in seconds of the recording.
        """
        jumps = {
            direction: {'count': len(steps_s), 'longest_s': round(max(steps_s, default=0.0), 3)}
            for direction, steps_s in self._jumps_s.items()
        }
        if len(self._late_ms) < 2:
            late_ms = spread(self._late_ms) if self._late_ms else None
            return {'kept': True, 'interval_ms': None, 'late_ms': late_ms, 'jumps': jumps}
        interval_ms = (self._last_due - self._begin) * 1000 / (len(self._late_ms) - 1)
        late_ms = spread(self._late_ms)
        return {
            'kept': late_ms['p95'] < interval_ms,
            'interval_ms': round(interval_ms, 3),
            'late_ms': late_ms,
            'jumps': jumps,
        }


def pace_findings(pace: dict[str, Any]) -> list[str]:
    """What people should know of a pace: that it was not kept, or started anew."""
    findings = [] if pace['kept'] else [f'PACE NOT KEPT: {_late_text(pace)}']
    steps = [
        f'{jump["count"]:,} time{"s" * (jump["count"] > 1)} {direction} (by up to {jump["longest_s"]:,.1f} s)'
        for direction, jump in pace['jumps'].items()
        if jump['count']
    ]
    if steps:
        findings.append(
            f'PACE STARTED ANEW: the recorded stamps jump {" and ".join(steps)}. Steps back, and pauses of more than '
            f'{LONGEST_PAUSE_S:g} s, are not played: the next frame was sent after the usual interval.'
        )
    return findings


def _late_text(pace: dict[str, Any]) -> str:
    return (
        f'frames were due every {pace["interval_ms"]:.0f} ms, 5 % were sent {pace["late_ms"]["p95"]:.0f} ms late or '
        'more. The node had less to do than it should have had: its latency and its drops may look too good. Lower '
        '--speed, or give the machine less else to do.'
    )
