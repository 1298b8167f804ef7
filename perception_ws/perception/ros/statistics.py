"""What happened to a camera's frames: counts, drops by reason, rates, and the time of each stage.

Counts are of all frames since the node was activated. Rates, shares and times are of one window, the last WINDOW_S
seconds, so that they say what is, not what was. Several threads come here, so every access holds the lock. Moments are
of a steady clock, in seconds.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

import numpy as np

WINDOW_S = 5.0
STAGES = ('decode', 'preprocess', 'inference', 'postprocess', 'publish')
NOT_WANTED = 'paused'
"""Frames that came while inference was paused are counted, but nobody wanted them: they are no fault."""
MOST_LOST_AT_ONCE = 1_000_000
"""More is no count: Fast DDS says 2147483647, and less than nothing when that overflows, where it cannot count."""
MOST_FRAMES_A_SECOND = 1000
"""Sequence numbers that rise faster are of another publisher."""

Item = TypeVar('Item')


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
class Window:
    """What happened within the last seconds.

    Attributes:
        received: Frames that came.
        published: Frames that were answered.
        dropped: Frames that came and will not be answered, by reason; without those that nobody wanted.
        lost: Frames that the middleware reports to have lost.
        missing: Frames that never reached the node: gaps in the publisher's sequence numbers, or ``lost`` where there
            are more of those.
    """

    received: int = 0
    published: int = 0
    dropped: dict[str, int]
    lost: int = 0
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The statistics at one moment. Times in ms are (median, 95 %, maximum) over the window.

    Attributes:
        dropped: Frames that came and will not be answered, by reason.
        waiting: Frames that came and whose fate is open; received = published + dropped + waiting.
        lost: Frames that the middleware reports to have lost.
        lost_at_least: Whether it may have lost more than that.
        stamp_ahead_ms: How far the stamps of the window lie in the future at most; 0 if none does.
        unanswered_for_s: Since the oldest frame that came after the last answer; 0 if none did.
        last_failure: The latest since the last answer.
        too_slow_for_s: From the first to the last of the latest answers, all of which took too long.
    """

    received: int
    published: int
    dropped: dict[str, int]
    waiting: int
    lost: int
    lost_at_least: bool
    window: Window
    frame_rate_node_hz: float
    frame_rate_msg_hz: float
    stamp_ahead_ms: float
    since_last_frame_s: float | None
    unanswered_for_s: float
    last_failure: Failure | None
    last_processing_ms: float | None
    too_slow_for_s: float
    times_ms: dict[str, tuple[float, float, float]]


class _Arrival(NamedTuple):
    age_ms: float | None
    sequence: int | None


