"""Is one model better than another on the same recording, and where: differences with bootstrap intervals.

Frames are drawn with replacement, the same ones for both models, and every figure is taken anew from the frames drawn
(Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13): the interval says how far the difference hangs
on which frames were recorded. Frames of a drive resemble their neighbours, so blocks of neighbours are drawn.

Shape letters: F frames that both have, C segmentation classes, R rounds of the bootstrap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from perception.errors import ConfigError
from perception.metrics.report import FrameScore
from perception.replay.report import TIMING_FILE, ReplayReport
from perception.replay.timing import PERCEIVING, STAGES

ROUNDS = 1000
BLOCK_FRAMES = 10
CONFIDENCE = 0.95
Verdict = Literal['better', 'worse', 'no difference']

Figure = Callable[[np.ndarray], np.ndarray]
"""From frames drawn (R, F) to the figure of each round (R,); not a number where there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both models.

    Attributes:
        group: ``segmentation``, ``detection``, ``agreement`` or ``latency``.
        name: Of the figure.
        first, second: Its value for each model, over all frames; None: nothing to measure.
        low, high: Interval of the second less the first.
        more_is_better: False for times.
    """

    group: str
    name: str
    first: float | None
    second: float | None
    low: float | None = None
    high: float | None = None
    more_is_better: bool = True

    @property
    def difference(self) -> float | None:
        return None if self.first is None or self.second is None else self.second - self.first

    @property
    def verdict(self) -> Verdict | None:
        """Of the second model; None without an interval."""
        if self.low is None or self.high is None:
            return None
        if self.low <= 0 <= self.high:
            return 'no difference'
        return 'better' if (self.low > 0) == self.more_is_better else 'worse'


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two replays of the same recording.

    Attributes:
        first, second: Their networks.
        frames: How many frames both have.
        only_first, only_second: Frames that just one of them has; they are left out.
        differences: Figure by figure.
        same_recording: Whether both replayed the same bytes.
    """

    first: str
    second: str
    frames: int
    only_first: int
    only_second: int
    differences: tuple[Difference, ...]
    same_recording: bool


@dataclass(frozen=True)
class _Side:
    """One model's figures for the frames that both have."""

    report: ReplayReport
    frames: list[FrameScore]
    places: list[int]
    """Where these frames stand in the report."""
    stages_ms: dict[str, np.ndarray]
    """(F,) for each stage."""


def compare(first: Path, second: Path, *, rounds: int = ROUNDS, seed: int = 0) -> Comparison:
    """Compare two output folders of replays.

    Raises:
        ConfigError: If one is no replay, their label spaces differ, or they have no frame in common.
    """
    reports = ReplayReport.load(first), ReplayReport.load(second)
    spaces = [report.scores.label_space for report in reports]
    if spaces[0] != spaces[1]:
        raise ConfigError(f'{first} has label space {spaces[0]!r}, {second} has {spaces[1]!r}; they must be one.')
    names = [[frame.name for frame in report.scores.frames] for report in reports]
    common = [name for name in names[0] if name in set(names[1])]
    if not common:
        raise ConfigError(
            f'{first} and {second} have no frame in common ({names[0][:1]} and {names[1][:1]}); '
            'replay the same recording with both models.'
        )
    sides = [_side(folder, report, common) for folder, report in zip((first, second), reports, strict=True)]
    drawn = draw_blocks(len(common), rounds, seed)
    provenance = [report.scores.provenance for report in reports]
    return Comparison(
        first=str(provenance[0].get('network', first)),
        second=str(provenance[1].get('network', second)),
        frames=len(common),
        only_first=len(names[0]) - len(common),
        only_second=len(names[1]) - len(common),
        differences=tuple(_differences(sides[0], sides[1], drawn)),
        same_recording=provenance[0].get('recordings') == provenance[1].get('recordings'),
    )


