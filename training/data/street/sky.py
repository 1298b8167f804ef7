"""Sky with clouds and, at its foot, the skyline far away."""

from __future__ import annotations

import cv2
import numpy as np

from training.data.street.light import Light
from training.data.street.painter import Painter
from training.data.street.textures import fractal_noise


class Sky:
    """The sky of one sequence, as a picture wider than the camera's view that turns with it."""

    def __init__(self, rng: np.random.Generator, light: Light, image_hw: tuple[int, int]) -> None:
        height, width = image_hw
        rows, columns = height, int(width * 1.6)
        up = np.linspace(1, 0, rows, dtype=np.float32)[:, None]  # 1 overhead .. 0 at the horizon
        share = np.sqrt(up)[..., None]
        picture = np.array(light.horizon_rgb, np.float32) * (1 - share) + np.array(light.zenith_rgb, np.float32) * share
        picture = np.broadcast_to(picture, (rows, columns, 3)).copy()
        noise = fractal_noise(rng, (rows, columns // 2), height / 3.5, 6)
        noise = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_LINEAR)
        if light.weather in ('overcast', 'rain', 'fog'):
            picture *= (1 + (0.05 if light.weather != 'fog' else 0.01) * noise)[..., None]
        else:
            cloud = np.clip((noise + 2.2 * light.cloudiness - 1.5) * 0.8, 0, 1)[..., None] * (0.35 + 0.65 * share)
            lit = np.array((250, 248, 246) if light.weather == 'clear' else (236, 178, 150), np.float32)
            body = lit * np.clip(0.92 - 0.1 * noise, 0.62, 1.02)[..., None]
            picture = picture * (1 - cloud) + body * cloud
            if light.to_sun[2] > 0.3:
                sun_x = columns / 2 + light.to_sun[0] / light.to_sun[2] * width * 0.8
                sun_y = rows - light.to_sun[1] * height * 1.1
                y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
                halo = np.exp(-np.hypot(x - sun_x, y - sun_y) / (0.22 * height))[..., None]
                picture += halo * np.array((110, 96, 60), np.float32)
        self._picture = np.clip(picture, 0, 255).astype(np.uint8)
        steps = int(rng.integers(40, 90))
        self._skyline = rng.uniform(0.012, 0.05, steps) * rng.choice([0.4, 1.0])
        self._woods = bool(rng.random() < 0.5)
        self._tone = np.array((84, 98, 74) if self._woods else (118, 116, 118)) * rng.uniform(0.8, 1.1)

    def paint(self, painter: Painter) -> None:
        """Paint all above the horizon; the sky's outline is the whole image, which later objects cover."""
        camera = painter.camera
        height, width = camera.image_hw
        shift_x = -self._shift_px(painter) - (self._picture.shape[1] - width) / 2
        shift_y = camera.horizon_px - self._picture.shape[0]
        matrix = np.array([[1, 0, shift_x], [0, 1, shift_y]])
        painter.image[:] = cv2.warpAffine(self._picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
        with painter.outline('sky'):
            painter.fill(frame, None)

    def paint_skyline(self, painter: Painter) -> None:
        """Paint what closes the street far away."""
        camera = painter.camera
        width = camera.image_hw[1]
        span = 1.6 * width
        count = len(self._skyline)
        edges = np.linspace(-span / 2, span / 2, count + 1) + width / 2 - self._shift_px(painter)
        tops = camera.horizon_px - self._skyline * camera.focal_px
        if self._woods:
            fine = np.linspace(0, count - 1, count * 4)
            xs = np.linspace(edges[0], edges[-1], count * 4)
            bumps = np.interp(fine, np.arange(count), tops) + np.abs(np.sin(fine * 5.1)) * 0.004 * camera.focal_px
            outline = np.stack([xs, bumps], axis=1)
        else:
            outline = np.stack([np.repeat(edges, 2)[1:-1], np.repeat(tops, 2)], axis=1)
        foot = camera.horizon_px + camera.focal_px * camera.height_m / 200
        closed = np.concatenate([outline, [(edges[-1], foot), (edges[0], foot)]])
        with painter.outline('vegetation' if self._woods else 'building'):
            shaded = self._tone * painter.light.round_shade(0.3)
            painter.fill(closed, painter.hazed(shaded, 260))

    def _shift_px(self, painter: Painter) -> float:
        camera = painter.camera
        return float(camera.focal_px * np.tan(camera.yaw_rad))
