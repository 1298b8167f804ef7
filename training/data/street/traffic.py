"""Who moves through a street: cars on lanes (one speed per lane, so nobody collides), parked ones, people, cyclists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.data.street.light import Light
from training.data.street.mesh import Point
from training.data.street.painter import Painter
from training.data.street.people import Crowd, Walker, draw_clothes
from training.data.street.placement import Footprint, Motion, StreetObject
from training.data.street.plan import Stretch
from training.data.street.two_wheelers import BicycleRow, TwoWheeler
from training.data.street.vehicle_parts import Body
from training.data.street.vehicles import VehicleKind, draw_vehicle

_KINDS: tuple[VehicleKind, ...] = ('hatchback', 'sedan', 'estate', 'suv', 'van', 'truck', 'bus')
_DRIVEN_SHARES = (0.26, 0.17, 0.15, 0.17, 0.09, 0.08, 0.08)
_PARKED_SHARES = (0.32, 0.2, 0.17, 0.2, 0.11, 0.0, 0.0)
_BIKE_PAINTS: tuple[Point, ...] = (
    (40, 42, 46),
    (150, 40, 40),
    (50, 90, 150),
    (190, 190, 190),
    (60, 110, 80),
    (200, 150, 50),
)


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A car, truck or bus on its way, or parked with speed 0."""

    body: Body
    motion: Motion
    lamps_on: bool = False

    def footprint(self, time_s: float) -> Footprint:
        return self.motion.footprint(time_s, self.body.length_m, self.body.width_m, self.body.height_m)

    def draw(self, painter: Painter, time_s: float) -> None:
        x, s = self.motion.at(time_s)
        heading = self.motion.heading_rad
        with painter.outline(self.body.label):
            painter.mesh(self.body.mesh, x, s, heading)
        if not self.lamps_on or abs(np.sin(heading)) > 0.7:
            return
        towards_camera = np.cos(heading) < 0
        color = (255, 246, 220) if towards_camera else (190, 24, 20)
        for side in (-0.38, 0.38):
            lamp = (x + side * self.body.width_m, self.body.lamp_height_m, s - self.body.length_m / 2)
            painter.glow(lamp, 0.16 if towards_camera else 0.1, color)


def _lane(
    rng: np.random.Generator, light: Light, x: float, s0: float, s1: float, speed: float, heading: float, gap: float
) -> Iterator[Vehicle]:
    s = s0 + float(rng.uniform(0, gap))
    while s < s1:
        body = draw_vehicle(rng, _KINDS[rng.choice(7, p=_DRIVEN_SHARES)], light.lamps_on)
        s += body.length_m / 2
        motion = Motion(x_m=x + float(rng.uniform(-0.2, 0.2)), s_m=s, heading_rad=heading, speed_mps=speed)
        yield Vehicle(body=body, motion=motion, lamps_on=light.lamps_on)
        s += body.length_m / 2 + 2.0 + float(rng.exponential(gap))


def draw_driving(
    rng: np.random.Generator, stretch: Stretch, camera: Motion, camera_lane: int, way_m: float
) -> Iterator[StreetObject]:
    """Traffic of both directions while the camera drives ``way_m``; cyclists at the right edge."""
    plan, light, density = stretch.plan, stretch.light, stretch.density
    gap = 18 / max(density, 0.1)
    ahead = camera.s_m + float(rng.uniform(9, 30))
    yield from _lane(rng, light, camera.x_m, ahead, ahead + 130, camera.speed_mps, 0.0, gap)
    for lane in range(plan.lanes_right):
        if lane != camera_lane:
            speed = camera.speed_mps * float(rng.uniform(0.9, 1.1))
            yield from _lane(rng, light, plan.lane_center(lane), camera.s_m - 20, camera.s_m + 150, speed, 0.0, gap)
    for lane in range(1, plan.lanes_left + 1):
        speed = float(rng.uniform(6, 12))
        end = camera.s_m + 150 + way_m * (1 + speed / max(camera.speed_mps, 1))
        yield from _lane(rng, light, plan.lane_center(-lane), camera.s_m + 4, end, speed, np.pi, gap)
    edge = plan.lane * plan.lanes_right - 0.55
    if camera_lane < plan.lanes_right - 1 or rng.random() < 0.6:
        for s in np.arange(camera.s_m + 9, camera.s_m + 90 + way_m, 22 / max(density, 0.2)):
            speed = camera.speed_mps * float(rng.uniform(0.75, 0.95))
            x = edge if camera_lane == plan.lanes_right - 1 else edge + 0.2
            motion = Motion(x_m=x, s_m=float(s + rng.uniform(0, 10)), speed_mps=speed)
            if rng.random() < 0.7:
                yield draw_two_wheeler(rng, motion, ridden=True)
    if plan.lanes_left:
        edge = -plan.lane * plan.lanes_left + 0.5
        for s in rng.uniform(camera.s_m + 12, camera.s_m + 100 + way_m * 1.5, int(rng.poisson(2.5 * density))):
            yield draw_two_wheeler(rng, Motion(x_m=edge, s_m=float(s), heading_rad=np.pi, speed_mps=4.5), ridden=True)


