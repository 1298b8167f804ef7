"""Bodies of trucks and buses, wheels, and the door to all vehicles. Metres, colours 0..255."""

from __future__ import annotations

from typing import Literal

import numpy as np

from training.data.street.car import CAR_SHAPES, draw_car
from training.data.street.mesh import MeshBuilder, Point, panel, strip
from training.data.street.vehicle_parts import GLASS, HEAD_LAMP, TAIL_LAMP, Body, add_wheels, tinted

VehicleKind = Literal['hatchback', 'sedan', 'estate', 'suv', 'van', 'truck', 'bus']

_PAINTS: tuple[Point, ...] = (
    (225, 226, 226),
    (176, 180, 184),
    (112, 116, 121),
    (38, 40, 44),
    (30, 52, 96),
    (158, 24, 28),
    (52, 92, 150),
    (40, 74, 56),
    (168, 152, 126),
    (196, 92, 34),
    (210, 176, 48),
    (92, 32, 44),
    (128, 162, 190),
)
_PAINT_SHARES = np.array([4, 4, 4, 4, 2, 2, 1.5, 1, 1, 0.7, 0.5, 0.8, 0.8])
_LIVERIES: tuple[Point, ...] = ((196, 40, 38), (232, 196, 60), (226, 226, 222), (44, 96, 168), (60, 128, 84))


def draw_vehicle(rng: np.random.Generator, kind: VehicleKind, lamps_on: bool) -> Body:
    """A vehicle of this kind, otherwise random."""
    base = _PAINTS[rng.choice(len(_PAINTS), p=_PAINT_SHARES / _PAINT_SHARES.sum())]
    drift = rng.uniform(-12, 12, 3)
    paint = (base[0] + float(drift[0]), base[1] + float(drift[1]), base[2] + float(drift[2]))
    if kind == 'truck':
        return _draw_truck(rng, paint, lamps_on)
    if kind == 'bus':
        return _draw_bus(rng, _LIVERIES[rng.integers(len(_LIVERIES))], lamps_on)
    return draw_car(rng, CAR_SHAPES[kind], paint, lamps_on, panel_van=kind == 'van' and bool(rng.random() < 0.6))


def _draw_truck(rng: np.random.Generator, paint: Point, lamps_on: bool) -> Body:
    """A cab before a cargo box."""
    length, height, half = rng.uniform(7.0, 9.5), rng.uniform(3.1, 3.7), 1.22
    front, rear, cab_rear = length / 2, -length / 2, length / 2 - 1.9
    cab_height = min(2.75, height - 0.3)
    grey = rng.uniform(170, 235)
    cargo_paint: Point = (grey, grey, grey - 4) if rng.random() < 0.6 else tinted(paint, 1.1)
    body = MeshBuilder()
    body.box((-half * 0.85, 0.45, rear + 0.1), (half * 0.85, 0.85, front - 0.2), (46, 46, 48))
    cargo = body.box((-half, 0.95, rear), (half, height, cab_rear - 0.15), cargo_paint, gloss=0.05)
    cab = body.box((-half * 0.97, 0.4, cab_rear), (half * 0.97, cab_height, front), paint, gloss=0.08)
    for side, name in ((-1, 'left'), (1, 'right')):
        x = side * half
        stripe = rng.uniform(1.4, 2.2)
        body.lay(panel(x, [(stripe, rear + 0.4), (stripe, cab_rear - 0.6), (stripe + 0.7, cab_rear - 0.6),
                           (stripe + 0.7, rear + 0.4)]), tinted(paint, 0.8), cargo[name])  # fmt: skip
        body.lay(panel(x, [(0.95, rear), (0.95, cab_rear - 0.15), (1.06, cab_rear - 0.15), (1.06, rear)]),
                 tinted(cargo_paint, 0.5), cargo[name])  # fmt: skip
        body.lay(panel(x * 0.97, [(1.6, cab_rear + 0.45), (1.6, front - 0.12), (cab_height - 0.3, front - 0.3),
                                  (cab_height - 0.3, cab_rear + 0.45)]), GLASS, cab[name], gloss=0.25)  # fmt: skip
    add_wheels(body, half, 0.47, [front - 0.9, rear + 1.3, rear + 2.3], {-1: cargo['left'], 1: cargo['right']})
    body.lay(
        strip((half * 0.88, 1.55, front), (half * 0.84, cab_height - 0.22, front)), GLASS, cab['front'], gloss=0.25
    )
    body.lay(strip((half * 0.55, 0.85, front), (half * 0.55, 1.25, front)), (40, 40, 42), cab['front'])
    for side in (-1, 1):
        head = [(side * half * place, y, front) for place, y in ((0.62, 0.66), (0.9, 0.66), (0.9, 0.84), (0.62, 0.84))]
        body.lay(head, HEAD_LAMP, cab['front'], shines=lamps_on)
        tail = [(side * half * place, y, rear) for place, y in ((0.68, 1.0), (0.95, 1.0), (0.95, 1.14), (0.68, 1.14))]
        body.lay(tail, TAIL_LAMP, cargo['rear'], shines=lamps_on)
    body.lay(strip((0.02, 1.2, rear), (0.02, height - 0.1, rear)), tinted(cargo_paint, 0.5), cargo['rear'])
    return Body(
        mesh=body.build(), length_m=length, width_m=2 * half, height_m=height, label='truck', lamp_height_m=0.75
    )


