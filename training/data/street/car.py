"""Bodies of cars and vans: a waist with bevelled corners, and a narrower cabin on it. Metres, colours 0..255."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.data.street.mesh import MeshBuilder, Point, panel, strip
from training.data.street.vehicle_parts import DARK, GLASS, HEAD_LAMP, TAIL_LAMP, Body, add_wheels, tinted

_BEVEL_M = 0.22


@dataclass(frozen=True, kw_only=True)
class CarShape:
    """Side view of a car: heights of its lines, and how far from its ends they break.

    Attributes:
        hood_y, belt_y: Front edge of the hood, lower edge of the windows.
        hood, windscreen: Lengths along the car, from the front.
        roof_end, deck: Where roof and rear window end, from the rear.
    """

    length: float
    width: float
    height: float
    clearance: float
    hood_y: float
    belt_y: float
    hood: float
    windscreen: float
    roof_end: float
    deck: float
    roof_share: float = 0.8

    @property
    def half(self) -> float:
        return self.width / 2

    @property
    def front(self) -> float:
        return self.length / 2

    @property
    def rear(self) -> float:
        return -self.length / 2

    @property
    def glass_front(self) -> float:
        return self.front - self.hood

    @property
    def roof_front(self) -> float:
        return self.glass_front - self.windscreen

    @property
    def roof_rear(self) -> float:
        return self.rear + self.roof_end

    @property
    def deck_z(self) -> float:
        return self.rear + self.deck


_HATCHBACK = CarShape(
    length=4.0,
    width=1.76,
    height=1.48,
    clearance=0.2,
    hood_y=0.74,
    belt_y=0.95,
    hood=0.85,
    windscreen=0.8,
    roof_end=0.62,
    deck=0.14,
)
CAR_SHAPES = {
    'hatchback': _HATCHBACK,
    'sedan': replace(
        _HATCHBACK, length=4.65, width=1.82, height=1.43, hood=1.1, windscreen=0.9, roof_end=1.4, deck=0.6
    ),
    'estate': replace(_HATCHBACK, length=4.7, width=1.82, hood=1.1, windscreen=0.85, roof_end=0.5, deck=0.1),
    'suv': replace(
        _HATCHBACK, length=4.55, width=1.88, height=1.7, clearance=0.28, hood_y=0.92, belt_y=1.1, hood=1.0, deck=0.1
    ),
    'van': CarShape(
        length=5.3,
        width=1.95,
        height=2.15,
        clearance=0.24,
        hood_y=1.0,
        belt_y=1.22,
        hood=0.6,
        windscreen=0.75,
        roof_end=0.1,
        deck=0.04,
        roof_share=0.9,
    ),
}


def draw_car(rng: np.random.Generator, shape: CarShape, paint: Point, lamps_on: bool, *, panel_van: bool) -> Body:
    """A car near the given shape; a panel van has no rear side windows."""
    size = replace(
        shape,
        length=shape.length * rng.uniform(0.95, 1.06),
        width=shape.width * rng.uniform(0.97, 1.03),
        height=shape.height * rng.uniform(0.97, 1.05),
    )
    body = MeshBuilder()
    sides = {side: _add_side(body, size, paint, side, panel_van) for side in (-1, 1)}
    add_wheels(
        body, size.half + 0.005, 0.33 if size.height < 1.6 else 0.38, [size.front - 0.85, size.rear + 0.8], sides
    )
    _add_ends(body, size, paint, lamps_on)
    _add_top(body, size, paint)
    return Body(
        mesh=body.build(),
        length_m=size.length,
        width_m=size.width,
        height_m=size.height,
        label='car',
        lamp_height_m=size.hood_y - 0.12,
    )


def _add_side(body: MeshBuilder, size: CarShape, paint: Point, side: int, panel_van: bool) -> int:
    """Flank with doors and light reflexes, cabin side with windows, bevels, mirror; returns the flank's index."""
    x, low, belt = side * size.half, size.clearance, size.belt_y
    z0, z1 = size.rear + _BEVEL_M, size.front - _BEVEL_M
    inside = (0.0, size.height * 0.45, 0.0)
    outline = [
        (low, z0),
        (low, z1),
        (size.hood_y, z1),
        (belt, size.glass_front),
        (belt, size.deck_z),
        (belt - 0.03, z0),
    ]
    flank = body.add(panel(x, outline), paint, inside, gloss=0.05)
    body.lay(panel(x, [(low, z0), (low, z1), (low + 0.12, z1), (low + 0.12, z0)]), tinted(paint, 0.42), flank)
    body.lay(panel(x, [(low + 0.12, z0), (low + 0.12, z1), (0.5, z1), (0.52, z0)]), tinted(paint, 0.84), flank)
    crease = belt - 0.14
    body.lay(panel(x, [(crease - 0.05, z0), (size.hood_y - 0.1, z1), (size.hood_y - 0.04, z1), (crease + 0.06, z0)]),
             tinted(paint, 1.12), flank, gloss=0.14)  # fmt: skip
    for door in (size.glass_front - 0.3, (size.roof_front + size.roof_rear) / 2 - 0.05, size.roof_rear + 0.2):
        body.lay(panel(x, [(low + 0.16, door), (low + 0.16, door + 0.02), (belt, door + 0.02), (belt, door)]),
                 tinted(paint, 0.5), flank)  # fmt: skip
        handle = door - 0.28
        body.lay(panel(x, [(belt - 0.12, handle), (belt - 0.12, handle + 0.18), (belt - 0.08, handle + 0.18),
                           (belt - 0.08, handle)]), tinted(paint, 0.6), flank, gloss=0.1)  # fmt: skip
    _add_side_windows(body, size, paint, side, panel_van)
    for z, inset, top in ((size.front, z1, size.hood_y), (size.rear, z0, belt - 0.03)):
        nose = side * size.half * 0.82
        corner: list[Point] = [(x, low, inset), (nose, low, z), (nose, top - 0.02, z), (x, top, inset)]
        body.add(corner, paint, inside, gloss=0.06)
    mirror_z = size.glass_front - 0.25
    for shift, color in ((0.06, paint), (-0.06, DARK)):
        mirror: list[Point] = [(x + side * out, belt + up, mirror_z + shift)
                               for out, up in ((0.0, 0.02), (0.17, 0.04), (0.17, 0.17), (0.0, 0.15))]  # fmt: skip
        body.add(mirror, color, (x, belt + 0.1, mirror_z))
    return flank


