"""Weather and light of one sequence: sun, sky light, haze. Colours are RGB factors or 0..255, angles radians.

N is the number of surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Weather = Literal['clear', 'overcast', 'dusk', 'fog', 'rain']
WEATHERS: tuple[Weather, ...] = ('clear', 'overcast', 'dusk', 'fog', 'rain')


@dataclass(frozen=True, kw_only=True)
class Light:
    """What the air and the sun do to a colour.

    Attributes:
        to_sun: Unit vector (x, y, s) to the sun.
        sun_rgb, ambient_rgb: Factors of a white surface that faces the sun, and of the light from everywhere.
        zenith_rgb, horizon_rgb: The sky's colours 0..255; haze takes the colour of the horizon.
        visibility_m: Distance over which the haze leaves 1/e of a colour.
        lamps_on: Whether head lights, street lamps and rooms are lit.
        wetness: 0 dry to 1: how much the road mirrors.
        cloudiness: 0 blue sky to 1 closed.
    """

    weather: Weather
    to_sun: tuple[float, float, float]
    sun_rgb: tuple[float, float, float]
    ambient_rgb: tuple[float, float, float]
    zenith_rgb: tuple[float, float, float]
    horizon_rgb: tuple[float, float, float]
    visibility_m: float
    lamps_on: bool
    wetness: float
    cloudiness: float

    def shade(self, normals: np.ndarray) -> np.ndarray:
        """Factors (N, 3) by which surfaces with unit normals (N, 3) show their colour."""
        facing = np.clip(normals @ np.array(self.to_sun), 0, None)[:, None]
        open_sky = (0.78 + 0.22 * normals[:, 1])[:, None]
        return facing * np.array(self.sun_rgb) + open_sky * np.array(self.ambient_rgb)

    def round_shade(self, lit: float = 0.5) -> np.ndarray:
        """Factors (3,) for round things, ``lit`` being the share of the sun that their visible side gets."""
        return np.array(self.ambient_rgb) * 0.92 + lit * np.array(self.sun_rgb)

    def clearness(self, depth_m: float | np.ndarray) -> np.ndarray:
        """Share of a colour that the haze leaves at a distance."""
        return np.exp(-np.asarray(depth_m) / self.visibility_m)


def draw_light(rng: np.random.Generator, weather: Weather) -> Light:
    """Light of the given weather, otherwise random."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians(rng.uniform(6, 14) if weather == 'dusk' else rng.uniform(24, 62))
    level = np.cos(elevation)
    to_sun = (float(level * np.sin(azimuth)), float(np.sin(elevation)), float(level * np.cos(azimuth)))
    warmth = rng.uniform(0.0, 0.12)
    grey = rng.uniform(-12, 12)
    table = {
        'clear': ((0.62 + warmth, 0.6, 0.56 - warmth), (0.5, 0.53, 0.6), (62, 118, 190), (186, 208, 226), 900, 0.35),
        'overcast': ((0.1, 0.1, 0.1), (0.84, 0.86, 0.88), (176, 184, 194), (214, 217, 220), 420, 1.0),
        'dusk': ((0.4, 0.24, 0.12), (0.58, 0.56, 0.63), (58, 72, 118), (226, 172, 132), 520, 0.5),
        'fog': ((0.02, 0.02, 0.02), (0.84, 0.85, 0.86), (180, 184, 188), (186, 190, 193), rng.uniform(55, 130), 1.0),
        'rain': ((0.03, 0.03, 0.03), (0.74, 0.77, 0.8), (138, 146, 158), (176, 182, 188), rng.uniform(150, 260), 1.0),
    }
    sun, ambient, zenith, horizon, visibility, clouds = table[weather]
    return Light(
        weather=weather,
        to_sun=to_sun,
        sun_rgb=sun,
        ambient_rgb=ambient,
        zenith_rgb=(zenith[0] + grey, zenith[1] + grey, zenith[2] + grey),
        horizon_rgb=(horizon[0] + grey, horizon[1] + grey, horizon[2] + grey),
        visibility_m=float(visibility),
        lamps_on=weather == 'dusk' or (weather in ('rain', 'fog') and bool(rng.random() < 0.7)),
        wetness=float(rng.uniform(0.5, 0.9)) if weather == 'rain' else 0.0,
        cloudiness=float(np.clip(clouds * rng.uniform(0.5, 1.5), 0, 1)) if clouds < 1 else 1.0,
    )
