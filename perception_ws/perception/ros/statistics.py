"""What happened to a camera's frames: counts, drops by reason, rates, and the time of each stage.

Two threads write and a third reads, so every access holds the lock. Times are of a steady clock, in seconds.
"""

from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import numpy as np

WINDOW_FRAMES = 1000
RATE_SPAN_S = 5.0
STAGES = ('decode', 'preprocess', 'inference', 'postprocess', 'publish')
NOT_DROPPED = 'paused'
"""Frames that came while inference was paused are counted, but nobody wanted them: they are no fault."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a frame whose turn had come got no answer.

    Attributes:
        reason: The fixed word under which it is counted.
        detail: What happened, for people.
        bad_image: Whether the message was at fault, not the node.
    """

    reason: str
    detail: str
    bad_image: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The statistics at one moment. Times in ms are (median, 95 %, maximum) over the last frames.

    Attributes:
        unanswered_for_s: Since the oldest frame that came after the last answer; 0 if none did.
        last_failure: The latest since the last answer.
        too_slow_for_s: From the first to the last of the latest answers, all of which took too long.
    """

    received: int
    published: int
    dropped: dict[str, int]
    frame_rate_node_hz: float
    frame_rate_msg_hz: float
    since_last_frame_s: float | None
    unanswered_for_s: float
    last_failure: Failure | None
    last_processing_ms: float | None
    too_slow_for_s: float
    times_ms: dict[str, tuple[float, float, float]]


class CameraStatistics:
    """Collects what happens to the frames of one camera since it was activated."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._received = 0
        self._published = 0
        self._dropped: Counter[str] = Counter()
        self._arrivals: deque[float] = deque(maxlen=WINDOW_FRAMES)
        self._departures: deque[float] = deque(maxlen=WINDOW_FRAMES)
        self._times_ms: deque[dict[str, float]] = deque(maxlen=WINDOW_FRAMES)
        self._last_arrival: float | None = None
        self._unanswered_since: float | None = None
        self._last_failure: Failure | None = None
        self._slow_since: float | None = None

    def count_received(self) -> None:
        with self._lock:
            self._received += 1
            self._last_arrival = monotonic()
            self._arrivals.append(self._last_arrival)
            if self._unanswered_since is None:
                self._unanswered_since = self._last_arrival

    def count_dropped(self, reason: str, frames: int = 1) -> int:
        """Count frames that will not be answered. Returns how many were dropped for that reason so far."""
        with self._lock:
            if reason == NOT_DROPPED:
                self._unanswered_since = None
            self._dropped[reason] += frames
            return self._dropped[reason]

    def count_failed(self, failure: Failure) -> int:
        """Count a frame that had its turn and will not be answered; returns as ``count_dropped``."""
        with self._lock:
            self._last_failure = failure
        return self.count_dropped(failure.reason)

    def count_published(self, times_ms: dict[str, float], *, allowed_ms: float = 0) -> None:
        """Count an answered frame.

        Args:
            times_ms: The time of each of STAGES, their sum as ``processing`` and, where clocks allow, ``delay``
                from the image's stamp to the last published message.
            allowed_ms: Longer processing counts as too slow; 0: never.
        """
        with self._lock:
            self._published += 1
            self._unanswered_since = self._last_failure = None
            now = monotonic()
            self._departures.append(now)
            self._times_ms.append(times_ms)
            if not allowed_ms or times_ms['processing'] <= allowed_ms:
                self._slow_since = None
            elif self._slow_since is None:
                self._slow_since = now

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = monotonic()
            names = {name for times in self._times_ms for name in times}
            columns = {name: [times[name] for times in self._times_ms if name in times] for name in names}
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped=dict(self._dropped),
                frame_rate_node_hz=_rate(self._departures, now),
                frame_rate_msg_hz=_rate(self._arrivals, now),
                since_last_frame_s=None if self._last_arrival is None else now - self._last_arrival,
                unanswered_for_s=0.0 if self._unanswered_since is None else now - self._unanswered_since,
                last_failure=self._last_failure,
                last_processing_ms=self._times_ms[-1]['processing'] if self._times_ms else None,
                too_slow_for_s=0.0 if self._slow_since is None else self._departures[-1] - self._slow_since,
                times_ms={
                    name: tuple(float(value) for value in np.percentile(values, (50, 95, 100)))  # type: ignore[misc]
                    for name, values in columns.items()
                },
            )


def _rate(moments: deque[float], now: float) -> float:
    """Events per second over the last seconds; 0 when fewer than two."""
    recent = [moment for moment in moments if now - moment <= RATE_SPAN_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-9)
