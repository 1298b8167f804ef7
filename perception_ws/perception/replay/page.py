"""The page of a replay: the drive as timelines, then what every evaluation shows, then what was skipped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from perception.interfaces import LabelSpace
from perception.metrics.page_sections import Section, tile
from perception.metrics.plots import Axis, Series, line_chart
from perception.metrics.report_page import headline, render_page, report_sections
from perception.metrics.tables import share
from perception.replay.merge import Replay
from perception.replay.report import ReplayReport, Skip
from perception.replay.timing import PERCEIVING, Timing

_MOST_POINTS = 400
_SHOWN_SKIPS = 50


def write_replay_page(path: Path, replay: Replay, labels: LabelSpace, *, title: str, subtitle: str) -> None:
    """Write the page, one HTML file that needs nothing else."""
    report, timing = replay.report, replay.timing
    sections = [
        *([_warning(report)] if not report.complete else []),
        *_timelines(report, timing),
        _stage_section(timing),
        _statistics_section(report),
        *report_sections(report.scores, labels, pictures=replay.pictures),
        *([_skip_section(report.skipped)] if report.skipped else []),
    ]
    path.write_text(
        render_page(
            title=title, subtitle=subtitle, tiles=[*headline(report.scores), *_tiles(replay)], sections=sections
        ),
        encoding='utf-8',
    )


def _tiles(replay: Replay) -> list[str]:
    supported, covered = replay.report.mean_agreement()
    latency = replay.timing.percentiles().get('latency')
    tiles = [tile('boxes backed by mask %', share(supported)), tile('object pixels boxed %', share(covered))]
    if latency:
        tiles += [tile('latency p50 ms', f'{latency["p50"]:.1f}'), tile('latency p95 ms', f'{latency["p95"]:.1f}')]
    if replay.report.skipped:
        tiles.append(tile('skipped', f'{len(replay.report.skipped):,}'))
    return tiles


def _warning(report: ReplayReport) -> Section:
    return Section(
        title='Only a part of the recording',
        body=f'<p>The run ended early by {escape(report.ended_by)}</p><p>All figures are of the '
        f'{len(report.agreement):,} frames before that; --resume goes on.</p>',
    )


def _timelines(report: ReplayReport, timing: Timing) -> list[Section]:
    if not report.agreement:
        return []
    seconds, beginnings = _place_frames(report)
    scored = report.scores.frames
    quality = [
        _line('mIoU', seconds, [frame.mean_iou for frame in scored]),
        _line('AP50', seconds, [frame.ap50 for frame in scored]),
        _line('boxes backed by mask', seconds, [frame.supported for frame in report.agreement]),
    ]
    latency = _line('latency', seconds, timing.latency_ms)
    stages = [_line(stage, seconds, timing.stages_ms[stage]) for stage in PERCEIVING]
    note = 'From the decoded image to its result, on the machine of this run.'
    if report.scores.provenance.get('threads a frame') == 1:
        note += ' Several frames were looked at at once: read what a vehicle would wait from --workers 1.'
    across = Axis(title='seconds into the recording', low=0, high=max(seconds) or 1.0)
    highest = max(value for _, value in latency.points) or 1.0
    return [
        Section(
            title='Scores along the drive',
            half=True,
            note='Of each frame by itself; gaps have no truth, or nothing of the kind in view.',
            body=line_chart(
                [line for line in quality if line.points],
                across,
                Axis(title='score', low=0, high=1),
                marks=beginnings,
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
                marks=beginnings,
                label='Latency over time',
            ),
        ),
    ]


def _line(name: str, seconds: Sequence[float], values: Sequence[float | None]) -> Series:
    """One value for each frame; long drives are averaged over short stretches."""
    points = [(at, value) for at, value in zip(seconds, values, strict=True) if value is not None]
    size = -(-len(points) // _MOST_POINTS) or 1
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return Series(
        name=name, points=[(_mean(at), _mean(value)) for at, value in (zip(*s, strict=True) for s in stretches)]
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _place_frames(report: ReplayReport) -> tuple[list[float], list[tuple[float, str]]]:
    """The second on the page of each frame, streams one after the other, and where each stream but the first begins."""
    seconds: list[float] = []
    beginnings: list[tuple[float, str]] = []
    for stream, frames in groupby(zip(report.streams, report.recorded_ns, strict=True), key=lambda frame: frame[0]):
        stamps_ns = [stamp_ns for _, stamp_ns in frames]
        begin = max(seconds, default=0.0)
        if seconds:
            beginnings.append((begin, report.stream_names[stream]))
        seconds += [begin + (stamp_ns - min(stamps_ns)) / 1e9 for stamp_ns in stamps_ns]
    return seconds, beginnings


def _stage_section(timing: Timing) -> Section:
    table = timing.percentiles()
    columns = list(next(iter(table.values()), {}))
    head = '<th>ms</th>' + ''.join(f'<th class="n">{column}</th>' for column in columns)
    rows = [
        f'<tr{" class=mean" if stage == "latency" else ""}><th scope="row">{stage}</th>'
        + ''.join(f'<td class="n">{value:.1f}</td>' for value in values.values())
        + '</tr>'
        for stage, values in table.items()
    ]
    return Section(
        title='Time of each stage',
        half=True,
        note=(
            f'{timing.computed:,} frames looked at in {timing.seconds:.1f} s, {timing.frames_per_s:.1f} a second. '
            'Latency is preprocess + inference + postprocess; reading, scoring and writing are the tool itself.'
        ),
        body=_table(head, rows),
    )


def _statistics_section(report: ReplayReport) -> Section:
    areas, objects = report.scores.segmentation.classes, report.scores.detection.classes
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td class="n">{share(value)}</td>'
        f'<td class="wide"><span class="bar"><i style="width:{100 * value:.1f}%"></i></span></td></tr>'
        for name, value in zip(areas, report.class_shares(), strict=True)
    ]
    counts = ', '.join(f'{count:,} {name}' for name, count in zip(objects, report.detection_counts(), strict=True))
    return Section(
        title='What was seen',
        half=True,
        note=f'Share of all pixels, percent. Detections above the reporting threshold: {counts}.',
        body=_table('<th>class</th><th class="n">pixels</th><th></th>', rows),
    )


def _skip_section(skipped: Sequence[Skip]) -> Section:
    rows = [
        f'<tr><th scope="row">{escape(skip.stream)}</th><td class="n">{skip.stamp_ns}</td>'
        f'<td>{escape(skip.reason)}</td><td style="white-space:normal">{escape(skip.message)}</td></tr>'
        for skip in skipped[:_SHOWN_SKIPS]
    ]
    more = len(skipped) - len(rows)
    return Section(
        title='Skipped',
        note='Frames that could not be decoded, and truth that could not be used.'
        + (f' {more:,} more are in report.json.' if more > 0 else ''),
        body=_table('<th>stream</th><th class="n">stamp in ns</th><th>reason</th><th>what came</th>', rows),
    )


def _table(head: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div>'
    )
