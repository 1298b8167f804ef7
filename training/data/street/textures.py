"""Pictures on surfaces: upright walls in perspective, sprites that face the camera, and the noise they are made of.

A texture is (rows, columns, 3) uint8 RGB, row 0 at the top; with a fourth channel it is alpha, and colours are
multiplied with it (premultiplied), so that scaling does not bleed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np

from training.data.street.camera import NEAR_M, clip_near
from training.data.street.painter import Painter

_SAME_HAZE = 0.04


def fractal_noise(rng: np.random.Generator, hw: tuple[int, int], coarsest_px: float, octaves: int) -> np.ndarray:
    """(H, W) float32 of about zero mean and unit deviation; neighbours agree over ``coarsest_px`` and finer."""
    total = np.zeros(hw, np.float32)
    strength = 1.0
    for octave in range(octaves):
        cell = max(coarsest_px / 2**octave, 1.0)
        grid = rng.standard_normal((max(int(hw[0] / cell), 1) + 2, max(int(hw[1] / cell), 1) + 2), np.float32)
        total += strength * cv2.resize(grid, hw[::-1], interpolation=cv2.INTER_CUBIC)
        strength *= 0.6
    return (total - total.mean()) / max(float(total.std()), 1e-6)


def premultiplied(color_rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 from colours (H, W, 3) and alpha (H, W), both uint8."""
    scaled = color_rgb.astype(np.uint16) * alpha[..., None] // 255
    return np.dstack([scaled.astype(np.uint8), alpha])