def draw_waiting(
    rng: np.random.Generator, stretch: Stretch, camera: Motion, crossing: tuple[float, float], duration_s: float
) -> Iterator[StreetObject]:
    """The camera waits before a crossing: others wait too, side traffic drives by and people walk across."""
    plan, light, density = stretch.plan, stretch.light, stretch.density
    start, end = crossing
    gap = 5 / max(density, 0.1)
    for lane in range(1, plan.lanes_left + 1):
        yield from _lane(rng, light, plan.lane_center(-lane), end + 6, end + 110, 0.0, np.pi, gap)
    for lane in range(plan.lanes_right):
        yield from _lane(rng, light, plan.lane_center(lane), end + 12, end + 110, 0.0, 0.0, gap * 5)
        if abs(plan.lane_center(lane) - camera.x_m) > 1:
            yield from _lane(rng, light, plan.lane_center(lane), camera.s_m - 1, start - 6.0, 0.0, 0.0, 2.0)
    for share, heading in ((0.27, -np.pi / 2), (0.73, np.pi / 2)):
        speed = float(rng.uniform(3.5, 7))
        s = end - share * (end - start)
        x = -45.0 - speed * duration_s
        while x < 55:
            body = draw_vehicle(rng, _KINDS[rng.choice(7, p=_DRIVEN_SHARES)], light.lamps_on)
            x += body.length_m / 2
            side = float(np.sign(np.sin(heading)))
            yield Vehicle(body=body, motion=Motion(x_m=side * x, s_m=s, heading_rad=heading, speed_mps=speed))
            x += body.length_m / 2 + 3 + float(rng.exponential(16 / max(density, 0.2)))
    for _ in range(int(rng.poisson(6 * density))):
        to_right = rng.random() < 0.5
        speed = float(rng.uniform(0.9, 1.6))
        x = float(rng.uniform(plan.kerb_left - 3 - speed * duration_s / 2, plan.kerb_right + 1))
        motion = Motion(
            x_m=x if to_right else -x + plan.kerb_left + plan.kerb_right,
            s_m=start - 2.3 + float(rng.uniform(-1.3, 1.3)),
            heading_rad=np.pi / 2 if to_right else -np.pi / 2,
            speed_mps=speed,
        )
        yield draw_walker(rng, motion) if rng.random() < 0.85 else draw_two_wheeler(rng, motion, ridden=True)