def _add_side_windows(body: MeshBuilder, size: CarShape, paint: Point, side: int, panel_van: bool) -> None:
    waist, roof = side * size.half * 0.97, side * size.half * size.roof_share
    cabin = np.array([
        (waist, size.belt_y, size.glass_front),
        (roof, size.height - 0.03, size.roof_front),
        (roof, size.height - 0.05, size.roof_rear),
        (waist, size.belt_y, size.deck_z),
    ])  # fmt: skip
    wall = body.add(cabin, tinted(paint, 0.95), (0, size.belt_y, 0), gloss=0.05)
    center = cabin.mean(axis=0)
    glass = center + (cabin - center) * (1, 0.76, 0.86)
    if panel_van:
        glass[2], glass[3] = glass[1] + (glass[2] - glass[1]) * 0.25, glass[0] + (glass[3] - glass[0]) * 0.4
    body.lay(glass, GLASS, wall, gloss=0.15)
    lit = glass.copy()
    lit[0], lit[3] = (glass[0] + glass[1]) / 2, glass[3] * 0.3 + glass[2] * 0.7
    body.lay(lit, tinted(GLASS, 1.5), wall, gloss=0.26)
    if not panel_van:
        foot, head = glass[0] + (glass[3] - glass[0]) * 0.52, glass[1] + (glass[2] - glass[1]) * 0.5
        half = np.array([0, 0, 0.04])
        post = np.array([foot - half, foot + half, head + half, head - half])
        body.lay(post, DARK, wall)


