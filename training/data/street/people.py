"""People: balls in joints, limbs as their convex hulls. A figure is 1.75 m tall, looks along z, x is its right.

J joints. Riders share the figure; what they ride is in two_wheelers.
"""

# ruff: noqa: RUF005 - sums of vectors, not lists
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.street.mesh import Point, turn
from training.data.street.painter import Color, Painter
from training.data.street.placement import Footprint, Motion

FIGURE_HEIGHT_M = 1.75
STEP_RATE = 1.35
"""Metres that one radian-free full stride of the figure covers."""
SKINS: tuple[Point, ...] = ((232, 194, 166), (214, 168, 136), (182, 132, 98), (126, 84, 58), (86, 56, 40))
_HAIR: tuple[Point, ...] = ((28, 22, 20), (66, 46, 32), (116, 84, 54), (176, 142, 92), (150, 150, 150), (120, 52, 30))
_TOPS: tuple[Point, ...] = (
    (34, 36, 42),
    (60, 66, 78),
    (150, 30, 34),
    (34, 62, 116),
    (222, 220, 214),
    (58, 92, 62),
    (198, 160, 60),
    (170, 96, 120),
    (112, 120, 128),
    (206, 110, 50),
    (90, 150, 180),
    (98, 72, 52),
)
_BOTTOMS: tuple[Point, ...] = ((32, 34, 40), (44, 56, 88), (72, 88, 120), (112, 100, 84), (60, 60, 62), (150, 146, 138))

# Joint indices: left, right pairs where there are two.
_HIP, _KNEE, _ANKLE, _TOE = (0, 1), (2, 3), (4, 5), (6, 7)
_SHOULDER, _ELBOW, _HAND = (8, 9), (10, 11), (12, 13)
_NECK, _HEAD, _CROWN, _WAIST, _BACK = 14, 15, 16, 17, 18
_RADII = np.array([0.1, 0.1, 0.068, 0.068, 0.046, 0.046, 0.04, 0.04, 0.065, 0.065, 0.046, 0.046, 0.045, 0.045,
                   0.055, 0.105, 0.1, 0.13, 0.13])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """Colours and cut of one person's clothes."""

    skin: Point
    hair: Point
    top: Point
    bottom: Point
    shoes: Point
    coat: bool
    skirt: bool
    long_hair: bool
    backpack: Point | None
    helmet: Point | None


def draw_clothes(rng: np.random.Generator, *, helmet_share: float = 0.0) -> Clothes:
    """Random clothes."""

    def pick(colors: tuple[Point, ...]) -> Point:
        base = np.array(colors[rng.integers(len(colors))]) + rng.uniform(-14, 14, 3)
        red, green, blue = np.clip(base, 8, 245).tolist()
        return (red, green, blue)

    return Clothes(
        skin=pick(SKINS),
        hair=pick(_HAIR),
        top=pick(_TOPS),
        bottom=pick(_BOTTOMS),
        shoes=pick(((30, 28, 28), (90, 60, 42), (220, 220, 220))),
        coat=bool(rng.random() < 0.3),
        skirt=bool(rng.random() < 0.18),
        long_hair=bool(rng.random() < 0.4),
        backpack=pick(_TOPS) if rng.random() < 0.25 else None,
        helmet=pick(_TOPS) if rng.random() < helmet_share else None,
    )


def walking_joints(phase: float, swing: float) -> np.ndarray:
    """(J, 3) joints of a figure at this phase of its stride (radians); ``swing`` 0 stands, 1 walks."""
    joints = np.zeros((19, 3))
    for side, sign in ((0, -1), (1, 1)):
        angle = swing * 0.46 * np.sin(phase + side * np.pi)
        bend = swing * (0.12 + 0.5 * max(0.0, np.cos(phase + side * np.pi)))
        hip = np.array([sign * 0.095, 0.92, 0.0])
        knee = hip + 0.43 * np.array([0, -np.cos(angle), np.sin(angle)])
        ankle = knee + 0.42 * np.array([0, -np.cos(angle - bend), np.sin(angle - bend)])
        shoulder = np.array([sign * 0.185, 1.42, 0.0])
        reach = -angle * 0.9
        elbow = shoulder + np.array([sign * 0.05, -0.28 * np.cos(reach), 0.28 * np.sin(reach)])
        hand = elbow + 0.25 * np.array([0, -np.cos(reach + 0.35), np.sin(reach + 0.35)])
        joints[_HIP[side]], joints[_KNEE[side]], joints[_ANKLE[side]] = hip, knee, ankle
        joints[_TOE[side]] = ankle + (sign * 0.02, -0.02, 0.15)
        joints[_SHOULDER[side]], joints[_ELBOW[side]], joints[_HAND[side]] = shoulder, elbow, hand
    joints[_NECK], joints[_HEAD], joints[_CROWN] = (0, 1.5, 0.0), (0, 1.615, 0.02), (0, 1.655, -0.02)
    joints[_WAIST], joints[_BACK] = (0, 1.05, 0.0), (0, 1.25, -0.17)
    joints[:, 1] -= min(joints[_ANKLE[0], 1], joints[_ANKLE[1], 1]) - 0.06
    return joints


