"""Street furniture: poles, lamps, traffic signs and lights, fences, bins. Metres, colours 0..255."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from training.data.street.mesh import MeshBuilder, Point
from training.data.street.painter import Painter
from training.data.street.placement import Footprint
from training.data.street.textures import Picture, paint_wall, premultiplied

SignKind = Literal['warning', 'limit', 'no entry', 'direction', 'priority', 'stop', 'parking', 'board']
SIGN_KINDS: tuple[SignKind, ...] = (
    'warning',
    'limit',
    'no entry',
    'direction',
    'priority',
    'stop',
    'parking',
    'board',
)
_SIGN_PX = 96
_LENSES: tuple[tuple[str, Point, Point], ...] = (
    ('green', (60, 255, 150), (20, 56, 40)),
    ('amber', (255, 190, 40), (66, 52, 20)),
    ('red', (255, 60, 44), (74, 22, 20)),
)
"""A signal's lamps from the bottom up: lit and dark colour."""
_RED, _BLUE, _WHITE, _YELLOW, _BLACK = (196, 28, 36), (28, 84, 170), (240, 240, 238), (240, 196, 40), (24, 24, 26)


def draw_sign(rng: np.random.Generator, kind: SignKind) -> Picture:
    """(96, 96, 4) picture of a traffic sign; a board is (96, 192, 4)."""
    n = _SIGN_PX
    wide = 2 * n if kind == 'board' else n
    color, alpha = np.zeros((n, wide, 3), np.uint8), np.zeros((n, wide), np.uint8)
    middle = (n // 2, n // 2)

    def polygon(corners: np.ndarray, paint: Point, scale: float = 1.0, cut: bool = False) -> None:
        center = corners.mean(axis=0)
        points = [np.round(center + (corners - center) * scale).astype(np.int32)]
        cv2.fillPoly(color, points, paint, cv2.LINE_AA)
        if cut:
            cv2.fillPoly(alpha, points, 255, cv2.LINE_AA)

    def disc(radius: float, paint: Point, cut: bool = False) -> None:
        cv2.circle(color, middle, round(radius * n), paint, -1, cv2.LINE_AA)
        if cut:
            cv2.circle(alpha, middle, round(radius * n), 255, -1, cv2.LINE_AA)

    def text(word: str, paint: Point, scale: float, at: tuple[int, int]) -> None:
        cv2.putText(color, word, at, cv2.FONT_HERSHEY_SIMPLEX, scale, paint, 6 if scale > 0.9 else 2, cv2.LINE_AA)

    square = np.array([[2, 2], [n - 3, 2], [n - 3, n - 3], [2, n - 3]], float)
    if kind == 'warning':
        triangle = np.array([[n / 2, 4], [n - 3, n - 10], [3, n - 10]])
        polygon(triangle, _RED, cut=True)
        polygon(triangle, _WHITE, 0.66)
        cv2.rectangle(color, (44, 40), (51, 62), _BLACK, -1)
        cv2.circle(color, (48, 70), 5, _BLACK, -1, cv2.LINE_AA)
    elif kind == 'limit':
        disc(0.47, _RED, cut=True)
        disc(0.36, _WHITE)
        text(str(rng.choice([30, 40, 50, 60])), _BLACK, 1.25, (19, 63))
    elif kind == 'no entry':
        disc(0.47, _RED, cut=True)
        cv2.rectangle(color, (18, 40), (78, 56), _WHITE, -1)
    elif kind == 'direction':
        disc(0.47, _BLUE, cut=True)
        cv2.arrowedLine(color, (48, 78), (48, 20), _WHITE, 9, cv2.LINE_AA, tipLength=0.4)
    elif kind == 'priority':
        diamond = np.array([[n / 2, 2], [n - 3, n / 2], [n / 2, n - 3], [2, n / 2]])
        polygon(diamond, _WHITE, cut=True)
        polygon(diamond, _YELLOW, 0.72)
    elif kind == 'stop':
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        octagon = n / 2 + 0.48 * n * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        polygon(octagon, _WHITE, cut=True)
        polygon(octagon, _RED, 0.92)
        text('STOP', _WHITE, 0.85, (15, 58))
    elif kind == 'parking':
        polygon(square, _BLUE, cut=True)
        text('P', _WHITE, 2.2, (26, 72))
    else:
        board = np.array([[2, 6], [wide - 3, 6], [wide - 3, n - 7], [2, n - 7]], float)
        ground = [_BLUE, _YELLOW, _WHITE, (24, 110, 70)][rng.integers(4)]
        ink = _BLACK if ground in (_YELLOW, _WHITE) else _WHITE
        polygon(board, ink, cut=True)
        polygon(board, ground, 0.95)
        for row in (36, 66):
            cv2.rectangle(color, (52, row - 7), (52 + int(rng.integers(60, 124)), row + 5), ink, -1)
        cv2.arrowedLine(color, (28, 78), (28, 22), ink, 6, cv2.LINE_AA, tipLength=0.35)
    return Picture(premultiplied(color, alpha))


def draw_fence(rng: np.random.Generator, length_m: float) -> Picture:
    """(rows, columns, 4) picture of a fence: bars, mesh or boards between posts."""
    rows, columns = 96, int(np.clip(length_m * 48, 64, 900))
    paint = np.array([(52, 56, 60), (140, 144, 148), (112, 84, 58), (222, 222, 218), (46, 84, 62)][rng.integers(5)])
    color = np.tile((paint * rng.uniform(0.85, 1.15)).clip(0, 255).astype(np.uint8), (rows, columns, 1))
    alpha = np.zeros((rows, columns), np.uint8)
    kind = int(rng.integers(3))
    if kind == 0:
        alpha[:, :: int(rng.integers(7, 11))] = 255
        alpha[:, 1 :: int(rng.integers(30, 44))] = 120
    elif kind == 1:
        alpha[:] = 40
        alpha[::6, :] = 170
        alpha[:, ::6] = 170
    else:
        alpha[4:] = 255
        gaps = np.arange(columns) % 12 < 2
        color[:, gaps] //= 2
        color[:] = np.clip(color * rng.uniform(0.9, 1.1, (1, columns, 1)), 0, 255).astype(np.uint8)
    for rail in (6, 78):
        alpha[rail : rail + 4] = 255
    for post in range(0, columns, 96):
        alpha[:, post : post + 6] = 255
        color[:, post : post + 2] = np.clip(paint * 1.2, 0, 255).astype(np.uint8)
    return Picture(premultiplied(color, alpha))


@dataclass(frozen=True, kw_only=True)
class Pole:
    """A bare pole, bollard or street lamp (with an arm of ``arm_m`` to the street's side)."""

    x_m: float
    s_m: float
    height_m: float
    radius_m: float = 0.06
    paint: Point = (112, 116, 120)
    arm_m: float = 0.0

    def footprint(self, time_s: float) -> Footprint:
        r = self.radius_m
        return Footprint(self.x_m - r, self.x_m + r, self.s_m - r, self.s_m + r, self.height_m)

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline('pole'):
            painter.post(self.x_m, self.s_m, 0.0, self.height_m, self.radius_m, self.paint)
            painter.post(self.x_m, self.s_m, 0.0, min(0.9, self.height_m / 4), self.radius_m * 1.5, self.paint)
            if not self.arm_m:
                return
            tip = self.x_m - np.sign(self.x_m) * self.arm_m
            top = self.height_m
            arm = np.array([(self.x_m, top, self.s_m), (tip, top + 0.35, self.s_m)])
            head = np.array([(tip - 0.3, top + 0.32, self.s_m), (tip + 0.3, top + 0.32, self.s_m)])
            painter.hulls(np.concatenate([arm, head]), np.array([0.05, 0.04, 0.08, 0.08]),
                          [([0, 1], self.paint), ([2, 3], (150, 152, 152))])  # fmt: skip
        painter.glow((float(tip), top + 0.28, self.s_m), 0.5, (255, 214, 150))


@dataclass(frozen=True, kw_only=True)
class TrafficSign:
    """One sign or two above each other on a pole, facing the camera."""

    pictures: tuple[Picture, ...]
    x_m: float
    s_m: float
    size_m: float = 0.7
    height_m: float = 2.9

    def footprint(self, time_s: float) -> Footprint:
        return Footprint(self.x_m - 0.06, self.x_m + 0.06, self.s_m - 0.06, self.s_m + 0.06, self.height_m)

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline('pole'):
            painter.post(self.x_m, self.s_m, 0.0, self.height_m, 0.035, (140, 143, 146))
        light = painter.light.shade(np.array([[0.0, 0.0, -1.0]]))[0] * 1.05
        top = self.height_m
        for picture in self.pictures:
            rows, columns = picture.texture.shape[:2]
            half = self.size_m * columns / rows / 2
            ends = (self.x_m - half, self.s_m - 0.05), (self.x_m + half, self.s_m - 0.05)
            with painter.outline('traffic sign'):
                paint_wall(painter, *ends, top - self.size_m, top, picture, light, cut_out=True)
            top -= self.size_m + 0.04


@dataclass(frozen=True, kw_only=True)
class TrafficLight:
    """A signal beside the road, or over it on an arm."""

    x_m: float
    s_m: float
    shows: Literal['red', 'green']
    arm_m: float = 0.0

    def footprint(self, time_s: float) -> Footprint:
        return Footprint(self.x_m - 0.1, self.x_m + 0.1, self.s_m - 0.1, self.s_m + 0.1, 5.8 if self.arm_m else 3.4)

    def draw(self, painter: Painter, time_s: float) -> None:
        tip = self.x_m - float(np.sign(self.x_m)) * self.arm_m
        with painter.outline('pole'):
            painter.post(self.x_m, self.s_m, 0.0, 5.8 if self.arm_m else 2.5, 0.07, (88, 92, 94))
            if self.arm_m:
                arm = np.array([(self.x_m, 5.6, self.s_m), (tip, 5.7, self.s_m)])
                painter.hulls(arm, np.array([0.07, 0.05]), [([0, 1], (88, 92, 94))])
        self._draw_head(painter, self.x_m, 2.4)
        if self.arm_m:
            self._draw_head(painter, tip, 5.0)

    def _draw_head(self, painter: Painter, x: float, low: float) -> None:
        body = MeshBuilder()
        face = body.box((-0.16, low, -0.12), (0.16, low + 0.95, 0.12), (28, 32, 30))['rear']
        angles = np.arange(12) * np.pi / 6
        for row, (name, on, off) in enumerate(_LENSES):
            y = low + 0.17 + 0.3 * row
            lens = np.stack([0.11 * np.cos(angles), y + 0.11 * np.sin(angles), np.full(12, -0.125)], axis=1)
            body.lay(lens, on if name == self.shows else off, face, shines=name == self.shows)
        with painter.outline('traffic light'):
            painter.mesh(body.build(), x, self.s_m, 0.0)
        lit = next(row for row, (name, _, _) in enumerate(_LENSES) if name == self.shows)
        painter.glow((x, low + 0.17 + 0.3 * lit, self.s_m - 0.13), 0.2, _LENSES[lit][1])


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A litter bin, distribution box or dustbin."""

    x_m: float
    s_m: float
    size_m: tuple[float, float, float]
    paint: Point

    def footprint(self, time_s: float) -> Footprint:
        width, height, depth = self.size_m
        return Footprint(self.x_m - width / 2, self.x_m + width / 2, self.s_m - depth / 2, self.s_m + depth / 2, height)

    def draw(self, painter: Painter, time_s: float) -> None:
        width, height, depth = self.size_m
        body = MeshBuilder()
        faces = body.box((-width / 2, 0.02, -depth / 2), (width / 2, height, depth / 2), self.paint, gloss=0.03)
        lid = [(-width / 2, height * 0.86, -depth / 2), (width / 2, height * 0.86, -depth / 2),
               (width / 2, height * 0.9, -depth / 2), (-width / 2, height * 0.9, -depth / 2)]  # fmt: skip
        body.lay(lid, (30, 30, 30), faces['rear'])
        with painter.outline('static'):
            painter.mesh(body.build(), self.x_m, self.s_m, 0.0)
