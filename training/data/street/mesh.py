"""Bodies of flat faces in their own coordinates: x to the right, y up, z forward, origin on the ground.

V vertices, F faces. A detail (lamp, window) is a face that lies on another, its parent, and is painted just after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """All faces of a body, ready to be placed.

    Attributes:
        vertices: (V, 3); face i owns rows ``starts[i]:starts[i + 1]``.
        normals, centers, colors: (F, 3).
        gloss: (F,) how much the face mirrors the sky.
        sizes: (F,) rough extent in metres, to leave out what nobody could see.
        parents: (F,) own index for a face of the body.
        solid: (F,) whether the face counts for the silhouette.
        shines: (F,) whether it has light of its own.
    """

    vertices: np.ndarray
    starts: np.ndarray
    normals: np.ndarray
    centers: np.ndarray
    colors: np.ndarray
    gloss: np.ndarray
    sizes: np.ndarray
    parents: np.ndarray
    solid: np.ndarray
    shines: np.ndarray


class MeshBuilder:
    """Collects faces. Body faces are turned outwards from a given inner point, details lie on a face."""

    def __init__(self) -> None:
        self._points: list[np.ndarray] = []
        self._normals: list[np.ndarray] = []
        self._rows: list[tuple[Point, float, int, bool, bool]] = []

    def add(self, points: list[Point] | np.ndarray, color: Point, inside: Point, *, gloss: float = 0.0) -> int:
        """Add a flat polygon of the body and return its index; its normal points away from ``inside``."""
        corners = np.asarray(points, float)
        (ax, ay, az), (bx, by, bz) = corners[1] - corners[0], corners[-1] - corners[0]
        normal = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
        normal /= max(math.sqrt(normal @ normal), 1e-9)
        if normal @ (corners.sum(axis=0) / len(corners) - inside) < 0:
            normal = -normal
        return self._append(corners, normal, (color, gloss, len(self._rows), True, False))

    def lay(
        self,
        points: list[Point] | np.ndarray,
        color: Point,
        on: int,
        *,
        gloss: float = 0.0,
        solid: bool = False,
        shines: bool = False,
    ) -> None:
        """Lay a detail on the face ``on``; ``solid`` if it stands out of the silhouette, ``shines`` if it is a lamp."""
        self._append(np.asarray(points, float), self._normals[on], (color, gloss, on, solid, shines))

    def _append(self, corners: np.ndarray, normal: np.ndarray, row: tuple[Point, float, int, bool, bool]) -> int:
        self._points.append(corners)
        self._normals.append(normal)
        self._rows.append(row)
        return len(self._rows) - 1

    def box(self, low: Point, high: Point, color: Point, *, gloss: float = 0.0) -> dict[str, int]:
        """Add the faces of a box except its bottom; returns their indices by side."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        center = ((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2)
        sides: dict[str, list[Point]] = {
            'left': [(x0, y0, z0), (x0, y0, z1), (x0, y1, z1), (x0, y1, z0)],
            'right': [(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)],
            'rear': [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)],
            'front': [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
            'top': [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)],
        }
        return {side: self.add(points, color, center, gloss=gloss) for side, points in sides.items()}

    def build(self) -> Mesh:
        """The finished body."""
        lengths = np.array([len(points) for points in self._points])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        vertices = np.concatenate(self._points)
        extents = np.maximum.reduceat(vertices, starts[:-1]) - np.minimum.reduceat(vertices, starts[:-1])
        colors, gloss, parents, solid, shines = zip(*self._rows, strict=True)
        return Mesh(
            vertices=vertices,
            starts=starts,
            normals=np.array(self._normals),
            centers=np.add.reduceat(vertices, starts[:-1]) / lengths[:, None],
            colors=np.array(colors, float),
            gloss=np.array(gloss),
            sizes=np.sort(extents, axis=1)[:, 1],
            parents=np.array(parents),
            solid=np.array(solid),
            shines=np.array(shines),
        )


def turn(vectors: np.ndarray, heading_rad: float) -> np.ndarray:
    """Body coordinates (N, 3) into the street's: heading 0 looks along the street, positive turns right."""
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    return vectors @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def strip(first: Point, second: Point) -> list[Point]:
    """A face over the width of a body: corners at (half width, y, z) to both sides of two places."""
    (a, y0, z0), (b, y1, z1) = first, second
    return [(-a, y0, z0), (a, y0, z0), (b, y1, z1), (-b, y1, z1)]


def panel(x: float, side_view: list[tuple[float, float]]) -> list[Point]:
    """A face in the plane ``x``, from its (y, z) corners."""
    return [(x, y, z) for y, z in side_view]
