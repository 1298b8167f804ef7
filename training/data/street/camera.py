"""The pinhole camera of the drawn street, and the bend of the road in front of it.

Street coordinates in metres: x to the right of the centre line, y up from the road, s along the street. Camera
coordinates: right, down, forward. Image coordinates are continuous pixels, 0 at the left / top image edge.

The street is straight in (x, s); ``curvature_per_m`` bends it into an arc when a point is brought to the camera, so
that the layout stays simple while the pictures show curves. N is the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEAR_M = 0.4
"""Nothing nearer to the camera than this is drawn."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera above the road.

    Attributes:
        focal_px: Focal length; the principal point is the image centre.
        height_m: Height above the road.
        pitch_rad, yaw_rad: Downwards and to the right positive, against the direction of the street.
        x_m, s_m: Place in the street.
        curvature_per_m: 1 / radius of the road's arc, to the right positive.
    """

    image_hw: tuple[int, int]
    focal_px: float
    height_m: float = 1.3
    pitch_rad: float = 0.02
    yaw_rad: float = 0.0
    x_m: float = 0.0
    s_m: float = 0.0
    curvature_per_m: float = 0.0

    @cached_property
    def rotation(self) -> np.ndarray:
        """(3, 3) from (right, down, along) of the level street to camera coordinates."""
        cos_yaw, sin_yaw = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        cos_pitch, sin_pitch = np.cos(self.pitch_rad), np.sin(self.pitch_rad)
        yaw = np.array([[cos_yaw, 0, -sin_yaw], [0, 1, 0], [sin_yaw, 0, cos_yaw]])
        pitch = np.array([[1, 0, 0], [0, cos_pitch, -sin_pitch], [0, sin_pitch, cos_pitch]])
        return pitch @ yaw

    @cached_property
    def horizon_px(self) -> float:
        """Image row of the horizon at the image centre column."""
        return self.image_hw[0] / 2 - self.focal_px * np.tan(self.pitch_rad)

    def to_camera(self, points_m: np.ndarray) -> np.ndarray:
        """Street coordinates (N, 3) to camera coordinates (N, 3)."""
        level = np.empty(points_m.shape)
        ahead = points_m[:, 2] - self.s_m
        level[:, 0] = points_m[:, 0] - self.x_m + 0.5 * self.curvature_per_m * ahead * ahead
        level[:, 1] = self.height_m - points_m[:, 1]
        level[:, 2] = ahead
        return level @ self.rotation.T

    def to_image(self, points_camera: np.ndarray) -> np.ndarray:
        """Camera coordinates (N, 3), all in front of the camera, to pixels (N, 2)."""
        height, width = self.image_hw
        return points_camera[:, :2] * (self.focal_px / points_camera[:, 2:]) + (width / 2, height / 2)

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """Street coordinates (N, 3) in front of the camera to pixels (N, 2)."""
        return self.to_image(self.to_camera(points_m))

    def ground_below_horizon(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Where the rays of the pixels meet the road.

        Returns:
            The first row whose pixels all see ground, and x and s of each pixel from that row on, (rows, W) float32.
        """
        height, width = self.image_hw
        first_row = int(np.clip(np.ceil(self.horizon_px + 1.5), 0, height - 1))
        columns = ((np.arange(width) + 0.5 - width / 2) / self.focal_px).astype(np.float32)
        rows = ((np.arange(first_row, height) + 0.5 - height / 2) / self.focal_px).astype(np.float32)[:, None]
        to_right, to_down, to_ahead = self.rotation.T.astype(np.float32)
        down = to_down[1] * rows + to_down[2]
        scale = self.height_m / np.maximum(down, 1e-4)
        ahead = (to_ahead[0] * columns + (to_ahead[1] * rows + to_ahead[2])) * scale
        right = (to_right[0] * columns + (to_right[1] * rows + to_right[2])) * scale
        x_m = right + np.float32(self.x_m) - np.float32(0.5 * self.curvature_per_m) * ahead**2
        return first_row, x_m, ahead + np.float32(self.s_m)


def clip_near(points_camera: np.ndarray, near_m: float = NEAR_M) -> np.ndarray:
    """The part of a polygon (N, 3) in camera coordinates that lies in front of the near plane; maybe empty."""
    depths = points_camera[:, 2] - near_m
    inside = depths >= 0
    if inside.all():
        return points_camera
    kept: list[np.ndarray] = []
    for here in range(len(points_camera)):
        before = here - 1
        if inside[here] != inside[before]:
            share = depths[before] / (depths[before] - depths[here])
            kept.append(points_camera[before] + share * (points_camera[here] - points_camera[before]))
        if inside[here]:
            kept.append(points_camera[here])
    return np.array(kept).reshape(-1, 3)
