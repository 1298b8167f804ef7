"""Errors of a training run."""

from collections.abc import Sequence

from perception.errors import PerceptionError


class TrainingError(PerceptionError):
    """A run cannot go on; the message names phase, step and what to do. What was saved before is intact."""


class StepError(TrainingError):
    """A step's figures are not finite, and it was not taken."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(', '.join(reasons))
        self.reasons = tuple(reasons)
