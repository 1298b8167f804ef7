"""One drawn video: its configuration, its frames, and how its scene is put together from the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perception.errors import ConfigError, nearest
from training.data.street.ground import Ground
from training.data.street.lens import draw_lens
from training.data.street.light import WEATHERS, Weather, draw_light
from training.data.street.mesh import Point
from training.data.street.painter import LabelledPolygon
from training.data.street.placement import Motion, StreetObject
from training.data.street.plan import Stretch, draw_plan
from training.data.street.population import draw_furniture, draw_greenery, draw_houses
from training.data.street.scene import CameraDrive, Scene
from training.data.street.sky import Sky
from training.data.street.traffic import draw_driving, draw_parked, draw_pedestrians, draw_waiting

_WEATHER_SHARES = (0.42, 0.26, 0.13, 0.08, 0.11)
_SMALLEST_SIDE = 32
_HOODS: tuple[Point, ...] = ((28, 29, 32), (150, 152, 156), (52, 66, 92), (96, 98, 100))


@dataclass(frozen=True, kw_only=True)
class StreetConfig:
    """One sequence.

    Attributes:
        image_hw: Height and width of the frames in pixels, even.
        frames: How many frames.
        seed: Decides the street and everything in it; the same seed draws the same bytes.
        frame_rate_hz: Frames per second.
        density: How crowded the street is; 1 is usual.
        weather: None leaves it to the seed.
        waiting: Whether the camera waits at a crossing; None leaves it to the seed.

    Raises:
        ConfigError: If a value is out of range.
    """

    image_hw: tuple[int, int] = (512, 1024)
    frames: int = 30
    seed: int = 0
    frame_rate_hz: float = 17.0
    density: float = 1.0
    weather: Weather | None = None
    waiting: bool | None = None

    def __post_init__(self) -> None:
        if min(self.image_hw) < _SMALLEST_SIDE or any(side % 2 for side in self.image_hw):
            height, width = self.image_hw
            raise ConfigError(
                f'Street size is {height}x{width}; both sides must be even and at least {_SMALLEST_SIDE}.'
            )
        if self.frames < 1 or self.frame_rate_hz <= 0 or self.seed < 0 or not 0 <= self.density <= 4:
            raise ConfigError(
                f'Street has frames={self.frames}, frame_rate_hz={self.frame_rate_hz}, seed={self.seed}, '
                f'density={self.density}; expected frames and frame_rate_hz above 0, seed from 0, density 0 to 4.'
            )
        if self.weather is not None and self.weather not in WEATHERS:
            raise ConfigError(f'Unknown weather {self.weather!r}; {nearest(self.weather, list(WEATHERS))}')


@dataclass(frozen=True, kw_only=True)
class StreetFrame:
    """One picture and its truth.

    Attributes:
        image_rgb: (H, W, 3) uint8.
        label_ids: (H, W) uint8, Cityscapes ids.
        instance_ids: (H, W) uint16: 1000 * id + number for counted objects, the plain id for stuff and groups.
        polygons: In painting order; painted one over the other they give label_ids.
        stamp_ns: Time since the sequence began.
    """

    image_rgb: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    polygons: tuple[LabelledPolygon, ...]
    stamp_ns: int


def draw_street(config: StreetConfig) -> Iterator[StreetFrame]:
    """Draw the frames of one sequence, one by one."""
    scene = build_scene(config)
    for index in range(config.frames):
        time_s = index / config.frame_rate_hz
        image_rgb, truth = scene.draw(time_s, np.random.default_rng((config.seed, 1, index)))
        yield StreetFrame(
            image_rgb=image_rgb,
            label_ids=truth.label_ids,
            instance_ids=truth.instance_ids,
            polygons=truth.polygons,
            stamp_ns=round(time_s * 1e9),
        )


def build_scene(config: StreetConfig) -> Scene:
    """Everything that the sequence will show, decided by the seed."""
    rng = np.random.default_rng((config.seed, 0))
    plan = draw_plan(rng)
    weather = config.weather or WEATHERS[rng.choice(len(WEATHERS), p=_WEATHER_SHARES)]
    light = draw_light(rng, weather)
    duration_s = config.frames / config.frame_rate_hz
    waiting = bool(rng.random() < 0.3) and plan.crossing_width > 0
    if config.waiting is not None:
        waiting = config.waiting and plan.crossing_width > 0
    lane = int(rng.integers(plan.lanes_right))
    camera = Motion(
        x_m=plan.lane_center(lane),
        s_m=plan.crossing_start - float(rng.uniform(8.5, 14)) if waiting else float(rng.uniform(0, plan.block)),
        speed_mps=0.0 if waiting else float(rng.uniform(4, 12)),
    )
    height, width = config.image_hw
    drive = CameraDrive(
        image_hw=config.image_hw,
        focal_px=width * float(rng.uniform(0.8, 1.12)),
        height_m=float(rng.uniform(1.15, 1.75)),
        pitch_rad=float(rng.uniform(-0.005, 0.06)) * height / width * 2,
        x_m=camera.x_m,
        s_m=camera.s_m,
        speed_mps=camera.speed_mps,
        curvature_per_m=float(rng.choice([0.0, rng.uniform(-1, 1) / 260])),
        sway=float(rng.uniform(0.5, 1.5)),
    )
    detail = float(np.clip(width / 1024, 0.2, 1.0))  # small pictures need no fine textures
    start, end = camera.s_m - 12, camera.s_m + camera.speed_mps * duration_s + 135
    stretch = Stretch(plan=plan, light=light, s0=start, s1=end, density=config.density, detail=detail)
    return Scene(
        drive=drive,
        light=light,
        sky=Sky(rng, light, config.image_hw),
        ground=Ground(rng, plan, detail),
        lens=draw_lens(rng, config.image_hw),
        objects=_furnish(rng, stretch, camera, lane, duration_s),
        hood_rgb=_HOODS[rng.integers(len(_HOODS))] if rng.random() < 0.25 else None,
    )


def _furnish(
    rng: np.random.Generator, stretch: Stretch, camera: Motion, lane: int, duration_s: float
) -> list[StreetObject]:
    waiting = camera.speed_mps == 0
    objects: list[StreetObject] = [
        *draw_houses(rng, stretch),
        *draw_greenery(rng, stretch),
        *draw_furniture(rng, stretch, green=not waiting),
        *draw_parked(rng, stretch),
        *draw_pedestrians(rng, stretch),
    ]
    if waiting:
        crossing = stretch.plan.crossings(camera.s_m, camera.s_m + stretch.plan.block)[0]
        objects += draw_waiting(rng, stretch, camera, crossing, duration_s)
    else:
        objects += draw_driving(rng, stretch, camera, lane, camera.speed_mps * duration_s)
    return objects