def riding_joints(phase: float, *, astride_motor: bool) -> np.ndarray:
    """(J, 3) joints of a rider whose saddle is 0.95 m (bicycle) or 0.8 m high; ``phase`` turns the pedals."""
    joints = np.zeros((19, 3))
    seat = np.array([0.0, 0.82, -0.3]) if astride_motor else np.array([0.0, 0.98, -0.22])
    lean = 0.16 if astride_motor else 0.3
    for side, sign in ((0, -1), (1, 1)):
        turned = phase + side * np.pi
        pedal = np.array([0, 0.3 + 0.16 * np.sin(turned), 0.12 + 0.16 * np.cos(turned)])
        foot = np.array([sign * 0.2, 0.34, 0.0]) if astride_motor else pedal + (sign * 0.1, 0.06, -0.04)
        hip = seat + (sign * 0.1, 0.0, 0.0)
        knee = (hip + foot) / 2 + (sign * 0.06, 0.1, 0.2)
        shoulder = seat + (sign * 0.185, 0.5, lean)
        hand = np.array([sign * 0.28, 1.02, 0.45])
        elbow = (shoulder + hand) / 2 + (sign * 0.07, -0.09, -0.03)
        joints[_HIP[side]], joints[_KNEE[side]], joints[_ANKLE[side]] = hip, knee, foot
        joints[_TOE[side]] = foot + (0, -0.04, 0.14)
        joints[_SHOULDER[side]], joints[_ELBOW[side]], joints[_HAND[side]] = shoulder, elbow, hand
    top = seat + (0, 0.5, lean)
    joints[_NECK], joints[_HEAD], joints[_CROWN] = top + (0, 0.09, 0.03), top + (0, 0.21, 0.07), top + (0, 0.25, 0.03)
    joints[_WAIST], joints[_BACK] = seat + (0, 0.15, 0.06), seat + (0, 0.33, lean * 0.6 - 0.17)
    return joints


def paint_figure(
    painter: Painter, joints: np.ndarray, clothes: Clothes, place_m: tuple[float, float], heading: float, scale: float
) -> None:
    """Paint a figure whose feet stand at (x, s), inside an open outline."""
    centers = turn(joints * scale, heading) + (place_m[0], 0.0, place_m[1])
    depth = place_m[1] - painter.camera.s_m
    tall_px = FIGURE_HEIGHT_M * scale * painter.camera.focal_px / max(depth, 0.1)
    hulls = _body(clothes) if tall_px > 26 else _distant_body(clothes)
    painter.hulls(centers, _RADII * scale, hulls)
    covering = clothes.helmet or clothes.hair
    head: list[tuple[list[int], Color]] = [([_HEAD], clothes.skin), ([_CROWN], covering)]
    if clothes.long_hair:
        head.append(([_CROWN, _NECK], covering))
    painter.hulls(centers, _RADII * scale * (1.18 if clothes.helmet else 1.0), head)


def _body(clothes: Clothes) -> list[tuple[list[int], Color]]:
    """Hulls of limbs, torso and what they wear, without the head."""
    trousers = clothes.skin if clothes.skirt else clothes.bottom
    sleeves = (clothes.top[0] * 0.86, clothes.top[1] * 0.86, clothes.top[2] * 0.86)
    hulls: list[tuple[list[int], Color]] = [([_NECK], clothes.skin)]
    for side in (0, 1):
        hulls += [
            ([_HIP[side], _KNEE[side]], trousers),
            ([_KNEE[side], _ANKLE[side]], trousers),
            ([_ANKLE[side], _TOE[side]], clothes.shoes),
            ([_SHOULDER[side], _ELBOW[side]], sleeves),
            ([_ELBOW[side], _HAND[side]], sleeves),
            ([_HAND[side]], clothes.skin),
        ]
    lower = [*_HIP, *_KNEE]
    if clothes.skirt and not clothes.coat:
        hulls.append((lower, clothes.bottom))
    hulls.append(([*_SHOULDER, _WAIST, *(lower if clothes.coat else _HIP)], clothes.top))
    if clothes.backpack:
        hulls.append(([_BACK, _WAIST], clothes.backpack))
    return hulls


def _distant_body(clothes: Clothes) -> list[tuple[list[int], Color]]:
    """What of a body can be told apart from afar."""
    legs: list[tuple[list[int], Color]] = [([_HIP[side], _KNEE[side], _ANKLE[side]], clothes.bottom) for side in (0, 1)]
    return [*legs, ([*_SHOULDER, *_HAND, *_HIP], clothes.top)]


@dataclass(frozen=True, kw_only=True)
class Walker:
    """Somebody who walks or stands."""

    motion: Motion
    clothes: Clothes
    scale: float
    phase: float
    label: str = 'person'

    def footprint(self, time_s: float) -> Footprint:
        return self.motion.footprint(time_s, 0.4, 0.5, FIGURE_HEIGHT_M * self.scale)

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline(self.label):
            self.paint(painter, time_s)

    def paint(self, painter: Painter, time_s: float) -> None:
        """Paint without an outline of its own, for crowds."""
        speed = abs(self.motion.speed_mps)
        stride = self.phase + 2 * np.pi * speed * time_s / (STEP_RATE * self.scale)
        joints = walking_joints(stride if speed else self.phase, min(speed / 1.2, 1.2) if speed else 0.12)
        paint_figure(painter, joints, self.clothes, self.motion.at(time_s), self.motion.heading_rad, self.scale)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """People who stand so close that they are outlined as one group."""

    walkers: tuple[Walker, ...]

    def footprint(self, time_s: float) -> Footprint:
        x0, x1, s0, s1, height = np.array([walker.footprint(time_s) for walker in self.walkers]).T
        return Footprint(x0.min(), x1.max(), s0.min(), s1.max(), height.max())

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline('persongroup'):
            for walker in sorted(self.walkers, key=lambda walker: -walker.motion.s_m):
                walker.paint(painter, time_s)
