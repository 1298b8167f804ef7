"""The drive as lines over time, and recording by recording.

Shape letters: C segmentation classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from perception.metrics.page_sections import Section, table
from perception.metrics.plots import Axis, Series, line_chart
from perception.metrics.report import FrameScore, Score
from perception.metrics.tables import share
from perception.replay.report import ReplayReport
from perception.replay.timing import PERCEIVING, Timing

_MOST_POINTS = 400
_GAP = 2.5
"""So many times the usual distance of two frames is a gap in the line."""


@dataclass(frozen=True)
class _Drive:
    """The frames of one stream.

    Attributes:
        name: Recording and topic.
        places: Where they stand in the report.
        seconds: Of each, where it lies on the page.
    """

    name: str
    places: list[int]
    seconds: list[float]


def timeline_sections(report: ReplayReport, timing: Timing) -> list[Section]:
    """Scores and latency along the drive; nothing for a report without frames."""
    if not report.agreement:
        return []
    drives = _drives(report)
    scored = report.scores.frames
    quality = [
        _line('mIoU', drives, [frame.mean_iou for frame in scored]),
        _line('AP50', drives, [frame.ap50 for frame in scored]),
        _line('boxes backed by mask', drives, [frame.supported for frame in report.agreement]),
    ]
    latency = _line('latency', drives, timing.latency_ms)
    stages = [_line(stage, drives, timing.stages_ms[stage]) for stage in PERCEIVING]
    note = 'From the decoded image to its result, on the machine of this run.'
    if report.scores.provenance.get('threads a frame') == 1:
        note += ' Several frames were looked at at once: read what a vehicle would wait from --workers 1.'
    end = max(second for drive in drives for second in drive.seconds)
    title = 'seconds into the recording' if len(drives) == 1 else 'seconds, the recordings one after the other'
    across = Axis(title=title, low=0, high=end or 1.0)
    marks = [(drive.seconds[0], str(number)) for number, drive in enumerate(drives, 1)] if len(drives) > 1 else []
    highest = max((value for _, value in latency.points if math.isfinite(value)), default=1.0)
    return [
        Section(
            title='Scores along the drive',
            half=True,
            note='Of each frame by itself. In gaps frames are missing, have no truth, or show nothing of the kind.',
            body=line_chart(
                [line for line in quality if line.points],
                across,
                Axis(title='score', low=0, high=1),
                marks=marks,
                label='Scores over time',
            ),
        ),
        Section(
            title='Latency along the drive',
            half=True,
            note=note,
            body=line_chart(
                [latency, *stages],
                across,
                Axis(title='ms', low=0, high=1.05 * highest),
                marks=marks,
                label='Latency over time',
            ),
        ),
        *([_drives_section(report, drives)] if len(drives) > 1 else []),
    ]


def _drives(report: ReplayReport) -> list[_Drive]:
    """The streams, laid out one after the other."""
    places: dict[int, list[int]] = {}
    for place, stream in enumerate(report.streams):
        places.setdefault(stream, []).append(place)
    drives, begin = [], 0.0
    for stream, own in places.items():
        stamps_ns = [report.recorded_ns[place] for place in own]
        seconds = [begin + (stamp_ns - min(stamps_ns)) / 1e9 for stamp_ns in stamps_ns]
        drives.append(_Drive(report.stream_names[stream], own, seconds))
        begin = max(seconds)
    return drives


def _line(name: str, drives: Sequence[_Drive], values: Sequence[float | None]) -> Series:
    """One value for each frame, averaged over short stretches of long drives; interrupted where nothing is known."""
    size = -(-len(values) // _MOST_POINTS) or 1
    points: list[tuple[float, float]] = []
    for drive in drives:
        steps = [after - before for before, after in zip(drive.seconds, drive.seconds[1:], strict=False)]
        longest = _GAP * median(steps) if steps else math.inf
        for start in range(0, len(drive.places), size):
            at = drive.seconds[start : start + size]
            known = [value for place in drive.places[start : start + size] if (value := values[place]) is not None]
            if start and at[0] - drive.seconds[start - 1] > longest:
                points.append((at[0], math.nan))
            points.append((sum(at) / len(at), sum(known) / len(known) if known else math.nan))
        points.append((drive.seconds[-1], math.nan))
    return Series(name=name, points=points if any(math.isfinite(value) for _, value in points) else [])


def _drives_section(report: ReplayReport, drives: Sequence[_Drive]) -> Section:
    columns = ('frames', 'skipped', 'mIoU %', 'AP50 %', 'boxes backed %')
    head = '<th></th><th></th>' + ''.join(f'<th class="n">{column}</th>' for column in columns)
    rows = []
    for number, drive in enumerate(drives, 1):
        frames = [report.scores.frames[place] for place in drive.places]
        cells = [
            f'{len(frames):,}',
            f'{sum(skip.stream == drive.name for skip in report.skipped):,}',
            share(_mean_iou(frames)),
            share(_mean([frame.ap50 for frame in frames])),
            share(_mean([report.agreement[place].supported for place in drive.places])),
        ]
        figures = ''.join(f'<td class="n">{cell}</td>' for cell in cells)
        rows.append(f'<tr><td class="n">{number}</td><th scope="row">{escape(drive.name)}</th>{figures}</tr>')
    return Section(
        title='Each recording',
        note='Numbered as in the timelines. mIoU is over all pixels of the recording; AP50 is the mean of its frames.',
        body=table(head, rows),
    )


def _mean_iou(frames: Sequence[FrameScore]) -> Score:
    counted = [frame for frame in frames if frame.truth_pixels and frame.predicted_pixels and frame.correct_pixels]
    sums = [
        [sum(column) for column in zip(*rows, strict=True)]  # (C,)
        for rows in (
            [frame.truth_pixels or () for frame in counted],
            [frame.predicted_pixels or () for frame in counted],
            [frame.correct_pixels or () for frame in counted],
        )
    ]
    return _mean([right / (true + found - right) if true else None for true, found, right in zip(*sums, strict=True)])


def _mean(values: Sequence[Score]) -> Score:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