class _Recent(Generic[Item]):
    """What happened within the window, with the moment of each."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Item]] = deque()

    def add(self, moment: float, item: Item) -> None:
        self._events.append((moment, item))
        self.forget(moment)

    def forget(self, now: float) -> None:
        while self._events and now - self._events[0][0] > WINDOW_S:
            self._events.popleft()

    def moments(self) -> list[float]:
        return [moment for moment, _ in self._events]

    def items(self) -> list[Item]:
        return [item for _, item in self._events]


class CameraStatistics:
    """Collects what happens to the frames of one camera since it was activated."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._received = 0
        self._published = 0
        self._dropped: Counter[str] = Counter()
        self._lost = 0
        self._lost_at_least = False
        self._arrivals: _Recent[_Arrival] = _Recent()
        self._answers: _Recent[dict[str, float]] = _Recent()
        self._drops: _Recent[tuple[str, int]] = _Recent()
        self._losses: _Recent[int] = _Recent()
        self._last_arrival: float | None = None
        self._last_answer: float | None = None
        self._last_processing_ms: float | None = None
        self._unanswered_since: float | None = None
        self._last_failure: Failure | None = None
        self._slow_since: float | None = None

    def count_received(self, *, age_ms: float | None = None, sequence: int | None = None) -> None:
        """Count a frame that came.

        Args:
            age_ms: Since its stamp; None if that is not known.
            sequence: Its number among all that its publisher sent; None if the middleware does not say.
        """
        with self._lock:
            self._received += 1
            self._last_arrival = monotonic()
            self._arrivals.add(self._last_arrival, _Arrival(age_ms, sequence))
            if self._unanswered_since is None:
                self._unanswered_since = self._last_arrival

    def count_lost(self, frames: int) -> None:
        """Count frames that never came, as the middleware reports them."""
        with self._lock:
            if not 0 <= frames <= MOST_LOST_AT_ONCE:
                self._lost_at_least = True
                return
            self._lost += frames
            self._losses.add(monotonic(), frames)

    def expect_no_count_of_losses(self) -> None:
        """Note that the middleware does not report what it loses."""
        with self._lock:
            self._lost_at_least = True

    def count_dropped(self, reason: str, frames: int = 1) -> int:
        """Count frames that came and will not be answered. Returns how many were dropped for that reason so far."""
        with self._lock:
            if reason == NOT_WANTED:
                self._unanswered_since = None
            self._dropped[reason] += frames
            self._drops.add(monotonic(), (reason, frames))
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
            self._last_answer = now = monotonic()
            self._last_processing_ms = times_ms['processing']
            self._answers.add(now, times_ms)
            if not allowed_ms or times_ms['processing'] <= allowed_ms:
                self._slow_since = None
            elif self._slow_since is None:
                self._slow_since = now

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = monotonic()
            for recent in (self._arrivals, self._answers, self._drops, self._losses):
                recent.forget(now)
            ages_ms = [arrival.age_ms for arrival in self._arrivals.items() if arrival.age_ms is not None]
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped=dict(self._dropped),
                waiting=self._received - self._published - self._dropped.total(),
                lost=self._lost,
                lost_at_least=self._lost_at_least,
                window=self._window(),
                frame_rate_node_hz=_rate(self._answers.moments()),
                frame_rate_msg_hz=_rate(self._arrivals.moments()),
                stamp_ahead_ms=max(0.0, -min(ages_ms, default=0.0)),
                since_last_frame_s=None if self._last_arrival is None else now - self._last_arrival,
                unanswered_for_s=0.0 if self._unanswered_since is None else now - self._unanswered_since,
                last_failure=self._last_failure,
                last_processing_ms=self._last_processing_ms,
                too_slow_for_s=0.0 if self._slow_since is None else (self._last_answer or now) - self._slow_since,
                times_ms=_summaries([*self._answers.items(), *({'age_at_arrival': age} for age in ages_ms)]),
            )

    def _window(self) -> Window:
        dropped: Counter[str] = Counter()
        for reason, frames in self._drops.items():
            dropped[reason] += frames
        dropped.pop(NOT_WANTED, None)
        arrivals, lost = self._arrivals.items(), sum(self._losses.items())
        return Window(
            received=len(arrivals),
            published=len(self._answers.items()),
            dropped=dict(dropped),
            lost=lost,
            missing=max(lost, _gaps([arrival.sequence for arrival in arrivals], self._arrivals.moments())),
        )


def _gaps(sequences: Sequence[int | None], moments: Sequence[float]) -> int:
    """How many frames are missing between those that came; 0 if their numbers are not of one publisher."""
    missing = 0
    for (before, after), (earlier, later) in zip(pairwise(sequences), pairwise(moments), strict=True):
        if before is None or after is None or after <= before:
            return 0
        gap = after - before - 1
        missing += gap if gap <= (later - earlier) * MOST_FRAMES_A_SECOND else 0
    return missing


def _summaries(rows: Sequence[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Median, 95 % and maximum of each name."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {
        name: tuple(float(value) for value in np.percentile(values, (50, 95, 100)))  # type: ignore[misc]
        for name, values in columns.items()
    }


def _rate(moments: Sequence[float]) -> float:
    """Events per second; 0 when fewer than two."""
    if len(moments) < 2:
        return 0.0
    return (len(moments) - 1) / max(moments[-1] - moments[0], 1e-9)
