"""The ground in perspective: the tile of one block, looked up along the camera's rays.

Far rows look up copies of the tile that are shorter along the street only, because perspective shortens that direction
much more.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.data.street.ground_tile import GroundTile
from training.data.street.painter import Painter
from training.data.street.plan import StreetPlan
from training.data.street.textures import fractal_noise

_LEVELS = 7
_GRAIN_M = 0.008
_FAR_M = 260.0


class Ground:
    """The ground of one sequence."""

    def __init__(self, rng: np.random.Generator, plan: StreetPlan, detail: float) -> None:
        self.plan = plan
        tile = GroundTile(rng, plan, detail)
        self._left_m, self._across_m, self._along_m = tile.left_m, tile.across_m, tile.along_m
        self._levels: list[np.ndarray] = [np.clip(tile.picture, 0, 255).astype(np.uint8)]
        for _ in range(_LEVELS - 1):
            rows, columns = self._levels[-1].shape[:2]
            self._levels.append(cv2.resize(self._levels[-1], (columns, rows // 2), interpolation=cv2.INTER_AREA))
        grain = fractal_noise(rng, (512, 512), 7, 3) * 9 + 128
        self._grain = np.clip(grain, 0, 255).astype(np.uint8)

    def paint(self, painter: Painter) -> None:
        """Paint everything below the horizon, with the outlines of its parts."""
        first_row, x_m, s_m = painter.camera.ground_below_horizon()
        self._paint_tile(painter, first_row, x_m, s_m)
        self._outline(painter, first_row)

    def _paint_tile(self, painter: Painter, first_row: int, x_m: np.ndarray, s_m: np.ndarray) -> None:
        rows, columns = self._levels[0].shape[:2]
        blocks = s_m * np.float32(1 / self.plan.block)
        along = (blocks - np.floor(blocks)) * np.float32(rows)
        across = np.clip((x_m - np.float32(self._left_m)) / np.float32(self._across_m), 0, columns - 1)
        depth = s_m[:, s_m.shape[1] // 2] - painter.camera.s_m
        steps = np.abs(np.gradient(depth)) / self._along_m if len(depth) > 1 else np.ones(len(depth))
        levels = np.clip(np.floor(np.log2(np.maximum(steps, 1))), 0, _LEVELS - 1).astype(int)
        ground = painter.image[first_row:]
        light = painter.light.shade(np.array([[0.0, 1.0, 0.0]]))[0].astype(np.float32)
        clear = painter.light.clearness(np.clip(depth, 0, 2000)).astype(np.float32)[:, None, None]
        haze = np.array(painter.light.horizon_rgb, np.float32) * (1 - clear)
        for level in range(_LEVELS):
            band = np.flatnonzero(levels == level)
            if len(band) == 0:
                continue
            part = slice(band[0], band[-1] + 1)
            scaled = (along[part] + 0.5) / np.float32(2**level) - np.float32(0.5)
            seen = cv2.remap(self._levels[level], across[part], scaled, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            ground[part] = np.clip(seen * (clear[part] * light) + haze[part], 0, 255).astype(np.uint8)
        near = np.flatnonzero((depth > 0) & (depth < 22))
        if len(near):
            part = slice(near[0], near[-1] + 1)
            fine = cv2.remap(self._grain, (x_m[part] / _GRAIN_M) % 512, (s_m[part] / _GRAIN_M) % 512, cv2.INTER_LINEAR,
                             borderMode=cv2.BORDER_WRAP)  # fmt: skip
            strength = np.clip(6 / np.maximum(depth[part], 1), 0, 1).astype(np.float32)[:, None]
            factor = 1 + (fine.astype(np.float32) - 128) / 128 * strength
            ground[part] = np.clip(ground[part] * factor[..., None], 0, 255).astype(np.uint8)

    def _outline(self, painter: Painter, first_row: int) -> None:
        """Outlines, wide ones first: gardens or pavement, pavements, then the road and its side streets."""
        plan = self.plan
        height, width = painter.camera.image_hw
        base = np.array([(0, first_row), (width, first_row), (width, height), (0, height)], float)
        with painter.outline('terrain' if plan.garden > 1 else 'sidewalk'):
            painter.fill(base, None)
        near = painter.camera.s_m
        if plan.garden > 1:
            with painter.outline('sidewalk'):
                painter.ground(_lane(plan.kerb_left - plan.pavement_left, plan.kerb_right + plan.pavement_right, near))
        with painter.outline('road'):
            painter.ground(_lane(plan.kerb_left, plan.kerb_right, near))
            for start, end in plan.crossings(near, near + _FAR_M):
                painter.ground(np.array([(-60.0, start), (60.0, start), (60.0, end), (-60.0, end)]))


def _lane(x0: float, x1: float, s_m: float) -> np.ndarray:
    """The outline (N, 2) of a strip along the street, with enough corners to follow its bend."""
    along = s_m + np.concatenate([[-1.0], np.geomspace(2, _FAR_M, 24)])
    left, right = np.stack([np.full(25, x0), along], axis=1), np.stack([np.full(25, x1), along], axis=1)
    return np.concatenate([left, right[::-1]])
