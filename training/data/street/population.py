"""Furnishes the sides of a street at random: houses, gardens, trees, furniture. Traffic and people come in traffic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.data.street.buildings import Building
from training.data.street.facades import FACADE_STYLES
from training.data.street.furniture import SIGN_KINDS, Bin, Pole, TrafficLight, TrafficSign, draw_fence, draw_sign
from training.data.street.light import Light
from training.data.street.mesh import Point
from training.data.street.placement import StreetObject
from training.data.street.plan import SIDE_STREET_PAVEMENT_M, Side, Stretch
from training.data.street.plants import Plant, StreetWall, draw_crown, draw_hedge
from training.data.street.textures import Picture

_ROOFS: tuple[Point, ...] = ((134, 72, 54), (96, 58, 50), (70, 72, 78), (112, 92, 80))
_METALS: tuple[Point, ...] = ((96, 100, 104), (60, 66, 62), (150, 152, 154))
_BINS: tuple[Point, ...] = ((60, 66, 60), (120, 122, 124), (52, 70, 96), (120, 96, 40))
_HOUSES_BEYOND_M = 95.0
_BIN_SIZES = ((0.5, 0.95, 0.45), (0.9, 1.3, 0.4), (0.6, 1.1, 0.6))


def draw_houses(rng: np.random.Generator, stretch: Stretch) -> Iterator[StreetObject]:
    """Houses along both building lines, and along the side streets as far as one sees into them."""
    plan, light = stretch.plan, stretch.light
    last = stretch.s1 + _HOUSES_BEYOND_M
    highest = 9.0 if plan.suburban else 16.0 * rng.uniform(1.0, 2.0)

    def house(x: float, depth: float, s0: float, s1: float, *, attached: bool) -> Building:
        style = FACADE_STYLES[rng.integers(len(FACADE_STYLES))]
        if plan.suburban and rng.random() < 0.7:
            style = 'plaster'
        pitched = style in ('plaster', 'brick') and rng.random() < (0.85 if plan.suburban else 0.4)
        return Building(
            x0_m=min(x, x + depth),
            x1_m=max(x, x + depth),
            s0_m=s0,
            s1_m=s1,
            height_m=float(rng.uniform(0.6 * min(highest, 15), highest)),
            style=style,
            seed=(int(rng.integers(2**31)), int(rng.integers(2**31))),
            shop=not plan.suburban and bool(rng.random() < 0.6),
            lit_share=0.4 if light.lamps_on else 0.02,
            attached=attached,
            detail=stretch.detail,
            roof_m=float(rng.uniform(2.0, 4.0)) if pitched else 0.0,
            roof_paint=_ROOFS[rng.integers(len(_ROOFS))],
        )

    for side in plan.sides:
        s, end_before = stretch.s0 - 15, -np.inf
        while s < last:
            length = float(rng.uniform(9, 18) if plan.suburban else rng.uniform(11, 26))
            corners = [start - SIDE_STREET_PAVEMENT_M for start, _ in plan.crossings(s, s + length + 4)]
            stop = min(corners, default=s + length)
            if stop - s > 5:
                front = side.wall + side.sign * (float(rng.uniform(0, 1.2)) if plan.garden else 0.0)
                yield house(front, side.sign * float(rng.uniform(9, 14)), s, stop, attached=s - end_before < 1)
                end_before = stop
            s = max(stop, s)
            for start, end in plan.crossings(s - 0.1, s + 4.5):
                if start - SIDE_STREET_PAVEMENT_M <= s + 0.2:
                    s = end + SIDE_STREET_PAVEMENT_M
            s += float(rng.uniform(3, 8)) if plan.suburban else max(0.0, float(rng.uniform(-12, 5)))
    for _, end in plan.crossings(stretch.s0, last):
        for side in plan.sides:
            out = abs(side.wall) + 16
            while out < 62:
                width = float(rng.uniform(10, 18))
                corner = end + SIDE_STREET_PAVEMENT_M
                yield house(side.sign * out, side.sign * width, corner, corner + 11, attached=False)
                out += width + float(rng.choice([0.0, 3.0]))


class _Garden:
    """The plants of one sequence, and how gardens are laid out with them."""

    def __init__(self, rng: np.random.Generator, light: Light, detail: float) -> None:
        self.rng = rng
        autumn = bool(rng.random() < 0.2)
        self.trees = [
            draw_crown(rng, light, detail, trunk=True, autumn=autumn and bool(rng.random() < 0.7)) for _ in range(3)
        ]
        self.bushes = [draw_crown(rng, light, detail, trunk=False, autumn=False) for _ in range(2)]

    def tree(self, x: float, s: float, height: float) -> Plant:
        width = height * float(self.rng.uniform(0.6, 0.85))
        sprite = self.trees[self.rng.integers(len(self.trees))]
        return Plant(sprite=sprite, x_m=x, s_m=s, height_m=height, width_m=width)

    def bush(self, x: float, s: float, height: float) -> Plant:
        sprite = self.bushes[self.rng.integers(len(self.bushes))]
        return Plant(sprite=sprite, x_m=x, s_m=s, height_m=height, width_m=height * 1.1)

    def edge(self, x: float, s0: float, s1: float) -> StreetWall | None:
        """What parts a garden from the pavement: a hedge, a fence, a wall or nothing."""
        kind = self.rng.choice(['hedge', 'fence', 'fence', 'wall', 'open'])
        if kind == 'hedge':
            height = float(self.rng.uniform(0.9, 1.8))
            picture = draw_hedge(self.rng, s1 - s0, height)
            return StreetWall(label='vegetation', picture=picture, x_m=x, s0_m=s0, s1_m=s1, height_m=height)
        if kind == 'fence':
            height = float(self.rng.uniform(0.9, 1.7))
            picture = draw_fence(self.rng, s1 - s0)
            return StreetWall(label='fence', picture=picture, x_m=x, s0_m=s0, s1_m=s1, height_m=height)
        if kind == 'wall':
            tone = self.rng.uniform(110, 190) + self.rng.normal(0, 9, (40, 160, 1))
            picture = Picture(np.clip(tone + np.zeros(3), 0, 255).astype(np.uint8))
            height = float(self.rng.uniform(0.6, 1.2))
            return StreetWall(label='wall', picture=picture, x_m=x, s0_m=s0, s1_m=s1, height_m=height)
        return None


def draw_greenery(rng: np.random.Generator, stretch: Stretch) -> Iterator[StreetObject]:
    """Street trees, front gardens, bushes at walls, railings at kerbs."""
    plan = stretch.plan
    garden = _Garden(rng, stretch.light, stretch.detail)
    spacing = rng.uniform(7, 16) / max(stretch.density, 0.25)
    for side in plan.sides:
        if rng.random() < 0.6 and side.pavement > 2.4:
            for s in np.arange(stretch.s0, stretch.s1, spacing) + rng.uniform(-1, 1):
                if rng.random() < 0.85 and not plan.in_crossing(float(s), 4):
                    yield garden.tree(side.out(0.8), float(s), float(rng.uniform(4.5, 9.0)))
        if plan.garden > 1.5:
            yield from _draw_front_gardens(rng, stretch, side, garden)
        elif rng.random() < 0.6:
            for s in rng.uniform(stretch.s0, stretch.s1, int((stretch.s1 - stretch.s0) / 26)):
                if not plan.in_crossing(float(s), 3):
                    yield garden.bush(side.out(side.pavement - 0.5), float(s), float(rng.uniform(0.8, 1.6)))
        if rng.random() < 0.4:
            yield from _draw_railings(rng, stretch, side)


def _draw_front_gardens(
    rng: np.random.Generator, stretch: Stretch, side: Side, garden: _Garden
) -> Iterator[StreetObject]:
    s = stretch.s0
    depth = stretch.plan.garden
    while s < stretch.s1:
        length = float(rng.uniform(6, 16))
        if not stretch.plan.crossings(s - 3, s + length + 3):
            gate = float(rng.choice([0.0, 1.2]))
            edge = garden.edge(side.out(side.pavement + 0.15), s, s + length - gate)
            if edge:
                yield edge
            for _ in range(int(rng.integers(0, 4))):
                x = side.out(side.pavement + depth * float(rng.uniform(0.3, 0.8)))
                at, size = float(rng.uniform(s, s + length)), float(rng.uniform(0.8, 2.2))
                yield garden.tree(x, at, 3 * size) if rng.random() < 0.3 else garden.bush(x, at, size)
        s += length


def _draw_railings(rng: np.random.Generator, stretch: Stretch, side: Side) -> Iterator[StreetObject]:
    """Railings at the kerb, here and there."""
    for s in np.arange(stretch.s0, stretch.s1, 34):
        start, length = float(s + rng.uniform(0, 12)), float(rng.uniform(6, 14))
        if not stretch.plan.crossings(start - 6, start + length + 6):
            picture, x = draw_fence(rng, length), side.out(0.35)
            yield StreetWall(label='fence', picture=picture, x_m=x, s0_m=start, s1_m=start + length, height_m=1.05)


def draw_furniture(rng: np.random.Generator, stretch: Stretch, *, green: bool) -> Iterator[StreetObject]:
    """Lamps, poles, signs, bins, and the signals of the crossings (``green`` for the camera)."""
    plan = stretch.plan
    metal = _METALS[rng.integers(len(_METALS))]
    height, arm = float(rng.uniform(5.5, 9)), float(rng.choice([0.0, 1.4, 2.2]))
    lamps = np.arange(stretch.s0 + float(rng.uniform(0, 20)), stretch.s1, float(rng.uniform(20, 32)))
    for number, s in enumerate(lamps):
        if not plan.in_crossing(float(s), 1):
            x = plan.sides[number % 2].out(0.5)
            yield Pole(x_m=x, s_m=float(s), height_m=height, radius_m=0.075, paint=metal, arm_m=arm)
    for s in rng.uniform(stretch.s0, stretch.s1, int((stretch.s1 - stretch.s0) / 13 * stretch.density)):
        side = plan.sides[rng.integers(2)]
        if not plan.in_crossing(float(s), 2):
            yield from _draw_item(rng, side, float(s), metal)
    if rng.random() < 0.75:
        arm = float(rng.choice([0.0, 0.0, plan.lane * 0.9]))
        for start, _ in plan.crossings(stretch.s0, stretch.s1):
            for side in plan.sides:
                reach = arm + 0.5 + side.parking if side.sign > 0 and arm else 0.0
                yield TrafficLight(x_m=side.out(0.5), s_m=start - 1.0, shows='green' if green else 'red', arm_m=reach)


def _draw_item(rng: np.random.Generator, side: Side, s: float, metal: Point) -> Iterator[StreetObject]:
    """A sign, a pole, a row of bollards or a bin at the kerb."""
    kind = rng.choice(['sign', 'sign', 'sign', 'pole', 'bollards', 'bin'])
    x = side.out(float(rng.uniform(0.35, 0.6)))
    if kind == 'sign':
        kinds = [SIGN_KINDS[index] for index in rng.integers(0, len(SIGN_KINDS), int(rng.choice([1, 1, 2])))]
        pictures = tuple(draw_sign(rng, kind) for kind in kinds)
        size, height = float(rng.uniform(0.6, 0.95)), float(rng.uniform(2.5, 3.4))
        yield TrafficSign(pictures=pictures, x_m=x, s_m=s, size_m=size, height_m=height + 0.4 * ('board' in kinds))
    elif kind == 'pole':
        yield Pole(x_m=x, s_m=s, height_m=float(rng.uniform(3, 8)), radius_m=float(rng.uniform(0.05, 0.11)))
    elif kind == 'bollards':
        for step in range(int(rng.integers(3, 7))):
            yield Pole(x_m=side.out(0.4), s_m=s + 1.6 * step, height_m=0.95, radius_m=0.06, paint=metal)
    else:
        size_m, paint = _BIN_SIZES[rng.integers(len(_BIN_SIZES))], _BINS[rng.integers(len(_BINS))]
        yield Bin(x_m=side.out(0.7), s_m=s, size_m=size_m, paint=paint)
