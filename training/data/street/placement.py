"""Where an object stands, how it moves, and who hides whom. Metres, seconds, radians; N objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from training.data.street.painter import Painter


class Footprint(NamedTuple):
    """The ground that an object stands on, as an upright rectangle of the street, and its height."""

    x0: float
    x1: float
    s0: float
    s1: float
    height: float


class StreetObject(Protocol):
    """Something that stands in the street."""

    def footprint(self, time_s: float) -> Footprint:
        """Where it is at that time."""
        ...

    def draw(self, painter: Painter, time_s: float) -> None:
        """Paint it with its outlines."""
        ...


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A straight walk or drive. Heading 0 goes along the street, positive turns right."""

    x_m: float
    s_m: float
    heading_rad: float = 0.0
    speed_mps: float = 0.0

    def at(self, time_s: float) -> tuple[float, float]:
        """Place (x, s) at that time."""
        way = self.speed_mps * time_s
        return self.x_m + way * float(np.sin(self.heading_rad)), self.s_m + way * float(np.cos(self.heading_rad))

    def footprint(self, time_s: float, length_m: float, width_m: float, height_m: float) -> Footprint:
        """The rectangle around a body of that size that is turned into the heading."""
        x, s = self.at(time_s)
        cos, sin = abs(float(np.cos(self.heading_rad))), abs(float(np.sin(self.heading_rad)))
        half_x, half_s = (length_m * sin + width_m * cos) / 2, (length_m * cos + width_m * sin) / 2
        return Footprint(x - half_x, x + half_x, s - half_s, s + half_s, height_m)


def far_to_near(footprints: list[Footprint], camera_x_m: float, camera_s_m: float) -> list[int]:
    """The order in which to paint: whoever can hide another comes after it.

    Two rectangles that a line along or across the street parts have a certain order. Crossing ones, and the rare
    circles of three, are settled by distance.
    """
    count = len(footprints)
    if count == 0:
        return []
    x0, x1, s0, s1, _ = np.array(footprints).T
    beyond = s0[:, None] >= s1[None] - 0.05
    overlap = ~beyond & ~beyond.T
    right = (x0[:, None] >= x1[None] - 0.02) & (x0[:, None] > camera_x_m)
    left = (x1[:, None] <= x0[None] + 0.02) & (x1[:, None] < camera_x_m)
    behind = beyond | (overlap & (right | left))  # behind[i, j]: paint i before j
    behind &= ~(behind & behind.T)
    np.fill_diagonal(behind, False)
    center_s, center_x = (s0 + s1) / 2 - camera_s_m, (x0 + x1) / 2 - camera_x_m
    distance = np.hypot(center_s, center_x)
    waiting = behind.sum(axis=0)  # how many must come before each
    left_over = np.ones(count, bool)
    order: list[int] = []
    for _ in range(count):
        free = left_over & (waiting == 0)
        pool = free if free.any() else left_over
        chosen = int(np.argmax(np.where(pool, distance, -1.0)))
        order.append(chosen)
        left_over[chosen] = False
        waiting = waiting - behind[chosen]
    return order
