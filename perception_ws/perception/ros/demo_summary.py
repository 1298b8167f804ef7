"""What a demo run tells: frames sent, received, published and dropped, latency, and the time of each stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

import perception
from perception.bag.source import FrameSource
from perception.checkpoint import UNTRAINED
from perception.ros.player import OUTPUTS, FramePlayer
from perception.ros.statistics import STAGES


def summarise(
    player: FramePlayer, source: FrameSource, *, seconds: float, pictures: list[str], interrupted: str
) -> dict[str, Any]:
    """The content of summary.json. Latencies run from the image's stamp until the listener's middleware had the answer.

    What only the node can count is None where its last report is older than the last frame.
    """
    answers = list(player.answers.values())
    latencies = {name: [a.latency_ms[name] for a in answers if name in a.latency_ms] for name in OUTPUTS}
    node = player.reports.latest
    sent, answered, counts = len(answers), player.answered(), player.reports.counts()
    return {
        'source': str(source.path),
        'model': player.model,
        'trained': not player.model.endswith(f'@{UNTRAINED}'),
        'complete': not interrupted,
        'interrupted_by': interrupted,
        'frames': {
            'sent': sent,
            'received': counts and counts.received,
            'published': counts and counts.published,
            'answered': answered,
            'unanswered': sent - answered,
            # Best effort: a newer frame may take a frame's place before the node's executor has seen it.
            'lost_on_the_way': counts and min(max(0, sent - counts.received), sent - answered),
            'dropped': counts and counts.dropped,
            'unreadable_in_source': dict(source.skipped),
            'unexpected': player.unexpected,
        },
        'outputs': {name: len(values) for name, values in latencies.items()},
        'detections': sum(answer.detections for answer in answers),
        'seconds': round(seconds, 3),
        'frames_per_s': round(answered / seconds, 3) if seconds else 0.0,
        'latency_ms': {name: spread(values) for name, values in latencies.items() if values},
        'stages_ms': {
            stage: {
                'median': float(node[f'{stage}_time_ms']),
                'p95': float(node[f'{stage}_p95_ms']),
                'max': float(node[f'{stage}_max_ms']),
            }
            for stage in (*STAGES, 'processing')
            if f'{stage}_p95_ms' in node
        },
        'pictures': pictures,
        'versions': {'perception': perception.__version__, 'torch': torch.__version__},
    }


def print_summary(summary: dict[str, Any], output: Path, files: Sequence[str]) -> None:
    """The same as tables, for the eyes, and which files the run has left in its folder."""
    frames = summary['frames']
    rows = [
        ['model', summary['model'] + ('' if summary['trained'] else '   *** UNTRAINED WEIGHTS ***')],
        ['frames sent', frames['sent']],
        ['answered in full', frames['answered']],
        ['unanswered', frames['unanswered']],
        ['dropped by the node', count_text(frames['dropped'])],
        ['lost on the way to the node', count_text(frames['lost_on_the_way'])],
        ['unreadable in the source', count_text(frames['unreadable_in_source'])],
        ['frames a second', f'{summary["frames_per_s"]:.2f}'],
        ['detections', summary['detections']],
    ]
    print(tabulate(rows, tablefmt='simple'))
    if not summary['complete']:  # beside the table: as long as a path may be
        print(f'STOPPED EARLY BY {summary["interrupted_by"]}')
    columns = ['ms', 'median', 'p95', 'max']
    times = [[f'stamp to {name}', *_cells(values)] for name, values in summary['latency_ms'].items()]
    times += [[name, *_cells(values)] for name, values in summary['stages_ms'].items()]
    print(tabulate(times, headers=columns, floatfmt='.1f', tablefmt='simple'))
    print(f'{", ".join(files[:-1])} and {files[-1]} are in {output}/')
    if not summary['trained']:
        print('UNTRAINED WEIGHTS: the pipeline runs, but what it says about the pictures means nothing yet.')


def count_text(counted: dict[str, int] | int | None) -> str:
    """A count, or counts by reason, for the eyes."""
    if counted is None:
        return 'unknown'
    if isinstance(counted, int):
        return f'{counted}'
    return ', '.join(f'{count} {reason}' for reason, count in counted.items()) or 'none'


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95 % and maximum of at least one value."""
    median, high, longest = np.percentile(values, (50, 95, 100))
    return {'median': round(float(median), 3), 'p95': round(float(high), 3), 'max': round(float(longest), 3)}


def _cells(values: dict[str, float]) -> list[float]:
    return [values['median'], values['p95'], values['max']]
