"""A comparison of networks as a page: accuracy over latency as charts, then the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from perception.errors import PerceptionError
from perception.metrics.page_sections import Section, provenance_section, table, tile
from perception.metrics.plots import Axis, Point, point_chart
from perception.metrics.report import Score
from perception.metrics.report_page import render_page
from perception.metrics.tables import share
from perception.network_comparison.classes import Means
from perception.network_comparison.result import NetworkComparison
from perception.network_comparison.tables import (
    LATENCY_HEAD,
    NETWORK_HEAD,
    describe_accuracy,
    describe_gaps,
    describe_latency,
    latency_rows,
    network_rows,
)

COMPARISON_FILE, PAGE_FILE = 'comparison.json', 'comparison.html'
_WORDS = {NETWORK_HEAD: 4, LATENCY_HEAD: 3}
"""Columns of words in each table; those of figures follow."""
_CHARTS: tuple[tuple[str, Callable[[Means], Score]], ...] = (
    ('mIoU', lambda means: means.iou),
    ('AP50', lambda means: means.ap50),
)


def write_outputs(comparison: NetworkComparison, folder: Path) -> None:
    """Write comparison.html and then comparison.json: where that is, the page is too, and of the same run.

    Raises:
        PerceptionError: If the disk is full.
    """
    unfinished = folder / f'.{COMPARISON_FILE}'
    try:
        (folder / PAGE_FILE).write_text(render_comparison(comparison), encoding='utf-8')
        unfinished.write_text(comparison.to_json() + '\n', encoding='utf-8')
        unfinished.replace(folder / COMPARISON_FILE)
    except OSError as error:
        raise PerceptionError(f'Cannot write the comparison into {folder}: {error}. Free some space.') from error


def render_comparison(comparison: NetworkComparison) -> str:
    """The page, one HTML document that needs nothing else."""
    gaps = describe_gaps(comparison)
    settings = comparison.settings
    sections = [
        *([Section(title='Read this first', body=''.join(f'<p>{escape(gap)}</p>' for gap in gaps))] if gaps else []),
        *_charts(comparison),
        _table('Networks', NETWORK_HEAD, network_rows(comparison), describe_accuracy(comparison)),
        _table('Latency', LATENCY_HEAD, latency_rows(comparison), describe_latency(comparison)),
        provenance_section({'at': settings.at, 'machine': settings.machine, 'versions': dict(settings.versions)}),
    ]
    return render_page(
        title='Networks beside each other',
        subtitle=', '.join(candidate.name for candidate in comparison.candidates),
        tiles=_tiles(comparison),
        sections=sections,
    )


def _tiles(comparison: NetworkComparison) -> list[str]:
    """The best of each kind."""
    tiles = [tile('networks', str(len(comparison.candidates)))]
    way = comparison.settings.ways[0]
    medians = [each.whole.median for found in comparison.latencies.values() for each in found if each.way == way]
    if medians:
        tiles.append(tile(f'quickest, ms ({way})', f'{min(medians):.1f}'))
    for name, choose in _CHARTS:
        scores = [score for means in _all_means(comparison).values() if (score := choose(means)) is not None]
        if scores:
            tiles.append(tile(f'best {name} %', share(max(scores))))
    return tiles


def _all_means(comparison: NetworkComparison) -> dict[str, Means]:
    return {each.name: means for each in comparison.candidates if (means := comparison.means(each)) is not None}


def _charts(comparison: NetworkComparison) -> list[Section]:
    """Accuracy over latency of each task, by the way that accuracy was measured with."""
    way = comparison.settings.ways[0]
    means = _all_means(comparison)
    spreads = {
        name: found.whole for name, latencies in comparison.latencies.items() for found in latencies if found.way == way
    }
    sections = []
    for name, choose in _CHARTS:
        points = [
            Point(
                name=candidate.name,
                mark=str(number),
                x=spread.median,
                x_low=spread.lower_quartile,
                x_high=spread.upper_quartile,
                y=100 * score,
                value=f'{share(score)} % in {spread.median:.1f} ms',
            )
            for number, candidate in enumerate(comparison.candidates, start=1)
            if candidate.name in means
            and (score := choose(means[candidate.name])) is not None
            and (spread := spreads.get(candidate.name)) is not None
        ]
        if points:
            sections.append(
                Section(
                    title=f'{name} over latency',
                    half=True,
                    note=f'By {way}; further up and to the left is better. Bars: '
                    'quartiles. Numbers are those of the tables.',
                    body=point_chart(
                        points,
                        _latency_axis(points),
                        _score_axis(points, f'{name} %'),
                        label=f'{name} over latency of each network',
                    ),
                )
            )
    return sections


def _latency_axis(points: Sequence[Point]) -> Axis:
    """From zero, unless that would push the quick ones together."""
    low, high = min(point.x_low for point in points), max(point.x_high for point in points)
    if high > 5 * low:
        return Axis(title='latency, ms', low=0.75 * low, high=1.33 * high, log=True)
    return Axis(title='latency, ms', low=0, high=1.15 * high)


def _score_axis(points: Sequence[Point], title: str) -> Axis:
    """Whole fives around the points, with room for their marks."""
    low, high = min(point.y for point in points), max(point.y for point in points)
    return Axis(title=title, low=max(0, 5 * ((low - 2) // 5)), high=min(100, 5 * -(-(high + 2) // 5)))


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> Section:
    words = _WORDS[tuple(head)]

    def cells(row: Sequence[str], kind: str) -> str:
        return ''.join(
            f'<{kind}{"" if 0 < place < words else " class=n"}>{escape(cell)}</{kind}>'
            for place, cell in enumerate(row)
        )

    return Section(
        title=title, note=note, body=table(cells(head, 'th'), [f'<tr>{cells(row, "td")}</tr>' for row in rows])
    )
