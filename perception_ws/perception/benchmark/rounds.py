"""Times that can be compared: all take turns, A B C A B C, so that what else the machine does hits them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np

from perception.errors import PerceptionError

Name = TypeVar('Name')
Run = Callable[[], Mapping[str, float]]
"""Does the work once; returns the time of each of its stages in ms."""
WHOLE = 'whole'
"""The stage of a ``stopwatch``."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How some times lie, in ms: the quartiles, which stragglers do not move, the least and the longest."""

    median: float
    lower_quartile: float
    upper_quartile: float
    least: float
    longest: float

    @classmethod
    def of(cls, times_ms: np.ndarray) -> Spread:
        """Of at least one time."""
        least, lower, median, upper, longest = (float(value) for value in np.percentile(times_ms, (0, 25, 50, 75, 100)))
        return cls(median=median, lower_quartile=lower, upper_quartile=upper, least=least, longest=longest)


def stopwatch(work: Callable[[], object]) -> Run:
    """A run of work that does not tell its times: one stage, WHOLE. The work must wait for its result."""

    def run() -> dict[str, float]:
        start = perf_counter()
        work()
        return {WHOLE: 1000 * (perf_counter() - start)}

    return run


def run_rounds(
    contenders: Mapping[Name, Run],
    rounds: int,
    *,
    warm_up: int = 2,
    on_turn: Callable[[Name], None] = lambda name: None,
) -> tuple[dict[Name, dict[str, np.ndarray]], dict[Name, str]]:
    """Let contenders take turns.

    Args:
        rounds: Turns of each that count.
        warm_up: Rounds before, which do not.
        on_turn: Called after each turn; may raise KeyboardInterrupt to end it there.

    Returns:
        Of each contender the times of each stage (rounds,) in ms; and of those that failed, why. They are in one of the
        two: who fails once is out, and the others go on.
    """
    times: dict[Name, list[Mapping[str, float]]] = {name: [] for name in contenders}
    failures: dict[Name, str] = {}
    for number in range(warm_up + rounds):
        for name, run in contenders.items():
            if name not in failures:
                try:
                    turn = run()
                except (PerceptionError, RuntimeError) as error:  # a GPU without memory left is a RuntimeError
                    failures[name] = str(error)
                    del times[name]
                    continue
                if number >= warm_up:
                    times[name].append(turn)
            on_turn(name)
    return {
        name: {stage: np.array([turn[stage] for turn in turns]) for stage in turns[0]} for name, turns in times.items()
    }, failures


def ratio(times_ms: np.ndarray, reference_ms: np.ndarray) -> float:
    """How many times as long as the reference took, each (rounds,): the median of the ratios of single rounds."""
    return float(np.median(times_ms / reference_ms))
