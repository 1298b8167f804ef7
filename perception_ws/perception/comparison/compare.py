"""Is one model better than another on the same recording, and where: differences with intervals.

Both models saw the same frames: the interval says how far the difference hangs on which frames were recorded. It says
nothing of what else differs: no verdict is given where the runs were not made alike.

Shape letters: F frames that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from perception.comparison.fairness import judge_agreement, judge_latency, name_parts, scored_frames
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
from perception.comparison.side import Side, load_timing
from perception.errors import ConfigError
from perception.replay.report import ReplayReport
from perception.replay.timing import PERCEIVING

Verdict = Literal['better', 'worse', 'no difference']

_AGREEMENT = (
    ('boxes backed by mask', 'supported', 'boxes'),
    ('object pixels in a box', 'covered', 'object_pixels'),
)
"""Name, share and what it is a share of."""
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


def compare(first: Path, second: Path) -> Comparison:
    """Compare two replays, each given as its output folder or as the report.json in it.

    Raises:
        ConfigError: If one is no replay, their label spaces differ, they have no frame in common, or a timing.json is
            not of the report beside it.
    """
    paths = first, second
    reports = ReplayReport.load(first), ReplayReport.load(second)
    if _classes(reports[0]) != _classes(reports[1]):
        said = [
            f'{path} has label space {report.scores.label_space!r} (areas {", ".join(_classes(report)[0])}; objects '
            f'{", ".join(_classes(report)[1])})'
            for path, report in zip(paths, reports, strict=True)
        ]
        raise ConfigError(f'{", ".join(said)}; they must have the same classes in the same order.')
    pairs, same_recording = pair_frames(*reports)
    if not pairs:
        names = [', '.join(frame.name for frame in report.scores.frames[:1]) or 'none' for report in reports]
        streams = [', '.join(report.stream_names) for report in reports]
        raise ConfigError(
            f'{first} and {second} have no frame in common: the first is {names[0]} of {streams[0]}, and {names[1]} of '
            f'{streams[1]}. Replay the same recording with both models.'
        )
    sides = [
        Side(report, [report.scores.frames[place] for place in places], list(places), load_timing(path, report))
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
        notes=(*name_parts(reports), *notes),
    )


def _classes(report: ReplayReport) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return report.scores.segmentation.classes, report.scores.detection.classes


def _differences(first: Side, second: Side, blocks: np.ndarray) -> tuple[list[Difference], list[str]]:
    """All figures, and what to say of those that are missing or get no verdict; blocks (F,) as of number_blocks."""
    sides = first, second
    scored, withheld, notes = scored_frames(sides)
    for group, (why, note) in {'agreement': judge_agreement(sides), 'latency': judge_latency(sides)}.items():
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
        shares = [side.agreement(field) for side in sides]
        # A model that sees nothing where it is hard is not better for it.
        missing = np.isnan(shares).any(axis=0)
        pair = [
            mean_figure(np.where(missing, np.nan, share), blocks, side.agreement(weight))
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


def _strict_precision(first: ReplayReport, second: ReplayReport) -> Difference:
    """AP50:95 of the whole run, which frames do not keep enough for: without an interval."""
    scores = first.scores.detection, second.scores.detection
    return Difference(group='detection', name='AP50:95', first=scores[0].mean_ap, second=scores[1].mean_ap)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
