"""How long each frame took, stage by stage: kept apart from the scores, since no two runs take the same time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ('read', 'preprocess', 'inference', 'postprocess', 'score', 'write')
"""In the order of the work. The first two and the last two are this machine's; a vehicle does only the middle three."""
PERCEIVING = ('preprocess', 'inference', 'postprocess')
PERCENTILES = (50, 90, 95, 99, 100)


@dataclass
class Timing:
    """The times of a run.

    Attributes:
        stages_ms: For each stage the time of every frame.
        frames_s: When each frame was recorded, in seconds since the first of its stream.
        seconds: Wall time of the whole loop.
        computed: Frames that this run looked at; the others it took over.
        machines: Those on which frames were looked at, see ``describe_machine``.
    """

    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    frames_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    computed: int = 0
    machines: set[str] = field(default_factory=set)

    def add(self, at_s: float, times_ms: Mapping[str, float], machine: str) -> None:
        """Take in one frame."""
        self.machines.add(machine)
        self.frames_s.append(at_s)
        for stage, values in self.stages_ms.items():
            values.append(times_ms.get(stage, 0.0))

    def merge(self, other: Timing) -> None:
        """Take over the frames of another run, behind those that are here."""
        self.frames_s += other.frames_s
        for stage, values in self.stages_ms.items():
            values += other.stages_ms[stage]
        self.computed += other.computed
        self.machines |= other.machines

    @property
    def latency_ms(self) -> list[float]:
        """What a vehicle would wait for each frame: all that the perceiver does."""
        return [sum(times) for times in zip(*(self.stages_ms[stage] for stage in PERCEIVING), strict=True)]

    @property
    def frames_per_s(self) -> float:
        return self.computed / self.seconds if self.seconds else 0.0

    def percentiles(self) -> dict[str, dict[str, float]]:
        """For each stage, and for all that a vehicle waits for, the percentiles in ms."""
        measured = {**self.stages_ms, 'latency': self.latency_ms}
        return {
            stage: {
                'max' if percent == 100 else f'p{percent}': round(float(np.percentile(values, percent)), 3)
                for percent in PERCENTILES
            }
            for stage, values in measured.items()
            if values
        }

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write it as JSON, beside what else differs from run to run."""
        document = {
            **about,
            'machines': sorted(self.machines),
            'seconds': round(self.seconds, 3),
            'frames_per_s': round(self.frames_per_s, 3),
            'computed': self.computed,
            'latency_ms': self.percentiles(),
            'frames': {
                'recorded_s': self.frames_s,
                'ms': {stage: [round(value, 3) for value in values] for stage, values in self.stages_ms.items()},
            },
        }
        path.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
