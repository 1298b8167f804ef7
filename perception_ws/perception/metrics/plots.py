"""Charts as inline SVG: a few lines of text, sharp at every size, colours from the page (light and dark)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 440, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 18, 42
_MARK_ROOM = 12.0
"""So far from others, a mark is read without doubt."""
SERIES_STYLES = 6
"""Lines are told apart by colour and dash; the page defines so many styles."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """Where the second is not a number, the line is interrupted."""
    value: str = ''
    """Shown behind the name in the legend."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a chart.

    Attributes:
        name: In the legend.
        mark: A few letters or digits that stand beside it.
        x, y: Where it lies.
        x_low, x_high: How far its bar reaches.
        value: Shown behind the name in the legend.
    """

    name: str
    mark: str
    x: float
    y: float
    x_low: float
    x_high: float
    value: str = ''


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: what it says, and from where to where it goes."""

    title: str
    low: float
    high: float
    log: bool = False

    def position(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high end, clipped."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round values to mark, about five."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, marks: Sequence[tuple[float, str]] = (), label: str = ''
) -> str:
    """Draw lines over two axes; returns a figure with SVG and legend.

    Args:
        marks: Vertical lines with a word, (x, word).
        label: What the chart shows, for screen readers.
    """
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts += _grid(x, y)
    for place, word in marks:
        across = _across(x, place)
        parts.append(f'<path class="mark" d="M{across:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="mark-text" x="{across:.1f}" y="{_TOP - 6}">{escape(word)}</text>')
    for number, line in enumerate(series):
        style = f'class="line s{number % SERIES_STYLES}"'
        for known, points in groupby(line.points, key=lambda point: math.isfinite(point[1])):
            path = 'L'.join(f'{_across(x, a):.1f} {_down(y, b):.1f}' for a, b in points)
            if known and 'L' in path:
                parts.append(f'<path {style} d="M{path}"/>')
            elif known:  # a single point
                parts.append(f'<path {style} style="stroke-linecap:round" d="M{path}h0"/>')
    parts.append('</svg>')
    return f'<figure class="plot">{"".join(parts)}{_legend(series)}</figure>'


def point_chart(points: Sequence[Point], x: Axis, y: Axis, *, label: str = '') -> str:
    """Draw points with bars over two axes; returns a figure with SVG and legend.

    Args:
        label: What the chart shows, for screen readers.
    """
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts += _grid(x, y)
    places = [(_across(x, point.x), _down(y, point.y)) for point in points]
    marks = _place_marks(places)
    for number, (point, (across, down)) in enumerate(zip(points, places, strict=True)):
        style = f's{number % SERIES_STYLES}'
        bar = f'M{_across(x, point.x_low):.1f} {down:.1f}H{_across(x, point.x_high):.1f}'
        parts.append(f'<path class="line {style} bare" d="{bar}"/>{_dot(style, across, down)}')
        parts.append(_mark(point.mark, *marks[number]))
    parts.append('</svg>')
    entries = ''.join(
        f'<li><svg viewBox="0 0 26 14" class="mark-of" aria-hidden="true">{_mark(point.mark, 5, 7)}'
        f'{_dot(f"s{number % SERIES_STYLES}", 19, 7)}</svg>{_entry(point.name, point.value)}</li>'
        for number, point in enumerate(points)
    )
    return f'<figure class="plot">{"".join(parts)}<ul class="legend">{entries}</ul></figure>'


def _place_marks(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The centre of the mark of each point: beside it, where no other point and no mark is yet."""
    marks: list[tuple[float, float]] = []
    for across, down in places:
        # Not to the left or right, where its bar is.
        around = [
            (across + aside, down + below)
            for reach in (1, 1.6)
            for aside, below in (
                (0, -11 * reach),
                (0, 11 * reach),
                *((8 * s, 9 * reach * t) for t in (-1, 1) for s in (1, -1)),
            )
        ]
        taken = [place for place in places if place != (across, down)] + marks
        marks.append(max(around, key=lambda mark: min([_MARK_ROOM, *(math.dist(mark, other) for other in taken)])))
    return marks


def _dot(style: str, across: float, down: float) -> str:
    return f'<circle class="dot {style} bare" cx="{across:.1f}" cy="{down:.1f}" r="4"/>'


def _mark(mark: str, across: float, down: float) -> str:
    return f'<text class="dot-text" x="{across:.1f}" y="{down + 4:.1f}" text-anchor="middle">{escape(mark)}</text>'


def _entry(name: str, value: str) -> str:
    return f'{escape(name)}{f" <b>{escape(value)}</b>" if value else ""}'


def _grid(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in y.ticks():
        down = _down(y, value)
        parts.append(f'<path class="grid" d="M{_LEFT} {down:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in x.ticks():
        across = _across(x, value)
        parts.append(f'<path class="axis" d="M{across:.1f} {bottom}v4"/>')
        parts.append(
            f'<text class="tick" x="{across:.1f}" y="{bottom + 17}" text-anchor="middle">{_number(value)}</text>'
        )
    middle = (_TOP + bottom) / 2
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    parts.append(
        f'<text class="title" x="{(_LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.title)}</text>'
        f'<text class="title" transform="translate(11 {middle})rotate(-90)" text-anchor="middle">'
        f'{escape(y.title)}</text>'
    )
    return parts


def _legend(series: Sequence[Series]) -> str:
    entries = ''.join(
        f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><path class="line s{number % SERIES_STYLES}" d="M0 4H26"/>'
        f'</svg>{_entry(line.name, line.value)}</li>'
        for number, line in enumerate(series)
    )
    return f'<ul class="legend">{entries}</ul>'


def _across(axis: Axis, value: float) -> float:
    return _LEFT + axis.position(value) * (WIDTH - _LEFT - _RIGHT)


def _down(axis: Axis, value: float) -> float:
    return _TOP + (1 - axis.position(value)) * (HEIGHT - _TOP - _BOTTOM)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [count * step for count in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high]


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f'{value / 1000:g}k'
    return f'{round(value, 10):g}'
