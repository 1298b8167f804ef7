"""Learning rates as pure functions of the step within a phase: nothing to save, nothing to restore.

The interdependent paper names polynomial decay with cyclic restarts every 10,000 iterations and no further figure; what
is chosen, and why, is in docs/decisions.md#the-schedule. Weights are best evaluated and kept at the end of a cycle,
where the rate is lowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from perception.errors import ConfigError

ScheduleKind = Literal['poly_restarts', 'one_cycle']


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The course of the learning rate in every phase; where it starts is the phase's own.

    Attributes:
        kind: ``poly_restarts`` decays polynomially and restarts at the full rate (the paper). ``one_cycle`` rises
            linearly to the full rate and falls along a cosine, for short runs.
        power: Of the polynomial.
        cycle: Steps from restart to restart. A shorter phase is one cycle.
        end: Lowest rate. TensorFlow's default of 1e-4 would keep the paper's last two phases constant.
        warm_up: Share of a one-cycle phase in which the rate rises.
    """

    kind: ScheduleKind = 'poly_restarts'
    power: float = 0.9
    cycle: int = 10_000
    end: float = 1e-6
    warm_up: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in COURSES:
            raise ConfigError(f'kind: expected one of {", ".join(COURSES)}, got {self.kind!r}.')
        if self.cycle < 1 or self.power <= 0 or self.end < 0 or not 0 <= self.warm_up < 1:
            raise ConfigError(
                f'A schedule needs cycle >= 1, power > 0, end >= 0 and warm_up in [0, 1); got cycle {self.cycle}, '
                f'power {self.power}, end {self.end}, warm_up {self.warm_up}.'
            )


def learning_rate(config: ScheduleConfig, step: int, *, initial: float, iterations: int) -> float:
    """The rate of a step.

    Args:
        config: The course.
        step: Counted from 0 at the start of the phase.
        initial: The full rate, that of the phase.
        iterations: Length of the phase in steps.
    """
    return config.end + (initial - config.end) * COURSES[config.kind](config, step, iterations)


def _poly_restarts(config: ScheduleConfig, step: int, iterations: int) -> float:
    cycle = min(config.cycle, iterations)
    return (1 - step % cycle / cycle) ** config.power


def _one_cycle(config: ScheduleConfig, step: int, iterations: int) -> float:
    rise = round(config.warm_up * iterations)
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / (iterations - rise))) / 2


COURSES = {'poly_restarts': _poly_restarts, 'one_cycle': _one_cycle}
