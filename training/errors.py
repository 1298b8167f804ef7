"""Errors of a training run."""

from perception.errors import PerceptionError


class TrainingError(PerceptionError):
    """A run cannot go on; the message names phase, step and what to do. What was saved before is intact."""
