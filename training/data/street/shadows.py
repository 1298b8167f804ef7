"""Shadows on the ground: the sun's, long and sharp, and the dark under everything that stands close to the road."""

from __future__ import annotations

import cv2
import numpy as np

from training.data.street.camera import clip_near
from training.data.street.painter import Painter, convex_hull
from training.data.street.placement import Footprint

_LONGEST_M = 30.0
_FARTHEST_M = 90.0


def paint_shadows(painter: Painter, footprints: list[Footprint]) -> None:
    """Darken the painted ground under and behind the objects, before they are painted."""
    light, camera = painter.light, painter.camera
    height, width = camera.image_hw
    top = int(np.clip(camera.horizon_px, 0, height - 2))
    sun_mask: np.ndarray = np.zeros((height - top, width), np.uint8)
    contact_mask: np.ndarray = np.zeros((height - top, width), np.uint8)
    reach = np.array([light.to_sun[0], light.to_sun[2]]) / max(light.to_sun[1], 0.12)
    sun_strength = sum(light.sun_rgb) / (sum(light.sun_rgb) + sum(light.ambient_rgb))
    for x0, x1, s0, s1, tall in footprints:
        if s0 - camera.s_m > _FARTHEST_M:
            continue
        base = np.array([(x0, s0), (x1, s0), (x1, s1), (x0, s1)])
        if sun_strength > 0.15:
            tip = base - reach * min(tall, _LONGEST_M / max(float(np.hypot(*reach)), 1e-3))
            _fill(painter, sun_mask, convex_hull(np.concatenate([base, tip])), top)
        if x1 - x0 < 4:
            grown = base + np.sign(base - base.mean(axis=0)) * 0.12
            _fill(painter, contact_mask, grown, top)
    scale = width / 1024
    contact_mask = cv2.GaussianBlur(contact_mask, (0, 0), max(2.6 * scale, 0.6))
    sun_mask = cv2.GaussianBlur(sun_mask, (0, 0), max(0.9 * scale, 0.4))
    sunlit = cv2.convertScaleAbs(sun_mask, alpha=-sun_strength * 0.95, beta=255)
    open_sky = cv2.convertScaleAbs(contact_mask, alpha=-0.5, beta=255)
    factor = cv2.multiply(sunlit, open_sky, scale=1 / 255)
    ground = painter.image[top:]
    ground[:] = cv2.multiply(ground, cv2.merge([factor] * 3), scale=1 / 255)


def _fill(painter: Painter, mask: np.ndarray, corners_m: np.ndarray, top: int) -> None:
    points = np.zeros((len(corners_m), 3))
    points[:, [0, 2]] = corners_m
    seen = clip_near(painter.camera.to_camera(points))
    if len(seen) >= 3:
        pixels = painter.camera.to_image(seen) - (0.5, 0.5 + top)
        cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
