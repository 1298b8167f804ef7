"""The page of a replay: the drive as timelines, then what every evaluation shows, then what was skipped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from perception.interfaces import LabelSpace
from perception.metrics.page_sections import Section, table, tile
from perception.metrics.report_page import headline, render_page, report_sections
from perception.metrics.tables import share
from perception.output_folder import STOPPED
from perception.replay.merge import Replay
from perception.replay.report import ReplayReport, Skip
from perception.replay.timelines import timeline_sections
from perception.replay.timing import Timing

_SHOWN_SKIPS = 50


def write_replay_page(path: Path, replay: Replay, labels: LabelSpace, *, title: str, subtitle: str) -> None:
    """Write the page, one HTML file that needs nothing else."""
    report, timing = replay.report, replay.timing
    sections = [
        *([_warning(report)] if not report.complete else []),
        *timeline_sections(report, timing),
        _stage_section(timing),
        _statistics_section(report),
        *report_sections(report.scores, labels, pictures=replay.pictures),
        *([_truth_section(report.truth_remarks)] if report.truth_remarks else []),
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
    advice = (
        '--resume goes on.'
        if STOPPED in report.ended_by
        else 'Replay again what is missing, once it is mended, with --overwrite.'
    )
    return Section(
        title='Only a part of the recording',
        body=f'<p>Ended early by {escape(report.ended_by)}</p><p>All figures are of the {len(report.agreement):,} '
        f'frames that were looked at. {advice}</p>',
    )


def _stage_section(timing: Timing) -> Section:
    percentiles = timing.percentiles()
    columns = list(next(iter(percentiles.values()), {}))
    head = '<th>ms</th>' + ''.join(f'<th class="n">{column}</th>' for column in columns)
    rows = [
        f'<tr{" class=mean" if stage == "latency" else ""}><th scope="row">{stage}</th>'
        + ''.join(f'<td class="n">{value:.1f}</td>' for value in values.values())
        + '</tr>'
        for stage, values in percentiles.items()
    ]
    return Section(
        title='Time of each stage',
        half=True,
        note=(
            f'{_describe_speed(timing)} '
            'Latency is preprocess + inference + postprocess; reading, scoring and writing are the tool itself.'
        ),
        body=table(head, rows),
    )


def _describe_speed(timing: Timing) -> str:
    taken_over = len(timing.frames_s) - timing.computed
    if not timing.computed:
        return 'All frames were taken over from the run before, and their times with them.'
    speed = f'{timing.computed:,} frames looked at in {timing.seconds:.1f} s, {timing.frames_per_s:.1f} a second.'
    return f'{speed} {taken_over:,} were taken over from the run before.' if taken_over else speed


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
        body=table('<th>class</th><th class="n">pixels</th><th></th>', rows),
    )


def _truth_section(remarks: Sequence[str]) -> Section:
    return Section(title='Truth that was not used', body=''.join(f'<p>{escape(remark)}</p>' for remark in remarks))


def _skip_section(skipped: Sequence[Skip]) -> Section:
    rows = [
        f'<tr><th scope="row">{escape(skip.stream)}</th><td class="n">{skip.stamp_ns}</td>'
        f'<td>{escape(skip.reason)}</td><td style="white-space:normal">{escape(skip.message)}</td></tr>'
        for skip in skipped[:_SHOWN_SKIPS]
    ]
    more = len(skipped) - len(rows)
    return Section(
        title='Skipped',
        note='Frames that could not be decoded or looked at, and truth that could not be used.'
        + (f' {more:,} more are in report.json.' if more > 0 else ''),
        body=table('<th>stream</th><th class="n">stamp in ns</th><th>reason</th><th>what came</th>', rows),
    )