class Picture:
    """A texture (rows, columns, 3 or 4) uint8 and, made when first needed, its copies of half heights and widths."""

    def __init__(self, texture: np.ndarray | Callable[[], np.ndarray]) -> None:
        self._make = texture
        self._levels: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def texture(self) -> np.ndarray:
        """The texture at its full size; if it was given as a function, drawn at the first look."""
        return self._make() if callable(self._make) else self._make

    def near_size(self, rows: float, columns: float) -> np.ndarray:
        """The smallest copy that is about as large as it will be seen, so that far windows do not flicker."""
        down = _halvings(self.texture.shape[0], rows)
        across = _halvings(self.texture.shape[1], columns)
        return self._level(down, across)

    def _level(self, down: int, across: int) -> np.ndarray:
        if down == across == 0:
            return self.texture
        if (down, across) not in self._levels:
            larger = self._level(down - 1, across) if down >= across else self._level(down, across - 1)
            rows, columns = larger.shape[:2]
            size = (columns, max(rows // 2, 1)) if down >= across else (max(columns // 2, 1), rows)
            self._levels[down, across] = cv2.resize(larger, size, interpolation=cv2.INTER_AREA)
        return self._levels[down, across]


def _halvings(have_px: int, need_px: float) -> int:
    return max(int(np.log2(max(have_px / max(need_px, 4.0), 1.0)) + 0.25), 0)


def paint_wall(
    painter: Painter,
    foot_start_m: tuple[float, float],
    foot_end_m: tuple[float, float],
    low_m: float,
    high_m: float,
    picture: Picture,
    shade_rgb: np.ndarray,
    *,
    cut_out: bool = False,
) -> None:
    """Paint an upright rectangle over the ground line from start to end, each (x, s), from ``low_m`` to ``high_m``.

    Args:
        painter: Where to paint; the wall adds to the open outline.
        foot_start_m: Where the left texture edge stands.
        foot_end_m: Where the right texture edge stands.
        low_m: Height of the texture's bottom row.
        high_m: Height of its top row.
        picture: What is on the wall, with or without alpha.
        shade_rgb: (3,) light on it.
        cut_out: Whether holes of the alpha are no part of the object's outline.
    """
    camera = painter.camera
    (x0, s0), (x1, s1) = foot_start_m, foot_end_m
    corners = camera.to_camera(np.array([[x0, low_m, s0], [x1, low_m, s1], [x1, high_m, s1], [x0, high_m, s0]]))
    seen = clip_near(corners)
    if len(seen) < 3:
        return
    outline = camera.to_image(seen)
    height, width = camera.image_hw
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, (width, height))
    if right - left < 2 or bottom - top < 2:
        return
    extent = np.ptp(outline, axis=0)
    small = picture.near_size(extent[1] * 1.15, extent[0] * 1.3)
    rows, columns = small.shape[:2]
    layer = _weathered(painter, small, corners[0, 2], corners[1, 2], shade_rgb)
    # Texture pixel -> plane -> image: the plane is spanned by the foot line and the upright edge.
    plane = np.stack([(corners[1] - corners[0]) / columns, (corners[0] - corners[3]) / rows, corners[3]], axis=1)
    half_pixel = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    focal = camera.focal_px
    lens = np.array([[focal, 0, width / 2 - 0.5 - left], [0, focal, height / 2 - 0.5 - top], [0, 0, 1]])
    size = (int(right - left), int(bottom - top))
    window = painter.image[top:bottom, left:right]
    homography = lens @ plane @ half_pixel
    if small.shape[2] == 3:
        warped = cv2.warpPerspective(layer, homography, size, borderMode=cv2.BORDER_REPLICATE)
        cover = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(cover, [np.round((outline - 0.5 - (left, top)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        weight = cover.astype(np.float32) / 255
        window[:] = cv2.blendLinear(warped, window, weight, 1 - weight)
    else:
        warped = cv2.warpPerspective(layer, homography, size, borderMode=cv2.BORDER_CONSTANT)
        _lay_over(window, warped)
    if cut_out:
        painter.cover((int(left), int(top), int(right), int(bottom)), warped[..., 3])
    else:
        painter.fill(outline, None)


def paint_sprite(
    painter: Painter,
    sprite: Picture,
    foot_m: tuple[float, float],
    low_m: float,
    size_m: tuple[float, float],
    lit: float,
) -> None:
    """Paint a sprite of ``size_m`` (height, width) whose bottom centre is ``low_m`` above the ground point (x, s)."""
    camera = painter.camera
    center = camera.to_camera(np.array([[foot_m[0], low_m, foot_m[1]]]))
    depth = float(center[0, 2])
    if depth < max(NEAR_M, 0.7 * size_m[1] / 2):
        return
    foot = camera.to_image(center)[0]
    high_px, wide_px = (side * camera.focal_px / depth for side in size_m)
    height, width = camera.image_hw
    left, top = max(int(foot[0] - wide_px / 2), 0), max(int(foot[1] - high_px), 0)
    right, bottom = min(int(foot[0] + wide_px / 2) + 1, width), min(int(foot[1]) + 1, height)
    if right - left < 2 or bottom - top < 2:
        return
    texture = sprite.near_size(high_px, wide_px)
    scale_x, scale_y = wide_px / texture.shape[1], high_px / texture.shape[0]
    shift = (foot[0] - wide_px / 2 - left - 0.5 + scale_x / 2, foot[1] - high_px - top - 0.5 + scale_y / 2)
    matrix = np.array([[scale_x, 0, shift[0]], [0, scale_y, shift[1]]])
    shaded = _weathered(painter, texture, depth, depth, painter.light.round_shade(lit))
    layer = cv2.warpAffine(shaded, matrix, (right - left, bottom - top))
    _lay_over(painter.image[top:bottom, left:right], layer)
    painter.cover((left, top, right, bottom), layer[..., 3])


def _weathered(
    painter: Painter, texture: np.ndarray, start_depth_m: float, end_depth_m: float, shade_rgb: np.ndarray
) -> np.ndarray:
    """The texture in this light and behind this haze, which may thicken from its left to its right edge."""
    clear = painter.light.clearness(np.maximum((start_depth_m, end_depth_m), 0))
    if abs(clear[0] - clear[1]) < _SAME_HAZE:
        return _colored(texture, float(clear.mean()), painter, shade_rgb)
    parts = max(2, min(texture.shape[1] // 2, int(np.ceil(abs(clear[0] - clear[1]) / _SAME_HAZE))))
    edges = np.linspace(0, texture.shape[1], parts + 1).astype(int)
    depths = np.maximum(np.linspace(start_depth_m, end_depth_m, 2 * parts + 1)[1::2], 0)
    strips = [
        _colored(texture[:, left:right], share, painter, shade_rgb)
        for left, right, share in zip(edges[:-1], edges[1:], painter.light.clearness(depths).tolist(), strict=True)
    ]
    return cv2.hconcat(strips)


def _colored(texture: np.ndarray, clear: float, painter: Painter, shade_rgb: np.ndarray) -> np.ndarray:
    """The texture times light and clearness, plus haze in proportion to alpha."""
    channels = texture.shape[2]
    matrix = np.zeros((channels, channels + 1))
    matrix[range(3), range(3)] = clear * shade_rgb
    haze = (1 - clear) * np.array(painter.light.horizon_rgb)
    if channels == 3:
        matrix[:, 3] = haze
    else:
        matrix[:3, 3] = haze / 255
        matrix[3, 3] = 1
    return cv2.transform(texture, matrix)


def _lay_over(window: np.ndarray, layer: np.ndarray) -> None:
    """Put a premultiplied layer (H, W, 4) over the window (H, W, 3), in place."""
    rest = 255 - layer[..., 3]
    under = cv2.multiply(window, cv2.merge([rest, rest, rest]), scale=1 / 255)
    window[:] = cv2.add(under, np.ascontiguousarray(layer[..., :3]))
