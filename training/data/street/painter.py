"""Paints surfaces in perspective and, with each of them, the outline of its object for the exact truth.

An object is opened with ``outline(label)``; everything painted inside adds to its silhouette, whose contours become the
integer polygons of the annotation. The caller paints far objects first. H, W: image; N points; F faces; B balls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from training.data.street.camera import NEAR_M, Camera, clip_near
from training.data.street.labels import INSTANCE_LABELS
from training.data.street.light import Light
from training.data.street.mesh import Mesh, turn

Color = tuple[float, float, float]
_SUBPIXEL_BITS = 4
_FINEST_PX = 1.4
_CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


@dataclass(frozen=True, kw_only=True)
class LabelledPolygon:
    """One entry of a Cityscapes polygon file: label name and corner pixels (N, 2) int32 as (column, row)."""

    label: str
    points_px: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Glow:
    """A light that outshines its surroundings in the finished picture."""

    center_px: tuple[float, float]
    radius_px: float
    color: Color


class Painter:
    """The picture in the making.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        polygons: Outlines so far, far objects first.
        glows: Lights for the lens to bloom.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        height, width = camera.image_hw
        self.camera = camera
        self.light = light
        self.image = np.zeros((height, width, 3), np.uint8)
        self.polygons: list[LabelledPolygon] = []
        self.glows: list[Glow] = []
        self._silhouette = np.zeros((height, width), np.uint8)
        self._touched: tuple[int, int, int, int] | None = None
        self._haze = np.array(light.horizon_rgb) * 0.97

    # -- outlines ------------------------------------------------------------------------------------------------

    @contextmanager
    def outline(self, label: str) -> Iterator[None]:
        """Collect what is painted inside as one object (or one patch of stuff) with this label."""
        self._touched = None
        lamps_before = len(self.glows)
        yield
        if self._touched is None:
            return
        left, top, right, bottom = self._touched
        window = self._silhouette[top:bottom, left:right]
        filled = (window >= 120).astype(np.uint8)
        window[:] = 0
        self.glows = [
            glow
            for index, glow in enumerate(self.glows)
            if index >= lamps_before or not _covers(filled, glow.center_px[0] - left, glow.center_px[1] - top)
        ]
        contours = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))[0]
        outlines = [contour.reshape(-1, 2) for contour in contours if len(contour) >= 3]
        areas = [cv2.contourArea(outline) for outline in outlines]
        # Specks (single leaves) are not worth a polygon, and a counted object is one polygon.
        smallest = max(areas, default=0.0) * (1.0 if label in INSTANCE_LABELS else 0.01)
        kept = [outline for outline, area in zip(outlines, areas, strict=True) if area >= smallest]
        if label in INSTANCE_LABELS:
            kept = kept[:1]
        self.polygons += [LabelledPolygon(label=label, points_px=points) for points in kept]

    def _window(self, corners: np.ndarray, margin_px: int) -> tuple[int, int, int, int] | None:
        """The window (left, top, right, bottom) around subpixel corners; None if they are off the image."""
        height, width = self.camera.image_hw
        x, y, across, down = cv2.boundingRect(corners)
        left, top = max((x >> _SUBPIXEL_BITS) - margin_px, 0), max((y >> _SUBPIXEL_BITS) - margin_px, 0)
        right = min(((x + across) >> _SUBPIXEL_BITS) + margin_px + 1, width)
        bottom = min(((y + down) >> _SUBPIXEL_BITS) + margin_px + 1, height)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _note(self, window: tuple[int, int, int, int]) -> None:
        old = self._touched or window
        self._touched = (min(old[0], window[0]), min(old[1], window[1]), max(old[2], window[2]), max(old[3], window[3]))

    # -- plain polygons in the image -----------------------------------------------------------------------------

    def fill(self, points_px: np.ndarray, color: Color | np.ndarray | None, *, solid: bool = True) -> None:
        """Fill a polygon (N, 2) in pixels; ``solid`` adds it to the outline; without colour only the outline grows."""
        self._fill_fixed(_subpixels(points_px), color, solid)

    def _fill_fixed(self, corners: np.ndarray, color: Color | np.ndarray | None, solid: bool) -> None:
        window = self._window(corners, 1)
        if window is None:
            return
        if color is not None:
            paint = (float(color[0]), float(color[1]), float(color[2]))
            cv2.fillPoly(self.image, [corners], paint, cv2.LINE_AA, _SUBPIXEL_BITS)
        if solid:
            self._note(window)
            cv2.fillPoly(self._silhouette, [corners], 255, cv2.LINE_AA, _SUBPIXEL_BITS)

    def line(self, points_px: np.ndarray, color: Color | np.ndarray, width_px: float, *, closed: bool = False) -> None:
        """Draw an open or closed line (N, 2); it adds to the outline."""
        thickness = max(1, round(width_px))
        corners = _subpixels(points_px)
        window = self._window(corners, thickness)
        if window is None:
            return
        paint = (float(color[0]), float(color[1]), float(color[2]))
        cv2.polylines(self.image, [corners], closed, paint, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        self._note(window)
        cv2.polylines(self._silhouette, [corners], closed, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def cover(self, window: tuple[int, int, int, int], alpha: np.ndarray) -> None:
        """Add an alpha picture (rows, columns) uint8 at the window (left, top, right, bottom) to the outline."""
        left, top, right, bottom = window
        self._note(window)
        part = self._silhouette[top:bottom, left:right]
        np.maximum(part, alpha, out=part)

    # -- surfaces in the street ----------------------------------------------------------------------------------

    def hazed(self, color: Color | np.ndarray, depth_m: float) -> np.ndarray:
        """The colour (.., 3) as seen through the air."""
        clear = self.light.clearness(depth_m)
        return np.clip(np.asarray(color) * clear + self._haze * (1 - clear), 0, 255)

    def ground(self, corners_m: np.ndarray) -> None:
        """Add a ground polygon (N, 2) of (x, s) to the outline; its picture is painted by the ground itself."""
        points = np.stack([corners_m[:, 0], np.zeros(len(corners_m)), corners_m[:, 1]], axis=1)
        seen = clip_near(self.camera.to_camera(points))
        if len(seen) >= 3:
            self.fill(self.camera.to_image(seen), None)

    def face(self, corners_m: np.ndarray, color: Color, normal: Color | None = None, *, solid: bool = True) -> None:
        """Paint a flat polygon (N, 3) in street coordinates, shaded by its normal (none: shines by itself)."""
        seen = clip_near(self.camera.to_camera(corners_m))
        if len(seen) < 3:
            return
        shade = np.ones(3) if normal is None else self.light.shade(np.array([normal]))[0]
        self.fill(
            self.camera.to_image(seen), self.hazed(np.array(color) * shade, float(seen[:, 2].mean())), solid=solid
        )

    def mesh(self, mesh: Mesh, x_m: float, s_m: float, heading_rad: float) -> None:
        """Paint the faces of a body that turn to the camera, far ones first."""
        place = np.array([x_m, 0.0, s_m])
        corners = self.camera.to_camera(turn(mesh.vertices, heading_rad) + place)
        middles = self.camera.to_camera(turn(mesh.centers, heading_rad) + place)
        normals = turn(mesh.normals, heading_rad)
        facing = normals * (1, -1, 1) @ self.camera.rotation.T
        visible = (facing * middles).sum(axis=1) < 0
        depth = float(max(middles[:, 2].max(), NEAR_M))
        pixels_per_m = self.camera.focal_px / depth
        visible &= visible[mesh.parents] & (mesh.sizes * pixels_per_m > _FINEST_PX)
        distances = np.linalg.norm(middles, axis=1)[mesh.parents]
        shades = np.where(mesh.shines[:, None], 1.0, self.light.shade(normals))
        mirrored = np.array(self.light.horizon_rgb) * (0.55 + 0.45 * normals[:, 1:2]) * mesh.gloss[:, None]
        colors = self.hazed(np.minimum(mesh.colors * shades + mirrored, 255), depth)
        order = np.lexsort((np.arange(len(mesh.parents)), -distances))
        whole = bool(corners[:, 2].min() >= NEAR_M)
        fixed = _subpixels(self.camera.to_image(corners)) if whole else corners
        for index in order[visible[order]]:
            rows = slice(mesh.starts[index], mesh.starts[index + 1])
            if whole:
                self._fill_fixed(fixed[rows], colors[index], bool(mesh.solid[index]))
                continue
            seen = clip_near(corners[rows])
            if len(seen) >= 3:
                self.fill(self.camera.to_image(seen), colors[index], solid=bool(mesh.solid[index]))

    def hulls(self, centers_m: np.ndarray, radii_m: np.ndarray, hulls: list[tuple[list[int], Color]]) -> None:
        """Paint convex hulls of balls, far ones first: limbs, torsos, tanks, whatever is round.

        Args:
            centers_m: (B, 3) street coordinates.
            radii_m: (B,).
            hulls: Per hull the indices of its balls and its colour.
        """
        centers = self.camera.to_camera(centers_m)
        if centers[:, 2].min() < NEAR_M:
            return
        pixels = self.camera.to_image(centers)
        scale = self.camera.focal_px / centers[:, 2]
        radii = np.maximum(radii_m * scale, 0.35)
        rims = _subpixels(pixels[:, None] + radii[:, None, None] * _CIRCLE)
        dark, bright = self.light.round_shade(0.25), self.light.round_shade(0.75)
        sun_side = -0.3 if self.light.to_sun[0] < 0 else 0.3
        lit_rims = _subpixels(pixels[:, None] + radii[:, None, None] * (_CIRCLE * 0.62 + (sun_side, -0.12)))
        depths = np.array([centers[balls, 2].mean() for balls, _ in hulls])
        clear = self.light.clearness(depths)[:, None]
        base, haze = np.array([color for _, color in hulls]) * clear, self._haze * (1 - clear)
        shaded, flat, lit = (np.minimum(base * tone + haze, 255) for tone in (dark, (dark + bright) / 2, bright))
        for index in np.argsort(-depths, kind='stable'):
            balls, _ = hulls[index]
            detailed = radii[balls].max() > 2.2
            self._fill_fixed(convex_hull(rims[balls]), shaded[index] if detailed else flat[index], True)
            if detailed:
                self._fill_fixed(convex_hull(lit_rims[balls]), lit[index], False)

    def post(self, x_m: float, s_m: float, low_m: float, high_m: float, radius_m: float, color: Color) -> None:
        """Paint an upright cylinder with a lit and a dark side."""
        ends = self.camera.to_camera(np.array([[x_m, low_m, s_m], [x_m, high_m, s_m]]))
        if ends[:, 2].min() < NEAR_M:
            return
        foot, head = self.camera.to_image(ends)
        half = max(radius_m * self.camera.focal_px / float(ends[0, 2]), 0.5)
        depth = float(ends[0, 2])
        sun_side = -1 if self.light.to_sun[0] < 0 else 1
        strips = [(-1.0, 1.0, 0.45)] if half < 1 else [(-1.0, 1.0, 0.1), (-0.2, 0.9, 0.5), (0.3, 0.7, 0.8)]
        for left, right, lit in strips:
            sides = np.array([left, right]) * half * sun_side
            left_side, right_side = np.array([sides[0], 0]), np.array([sides[1], 0])
            band = np.array([foot + left_side, foot + right_side, head + right_side, head + left_side])
            self.fill(band, self.hazed(np.array(color) * self.light.round_shade(lit), depth), solid=left == -1.0)

    def glow(self, point_m: Color, radius_m: float, color: Color) -> None:
        """Let a lamp shine if lamps are on."""
        spot = self.camera.to_camera(np.array([point_m]))
        if self.light.lamps_on and spot[0, 2] > 1:
            center = self.camera.to_image(spot)[0]
            radius = radius_m * self.camera.focal_px / float(spot[0, 2])
            self.glows.append(Glow(center_px=(float(center[0]), float(center[1])), radius_px=radius, color=color))


def _covers(filled: np.ndarray, column: float, row: float) -> bool:
    height, width = filled.shape
    return 0 <= column < width and 0 <= row < height and bool(filled[int(row), int(column)])


def _subpixels(points_px: np.ndarray) -> np.ndarray:
    """OpenCV's fixed-point corners, whose whole numbers are pixel centres."""
    return np.rint((points_px - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def convex_hull(points_px: np.ndarray) -> np.ndarray:
    """The corners (M, 2) of the convex hull of points (.., 2)."""
    points = points_px.reshape(-1, 2)
    return cv2.convexHull(points if points.dtype == np.int32 else points.astype(np.float32)).reshape(-1, 2)
