"""Trees, bushes and hedges: crowns are clumps of many small leaves, darker inside and below. Metres."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.street.light import Light
from training.data.street.mesh import Point
from training.data.street.painter import Painter
from training.data.street.placement import Footprint
from training.data.street.textures import Picture, fractal_noise, paint_sprite, paint_wall, premultiplied

_LEAVES: tuple[Point, ...] = ((64, 92, 38), (82, 108, 48), (52, 80, 44), (104, 118, 52), (74, 96, 62))
_AUTUMN: tuple[Point, ...] = ((168, 112, 40), (150, 72, 36), (140, 126, 54))
_SPRITE_PX = 320


def draw_crown(rng: np.random.Generator, light: Light, detail: float, *, trunk: bool, autumn: bool) -> Picture:
    """Picture of a tree with its trunk, or of a bush."""
    size = int(_SPRITE_PX * max(detail, 0.3))
    colors, alpha = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    base = np.array(_AUTUMN[rng.integers(3)] if autumn else _LEAVES[rng.integers(len(_LEAVES))]) * rng.uniform(0.8, 1.2)
    colors[:] = np.clip(base * 0.6, 0, 255).astype(np.uint8)
    slim = rng.uniform(0.62, 1.0)
    middle = np.array([0.5, 0.38 if trunk else 0.58]) * size
    reach = np.array([0.4 * slim, 0.32 if trunk else 0.36]) * size
    if trunk:
        _draw_trunk(rng, colors, alpha, middle)
    clumps = int(rng.integers(16, 26))
    angles, spread = rng.uniform(0, 2 * np.pi, clumps), np.sqrt(rng.uniform(0.05, 1, clumps)) * 0.78
    centers = middle + np.stack([np.cos(angles), np.sin(angles)], axis=1) * spread[:, None] * reach
    sun = np.array([np.sign(light.to_sun[0]) * 0.5, -0.8])
    for center in centers[np.argsort(-centers[:, 1], kind='stable')]:
        extent = reach * rng.uniform(0.24, 0.4)
        height = (middle - center) / reach @ -sun * -1
        for layer, leaves in ((0.62, 26), (0.9, 22), (1.2, 16)):
            count = int(leaves * max(detail, 0.4))
            offsets = rng.normal(0, 0.5 if layer < 1 else 0.42, (count, 2)) * extent
            if layer > 0.7:
                offsets += sun * extent * (layer - 0.6)
            tint = base * (layer + 0.18 * height) * rng.uniform(0.86, 1.14, (count, 1))
            for offset, color, radius in zip(
                offsets, tint, rng.uniform(2, 7.5, count) * size / _SPRITE_PX, strict=True
            ):
                spot = (int(center[0] + offset[0]), int(center[1] + offset[1]))
                shade = (float(color[0]), float(color[1]), float(color[2]))
                axes = (max(round(radius), 1), max(round(radius * 0.6), 1))
                angle = float(offset[0] * 17 % 180)
                cv2.ellipse(colors, spot, axes, angle, 0, 360, shade, -1)
                cv2.ellipse(alpha, spot, axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
    return Picture(premultiplied(colors, alpha))


def _draw_trunk(rng: np.random.Generator, colors: np.ndarray, alpha: np.ndarray, middle: np.ndarray) -> None:
    size = colors.shape[0]
    bark = np.array((78, 64, 52)) * rng.uniform(0.7, 1.3)
    foot = np.array([size / 2, size - 1.0])
    fork = middle + np.array([rng.uniform(-8, 8), size * 0.12])
    for part, (start, end, width) in enumerate(
        [(foot, fork, 7.0)] + [(fork, middle + rng.uniform(-0.24, 0.24, 2) * size, 3.0) for _ in range(6)]
    ):
        side = np.array([1.0, 0.0]) * width
        taper = 0.65 if part == 0 else 0.3
        for lit, share in ((0.75, 1.0), (1.15, 0.4)):
            band = np.array(
                [start - side, start + side * (2 * share - 1), end + side * taper * (2 * share - 1), end - side * taper]
            )
            color = np.clip(bark * lit, 0, 255)
            cv2.fillPoly(colors, [band.astype(np.int32)], (float(color[0]), float(color[1]), float(color[2])))
            cv2.fillPoly(alpha, [band.astype(np.int32)], 255, cv2.LINE_AA)


def draw_hedge(rng: np.random.Generator, length_m: float, height_m: float) -> Picture:
    """(rows, columns, 4) picture of a cut hedge with an uneven top."""
    rows, columns = int(np.clip(height_m * 60, 32, 160)), int(np.clip(length_m * 40, 48, 600))
    base = np.array(_LEAVES[rng.integers(len(_LEAVES))]) * 0.9
    leaves = fractal_noise(rng, (rows, columns), 9, 3)[..., None]
    fade = np.linspace(1.25, 0.55, rows)[:, None, None]
    colors = np.clip(base * fade * (1 + 0.24 * leaves), 0, 255).astype(np.uint8)
    edge = np.abs(fractal_noise(rng, (1, columns), 14, 3)[0]) * rows * 0.04
    alpha = (np.arange(rows)[:, None] >= edge[None]).astype(np.uint8) * 255
    return Picture(premultiplied(colors, cv2.blur(alpha, (3, 3))))


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A tree or bush: one sprite."""

    sprite: Picture
    x_m: float
    s_m: float
    height_m: float
    width_m: float

    def footprint(self, time_s: float) -> Footprint:
        half = min(0.3, self.width_m / 2)
        return Footprint(self.x_m - half, self.x_m + half, self.s_m - half, self.s_m + half, self.height_m)

    def draw(self, painter: Painter, time_s: float) -> None:
        with painter.outline('vegetation'):
            paint_sprite(painter, self.sprite, (self.x_m, self.s_m), 0.0, (self.height_m, self.width_m), lit=0.6)


@dataclass(frozen=True, kw_only=True)
class StreetWall:
    """Something flat and upright along the street: a hedge, a fence or a low wall."""

    label: str
    picture: Picture
    x_m: float
    s0_m: float
    s1_m: float
    height_m: float

    def footprint(self, time_s: float) -> Footprint:
        return Footprint(self.x_m - 0.05, self.x_m + 0.05, self.s0_m, self.s1_m, self.height_m)

    def draw(self, painter: Painter, time_s: float) -> None:
        inwards = np.array([[-np.sign(self.x_m), 0.0, 0.0]])
        light = painter.light.shade(inwards)[0]
        with painter.outline(self.label):
            ends = (self.x_m, self.s0_m), (self.x_m, self.s1_m)
            paint_wall(painter, *ends, 0.0, self.height_m, self.picture, light)