def _add_ends(body: MeshBuilder, size: CarShape, paint: Point, lamps_on: bool) -> None:
    """Front and rear with bumper, lamps, grille and plate, and the dark under the car."""
    inside = (0.0, size.height * 0.45, 0.0)
    nose, low = size.half * 0.82, size.clearance
    for z, top, lamp, lamp_y in (
        (size.front, size.hood_y - 0.02, HEAD_LAMP, size.hood_y - 0.2),
        (size.rear, size.belt_y - 0.05, TAIL_LAMP, size.belt_y - 0.3),
    ):
        is_front = z > 0
        body.add(strip((size.half * 0.9, 0.13, z * 0.9), (size.half * 0.9, low + 0.1, z * 0.9)), DARK, inside)
        end = body.add(strip((nose, low, z), (nose, top, z)), paint, inside, gloss=0.05)
        body.lay(strip((nose, low, z), (nose, low + 0.14, z)), (44, 45, 47), end)
        body.lay(strip((nose, low + 0.3, z), (nose, low + 0.34, z)), tinted(paint, 0.7), end)
        plate_y = low + 0.18 if is_front else lamp_y - 0.05
        if is_front:
            body.lay(strip((nose * 0.52, low + 0.34, z), (nose * 0.6, top - 0.06, z)), (36, 37, 40), end, gloss=0.05)
            body.lay(strip((nose * 0.55, top - 0.16, z), (nose * 0.57, top - 0.13, z)), (150, 152, 156), end)
        body.lay(strip((0.26, plate_y, z), (0.26, plate_y + 0.11, z)), (226, 226, 220), end)
        inner, outer, high = nose * (0.62 if is_front else 0.7), nose, 0.15 if is_front else 0.22
        for side in (-1, 1):
            corners: list[Point] = [
                (side * inner, lamp_y, z),
                (side * outer, lamp_y, z),
                (side * outer, lamp_y + high, z),
                (side * inner, lamp_y + high * 0.8, z),
            ]
            body.lay(corners, lamp, end, shines=lamps_on, gloss=0.1)


def _add_top(body: MeshBuilder, size: CarShape, paint: Point) -> None:
    """Hood, windscreen, roof, rear window and deck."""
    inside = (0.0, size.height * 0.45, 0.0)
    nose, waist, roof = size.half * 0.82, size.half * 0.97, size.half * size.roof_share
    belt, head = size.belt_y, size.height - 0.03
    bevel_z = size.front - _BEVEL_M
    hood: list[Point] = [(-nose, size.hood_y - 0.02, size.front), (nose, size.hood_y - 0.02, size.front),
                         (size.half, size.hood_y, bevel_z), (waist, belt, size.glass_front),
                         (-waist, belt, size.glass_front), (-size.half, size.hood_y, bevel_z)]  # fmt: skip
    body.add(hood, tinted(paint, 1.02), inside, gloss=0.14)
    screen = body.add(strip((waist, belt, size.glass_front), (roof, head, size.roof_front)), DARK, inside)
    _lay_pane(body, screen, (waist, belt, size.glass_front), (roof, head, size.roof_front))
    body.add(strip((roof, head, size.roof_front), (roof, head - 0.02, size.roof_rear)), paint, inside, gloss=0.2)
    back = body.add(strip((waist, belt, size.deck_z), (roof, head - 0.02, size.roof_rear)), tinted(paint, 0.95), inside)
    _lay_pane(body, back, (waist * 0.9, belt + 0.06, size.deck_z), (roof * 0.92, head - 0.06, size.roof_rear))
    body.add(strip((waist, belt, size.deck_z), (nose, belt - 0.05, size.rear)), paint, inside, gloss=0.16)


def _lay_pane(body: MeshBuilder, on: int, low: Point, high: Point) -> None:
    """A window between two cross lines: dark seats below, the sky's reflection above."""

    def between(share: float, inset: float) -> Point:
        half, y, z = (a + (b - a) * share for a, b in zip(low, high, strict=True))
        return (half * inset, y, z)

    body.lay(strip(between(0.05, 0.94), between(0.95, 0.94)), GLASS, on, gloss=0.12)
    half, y, z = between(0.3, 1.0)
    for x in (-0.45, 0.45):
        _, top, top_z = between(0.72, 1.0)
        seat: list[Point] = [(half * (x - 0.17), y, z), (half * (x + 0.17), y, z),
                             (half * (x + 0.1), top, top_z), (half * (x - 0.1), top, top_z)]  # fmt: skip
        body.lay(seat, (16, 18, 20), on, gloss=0.05)
    body.lay(strip(between(0.74, 0.93), between(0.95, 0.93)), tinted(GLASS, 1.6), on, gloss=0.3)
