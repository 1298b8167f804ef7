"""A comparison of two replays for people: a table for the terminal, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from perception.comparison.compare import Comparison, Difference
from perception.comparison.intervals import CONFIDENCE
from perception.metrics.page_sections import Section, tile
from perception.metrics.report_page import render_page

_SIGNS = {'better': 'better', 'worse': 'WORSE', 'no difference': 'same', None: ''}
_LATENCY_NOTE = 'Milliseconds; less is better. What else the machine had to do is not in the intervals.'


def format_comparison(comparison: Comparison) -> str:
    """Figures side by side; scores in percent, times in ms."""
    rows = [
        [item.group if place == 0 else '', item.name, *_cells(item), _judgement(item)]
        for _, group in groupby(comparison.differences, key=lambda item: item.group)
        for place, item in enumerate(group)
    ]
    headers = ['', '', 'A', 'B', 'B - A', f'{CONFIDENCE:.0%} interval', 'B is']
    align = ('left', 'left', 'right', 'right', 'right', 'right', 'left')
    table = tabulate(rows, headers=headers, disable_numparse=True, colalign=align)
    return '\n'.join([table, '', describe(comparison), *comparison.notes])


def describe(comparison: Comparison) -> str:
    """What was compared, in a sentence or two; ``Comparison.notes`` say what was not."""
    parts = [f'A is {comparison.first}, B is {comparison.second}; {comparison.frames:,} frames that both have']
    if comparison.only_first or comparison.only_second:
        parts.append(f'{comparison.only_first:,} and {comparison.only_second:,} that only one has are left out')
    if not comparison.same_recording:
        parts.append('THE RECORDINGS ARE NOT THE SAME BYTES')
    how = ' Intervals say how far the difference hangs on which seconds were recorded.'
    return f'{"; ".join(parts)}.{how if any(item.verdict for item in comparison.differences) else ""}'


def write_comparison_page(path: Path, comparison: Comparison) -> None:
    """Write the page, one HTML file that needs nothing else."""
    headline = {('segmentation', 'mIoU'), ('detection', 'AP50'), ('latency', 'latency ms')}
    tiles = [
        tile(item.name, f'{before} → {after}')
        for item in comparison.differences
        if (item.group, item.name) in headline
        for before, after, *_ in [_cells(item)]
    ]
    verdicts = [item.verdict for item in comparison.differences if item.verdict]
    if verdicts:
        tiles += [tile(word, f'{verdicts.count(word)} of {len(verdicts)}') for word in ('better', 'worse')]
    sections = [_notes_section(comparison.notes)] if comparison.notes else []
    sections += [
        _section(group, list(items)) for group, items in groupby(comparison.differences, key=lambda item: item.group)
    ]
    path.write_text(
        render_page(
            title='Is the second model better?',
            subtitle=describe(comparison),
            tiles=tiles,
            sections=sections,
        ),
        encoding='utf-8',
    )


def _notes_section(notes: Sequence[str]) -> Section:
    return Section(title='Read this first', body=''.join(f'<p>{escape(note)}</p>' for note in notes))


def _section(group: str, items: list[Difference]) -> Section:
    head = ''.join(f'<th class="n">{word}</th>' for word in ('A', 'B', 'B - A', f'{CONFIDENCE:.0%} interval'))
    rows = ''.join(
        f'<tr><th scope="row">{escape(item.name)}</th>'
        + ''.join(f'<td class="n">{cell}</td>' for cell in _cells(item))
        + f'<td>{_judgement(item)}</td></tr>'
        for item in items
    )
    return Section(
        title=group.capitalize(),
        note=_LATENCY_NOTE if group == 'latency' else 'Percent; more is better.',
        body=(
            f'<div class="scroll"><table class="figures compared"><thead><tr><th></th>{head}<th>B is</th></tr></thead>'
            f'<tbody>{rows}</tbody></table></div>'
        ),
    )


def _judgement(item: Difference) -> str:
    return _SIGNS[item.verdict] or item.withheld


def _cells(item: Difference) -> list[str]:
    scale = 1 if item.group == 'latency' else 100
    values = [_text(value, scale) for value in (item.first, item.second)]
    interval = ''
    if item.low is not None and item.high is not None:
        interval = f'{scale * item.low:+.2f} … {scale * item.high:+.2f}'
    difference = 'n/a' if item.difference is None else f'{scale * item.difference:+.2f}'
    return [*values, difference, interval]


def _text(value: float | None, scale: float) -> str:
    return 'n/a' if value is None else f'{scale * value:.2f}'
