import math
import re
from itertools import combinations

import pytest

from perception.metrics.plots import Axis, Point, Series, line_chart, point_chart


def test_axis_positions():
    axis = Axis(title='x', low=0, high=10)
    assert [axis.position(value) for value in (-1, 0, 5, 10, 11)] == [0, 0, 0.5, 1, 1]
    log = Axis(title='y', low=1, high=100, log=True)
    assert [log.position(value) for value in (0, 1, 10, 100)] == pytest.approx([0, 0, 0.5, 1])


@pytest.mark.parametrize(
    ('low', 'high', 'log', 'ticks'),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 320_000, False, [0, 100_000, 200_000, 300_000]),
        (0.9, 22, True, [1, 2, 5, 10, 20]),
        (0.01, 2000, True, [0.01, 0.1, 1, 10, 100, 1000]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, ticks: list[float]):
    assert Axis(title='', low=low, high=high, log=log).ticks() == pytest.approx(ticks)


def test_lines_go_where_the_values_are():
    unit = Axis(title='a < b', low=0, high=1)
    chart = line_chart([Series(name='one', points=[(0, 0), (1, 1)]), Series(name='none', points=[])], unit, unit)
    [path] = re.findall(r'class="line s0" d="M([^H"]+)"', chart)
    (left, bottom), (right, top) = (map(float, point.split()) for point in path.split('L'))
    assert left < right
    assert top < bottom
    assert 'a &lt; b' in chart
    assert 'none' in chart


def test_points_lie_where_their_values_are_and_no_mark_hides_another():
    x, y = Axis(title='ms', low=0, high=100), Axis(title='%', low=0, high=100)
    near = [(50, 50), (51, 50), (50, 51), (10, 90)]
    points = [
        Point(name=f'<{number}>', mark=str(number), x=a, y=b, x_low=a - 5, x_high=a + 5, value='v')
        for number, (a, b) in enumerate(near)
    ]
    chart = point_chart(points, x, y, label='chart')
    drawing = chart.partition('</svg>')[0]
    dots = [(float(a), float(b)) for a, b in re.findall(r'<circle [^>]*cx="([\d.]+)" cy="([\d.]+)"', drawing)]
    bars = [(float(a), float(b)) for a, b in re.findall(r'bare" d="M([\d.]+) [\d.]+H([\d.]+)"', drawing)]
    marks = [(float(a), float(b)) for a, b in re.findall(r'dot-text" x="([\d.]+)" y="([\d.]+)"', drawing)]
    assert len(dots) == len(bars) == len(marks) == 4
    assert dots[3][0] < dots[0][0] < dots[1][0]
    assert dots[3][1] < dots[2][1] < dots[0][1]
    assert all(low < across < high for (across, _), (low, high) in zip(dots, bars, strict=True))
    assert min(math.dist(one, other) for one, other in combinations(marks, 2)) > 8
    assert all(math.dist(mark, dot) < 20 for mark, dot in zip(marks, dots, strict=True))
    assert '&lt;0&gt; <b>v</b>' in chart