def _draw_bus(rng: np.random.Generator, paint: Point, lamps_on: bool) -> Body:
    """A city bus with a band of windows, doors on its right and a lit destination."""
    length, height, half = rng.uniform(10.5, 12.2), 3.1, 1.26
    front, rear = length / 2, -length / 2
    glass = (92, 88, 70) if lamps_on else GLASS
    body = MeshBuilder()
    body.box((-half * 0.9, 0.14, rear + 0.3), (half * 0.9, 0.4, front - 0.3), (30, 30, 32))
    faces = body.box((-half, 0.32, rear), (half, height, front), paint, gloss=0.08)
    trim = tinted(paint, 0.55)
    for side, name in ((-1, 'left'), (1, 'right')):
        x = side * half
        body.lay(panel(x, [(0.32, rear), (0.32, front), (0.5, front), (0.5, rear)]), trim, faces[name])
        body.lay(panel(x, [(1.25, rear + 0.4), (1.25, front - 0.15), (2.6, front - 0.15), (2.6, rear + 0.4)]),
                 (28, 30, 33), faces[name], gloss=0.1)  # fmt: skip
        panes = np.linspace(rear + 0.45, front - 0.2, 8)
        for z0, z1 in zip(panes[:-1] + 0.06, panes[1:] - 0.06, strict=True):
            body.lay(panel(x, [(1.32, z0), (1.32, z1), (2.52, z1), (2.52, z0)]), glass, faces[name], gloss=0.2)
            body.lay(
                panel(x, [(2.0, z0), (2.2, z1), (2.52, z1), (2.52, z0)]), tinted(glass, 1.4), faces[name], gloss=0.25
            )
        if side == 1:
            for z in (front - 1.3, 0.3, rear + 2.6):
                body.lay(panel(x, [(0.36, z), (0.36, z + 1.1), (2.55, z + 1.1), (2.55, z)]), trim, faces[name])
                for leaf in (z + 0.06, z + 0.58):
                    body.lay(panel(x, [(0.5, leaf), (0.5, leaf + 0.46), (2.45, leaf + 0.46), (2.45, leaf)]),
                             glass, faces[name], gloss=0.2)  # fmt: skip
    add_wheels(body, half, 0.48, [front - 2.6, rear + 2.6], {-1: faces['left'], 1: faces['right']})
    body.lay(strip((half * 0.93, 1.05, front), (half * 0.93, 2.55, front)), GLASS, faces['front'], gloss=0.2)
    body.lay(strip((half * 0.9, 1.9, front), (half * 0.9, 2.5, front)), tinted(GLASS, 1.6), faces['front'], gloss=0.25)
    body.lay(strip((half * 0.7, 2.62, front), (half * 0.7, 2.95, front)), (20, 18, 16), faces['front'])
    body.lay(strip((half * 0.5, 2.7, front), (half * 0.5, 2.87, front)), (250, 170, 40), faces['front'], shines=True)
    body.lay(strip((half * 0.85, 1.5, rear), (half * 0.85, 2.5, rear)), GLASS, faces['rear'], gloss=0.2)
    body.lay(strip((half, 0.32, rear), (half, 0.5, rear)), trim, faces['rear'])
    body.lay(strip((half, 0.32, front), (half, 0.5, front)), trim, faces['front'])
    body.lay(strip((half * 0.5, 0.6, rear), (half * 0.5, 1.2, rear)), trim, faces['rear'])
    for side in (-1, 1):
        for z, name, color in ((front, 'front', HEAD_LAMP), (rear, 'rear', TAIL_LAMP)):
            lamp = [
                (side * half * place, y, z) for place, y in ((0.66, 0.62), (0.94, 0.62), (0.94, 0.84), (0.66, 0.84))
            ]
            body.lay(lamp, color, faces[name], shines=lamps_on)
    return Body(mesh=body.build(), length_m=length, width_m=2 * half, height_m=height, label='bus', lamp_height_m=0.73)
