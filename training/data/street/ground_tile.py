"""One block of the street from above: asphalt with its age and markings, kerbs, pavements, gardens.

Rows of the tile run along the street, columns across; it repeats from block to block.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.data.street.mesh import Point
from training.data.street.plan import StreetPlan
from training.data.street.textures import fractal_noise

_ACROSS_M, _ALONG_M = 0.03, 0.06
_PAVING_STONES: tuple[Point, ...] = ((150, 146, 140), (128, 126, 124), (168, 152, 138), (142, 120, 106))
_KERB_STONE = np.array((172, 170, 166), np.float32)


class GroundTile:
    """The block in the making.

    Attributes:
        picture: (rows along, columns across, 3) float32 RGB.
        left_m: x of the first column.
        across_m, along_m: Size of a pixel.
    """

    def __init__(self, rng: np.random.Generator, plan: StreetPlan, detail: float) -> None:
        self.rng, self.plan = rng, plan
        self.left_m, right_m = plan.wall_left - 2.0, plan.wall_right + 2.0
        rows, columns = int(plan.block / _ALONG_M * detail), int((right_m - self.left_m) / _ACROSS_M * detail)
        self.along_m, self.across_m = plan.block / rows, (right_m - self.left_m) / columns
        self.picture = np.zeros((rows, columns, 3), np.float32)
        asphalt = rng.uniform(78, 122)
        self.asphalt = np.array((asphalt, asphalt * rng.uniform(0.98, 1.01), asphalt * rng.uniform(0.97, 1.05)))
        self._lay_surfaces()
        self._age_road()
        if plan.crossing_width:
            self.part(-np.inf, np.inf, plan.crossing_start, plan.crossing_start + plan.crossing_width)[:] = self.asphalt
        self._mark_lanes()
        rough = np.float32(0.05) * fractal_noise(rng, (rows, columns), 60 * detail, 3)
        rough += np.float32(0.035) * fractal_noise(rng, (rows, columns), 2, 1)
        self.picture *= 1 + rough[..., None]
        seam = np.linspace(0, 1, 24, dtype=np.float32)[:, None, None]
        self.picture[-24:] = self.picture[-24:] * (1 - seam) + self.picture[:1] * seam

    def column(self, x_m: float) -> int:
        return int(np.clip(np.round((np.clip(x_m, -1e3, 1e3) - self.left_m) / self.across_m), 0, self.picture.shape[1]))

    def row(self, s_m: float) -> int:
        return int(np.clip(s_m / self.along_m, 0, self.picture.shape[0]))

    def part(self, x0: float, x1: float, s0: float = 0.0, s1: float = 1e6) -> np.ndarray:
        """The window between two x (in any order) and two s."""
        left, right = sorted((self.column(x0), self.column(x1)))
        return self.picture[self.row(s0) : self.row(s1), left:right]

    def _lay_surfaces(self) -> None:
        rng, plan = self.rng, self.plan
        stone = np.array(_PAVING_STONES[rng.integers(len(_PAVING_STONES))])
        slab_m = float(rng.choice([0.3, 0.5, 0.9]))
        self.picture[:] = np.array((86, 104, 54)) * rng.uniform(0.8, 1.2)  # grass
        self.part(plan.kerb_left, plan.kerb_right)[:] = self.asphalt
        for side in plan.sides:
            # Without gardens the pavement reaches the houses.
            pavement = self.part(side.kerb, side.out(side.pavement if plan.garden > 1 else 100.0))
            pavement[:] = stone * self._slabs(pavement.shape[0], pavement.shape[1], slab_m)
            self.part(side.kerb, side.out(0.16))[:] = _KERB_STONE
            self.part(side.kerb, side.out(-0.07))[:] = self.asphalt * 0.62
            self.part(side.out(-0.07), side.out(-0.3))[:] *= 0.9

    def _slabs(self, rows: int, columns: int, slab_m: float) -> np.ndarray:
        """(rows, columns, 1) brightness of paving slabs with joints."""
        across, along = max(int(slab_m / self.across_m), 3), max(int(slab_m / self.along_m), 3)
        tones = self.rng.uniform(0.93, 1.07, (rows // along + 1, columns // across + 1)).astype(np.float32)
        tone = np.repeat(np.repeat(tones, along, axis=0)[:rows], across, axis=1)[:, :columns]
        tone[::along] *= 0.8
        tone[:, ::across] *= 0.8
        return tone[..., None]

    def _age_road(self) -> None:
        """Wheel tracks, repaired patches, cracks and manholes."""
        rng, plan = self.rng, self.plan
        left, right = plan.kerb_left, plan.kerb_right
        for lane in range(-plan.lanes_left, plan.lanes_right):
            for wheel in (-0.75, 0.75):
                center = plan.lane_center(lane) + wheel
                self.part(center - 0.25, center + 0.25)[:] *= 0.94
        for _ in range(int(rng.integers(2, 9))):
            s, x = rng.uniform(0, plan.block), rng.uniform(left, right - 1)
            patch = self.part(x, min(x + rng.uniform(0.6, 2.6), right), s, s + rng.uniform(1, 9))
            patch *= rng.uniform(0.78, 1.12)
        for _ in range(int(rng.integers(3, 12))):
            steps = np.cumsum(rng.normal((0, 0.36), (0.2, 0.4), (14, 2)), axis=0)
            x, s = (steps + np.array([rng.uniform(left, right), rng.uniform(0, plan.block)])).T
            inside = (x > left) & (x < right)
            crack = np.stack([(x[inside] - self.left_m) / self.across_m, s[inside] / self.along_m], axis=1)
            cv2.polylines(self.picture, [crack.astype(np.int32)], False, _point(self.asphalt * 0.66), 1, cv2.LINE_AA)
        for _ in range(int(rng.integers(1, 5))):
            lane = int(rng.integers(-plan.lanes_left, plan.lanes_right))
            middle = self.column(plan.lane_center(lane) + rng.uniform(-1, 1)), self.row(rng.uniform(0, plan.block))
            for radius_m, tone in ((0.33, 0.55), (0.27, 0.75)):
                axes = (int(radius_m / self.across_m), int(radius_m / self.along_m))
                cv2.ellipse(self.picture, middle, axes, 0, 0, 360, _point(self.asphalt * tone), -1, cv2.LINE_AA)

    def _paint(self, x: float, width: float, s0: float, s1: float, color: np.ndarray) -> None:
        """A worn stripe of road paint around x."""
        part = self.part(x - width / 2, x + width / 2, s0, s1)
        if part.size:
            worn = np.clip(0.86 + 0.2 * fractal_noise(self.rng, part.shape[:2], 12, 2), 0.45, 1.0)[..., None]
            part[:] = part * (1 - worn) + color * worn

    def _paint_line(self, x: float, width: float, dash: float, gap: float, color: np.ndarray) -> None:
        """A broken or (gap 0) full line along the street that pauses at the crossing."""
        count = max(round(self.plan.block / (dash + gap)), 1)
        period = self.plan.block / count
        pause_start, pause_end = self._pause()
        for start in np.arange(count) * period:
            end = start + period * dash / (dash + gap)
            if end <= pause_start or start >= pause_end:
                self._paint(x, width, start, end, color)

    def _pause(self) -> tuple[float, float]:
        """Where no lines along the street are painted: the crossing and its zebras."""
        if not self.plan.crossing_width:
            return np.inf, -np.inf
        return self.plan.crossing_start - 5.5, self.plan.crossing_start + self.plan.crossing_width + 5.5

    def _mark_lanes(self) -> None:
        """Centre and lane lines, parking bays, zebras, stop lines, an arrow."""
        rng, plan = self.rng, self.plan
        white = np.array((226, 226, 220)) * rng.uniform(0.85, 1.05)
        center = white if rng.random() < 0.7 else np.array((226, 186, 60))
        if plan.lanes_left and not (plan.suburban and rng.random() < 0.4):
            if plan.lanes_left + plan.lanes_right >= 3:
                for x in (-0.12, 0.12):
                    self._paint_line(x, 0.11, 4, 0, center)
            else:
                self._paint_line(0, 0.13, 3, float(rng.choice([3, 6])), center)
        for lane in range(-plan.lanes_left + 1, plan.lanes_right):
            if lane:
                self._paint_line(lane * plan.lane, 0.12, 3, 6, white)
        for side in plan.sides:
            if side.parking and rng.random() < 0.6:
                self._paint_line(side.out(-side.parking), 0.1, 1.0, float(rng.choice([0, 0.8])), white)
        if plan.crossing_width:
            self._mark_crossing(white)

    def _mark_crossing(self, white: np.ndarray) -> None:
        plan = self.plan
        start, end = self._pause()
        if plan.crossing_walk:
            for zebra in (start + 1.6, end - 4.8):
                for x in np.arange(plan.kerb_left + 0.65, plan.kerb_right - 0.05, 1.0):
                    self._paint(x, 0.5, zebra, zebra + 3.2, white)
        right, left = plan.lane * plan.lanes_right, plan.lane * plan.lanes_left
        self._paint(right / 2, right, start - 0.2, start + 0.3, white)
        self._paint(-left / 2, left, end - 0.3, end + 0.2, white)
        if self.rng.random() < 0.6:
            x, s = plan.lane_center(plan.lanes_right - 1), start - 9
            outline = [(-0.08, 0), (0.08, 0), (0.08, 3.2), (0.35, 3.2), (0, 5), (-0.35, 3.2), (-0.08, 3.2)]
            arrow = [(self.column(x + across), self.row(s + along)) for across, along in outline]
            cv2.fillPoly(self.picture, [np.array(arrow, np.int32)], _point(white), cv2.LINE_AA)


def _point(color: np.ndarray) -> Point:
    red, green, blue = color.tolist()
    return (red, green, blue)
