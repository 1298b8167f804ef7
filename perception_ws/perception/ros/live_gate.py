"""What a live replay must reach: whether it was of use, and which thresholds it missed."""

from dataclasses import dataclass
from typing import Any

from perception.metrics import Report


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a run must reach; None: does not matter."""

    min_mean_iou: float | None = None
    min_ap50: float | None = None
    max_latency_p95_ms: float | None = None
    max_lost_share: float | None = None
    """Of the frames sent, those that got no full answer: dropped by the node or lost on the way."""


def find_faults(summary: dict[str, Any], *, truth_wanted: bool) -> list[str]:
    """Why a run that came to its end is of no use; empty: it is."""
    frames = summary['frames']
    if not frames['sent']:
        return ['No frame could be used.']
    if not frames['answered']:
        return [f'None of the {frames["sent"]:,} frames was answered in full.']
    if (truth_wanted or summary.get('unmatched_truth')) and not summary['scored']:
        return [f'None of the {frames["answered"]:,} frames that were answered has a truth ({summary["truth"]}).']
    return []


def find_missed(summary: dict[str, Any], report: Report, thresholds: Thresholds) -> list[str]:
    """The thresholds that a run did not reach; one that could not be measured is missed."""
    frames = summary['frames']
    latency = max((values['p95'] for values in summary['latency_ms'].values()), default=None)
    unanswered = frames['unanswered'] / frames['sent'] if frames['sent'] else None
    counted = f' ({frames["unanswered"]} of {frames["sent"]})'
    judged = (
        ('mean IoU', report.segmentation.mean_iou, '', thresholds.min_mean_iou, True),
        ('AP50', report.detection.mean_ap50, '', thresholds.min_ap50, True),
        ('latency p95 in ms', latency, '', thresholds.max_latency_p95_ms, False),
        ('share of frames without an answer', unanswered, counted, thresholds.max_lost_share, False),
    )
    missed = []
    for name, value, detail, limit, at_least in judged:
        if limit is None:
            continue
        wanted = f'{"at least" if at_least else "at most"} {limit:g} is wanted'
        if value is None:
            missed.append(f'{name} could not be measured; {wanted}')
        elif (value < limit) if at_least else (value > limit):
            missed.append(f'{name} is {value:.4g}{detail}; {wanted}')
    return missed
