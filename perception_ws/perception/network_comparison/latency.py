"""How long each network takes with each backend and precision: all take turns on one picture, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from perception.benchmark.rounds import Spread, ratio, run_rounds
from perception.errors import ConfigError, PerceptionError
from perception.network_comparison.candidates import Candidate, Failure
from perception.output_folder import StopRequest
from perception.pipeline import Perceiver
from perception.replay.timing import PERCEIVING

WARM_UP = 2
"""Rounds that do not count."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How networks are run."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f'{self.backend} {self.precision}'


Perceivers = dict[tuple[str, Way], Perceiver]
"""By the name of the network, and the way it is run."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The times of one network, run in one way.

    Attributes:
        device: Where the network ran.
        whole_ms: Of each round all that a vehicle waits for: preparing the picture, the network, post-processing.
        network_ms: Of each round the network alone.
        ratio: How many times as long as the first network of the comparison took in the same way, round by round;
            None: that has no times.
    """

    way: Way
    device: str
    whole_ms: np.ndarray
    network_ms: np.ndarray
    ratio: float | None

    @property
    def whole(self) -> Spread:
        return Spread.of(self.whole_ms)

    @property
    def network(self) -> Spread:
        return Spread.of(self.network_ms)


def build_perceivers(
    candidates: Sequence[Candidate],
    ways: Sequence[Way],
    device: str,
    *,
    backends_named: bool = False,
    precisions_named: bool = False,
) -> tuple[Perceivers, dict[Way, str], list[Failure]]:
    """Prepare each network to run in each way.

    Args:
        backends_named, precisions_named: Whether somebody asked for just these. What cannot be run here is then a
            failure, else it is left out; a precision that was named counts as served if one backend serves it.

    Returns:
        The perceivers by the names of their networks; ways that are left out, and why; what failed.

    Raises:
        ConfigError: If no network can be run in any way.
    """
    perceivers: Perceivers = {}
    refusals: dict[tuple[str, Way], str] = {}
    for candidate in candidates:
        for way in ways:
            # A network of its own for each: a backend may move it to another device, or fold it.
            checkpoint = replace(candidate.checkpoint, network=deepcopy(candidate.checkpoint.network))
            try:
                perceivers[candidate.name, way] = Perceiver(
                    checkpoint, backend=way.backend, device=device, precision=way.precision
                )
            except PerceptionError as error:
                refusals[candidate.name, way] = str(error)
    if not perceivers:
        raise ConfigError(' '.join(dict.fromkeys(refusals.values())))
    served = {way for _, way in perceivers}
    precisions = {way.precision for way in served}
    left_out = {
        way: reason
        for (_, way), reason in refusals.items()
        if not (way in served or backends_named or (precisions_named and way.precision not in precisions))
    }
    failures = [
        Failure(checkpoint=name, stage='latency', reason=f'{way}: {reason}')
        for (name, way), reason in refusals.items()
        if way not in left_out
    ]
    return perceivers, left_out, failures


def measure_latency(
    perceivers: Perceivers,
    image_rgb: np.ndarray,
    rounds: int,
    stop: StopRequest,
    *,
    progress: bool = True,
) -> tuple[dict[str, list[Latency]], list[Failure]]:
    """Let all perceivers look at one (H, W, 3) uint8 picture in turns.

    Returns:
        The latencies of each network by its name, and what failed.

    Raises:
        KeyboardInterrupt: If somebody asked to stop.
    """
    runs = {key: partial(_look, perceiver, image_rgb) for key, perceiver in perceivers.items()}
    with tqdm(total=len(runs) * (WARM_UP + rounds), unit='turn', desc='latency', disable=not progress) as bar:

        def on_turn(key: tuple[str, Way]) -> None:
            bar.update()
            stop.check()

        times, failed = run_rounds(runs, rounds, warm_up=WARM_UP, on_turn=on_turn)
    whole = {key: np.sum([stages[stage] for stage in PERCEIVING], axis=0) for key, stages in times.items()}
    first = next(iter(perceivers))[0]
    latencies: dict[str, list[Latency]] = {}
    for (name, way), stages in times.items():
        reference = whole.get((first, way))
        latencies.setdefault(name, []).append(
            Latency(
                way=way,
                device=perceivers[name, way].device,
                whole_ms=whole[name, way],
                network_ms=stages['inference'],
                ratio=None if reference is None else ratio(whole[name, way], reference),
            )
        )
    return latencies, [
        Failure(checkpoint=name, stage='latency', reason=f'{way}: {reason}') for (name, way), reason in failed.items()
    ]


def _look(perceiver: Perceiver, image_rgb: np.ndarray) -> Mapping[str, float]:
    return perceiver(image_rgb).times_ms
