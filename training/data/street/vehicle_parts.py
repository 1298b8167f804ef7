"""What all vehicles share: their record, their materials, their wheels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.street.mesh import Mesh, MeshBuilder, Point

GLASS: Point = (34, 42, 50)
DARK: Point = (24, 25, 27)
TYRE: Point = (29, 29, 30)
HEAD_LAMP: Point = (238, 240, 228)
TAIL_LAMP: Point = (176, 22, 24)
_RIM_POINTS = 18


@dataclass(frozen=True, kw_only=True)
class Body:
    """A vehicle's mesh, its Cityscapes label, outer size and height of its lamps."""

    mesh: Mesh
    length_m: float
    width_m: float
    height_m: float
    label: str
    lamp_height_m: float


def tinted(color: Point, factor: float) -> Point:
    """The colour, darker (below 1) or lighter."""
    return (min(color[0] * factor, 255), min(color[1] * factor, 255), min(color[2] * factor, 255))


def add_wheels(
    body: MeshBuilder, half_width: float, radius: float, places: list[float], side_faces: dict[int, int]
) -> None:
    """Add tyre treads, seen from the front and rear, and discs on the side faces (-1 left, 1 right)."""
    angles = np.arange(_RIM_POINTS) * 2 * np.pi / _RIM_POINTS
    rings: tuple[tuple[float, Point, float], ...] = (
        (1.2, DARK, 0.0),
        (1.0, TYRE, 0.0),
        (0.64, (138, 141, 146), 0.2),
        (0.5, (86, 89, 94), 0.1),
        (0.14, (150, 153, 158), 0.1),
    )
    for side, face in side_faces.items():
        for place in places:
            inner, outer = side * (half_width - 0.24), side * (half_width - 0.02)
            for end in (-1, 1):
                z = place + end * radius * 0.55
                low, high = radius * 0.1, radius * 1.5
                tread: list[Point] = [(inner, low, z), (outer, low, z), (outer, high, z), (inner, high, z)]
                body.add(tread, (22, 22, 23), (inner, radius, place))
            for scale, color, gloss in rings:
                heights = radius + radius * scale * np.sin(angles)
                if scale > 1:  # the arch ends above the ground
                    heights = np.maximum(heights, radius * 0.7)
                along = place + radius * scale * np.cos(angles)
                disc = np.stack([np.full(_RIM_POINTS, side * half_width), heights, along], axis=1)
                body.lay(disc, color, face, gloss=gloss, solid=scale == 1.0)
