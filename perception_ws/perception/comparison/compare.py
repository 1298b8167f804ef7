"""Is one model better than another on the same recording, and where: differences with bootstrap intervals.

The same frames are drawn for both models: the interval says how far the difference hangs on which frames were recorded.
It says nothing of what else differs: no verdict is given where the runs were not made alike.

Shape letters: F frames that both have, R rounds of the bootstrap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perception.comparison.bootstrap import (
    BLOCK_FRAMES,
    CONFIDENCE,
    MIN_BLOCKS,
    ROUNDS,
    Figure,
    draw_blocks,
    iou_figures,
    mean_figure,
    mean_of,
)
from perception.comparison.pairing import pair_frames
from perception.errors import ConfigError
from perception.metrics.report import FrameScore
from perception.replay.report import REPORT_FILE, TIMING_FILE, ReplayReport
from perception.replay.timing import PERCEIVING

Verdict = Literal['better', 'worse', 'no difference']

_TRUTH = {'segmentation': ('truth_pixels', 'masks'), 'detection': ('boxes', 'boxes')}
"""Of each task, what a frame's score has only where its truth is annotated, and what that truth is."""
_LOAD = ('threads a frame', 'device', 'machine')
"""What latency hangs on, whatever the model; the machine is in timing.json, the others are in the report's provenance.
Backend and precision are not here, they may be what is compared."""
_MODEL = ('network', 'backend', 'precision', 'post-processing', 'versions')
"""In the report's provenance: what may be compared. With all of it the same, two latencies tell of no model."""
_THRESHOLD = 'score threshold of pictures and agreement'
_TOO_FEW = 'too few frames'


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both models.

    Attributes:
        group: ``segmentation``, ``detection``, ``agreement`` or ``latency``.
        name: Of the figure.
        first, second: Its value for each model, over all frames; None: nothing to measure.
        low, high: Interval of the second less the first; None: there is none to rely on.
        withheld: Why there is none, in a word or two.
        more_is_better: False for times.
    """

    group: str
    name: str
    first: float | None
    second: float | None
    low: float | None = None
    high: float | None = None
    withheld: str = ''
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
        notes: What is left out or gets no verdict, why, and what to do; whole sentences, in which the first is A.
    """

    first: str
    second: str
    frames: int
    only_first: int
    only_second: int
    differences: tuple[Difference, ...]
    same_recording: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Side:
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


def compare(first: Path, second: Path, *, rounds: int = ROUNDS, seed: int = 0) -> Comparison:
    """Compare two replays, each given as its output folder or as the report.json in it.

    Raises:
        ConfigError: If one is no replay, their label spaces differ, they have no frame in common, or a timing.json is
            not of the report beside it.
    """
    paths = first, second
    reports = ReplayReport.load(first), ReplayReport.load(second)
    spaces = [report.scores.label_space for report in reports]
    if spaces[0] != spaces[1]:
        raise ConfigError(f'{first} has label space {spaces[0]!r}, {second} has {spaces[1]!r}; they must be one.')
    pairs, same_recording = pair_frames(*reports)
    if not pairs:
        names = [[frame.name for frame in report.scores.frames[:1]] for report in reports]
        raise ConfigError(
            f'{first} and {second} have no frame in common ({names[0]} and {names[1]}); '
            'replay the same recording with both models.'
        )
    sides = [
        _Side(report, [report.scores.frames[place] for place in places], list(places), _load_timing(path, report))
        for path, report, places in zip(paths, reports, zip(*pairs, strict=True), strict=True)
    ]
    differences, notes = _differences(sides[0], sides[1], draw_blocks(len(pairs), rounds, seed))
    networks = [str(report.scores.provenance.get('network', path)) for path, report in zip(paths, reports, strict=True)]
    return Comparison(
        first=networks[0],
        second=networks[1],
        frames=len(pairs),
        only_first=len(reports[0].agreement) - len(pairs),
        only_second=len(reports[1].agreement) - len(pairs),
        differences=tuple(differences),
        same_recording=same_recording,
        notes=(*_name_parts(reports), *notes),
    )


def _load_timing(path: Path, report: ReplayReport) -> dict[str, Any] | None:
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


