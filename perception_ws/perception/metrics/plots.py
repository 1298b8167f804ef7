"""Line charts as inline SVG: a few lines of text, sharp at every size, colours from the page (light and dark)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 440, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 18, 42
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
        f'</svg>{escape(line.name)}{f" <b>{escape(line.value)}</b>" if line.value else ""}</li>'
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
