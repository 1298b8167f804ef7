"""What may be compared: frames with truth in both, and no verdict where two replays were not made alike.

Shape letters: F frames that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perception.comparison.side import Side
from perception.replay.report import TIMING_FILE, ReplayReport

_TRUTH = {'segmentation': ('truth_pixels', 'masks'), 'detection': ('boxes', 'boxes')}
"""Of each task, what a frame's score has only where its truth is annotated, and what that truth is."""
_LOAD = ('threads a frame', 'device', 'machine')
"""What latency hangs on, whatever the model; the machine is in timing.json, the others are in the report's provenance.
Backend and precision are not here, they may be what is compared."""
_MODEL = ('network', 'backend', 'precision', 'post-processing', 'versions')
"""In the report's provenance: what may be compared. With all of it the same, two latencies tell of no model."""
_THRESHOLD = 'score threshold of pictures and agreement'


def name_parts(reports: Sequence[ReplayReport]) -> list[str]:
    """What to say of replays that ended early."""
    return [
        f'{letter} is of a part of its recordings, it ended early: {report.ended_by.rstrip(".")}.'
        for letter, report in zip('AB', reports, strict=True)
        if not report.complete
    ]


def scored_frames(sides: Sequence[Side]) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
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


def judge_agreement(sides: Sequence[Side]) -> tuple[str, str]:
    """Why agreement gets no verdict, in a word or two and in a sentence; empty: it does."""
    unlike = _unlike([side.report.scores.provenance for side in sides], [_THRESHOLD])
    if unlike:
        return 'unlike runs', f'Agreement gets no verdict: {unlike}. Replay both with one --score-threshold.'
    return '', ''


def judge_latency(sides: Sequence[Side]) -> tuple[str, str]:
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


def _describe_machines(side: Side) -> str:
    return ' and '.join(side.machines) or 'a machine that timing.json does not name'


def _unlike(runs: Sequence[dict[str, Any]], keys: Sequence[str]) -> str:
    """Which entries differ, for people."""
    first, second = runs
    return ', '.join(
        f'{key} is {first.get(key)} in A and {second.get(key)} in B'
        for key in keys
        if first.get(key) != second.get(key)
    )