def _differences(first: _Side, second: _Side, drawn: np.ndarray) -> tuple[list[Difference], list[str]]:
    """All figures, and what to say of those that are missing or get no verdict."""
    sides = first, second
    everything = np.arange(drawn.shape[1])[None]
    scored, notes = _scored_frames(sides)
    withheld = {}
    for group, (why, note) in {'agreement': _judge_agreement(sides), 'latency': _judge_latency(sides)}.items():
        withheld[group] = why
        notes += [note] if note else []

    def measure(group: str, name: str, figures: Sequence[Figure], *, more_is_better: bool = True) -> Difference:
        before, after = (_number(figure.of(everything)[0]) for figure in figures)
        low = high = None
        why = ''
        if before is not None and after is not None:
            too_few = min(figure.blocks for figure in figures) < MIN_BLOCKS
            why = withheld.get(group) or (_TOO_FEW if too_few else '')
            if not why:
                rounds = figures[1].of(drawn) - figures[0].of(drawn)
                tail = 100 * (1 - CONFIDENCE) / 2
                low, high = np.nanpercentile(rounds, (tail, 100 - tail)).tolist()
        return Difference(
            group=group,
            name=name,
            first=before,
            second=after,
            low=low,
            high=high,
            withheld=why,
            more_is_better=more_is_better,
        )

    found = []
    if scored['segmentation'].any():
        classes = first.report.scores.segmentation.classes
        iou = [iou_figures(side.frames, scored['segmentation'], len(classes)) for side in sides]
        found.append(measure('segmentation', 'mIoU', [mean_of(figures) for figures in iou]))
        for index, name in enumerate(classes):
            found.append(measure('segmentation', name, [figures[index] for figures in iou]))
    if scored['detection'].any():
        ap50 = [mean_figure(np.where(scored['detection'], _ap50(side.frames), np.nan)) for side in sides]
        found.append(measure('detection', 'AP50, mean of frames', ap50))
        if all(side.report.scores.detection.images == scored['detection'].sum() for side in sides):
            found += _whole_run_precision(first.report, second.report)
        else:
            notes.append('AP of the whole run is left out, it is not of the same frames.')
    for name, field in (('boxes backed by mask', 'supported'), ('object pixels in a box', 'covered')):
        found.append(measure('agreement', name, [mean_figure(_agreement(side, field)) for side in sides]))
    if all(side.timing is not None for side in sides):
        for name, stages in {**{f'{stage} ms': [stage] for stage in PERCEIVING}, 'latency ms': PERCEIVING}.items():
            times = [mean_figure(np.sum([side.stage_ms(stage) for stage in stages], axis=0)) for side in sides]
            found.append(measure('latency', name, times, more_is_better=False))
    if any(item.withheld == _TOO_FEW for item in found):
        some = ' on some figures' if any(item.verdict for item in found) else ''
        notes.append(
            f'Too few frames for a verdict{some}: it takes {MIN_BLOCKS} blocks of {BLOCK_FRAMES} neighbouring frames '
            'that have something to measure.'
        )
    return found, notes


def _name_parts(reports: Sequence[ReplayReport]) -> list[str]:
    return [
        f'{letter} is of a part of its recordings, it ended early: {report.ended_by.rstrip(".")}.'
        for letter, report in zip('AB', reports, strict=True)
        if not report.complete
    ]


def _scored_frames(sides: Sequence[_Side]) -> tuple[dict[str, np.ndarray], list[str]]:
    """For each task the frames that have truth in both (F,), and what to say of the others."""
    both: dict[str, np.ndarray] = {}
    missing: dict[str, list[str]] = {}
    alone: np.ndarray = np.zeros(len(sides[0].frames), bool)
    unlike = alone
    for task, (field, _) in _TRUTH.items():
        truth = [[getattr(frame, field) for frame in side.frames] for side in sides]
        has = np.array([[value is not None for value in values] for values in truth])  # (2, F)
        both[task] = has[0] & has[1]
        if both[task].any():
            alone = alone | (has[0] ^ has[1])
            unlike = unlike | (both[task] & [before != after for before, after in zip(*truth, strict=True)])
        elif has.any():
            one = f'Only {"AB"[int(has[1].any())]} has truth'
            who = 'In no frame do both have truth' if has.any(axis=1).all() else one
            missing.setdefault(who, []).append(task)
    notes = []
    for who, tasks in missing.items():
        kind = '' if len(tasks) == len(_TRUTH) else f' with {_TRUTH[tasks[0]][1]}'
        notes.append(f'{who}{kind}, so {" and ".join(tasks)} {"is" if kind else "are"} not compared.')
    if alone.any():
        notes.append(f'Truth that only one has is left out, in {alone.sum():,} of {len(alone):,} frames.')
    if unlike.any():
        notes.append(f'THE TRUTH IS NOT THE SAME in {unlike.sum():,} of {len(unlike):,} frames; give both one --truth.')
    return both, notes


def _judge_agreement(sides: Sequence[_Side]) -> tuple[str, str]:
    """Why agreement gets no verdict, in a word or two and in a sentence; empty: it does."""
    unlike = _unlike([side.report.scores.provenance for side in sides], [_THRESHOLD])
    if unlike:
        return 'unlike runs', f'Agreement gets no verdict: {unlike}. Replay both with one --score-threshold.'
    return '', ''


def _judge_latency(sides: Sequence[_Side]) -> tuple[str, str]:
    """The same of latency."""
    lacking = [letter for letter, side in zip('AB', sides, strict=True) if side.timing is None]
    if lacking:
        verb = 'has' if len(lacking) == 1 else 'have'
        return 'no times', f'{" and ".join(lacking)} {verb} no {TIMING_FILE}, so latency is not compared.'
    runs = [{**side.report.scores.provenance, 'machine': _describe_machines(side)} for side in sides]
    unlike = _unlike(runs, _LOAD)
    if not unlike and any(len(side.machines) != 1 for side in sides):
        unlike = f'the frames of each were looked at on {runs[0]["machine"]}'
    if unlike:
        return (
            'unlike runs',
            f'Latency gets no verdict: {unlike}. Replay both with --workers 1 on one machine and device.',
        )
    if not _unlike(runs, _MODEL):
        same = 'Latency gets no verdict: A and B are the same model with the same settings'
        return 'same model', f'{same}, so what differs is the load of the machine.'
    return '', ''


def _describe_machines(side: _Side) -> str:
    return ' and '.join(side.machines) or 'a machine that timing.json does not name'


def _unlike(runs: Sequence[dict[str, Any]], keys: Sequence[str]) -> str:
    """Which entries differ, for people."""
    first, second = runs
    return ', '.join(
        f'{key} is {first.get(key)} in A and {second.get(key)} in B'
        for key in keys
        if first.get(key) != second.get(key)
    )


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
