"""The files that a replay leaves in its folder, and what it prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from tabulate import tabulate

from perception.checkpoint import Checkpoint
from perception.errors import RecordingError
from perception.metrics.tables import format_report, share
from perception.output_folder import STOPPED
from perception.replay.merge import Replay
from perception.replay.page import write_replay_page
from perception.replay.report import BAD_TRUTH, PAGE_FILE, REPORT_FILE, TIMING_FILE, ReplayReport


def write_outputs(replay: Replay, checkpoint: Checkpoint, folder: Path) -> None:
    """Write timing.json, report.html and then report.json: where it is, they are too, and of the same run.

    Raises:
        RecordingError: If the disk is full.
    """
    report = replay.report
    names = ', '.join(report.stream_names[:3]) + (', ...' if len(report.stream_names) > 3 else '')
    truth = '; '.join(dict.fromkeys(report.truth))
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    try:
        (folder / REPORT_FILE).unlink(missing_ok=True)
        replay.timing.save(folder / TIMING_FILE, {'at': now})
        write_replay_page(
            folder / PAGE_FILE,
            replay,
            checkpoint.network.labels,
            title=f'{checkpoint.network.name} on {names}',
            subtitle=f'{checkpoint.title}, {len(report.agreement):,} frames, truth: {truth}',
        )
        unfinished = folder / f'.{REPORT_FILE}'
        unfinished.write_text(report.to_json() + '\n', encoding='utf-8')
        unfinished.replace(folder / REPORT_FILE)
    except OSError as error:
        raise RecordingError(
            f'Cannot write the report into {folder}: {error}. Free some space and --resume.'
        ) from error


def format_replay(replay: Replay) -> str:
    """The report as text for a terminal."""
    report, timing = replay.report, replay.timing
    supported, covered = report.mean_agreement()
    rows = [
        ['frames', f'{len(report.agreement):,}'],
        ['with truth', f'{report.with_truth:,}'],
        ['frames skipped', _count_reasons(skip.reason for skip in report.skipped if skip.reason != BAD_TRUTH)],
        ['truth skipped', _count_reasons(skip.reason for skip in report.skipped if skip.reason == BAD_TRUTH)],
        ['boxes backed by the mask %', share(supported)],
        ['object pixels in a box %', share(covered)],
        ['frames a second', f'{timing.frames_per_s:.2f}'],
    ]
    table = timing.percentiles()
    times = [[stage, *values.values()] for stage, values in table.items()]
    headers = ['ms', *next(iter(table.values()), {})]
    parts = [format_report(report.scores)] if report.with_truth else []
    parts += [
        tabulate(rows, tablefmt='simple', disable_numparse=True),
        tabulate(times, headers=headers, floatfmt='.1f'),
    ]
    first_of = {skip.reason: skip for skip in reversed(report.skipped)}
    if not report.complete:
        parts.append(f'ENDED EARLY BY {report.ended_by}{"; --resume goes on" if STOPPED in report.ended_by else ""}')
    parts += [f'truth that was not used: {remark}' for remark in report.truth_remarks]
    parts += [f'first {skip.reason}, {skip.stream} at {skip.stamp_ns} ns: {skip.message}' for skip in first_of.values()]
    return '\n\n'.join(parts)


def find_faults(report: ReplayReport, *, truth_wanted: bool) -> list[str]:
    """Why a replay that came to its end is of no use; empty: it is."""
    if not report.agreement:
        return ['No frame could be used.']
    if (truth_wanted or report.unmatched_truth) and not report.with_truth:
        truth = '; '.join(dict.fromkeys(report.truth))
        stamps = f'stamps {min(report.recorded_ns)} to {max(report.recorded_ns)} ns'
        advice = ' Where names hold other numbers than stamps, match by order.' if 'by stamp' in truth else ''
        return [f'None of the {len(report.agreement):,} frames ({stamps}) has a truth ({truth}).{advice}']
    return []


def _count_reasons(reasons: Iterable[str]) -> str:
    return ', '.join(f'{count:,} {reason}' for reason, count in Counter(reasons).items()) or 'none'
