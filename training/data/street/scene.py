"""One street with everything that stands and moves in it, and how a frame of it is drawn.

The camera drives on its lane at constant speed, or waits before a crossing while others cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.street.camera import Camera
from training.data.street.ground import Ground
from training.data.street.labels import LABEL_IDS
from training.data.street.lens import Lens, finish
from training.data.street.light import Light
from training.data.street.painter import LabelledPolygon, Painter
from training.data.street.placement import StreetObject, far_to_near
from training.data.street.shadows import paint_shadows
from training.data.street.sky import Sky
from training.data.street.truth import Truth, paint_truth

_SEEN_M = {'building': 230.0, 'other': 130.0}
_SMALLEST_PX = 5.0


@dataclass(frozen=True, kw_only=True)
class CameraDrive:
    """How the camera moves: place and speed along the street, and the car's gentle sway."""

    image_hw: tuple[int, int]
    focal_px: float
    height_m: float
    pitch_rad: float
    x_m: float
    s_m: float
    speed_mps: float
    curvature_per_m: float
    sway: float

    def at(self, time_s: float) -> Camera:
        """The camera at that time."""
        moving = self.sway * min(self.speed_mps / 8, 1)
        return Camera(
            image_hw=self.image_hw,
            focal_px=self.focal_px,
            height_m=self.height_m,
            pitch_rad=self.pitch_rad + moving * 0.0035 * float(np.sin(7.3 * time_s) + 0.6 * np.sin(2.9 * time_s + 1)),
            yaw_rad=moving * 0.02 * float(np.sin(0.45 * time_s + self.sway)),
            x_m=self.x_m + moving * 0.25 * float(np.sin(0.31 * time_s)),
            s_m=self.s_m + self.speed_mps * time_s,
            curvature_per_m=self.curvature_per_m * float(np.cos(0.05 * time_s)),
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that one sequence shows.

    Attributes:
        hood_rgb: Colour of the camera car's own hood at the bottom of the image, None if it is out of view.
    """

    drive: CameraDrive
    light: Light
    sky: Sky
    ground: Ground
    lens: Lens
    objects: Sequence[StreetObject]
    hood_rgb: tuple[float, float, float] | None = None

    def draw(self, time_s: float, rng: np.random.Generator) -> tuple[np.ndarray, Truth]:
        """The picture (H, W, 3) uint8 RGB at that time, and its truth; ``rng`` is the sensor's noise."""
        painter = Painter(self.drive.at(time_s), self.light)
        self.sky.paint(painter)
        self.ground.paint(painter)
        self.sky.paint_skyline(painter)
        paint_objects(painter, self.objects, time_s)
        if self.hood_rgb:
            _paint_hood(painter, self.hood_rgb)
        truth = paint_truth(painter.polygons, self.drive.image_hw)
        is_ground = np.isin(truth.label_ids, [LABEL_IDS[name] for name in ('road', 'sidewalk', 'terrain')])
        return finish(painter, self.lens, is_ground, rng), truth


def paint_objects(painter: Painter, objects: Sequence[StreetObject], time_s: float) -> list[LabelledPolygon]:
    """Paint shadows, then the objects that are in view, far ones first; returns all outlines so far."""
    camera = painter.camera
    seen, footprints = [], []
    for thing in objects:
        place = thing.footprint(time_s)
        near, far = place.s0 - camera.s_m, place.s1 - camera.s_m
        reach = _SEEN_M['building'] if place.x1 - place.x0 > 3.5 else _SEEN_M['other']
        big_enough = place.height * camera.focal_px > _SMALLEST_PX * max(near, 1)
        if far > 0.5 and near < min(reach, 3.2 * painter.light.visibility_m) and big_enough:
            seen.append(thing)
            footprints.append(place)
    paint_shadows(painter, footprints)
    for index in far_to_near(footprints, camera.x_m, camera.s_m):
        seen[index].draw(painter, time_s)
    return painter.polygons


def _paint_hood(painter: Painter, color: tuple[float, float, float]) -> None:
    height, width = painter.camera.image_hw
    across = np.linspace(-0.1, 1.1, 25)
    arch = 0.93 + 0.55 * (across - 0.5) ** 2 * 0.35
    paint = np.array(color) * painter.light.round_shade(0.5)
    bottom = np.array([(1.1 * width, 1.1 * height), (-0.1 * width, 1.1 * height)])
    with painter.outline('ego vehicle'):
        for sink, tone in ((0.0, 0.75), (0.006, 1.0), (0.03, 0.86), (0.05, 0.74)):
            edge = np.stack([across * width, (arch + sink) * height], axis=1)
            painter.fill(np.concatenate([edge, bottom]), np.clip(paint * tone, 0, 255))
