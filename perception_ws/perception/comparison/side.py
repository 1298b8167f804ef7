"""One of two replays that are compared: its report and its times, for the frames that both have.

Shape letters: F frames that both have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perception.errors import ConfigError
from perception.metrics.report import FrameScore
from perception.replay.report import REPORT_FILE, TIMING_FILE, ReplayReport
from perception.replay.timing import PERCEIVING


@dataclass(frozen=True)
class Side:
    """One model's figures for the frames that both have."""

    report: ReplayReport
    frames: list[FrameScore]
    places: list[int]
    """Where these frames stand in the report."""
    timing: dict[str, Any] | None
    """timing.json, if there is one."""

    @property
    def machines(self) -> list[str]:
        """Those on which its frames were looked at; empty: timing.json does not say, as those of older versions."""
        return (self.timing or {}).get('machines', [])

    def stage_ms(self, stage: str) -> np.ndarray:
        """(F,)"""
        assert self.timing is not None
        return np.array(self.timing['frames']['ms'][stage], np.float64)[self.places]

    def agreement(self, name: str) -> np.ndarray:
        """(F,) an entry of the frames' agreement; not a number where there is none."""
        values = [getattr(self.report.agreement[place], name) for place in self.places]
        return np.array([np.nan if value is None else value for value in values], np.float64)


def load_timing(path: Path, report: ReplayReport) -> dict[str, Any] | None:
    """timing.json of a replay, given as its output folder or its report.json; None: there is none.

    Raises:
        ConfigError: If it is not of the report.
    """
    file = (path.parent if path.name == REPORT_FILE and path.is_file() else path) / TIMING_FILE
    if not file.exists():
        return None
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding='utf-8'))
        for stage in PERCEIVING:
            shape, wanted = np.array(document['frames']['ms'][stage], np.float64).shape, (len(report.agreement),)
            if shape != wanted:
                raise ValueError(f'{stage} has shape {shape}, {wanted} was expected')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'{file} does not fit the report beside it ({error}). Remove it to compare without latency.'
        ) from error
    return document
