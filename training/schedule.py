"""Learning rates as pure functions of the step within a phase: nothing to save, nothing to restore.

The interdependent paper names polynomial decay with cyclic restarts every 10,000 iterations and no further figure; what
is chosen, and why, is in docs/decisions.md#the-schedule. Weights are best evaluated and kept at the end of a cycle,
where the rate is lowest. The SSD line drops the rate at given steps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from perception.errors import ConfigError

ScheduleKind = Literal['poly_restarts', 'one_cycle', 'steps']


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The course of the learning rate in every phase; where it starts is the phase's own.

    Attributes:
        kind: ``poly_restarts`` decays polynomially and restarts at the full rate (the paper). ``one_cycle`` rises
            linearly to the full rate and falls along a cosine, for short runs. ``steps`` holds it and drops it at
            given steps (the SSD line).
        power: Of the polynomial.
        cycle: Steps from restart to restart. A shorter phase is one cycle.
        end: Lowest rate that the first two fall to. TensorFlow's default of 1e-4 would keep the paper's last two phases
            constant.
        warm_up: Share of a one-cycle phase in which the rate rises.
        drops: Of ``steps``: the first step, counted from 0 at the start of a phase, of each lower rate.
        drop_factor: What each drop multiplies the rate by.
        warm_up_steps: Of ``steps``: so many at the start of a phase in which the rate rises linearly.
    """

    kind: ScheduleKind = 'poly_restarts'
    power: float = 0.9
    cycle: int = 10_000
    end: float = 1e-6
    warm_up: float = 0.1
    drops: tuple[int, ...] = ()
    drop_factor: float = 0.1
    warm_up_steps: int = 0

    def __post_init__(self) -> None:
        if self.kind not in COURSES:
            raise ConfigError(f'kind: expected one of {", ".join(COURSES)}, got {self.kind!r}.')
        if self.cycle < 1 or self.power <= 0 or self.end < 0 or not 0 <= self.warm_up < 1:
            raise ConfigError(
                f'A schedule needs cycle >= 1, power > 0, end >= 0 and warm_up in [0, 1); got cycle {self.cycle}, '
                f'power {self.power}, end {self.end}, warm_up {self.warm_up}.'
            )
        if self.kind != 'steps' and (self.drops or self.warm_up_steps):
            raise ConfigError(f'drops and warm_up_steps are of kind steps, got kind {self.kind}; leave them out.')
        if any(later <= earlier for earlier, later in pairwise((0, *self.drops))):
            raise ConfigError(f'drops: expected steps of at least 1, each later than the one before; got {self.drops}.')
        if not 0 < self.drop_factor < 1:
            raise ConfigError(f'drop_factor: expected a factor between 0 and 1, got {self.drop_factor}.')
        if self.warm_up_steps < 0 or (self.drops and self.warm_up_steps > self.drops[0]):
            raise ConfigError(
                f'warm_up_steps: expected at least 0, and the end before the first of drops {self.drops}; got '
                f'{self.warm_up_steps}.'
            )

    def check_length(self, name: str, iterations: int) -> None:
        """Hold the course against a phase of so many steps.

        Raises:
            ConfigError: If it would end before something that is stated comes.
        """
        last = max(self.warm_up_steps, *self.drops, 0)
        if last >= iterations:
            raise ConfigError(
                f'Phase {name!r} has {iterations} iterations, and the schedule would still change at step {last}, '
                f'which never comes: drops {list(self.drops)}, warm_up_steps {self.warm_up_steps}. Shorten these or '
                'lengthen the phase.'
            )


def learning_rate(config: ScheduleConfig, step: int, *, initial: float, iterations: int) -> float:
    """The rate of a step.

    Args:
        config: The course.
        step: Counted from 0 at the start of the phase.
        initial: The full rate, that of the phase.
        iterations: Length of the phase in steps.
    """
    end = 0.0 if config.kind == 'steps' else config.end
    return end + (initial - end) * COURSES[config.kind](config, step, iterations)


def _poly_restarts(config: ScheduleConfig, step: int, iterations: int) -> float:
    cycle = min(config.cycle, iterations)
    return (1 - step % cycle / cycle) ** config.power


def _one_cycle(config: ScheduleConfig, step: int, iterations: int) -> float:
    rise = round(config.warm_up * iterations)
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / (iterations - rise))) / 2


def _steps(config: ScheduleConfig, step: int, iterations: int) -> float:
    if step < config.warm_up_steps:
        return (step + 1) / config.warm_up_steps
    return config.drop_factor ** bisect_right(config.drops, step)


COURSES = {'poly_restarts': _poly_restarts, 'one_cycle': _one_cycle, 'steps': _steps}
