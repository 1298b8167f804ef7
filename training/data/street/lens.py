"""What camera and weather do to the finished picture: wet road, glow, exposure, colour, blur, vignette, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.street.painter import Painter


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The camera's look during one sequence.

    Attributes:
        table: (256, 3) uint8, tone and white balance.
        blur_px: Gaussian deviation.
        vignette: (H, W, 3) float32 factors.
        noise: (H + 64, W + 64, 3) int8, from which each frame takes another window.
    """

    table: np.ndarray
    blur_px: float
    vignette: np.ndarray
    noise: np.ndarray


def draw_lens(rng: np.random.Generator, image_hw: tuple[int, int]) -> Lens:
    """A random camera."""
    height, width = image_hw
    tones = np.arange(256) / 255
    gamma, contrast = rng.uniform(0.85, 1.15), rng.uniform(0.0, 0.3)
    curve = tones**gamma
    curve = curve * (1 - contrast) + contrast * (3 * curve**2 - 2 * curve**3)
    balance = np.array([rng.uniform(0.94, 1.06), 1.0, rng.uniform(0.94, 1.06)]) * rng.uniform(0.95, 1.22)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    falloff = 1 - np.float32(rng.uniform(0.02, 0.2)) * (x**2 + y**2) / 2
    noise = rng.standard_normal((height + 64, width + 64, 3), np.float32) * rng.uniform(0.8, 3.5)
    return Lens(
        table=np.clip(curve[:, None] * balance * 255, 0, 255).astype(np.uint8),
        blur_px=float(rng.uniform(0.3, 0.75)),
        vignette=np.ascontiguousarray(np.repeat(falloff[..., None], 3, axis=2)),
        noise=np.clip(np.round(noise), -40, 40).astype(np.int8),
    )


def finish(painter: Painter, lens: Lens, is_ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture (H, W, 3) uint8 as the camera delivers it; ``is_ground`` (H, W) bool says what can be wet."""
    image: np.ndarray = painter.image
    if painter.light.wetness:
        _mirror_in_ground(painter, is_ground)
    if painter.glows:
        image = _with_glows(painter)
    image = cv2.GaussianBlur(image, (0, 0), lens.blur_px)
    image = cv2.LUT(image, lens.table.reshape(1, 256, 3))
    image = cv2.multiply(image, lens.vignette, dtype=cv2.CV_8U)
    row, column = rng.integers(0, 64, 2)
    height, width = image.shape[:2]
    noise = lens.noise[row : row + height, column : column + width]
    return cv2.add(image, noise.astype(np.int16), dtype=cv2.CV_8U)


def _mirror_in_ground(painter: Painter, is_ground: np.ndarray) -> None:
    """Blend a smeared mirror image of what stands above the horizon into the ground, most near the horizon."""
    height = painter.image.shape[0]
    top = int(np.clip(painter.camera.horizon_px + 2, 1, height - 2))
    rows = min(height - top, top)
    mirrored = cv2.blur(painter.image[top - rows : top][::-1], (5, max(rows // 5, 3)))
    share = np.linspace(0.5, 0.25, rows, dtype=np.float32)[:, None, None] * painter.light.wetness
    ground = painter.image[top : top + rows]
    wet = is_ground[top : top + rows, :, None]
    ground[:] = np.where(wet, ground * (1 - share) + mirrored * share, ground).astype(np.uint8)


def _with_glows(painter: Painter) -> np.ndarray:
    height, width = painter.image.shape[:2]
    shine = np.zeros((height // 2, width // 2, 3), np.uint8)
    for glow in painter.glows:
        center = (round(glow.center_px[0] / 2), round(glow.center_px[1] / 2))
        cv2.circle(shine, center, max(round(glow.radius_px / 2), 1), glow.color, -1, cv2.LINE_AA)
    wide = cv2.GaussianBlur(shine, (0, 0), width / 160)
    near = cv2.GaussianBlur(shine, (0, 0), max(width / 600, 0.5))
    return cv2.add(painter.image, cv2.resize(cv2.addWeighted(wide, 1.3, near, 0.6, 0), (width, height)))
