"""Is one model better than another on the same recording, and where: differences with intervals.

Both models saw the same frames: the interval says how far the difference hangs on which frames were recorded. It says
nothing of what else differs: no verdict is given where the runs were not made alike.

Shape letters: F frames that both have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perception.comparison.intervals import (
    MIN_BLOCKS,
    Figure,
    difference_interval,
    iou_figures,
    mean_figure,
    mean_of,
    number_blocks,
    precision_figures,
)
from perception.comparison.pairing import pair_frames, recording_names
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
_AGREEMENT = (
    ('boxes backed by mask', 'supported', 'boxes'),
    ('object pixels in a box', 'covered', 'object_pixels'),
)
"""Name, share and what it is a share of."""
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


def compare(first: Path, second: Path) -> Comparison:
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
        names = [', '.join(frame.name for frame in report.scores.frames[:1]) or 'none' for report in reports]
        streams = [', '.join(report.stream_names) for report in reports]
        raise ConfigError(
            f'{first} and {second} have no frame in common: the first is {names[0]} of {streams[0]}, and {names[1]} of '
            f'{streams[1]}. Replay the same recording with both models.'
        )
    sides = [
        _Side(report, [report.scores.frames[place] for place in places], list(places), _load_timing(path, report))
        for path, report, places in zip(paths, reports, zip(*pairs, strict=True), strict=True)
    ]
    recordings = recording_names(reports[0])
    blocks = number_blocks(
        [recordings[reports[0].streams[place]] for place in sides[0].places],
        [reports[0].recorded_ns[place] for place in sides[0].places],
    )
    differences, notes = _differences(sides[0], sides[1], blocks)
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


def _differences(first: _Side, second: _Side, blocks: np.ndarray) -> tuple[list[Difference], list[str]]:
    """All figures, and what to say of those that are missing or get no verdict; blocks (F,) as of number_blocks."""
    sides = first, second
    scored, withheld, notes = _scored_frames(sides)
    for group, (why, note) in {'agreement': _judge_agreement(sides), 'latency': _judge_latency(sides)}.items():
        withheld[group] = why
        notes += [note] if note else []

    def measure(group: str, name: str, figures: Sequence[Figure], *, more_is_better: bool = True) -> Difference:
        before, after = (_number(figure.value) for figure in figures)
        interval = None
        why = ''
        if before is not None and after is not None:
            why = withheld.get(group, '')
            interval = None if why else difference_interval(figures[0], figures[1])
            why = why or ('' if interval else _TOO_FEW)
        low, high = interval or (None, None)
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
        before, after = (iou_figures(side.frames, scored['segmentation'], blocks, len(classes)) for side in sides)
        found.append(measure('segmentation', 'mIoU', (mean_of(before), mean_of(after))))
        found += [measure('segmentation', name, pair) for name, *pair in zip(classes, before, after, strict=True)]
    if scored['detection'].any():
        classes = first.report.scores.detection.classes
        before, after = (precision_figures(side.frames, scored['detection'], blocks, len(classes)) for side in sides)
        found.append(measure('detection', 'AP50', (mean_of(before), mean_of(after))))
        found += [
            measure('detection', f'AP50 {name}', pair) for name, *pair in zip(classes, before, after, strict=True)
        ]
        if all(side.report.scores.detection.images == scored['detection'].sum() for side in sides):
            found.append(_strict_precision(first.report, second.report))
        else:
            notes.append('AP50:95 is left out, it is not of the same frames.')
    for name, field, weight in _AGREEMENT:
        shares = [_agreement(side, field) for side in sides]
        # A model that sees nothing where it is hard is not better for it.
        missing = np.isnan(shares).any(axis=0)
        pair = [
            mean_figure(np.where(missing, np.nan, share), blocks, _agreement(side, weight))
            for share, side in zip(shares, sides, strict=True)
        ]
        found.append(measure('agreement', name, pair))
    if all(side.timing is not None for side in sides):
        for name, stages in {**{f'{stage} ms': [stage] for stage in PERCEIVING}, 'latency ms': PERCEIVING}.items():
            times = [mean_figure(np.sum([side.stage_ms(stage) for stage in stages], axis=0), blocks) for side in sides]
            found.append(measure('latency', name, times, more_is_better=False))
    if any(item.withheld == _TOO_FEW for item in found):
        some = ' on some figures' if any(item.verdict for item in found) else ''
        notes.append(
            f'Too few frames for a verdict{some}: it takes {MIN_BLOCKS} different seconds of recording that have '
            'something to measure.'
        )
    return found, notes


def _name_parts(reports: Sequence[ReplayReport]) -> list[str]:
    return [
        f'{letter} is of a part of its recordings, it ended early: {report.ended_by.rstrip(".")}.'
        for letter, report in zip('AB', reports, strict=True)
        if not report.complete
    ]


def _scored_frames(sides: Sequence[_Side]) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """For each task the frames that have truth in both (F,), why there is no verdict, and what to say of the others."""
    withheld: dict[str, str] = {}
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
            differs = both[task] & [before != after for before, after in zip(*truth, strict=True)]
            unlike = unlike | differs
            withheld |= {task: 'unlike truth'} if differs.any() else {}
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
    return both, withheld, notes


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


def _agreement(side: _Side, name: str) -> np.ndarray:
    values = [getattr(side.report.agreement[place], name) for place in side.places]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _strict_precision(first: ReplayReport, second: ReplayReport) -> Difference:
    """AP50:95 of the whole run, which frames do not keep enough for: without an interval."""
    scores = first.scores.detection, second.scores.detection
    return Difference(group='detection', name='AP50:95', first=scores[0].mean_ap, second=scores[1].mean_ap)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
