"""A house in the street: a front towards the street, a face towards the camera, a roof. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from training.data.street.facades import FacadeStyle, draw_facade
from training.data.street.mesh import Point
from training.data.street.painter import Painter
from training.data.street.placement import Footprint
from training.data.street.textures import Picture, fractal_noise, paint_wall


@dataclass(frozen=True, kw_only=True)
class Building:
    """A box of x0..x1 by s0..s1; ``seed`` decides how its walls look.

    Attributes:
        attached: Whether its end wall leans on a neighbour: no windows there.
        detail: Resolution of the textures; 1 suits images that are 1,024 pixels wide.
        roof_m: Height of a pitched roof above the walls; 0 is flat.
    """

    x0_m: float
    x1_m: float
    s0_m: float
    s1_m: float
    height_m: float
    style: FacadeStyle
    seed: tuple[int, ...]
    shop: bool
    lit_share: float
    attached: bool = False
    detail: float = 1.0
    roof_m: float = 0.0
    roof_paint: Point = (120, 70, 56)

    def footprint(self, time_s: float) -> Footprint:
        return Footprint(self.x0_m, self.x1_m, self.s0_m, self.s1_m, self.height_m)

    @cached_property
    def _front(self) -> Picture:
        return Picture(lambda: self._facade(self.s1_m - self.s0_m))

    @cached_property
    def _face(self) -> Picture:
        return Picture(self._end_wall if self.attached else lambda: self._facade(self.x1_m - self.x0_m))

    @cached_property
    def _wall_rgb(self) -> np.ndarray:
        """The colour between the windows, read off below the cornice."""
        rows = len(self._front.texture)
        return self._front.texture[rows // 20 : rows // 20 + 6].reshape(-1, 3).mean(axis=0)

    def _end_wall(self) -> np.ndarray:
        rough = fractal_noise(np.random.default_rng(self.seed), (64, 64), 16, 4)[..., None]
        return np.clip(self._wall_rgb * (0.92 + 0.05 * rough), 0, 255).astype(np.uint8)

    def _facade(self, width_m: float) -> np.ndarray:
        rng = np.random.default_rng(self.seed)  # the same seed for both: one material
        return draw_facade(
            rng,
            width_m,
            self.height_m,
            self.style,
            shop=self.shop,
            lit_share=self.lit_share,
            detail=self.detail,
        )

    def draw(self, painter: Painter, time_s: float) -> None:
        camera = painter.camera
        with painter.outline('building'):
            self._draw_roof(painter)
            if camera.s_m < self.s0_m:
                light = painter.light.shade(np.array([[0.0, 0.0, -1.0]]))[0]
                ends = (self.x0_m, self.s0_m), (self.x1_m, self.s0_m)
                paint_wall(painter, *ends, 0.0, self.height_m, self._face, light)
            on_right = self.x0_m > camera.x_m
            wall_x = self.x0_m if on_right else self.x1_m
            light = painter.light.shade(np.array([[-1.0 if on_right else 1.0, 0.0, 0.0]]))[0]
            ends = (wall_x, self.s0_m), (wall_x, self.s1_m)
            if on_right:  # seen from the street, its far end is on the left
                ends = ends[::-1]
            paint_wall(painter, *ends, 0.0, self.height_m, self._front, light)

    def _draw_roof(self, painter: Painter) -> None:
        if not self.roof_m:
            return
        eaves, ridge = self.height_m - 0.1, self.height_m + self.roof_m
        middle = (self.x0_m + self.x1_m) / 2
        gable = np.array([(self.x0_m, eaves, self.s0_m), (self.x1_m, eaves, self.s0_m), (middle, ridge, self.s0_m)])
        wall = self._wall_rgb
        painter.face(gable, (wall[0], wall[1], wall[2]), (0.0, 0.0, -1.0))
        outer = self.x0_m - 0.3 if self.x0_m > painter.camera.x_m else self.x1_m + 0.3
        slope = np.array([(outer, eaves, self.s0_m - 0.2), (outer, eaves, self.s1_m + 0.2),
                          (middle, ridge, self.s1_m + 0.2), (middle, ridge, self.s0_m - 0.2)])  # fmt: skip
        tilt = np.array([-np.sign(middle - outer) * self.roof_m, abs(middle - outer)]) / np.hypot(
            self.roof_m, middle - outer
        )
        bands = 8 if self.s0_m - painter.camera.s_m < 50 else 1
        for band in range(bands):
            low, high = band / bands, (band + 1) / bands
            left, right = slope[3] - slope[0], slope[2] - slope[1]
            lower, upper = (
                (slope[0] + left * low, slope[1] + right * low),
                (slope[1] + right * high, slope[0] + left * high),
            )
            corners = np.array([*lower, *upper])
            tone = 0.93 + 0.14 * (band % 2)
            color = (self.roof_paint[0] * tone, self.roof_paint[1] * tone, self.roof_paint[2] * tone)
            painter.face(corners, color, (float(tilt[0]), float(tilt[1]), 0.0))
