"""The plan of one street: lanes, pavements, building lines, and crossings that repeat from block to block. Metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.street.light import Light

SIDE_STREET_PAVEMENT_M = 2.5


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the street: its direction in x (-1 left, 1 right), x of kerb and building line, widths."""

    sign: int
    kerb: float
    pavement: float
    wall: float
    parking: float

    def out(self, from_kerb: float) -> float:
        """x at that distance from the kerb, away from the road (negative: on the road)."""
        return self.kerb + self.sign * from_kerb


@dataclass(frozen=True, kw_only=True)
class StreetPlan:
    """Widths across the street, and lengths along it; traffic keeps right, x = 0 parts the directions.

    Attributes:
        lanes_right, lanes_left: Lanes in the camera's direction and against it.
        parking_right, parking_left: Widths of the strips for parked cars, 0 without.
        pavement_right, pavement_left: Widths of the pavements.
        garden: Width between pavement and houses.
        block: Length after which the crossing comes again.
        crossing: Where a block's side street begins and how wide it is; width 0 for none.
        crossing_walk: Whether people have a zebra before the crossing.
    """

    lane: float
    lanes_right: int
    lanes_left: int
    parking_right: float
    parking_left: float
    pavement_right: float
    pavement_left: float
    garden: float
    block: float
    crossing_start: float
    crossing_width: float
    crossing_walk: bool
    suburban: bool

    @property
    def kerb_right(self) -> float:
        return self.lane * self.lanes_right + self.parking_right

    @property
    def kerb_left(self) -> float:
        return -(self.lane * self.lanes_left + self.parking_left)

    @property
    def wall_right(self) -> float:
        """Building line."""
        return self.kerb_right + self.pavement_right + self.garden

    @property
    def wall_left(self) -> float:
        return self.kerb_left - self.pavement_left - self.garden

    @property
    def sides(self) -> tuple[Side, Side]:
        """The left and the right side."""
        left = Side(
            sign=-1, kerb=self.kerb_left, pavement=self.pavement_left, wall=self.wall_left, parking=self.parking_left
        )
        right = Side(
            sign=1, kerb=self.kerb_right, pavement=self.pavement_right, wall=self.wall_right, parking=self.parking_right
        )
        return left, right

    def lane_center(self, lane: int) -> float:
        """Centre of lane 0, 1, .. to the right or -1, -2, .. to the left of the centre line."""
        return self.lane * (lane + 0.5)

    def crossings(self, s0_m: float, s1_m: float) -> list[tuple[float, float]]:
        """The side streets (start, end) that touch s0..s1."""
        if self.crossing_width == 0:
            return []
        first = int(np.floor((s0_m - self.crossing_start) / self.block)) - 1
        last = int(np.ceil((s1_m - self.crossing_start) / self.block)) + 1
        starts = [self.crossing_start + block * self.block for block in range(first, last + 1)]
        return [
            (start, start + self.crossing_width)
            for start in starts
            if start + self.crossing_width > s0_m and start < s1_m
        ]

    def in_crossing(self, s_m: float, margin_m: float = 0.0) -> bool:
        """Whether the place along the street lies in a side street, or nearer to it than the margin."""
        return bool(self.crossings(s_m - margin_m, s_m + margin_m + 1e-6))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The part of a street that a sequence can see, how crowded it is, and how finely it is drawn."""

    plan: StreetPlan
    light: Light
    s0: float
    s1: float
    density: float
    detail: float


def draw_plan(rng: np.random.Generator) -> StreetPlan:
    """A random street."""
    suburban = bool(rng.random() < 0.35)
    lanes_right = 1 if suburban else int(rng.choice([1, 2], p=[0.65, 0.35]))
    lanes_left = int(rng.choice([0, 1, 2], p=[0.12, 0.63, 0.25])) if not suburban else 1
    block = float(rng.uniform(80, 120))
    return StreetPlan(
        lane=float(rng.uniform(2.9, 3.6)),
        lanes_right=lanes_right,
        lanes_left=lanes_left,
        parking_right=2.1 if rng.random() < 0.65 else 0.0,
        parking_left=2.1 if rng.random() < 0.65 else 0.0,
        pavement_right=float(rng.uniform(2.2, 4.6)),
        pavement_left=float(rng.uniform(2.2, 4.6)),
        garden=float(rng.uniform(2.5, 6.0)) if suburban else float(rng.choice([0.0, 0.0, rng.uniform(1.5, 4.0)])),
        block=block,
        crossing_start=block * 0.55,
        crossing_width=float(rng.uniform(7.0, 11.0)) if rng.random() < 0.8 else 0.0,
        crossing_walk=bool(rng.random() < 0.6),
        suburban=suburban,
    )