def draw_parked(rng: np.random.Generator, stretch: Stretch) -> Iterator[StreetObject]:
    """Cars in the parking strips, bicycles and motorcycles on the pavements."""
    plan, density = stretch.plan, stretch.density
    for side in plan.sides:
        s = stretch.s0
        share = float(np.clip(rng.uniform(0.35, 0.95) * density, 0, 0.97))
        while side.parking and s < stretch.s1:
            if rng.random() < share and not plan.crossings(s - 5, s + 10):
                body = draw_vehicle(rng, _KINDS[rng.choice(7, p=_PARKED_SHARES)], False)
                heading = (0.0 if side.sign > 0 else np.pi) + float(rng.normal(0, 0.02))
                place = Motion(x_m=side.out(-body.width_m / 2 - 0.18), s_m=s + body.length_m / 2, heading_rad=heading)
                yield Vehicle(body=body, motion=place)
                s += body.length_m + float(rng.uniform(0.5, 1.6))
            else:
                s += 5.5
        for s in rng.uniform(stretch.s0, stretch.s1, int(rng.poisson((stretch.s1 - stretch.s0) / 38 * density))):
            if plan.in_crossing(float(s), 3):
                continue
            if rng.random() < 0.3:
                yield _draw_rack(rng, side.out(1.0), float(s))
            else:
                x = side.out(float(rng.choice([0.7, side.pavement - 0.4])))
                heading = float(rng.choice([0.0, np.pi]) + rng.normal(0, 0.3))
                yield draw_two_wheeler(rng, Motion(x_m=x, s_m=float(s), heading_rad=heading), ridden=False)


def draw_pedestrians(rng: np.random.Generator, stretch: Stretch) -> Iterator[StreetObject]:
    """People on the pavements: walking, standing, in groups."""
    for side in stretch.plan.sides:
        per_100_m = float(rng.uniform(4, 10) if stretch.plan.suburban else rng.uniform(6, 22))
        count = int(rng.poisson((stretch.s1 - stretch.s0) / 100 * per_100_m * stretch.density))
        for s in rng.uniform(stretch.s0, stretch.s1, count):
            x = side.out(float(rng.uniform(1.1, max(side.pavement - 0.35, 1.2))))
            if rng.random() < 0.07:
                yield _draw_crowd(rng, x, float(s))
                continue
            standing = rng.random() < 0.2
            heading = float(rng.uniform(0, 2 * np.pi)) if standing else float(rng.choice([0.0, np.pi]))
            speed = 0.0 if standing else float(rng.uniform(0.9, 1.6))
            pair = not standing and rng.random() < 0.25
            for number in range(2 if pair else 1):
                place = x - side.sign * 0.55 * number
                yield draw_walker(rng, Motion(x_m=place, s_m=float(s), heading_rad=heading, speed_mps=speed))


def draw_walker(rng: np.random.Generator, motion: Motion, label: str = 'person') -> Walker:
    """Somebody on foot, now and then a child."""
    scale = float(rng.uniform(0.62, 0.85) if rng.random() < 0.12 else rng.normal(0.98, 0.05))
    return Walker(motion=motion, clothes=draw_clothes(rng), scale=scale, phase=float(rng.uniform(0, 6.28)), label=label)


def draw_two_wheeler(rng: np.random.Generator, motion: Motion, *, ridden: bool) -> TwoWheeler:
    """A bicycle or, more rarely, a motorcycle."""
    motor = rng.random() < 0.32
    return TwoWheeler(
        kind='motorcycle' if motor else 'bicycle',
        motion=motion,
        paint=_BIKE_PAINTS[rng.integers(len(_BIKE_PAINTS))],
        rider=draw_clothes(rng, helmet_share=0.97 if motor else 0.4) if ridden else None,
        phase=float(rng.uniform(0, 6.28)),
    )


def _draw_crowd(rng: np.random.Generator, x: float, s: float) -> Crowd:
    places = rng.normal(0, (0.55, 0.5), (int(rng.integers(4, 8)), 2)) + np.array([x, s])
    headings = rng.uniform(0, 2 * np.pi, len(places))
    return Crowd(walkers=tuple(
        draw_walker(rng, Motion(x_m=float(place[0]), s_m=float(place[1]), heading_rad=float(heading)))
        for place, heading in zip(places, headings, strict=True)
    ))  # fmt: skip


def _draw_rack(rng: np.random.Generator, x: float, s: float) -> BicycleRow:
    heading = np.pi / 2 + float(rng.normal(0, 0.1))
    return BicycleRow(bicycles=tuple(
        TwoWheeler(
            kind='bicycle',
            motion=Motion(x_m=x, s_m=s + 0.55 * number, heading_rad=heading + float(rng.normal(0, 0.08))),
            paint=_BIKE_PAINTS[rng.integers(len(_BIKE_PAINTS))],
        )
        for number in range(int(rng.integers(3, 7)))
    ))  # fmt: skip
