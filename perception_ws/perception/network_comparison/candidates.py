"""What is compared: checkpoints, each under a name of its own. One that cannot be loaded costs no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perception.benchmark.cost import NetworkCost, measure_cost
from perception.checkpoint import Checkpoint, is_network, resolve_checkpoint
from perception.errors import ConfigError, PerceptionError
from perception.interfaces import LabelSpace
from perception.replay.recordings import distinct_names


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One network of the comparison.

    Attributes:
        name: No other has it: that of the network, or as much of the path as tells files apart.
        checkpoint: The network with its weights.
        cost: Of the network at the checkpoint's input size.
    """

    name: str
    checkpoint: Checkpoint
    cost: NetworkCost

    @property
    def labels(self) -> LabelSpace:
        return self.checkpoint.network.labels


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What could not be done for one checkpoint; the others go on.

    Attributes:
        checkpoint: Its name.
        stage: ``load``, ``latency`` or ``accuracy``.
        reason: What came and what was expected.
    """

    checkpoint: str
    stage: str
    reason: str

    def __str__(self) -> str:
        return f'{self.checkpoint}, {self.stage}: {self.reason}'


def load_candidates(models: Sequence[str]) -> tuple[list[Candidate], list[Failure]]:
    """Load checkpoints, each a file or the name of a network, and count what they cost.

    Raises:
        ConfigError: If one is given twice, or none can be loaded.
    """
    candidates: list[Candidate] = []
    failures: list[Failure] = []
    for name, model in zip(_names(models), models, strict=True):
        try:
            checkpoint = resolve_checkpoint(model)
            cost = measure_cost(checkpoint.network)
        except PerceptionError as error:
            failures.append(Failure(checkpoint=name, stage='load', reason=str(error)))
        else:
            candidates.append(Candidate(name=name, checkpoint=checkpoint, cost=cost))
    if not candidates:
        reasons = ' '.join(failure.reason for failure in failures)
        raise ConfigError(f'None of the {len(models)} checkpoints can be loaded. {reasons}')
    return candidates, failures


def name_twins(candidates: Sequence[Candidate]) -> list[str]:
    """What to say of copies of one file."""
    first: dict[str, Candidate] = {}
    notes = []
    for candidate in candidates:
        other = first.setdefault(candidate.checkpoint.title, candidate)
        if other is not candidate and candidate.checkpoint.trained:
            notes.append(f'{candidate.name} and {other.name} are the same file, byte for byte.')
    return notes


def _names(models: Sequence[str]) -> list[str]:
    keys = [model if is_network(model) else str(Path(model).resolve()) for model in models]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise ConfigError(f'{models[place]} is given twice; each checkpoint counts once.')
    files = iter(distinct_names([Path(model) for model in models if not is_network(model)]))
    return [model if is_network(model) else next(files) for model in models]
