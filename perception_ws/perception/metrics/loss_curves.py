"""The course of a training, out of its metrics file: JSON lines with ``step`` and the losses by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from perception.errors import ConfigError
from perception.metrics.page_sections import Section
from perception.metrics.plots import Axis, Series, line_chart

LOSS_NAMES = ('total', 'segmentation', 'detection')
REMARKS = {'total': '(weighted)', 'segmentation': '(unweighted)', 'detection': '(unweighted)'}
"""What the legend says behind a loss: the phases weigh the tasks differently."""
_MOST_POINTS = 300


def loss_section(path: Path | str, names: Sequence[str] = LOSS_NAMES) -> Section:
    """Draw the losses over the steps, on a logarithmic scale, with the beginnings of the phases.

    Args:
        path: JSON lines; each has ``step``, the named losses (there, or in an object ``losses``) and perhaps ``phase``.

    Raises:
        ConfigError: If the file cannot be read or holds none of the losses.
    """
    records = _read(Path(path))
    curves = {name: _curve(records, names, name) for name in names}
    series = [
        Series(name=f'{name} {REMARKS.get(name, "")}'.strip(), points=_thin(points))
        for name, points in curves.items()
        if any(math.isfinite(value) for _, value in points)
    ]
    if not series:
        raise ConfigError(
            f'{path} holds none of the losses {", ".join(names)} beside a step; give the metrics file of a run.'
        )
    values = [value for line in series for _, value in line.points if math.isfinite(value)]
    low, high = min(values), max(values)
    steps = [step for line in series for step, _ in line.points]
    chart = line_chart(
        series,
        Axis(title='step', low=0, high=max(max(steps), 1)),
        Axis(title='loss', low=low * 0.9, high=high * 1.1, log=True),
        marks=_phases(records),
        label='Losses over training steps',
    )
    note = (
        'Losses over the steps, averaged over short stretches. The total is the weighted sum of the losses of the '
        'tasks, which are shown before they are weighted; a phase that leaves a task out has no line for it.'
    )
    return Section(title='Training', note=note, body=chart, half=True)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'Cannot read the metrics file {path}: {error}') from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break  # a run that was killed, or is still writing
            raise ConfigError(f'{path}, line {number}, is not JSON: {error}') from error
        if isinstance(record, dict) and isinstance(record.get('step'), int):
            records.append(record)
    return records


def _curve(records: Sequence[dict[str, Any]], names: Sequence[str], name: str) -> list[tuple[float, float]]:
    """The points of a loss, with one that is not a number for each phase without the loss, where the line breaks."""
    losses = ((record, record.get('losses', record)) for record in records)
    trained = [(record, found) for record, found in losses if any(each in found for each in names)]
    points = []
    for _, phase in groupby(trained, key=lambda pair: pair[0].get('phase')):
        steps = list(phase)
        # A loss that is switched off is 0. One that is 0 now and then met a batch without annotation for it.
        measured = [
            (float(record['step']), float(found[name])) for record, found in steps if _is_measured(found.get(name))
        ]
        points += measured or [(float(steps[0][0]['step']), math.nan)]
    return points


def _is_measured(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0 and math.isfinite(value)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most some hundred points, each the mean of its stretch; none reaches over a break."""
    size = -(-len(points) // _MOST_POINTS)
    thinned = []
    for _, run in groupby(points, key=lambda point: math.isfinite(point[1])):
        whole = list(run)
        for start in range(0, len(whole), size):
            stretch = whole[start : start + size]
            step, value = (sum(column) / len(stretch) for column in zip(*stretch, strict=True))
            thinned.append((step, value))
    return thinned


def _phases(records: Sequence[dict[str, Any]]) -> list[tuple[float, str]]:
    """Where each phase begins."""
    begun = zip([{}, *records], records, strict=False)
    return [
        (float(after['step']), str(after['phase']))
        for before, after in begun
        if after.get('phase') is not None and after['phase'] != before.get('phase')
    ]
