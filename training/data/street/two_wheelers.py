"""Bicycles and motorcycles, parked or ridden; the rider is an object of its own, as in Cityscapes. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.data.street.camera import NEAR_M
from training.data.street.mesh import Point, turn
from training.data.street.painter import Painter, convex_hull
from training.data.street.people import Clothes, paint_figure, riding_joints
from training.data.street.placement import Footprint, Motion

_ANGLES = np.arange(20) * 2 * np.pi / 20
_FRAME = {
    'rear hub': (0.0, 0.34, -0.52),
    'front hub': (0.0, 0.34, 0.54),
    'crank': (0.0, 0.3, 0.02),
    'seat': (0.0, 0.82, -0.18),
    'saddle': (0.0, 0.94, -0.21),
    'head': (0.0, 0.84, 0.36),
    'stem': (0.0, 1.0, 0.33),
}
_TUBES = (
    ('rear hub', 'seat'),
    ('rear hub', 'crank'),
    ('crank', 'seat'),
    ('crank', 'head'),
    ('seat', 'head'),
    ('head', 'front hub'),
    ('head', 'stem'),
    ('seat', 'saddle'),
)
_MOTOR_BALLS = np.array([
    (0, 0.32, -0.66), (0, 0.32, 0.68),  # hubs
    (0, 0.78, -0.5), (0, 0.78, -0.05),  # seat
    (0, 0.84, 0.28), (0, 0.82, 0.05),  # tank
    (0, 0.42, 0.1), (0, 0.4, -0.15),  # engine
    (0, 1.0, 0.42), (0, 0.9, 0.52),  # handlebar, lamp
    (-0.32, 1.04, 0.38), (0.32, 1.04, 0.38),  # grips
    (0, 0.7, -0.75), (0.14, 0.32, -0.6), (0.14, 0.3, 0.0),  # tail, exhaust
])  # fmt: skip
_MOTOR_RADII = np.array([0.1, 0.1, 0.1, 0.11, 0.14, 0.13, 0.18, 0.17, 0.04, 0.1, 0.035, 0.035, 0.06, 0.05, 0.04])


@dataclass(frozen=True, kw_only=True)
class TwoWheeler:
    """A bicycle or motorcycle; with clothes it has a rider who wears them."""

    kind: Literal['bicycle', 'motorcycle']
    motion: Motion
    paint: Point
    rider: Clothes | None = None
    phase: float = 0.0

    @property
    def length_m(self) -> float:
        return 1.75 if self.kind == 'bicycle' else 2.05

    def footprint(self, time_s: float) -> Footprint:
        return self.motion.footprint(time_s, self.length_m, 0.6, 1.75 if self.rider else 1.05)

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline(self.kind):
            self.paint_machine(painter, time_s)
        if self.rider is None:
            return
        pedals = self.phase + (4.2 * time_s if self.motion.speed_mps else 0.0)
        joints = riding_joints(-pedals, astride_motor=self.kind == 'motorcycle')
        with painter.outline('rider'):
            paint_figure(painter, joints, self.rider, self.motion.at(time_s), self.motion.heading_rad, 1.0)
        if np.cos(self.motion.heading_rad) < -0.3:
            x, s = self.motion.at(time_s)
            lamp = turn(np.array([(0.0, 0.85, 0.5)]), self.motion.heading_rad)[0]
            painter.glow((x + float(lamp[0]), 0.85, s + float(lamp[2])), 0.12, (255, 244, 214))

    def paint_machine(self, painter: Painter, time_s: float) -> None:
        """Paint without an outline of its own, for rows of bicycles."""
        x, s = self.motion.at(time_s)
        depth = s - painter.camera.s_m
        if depth < NEAR_M + self.length_m / 2:
            return
        if self.kind == 'bicycle':
            self._paint_bicycle(painter, np.array([x, 0.0, s]), depth)
        else:
            self._paint_motorcycle(painter, np.array([x, 0.0, s]), depth)

    def _wheel(self, painter: Painter, hub: Point, radius: float, place: np.ndarray) -> np.ndarray:
        rim = np.stack([np.zeros(20), hub[1] + radius * np.sin(_ANGLES), hub[2] + radius * np.cos(_ANGLES)], axis=1)
        return painter.camera.project(turn(rim, self.motion.heading_rad) + place)

    def _paint_bicycle(self, painter: Painter, place: np.ndarray, depth: float) -> None:
        pixels_per_m = painter.camera.focal_px / depth
        light = painter.light.round_shade(0.5)
        rubber = painter.hazed(np.array((30, 30, 32)) * light, depth)
        frame = painter.hazed(np.array(self.paint) * light, depth)
        metal = painter.hazed(np.array((132, 134, 138)) * light, depth)
        points = painter.camera.project(turn(np.array(list(_FRAME.values())), self.motion.heading_rad) + place)
        at = dict(zip(_FRAME, points, strict=True))
        for hub in ('rear hub', 'front hub'):
            rim = self._wheel(painter, _FRAME[hub], 0.33, place)
            painter.fill(rim, None)
            if pixels_per_m > 30:
                for spoke in range(0, 20, 2):
                    painter.line(np.array([at[hub], rim[spoke]]), metal, 1)
            painter.line(rim, rubber, 0.045 * pixels_per_m, closed=True)
        for start, end in _TUBES:
            painter.line(np.array([at[start], at[end]]), frame, 0.035 * pixels_per_m)
        bar = np.array([(-0.27, 1.02, 0.26), (-0.24, 1.03, 0.34), (0.24, 1.03, 0.34), (0.27, 1.02, 0.26)])
        seat = np.array([(0.0, 0.95, -0.32), (0.0, 0.96, -0.08)])
        for shape, width in ((bar, 0.03), (seat, 0.08)):
            pixels = painter.camera.project(turn(shape, self.motion.heading_rad) + place)
            painter.line(pixels, rubber, width * pixels_per_m)

    def _paint_motorcycle(self, painter: Painter, place: np.ndarray, depth: float) -> None:
        light = painter.light.round_shade(0.4)
        side = turn(np.array([(0.055, 0.0, 0.0)]), self.motion.heading_rad)[0]
        for hub in ((0.0, 0.32, -0.66), (0.0, 0.32, 0.68)):
            outer = np.concatenate(
                [self._wheel(painter, hub, 0.32, place + side), self._wheel(painter, hub, 0.32, place - side)]
            )
            tyre = convex_hull(outer)
            painter.fill(tyre, painter.hazed(np.array((26, 26, 28)) * light, depth))
            near = side if side[2] < 0 or (side[2] == 0 and side[0] < 0) else -side
            painter.fill(
                self._wheel(painter, hub, 0.21, place + near), painter.hazed(np.array((104, 106, 110)) * light, depth)
            )
            painter.fill(
                self._wheel(painter, hub, 0.17, place + near), painter.hazed(np.array((52, 53, 56)) * light, depth)
            )
        balls = turn(_MOTOR_BALLS, self.motion.heading_rad) + place
        black, chrome = (30, 30, 32), (150, 152, 158)
        painter.hulls(
            balls,
            _MOTOR_RADII,
            [
                ([0, 7], black),
                ([1, 9], chrome),
                ([6, 7], (74, 76, 80)),
                ([2, 3], black),
                ([12, 2], self.paint),
                ([4, 5], self.paint),
                ([8, 9], self.paint),
                ([10, 8], black),
                ([11, 8], black),
                ([13, 14], chrome),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class BicycleRow:
    """Parked bicycles so close that they are outlined as one group."""

    bicycles: tuple[TwoWheeler, ...]

    def footprint(self, time_s: float) -> Footprint:
        x0, x1, s0, s1, height = np.array([bicycle.footprint(time_s) for bicycle in self.bicycles]).T
        return Footprint(x0.min(), x1.max(), s0.min(), s1.max(), height.max())

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline('bicyclegroup'):
            for bicycle in sorted(self.bicycles, key=lambda bicycle: -bicycle.motion.s_m):
                bicycle.paint_machine(painter, time_s)