def draw_blocks(frames: int, rounds: int, seed: int) -> np.ndarray:
    """(R, F) indices of frames, drawn in blocks of neighbours that run round the end."""
    rng = np.random.default_rng(seed)
    block = min(BLOCK_FRAMES, max(1, frames // 5))
    starts = rng.integers(0, frames, (rounds, -(-frames // block)))
    indices = (starts[:, :, None] + np.arange(block)) % frames
    return indices.reshape(rounds, -1)[:, :frames]


def _side(folder: Path, report: ReplayReport, common: Sequence[str]) -> _Side:
    place_of = {frame.name: place for place, frame in enumerate(report.scores.frames)}
    places = [place_of[name] for name in common]
    try:
        times = json.loads((folder / TIMING_FILE).read_text(encoding='utf-8'))['frames']['ms']
        stages = {stage: np.array(times[stage])[places] for stage in STAGES}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(f'{folder / TIMING_FILE} does not fit the report beside it ({error}).') from error
    return _Side(report, [report.scores.frames[place] for place in places], places, stages)


def _differences(first: _Side, second: _Side, drawn: np.ndarray) -> list[Difference]:
    everything = np.arange(drawn.shape[1])[None]

    def measure(group: str, name: str, figures: tuple[Figure, Figure], *, more_is_better: bool = True) -> Difference:
        values = [_number(figure(everything)[0]) for figure in figures]
        rounds = figures[1](drawn) - figures[0](drawn)
        rounds = rounds[np.isfinite(rounds)]
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(rounds, (tail, 100 - tail)).tolist() if len(rounds) else (None, None)
        return Difference(
            group=group,
            name=name,
            first=values[0],
            second=values[1],
            low=low,
            high=high,
            more_is_better=more_is_better,
        )

    sides = first, second
    found = []
    if any(frame.truth_pixels for side in sides for frame in side.frames):
        iou = [_iou_figures(side.frames) for side in sides]
        found.append(measure('segmentation', 'mIoU', (_mean_of(iou[0]), _mean_of(iou[1]))))
        for index, name in enumerate(first.report.scores.segmentation.classes):
            found.append(measure('segmentation', name, (iou[0][index], iou[1][index])))
    if any(frame.ap50 is not None for side in sides for frame in side.frames):
        found.append(measure('detection', 'AP50, mean of frames', _means(*(_ap50(side.frames) for side in sides))))
        found += _whole_run_precision(first.report, second.report)
    for name, field in (('boxes backed by mask', 'supported'), ('object pixels in a box', 'covered')):
        found.append(measure('agreement', name, _means(*(_agreement(side, field) for side in sides))))
    for stage in PERCEIVING:
        means = _means(*(side.stages_ms[stage] for side in sides))
        found.append(measure('latency', f'{stage} ms', means, more_is_better=False))
    latency = (np.sum([side.stages_ms[stage] for stage in PERCEIVING], axis=0) for side in sides)
    found.append(measure('latency', 'latency ms', _means(*latency), more_is_better=False))
    return found


def _means(first: np.ndarray, second: np.ndarray) -> tuple[Figure, Figure]:
    return _mean_figure(first), _mean_figure(second)


def _mean_figure(values: np.ndarray) -> Figure:
    """The mean over the frames drawn that have a value (F,)."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0)

    def figure(drawn: np.ndarray) -> np.ndarray:
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.asarray(filled[drawn].sum(axis=1) / known[drawn].sum(axis=1))

    return figure


def _iou_figures(frames: Sequence[FrameScore]) -> list[Figure]:
    """IoU of each class over the pixels of all frames drawn, as in the report; not a number without truth."""
    classes = next(len(frame.truth_pixels) for frame in frames if frame.truth_pixels)
    none = (0,) * classes
    truth, predicted, correct = (
        np.array([getattr(frame, f'{kind}_pixels') or none for frame in frames], np.float64)  # (F, C)
        for kind in ('truth', 'predicted', 'correct')
    )

    def figure(index: int) -> Figure:
        def iou(drawn: np.ndarray) -> np.ndarray:
            true, found, right = (counts[drawn, index].sum(axis=1) for counts in (truth, predicted, correct))
            with np.errstate(invalid='ignore', divide='ignore'):
                return np.where(true > 0, right / (true + found - right), np.nan)

        return iou

    return [figure(index) for index in range(classes)]


def _mean_of(figures: Sequence[Figure]) -> Figure:
    """The mean over the figures that are measured."""

    def mean(drawn: np.ndarray) -> np.ndarray:
        values = np.stack([figure(drawn) for figure in figures])  # (C, R)
        known = np.isfinite(values)
        return np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)

    return mean


def _ap50(frames: Sequence[FrameScore]) -> np.ndarray:
    return np.array([np.nan if frame.ap50 is None else frame.ap50 for frame in frames], np.float64)


def _agreement(side: _Side, name: str) -> np.ndarray:
    values = [getattr(side.report.agreement[place], name) for place in side.places]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _whole_run_precision(first: ReplayReport, second: ReplayReport) -> list[Difference]:
    """Average precision over the whole run, which cannot be taken from frames by themselves: without an interval."""
    scores = first.scores.detection, second.scores.detection
    names = ['AP50', 'AP50:95', *(f'AP50 {name}' for name in scores[0].classes)]
    values = [(each.mean_ap50, each.mean_ap, *each.ap50) for each in scores]
    return [
        Difference(group='detection', name=name, first=before, second=after)
        for name, before, after in zip(names, *values, strict=True)
    ]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
