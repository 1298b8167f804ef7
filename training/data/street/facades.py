"""House fronts as textures: walls of plaster, brick, concrete or glass with rows of windows, shops, balconies."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from training.data.street.mesh import Point
from training.data.street.textures import fractal_noise

FacadeStyle = Literal['plaster', 'brick', 'concrete', 'glass']
FACADE_STYLES: tuple[FacadeStyle, ...] = ('plaster', 'plaster', 'brick', 'concrete', 'glass')
_WALLS: dict[str, tuple[Point, ...]] = {
    'plaster': ((222, 210, 186), (204, 176, 128), (196, 190, 182), (214, 160, 124), (176, 190, 184), (232, 228, 218),
                (188, 150, 108), (168, 176, 190)),
    'brick': ((142, 78, 60), (122, 66, 54), (164, 104, 78), (148, 118, 96), (96, 60, 52)),
    'concrete': ((158, 156, 152), (132, 134, 136), (182, 178, 170), (146, 138, 128)),
    'glass': ((70, 84, 98), (92, 104, 112), (58, 66, 76)),
}  # fmt: skip
_SHOPS: tuple[Point, ...] = ((168, 36, 40), (40, 90, 60), (36, 60, 120), (220, 170, 60), (60, 58, 60), (206, 204, 198))
_LETTERS = 'ABCDEFGHIKLMNOPRSTU'
_WINDOW_FRAMES: tuple[Point, ...] = ((236, 236, 232), (58, 52, 48), (150, 150, 150))
_SHUTTERS: tuple[Point, ...] = ((70, 92, 70), (96, 64, 48), (76, 96, 120))
_DOORS: tuple[Point, ...] = ((92, 62, 44), (52, 64, 58), (66, 66, 72))
_STAINS_PX = 1024


def draw_facade(
    rng: np.random.Generator,
    width_m: float,
    height_m: float,
    style: FacadeStyle,
    *,
    shop: bool,
    lit_share: float,
    detail: float = 1.0,
) -> np.ndarray:
    """(rows, columns, 3) uint8 front of a house.

    Args:
        rng: Source of chance.
        width_m: Width of the front.
        height_m: Height of the front.
        style: Material of the walls.
        shop: Whether the ground floor has shop windows.
        lit_share: Share of rooms with light.
        detail: Resolution; 1 suits images that are 1,024 pixels wide.
    """
    pixels_per_m = detail * float(np.clip(500 / max(width_m, height_m), 12, 34))
    facade = _Facade(rng, (width_m, height_m), pixels_per_m, style, lit_share)
    ground_m = rng.uniform(3.6, 4.4) if shop else rng.uniform(2.9, 3.4)
    facade.draw_upper_floors(ground_m, height_m)
    facade.draw_ground_floor(ground_m, shop)
    facade.draw_cornice()
    return facade.front


@lru_cache(maxsize=1)
def _stains() -> np.ndarray:
    """(1024, 1024) uint8 brightness around 200: dirt and grain, from which each wall takes a window."""
    rng = np.random.default_rng(0)
    dirt = fractal_noise(rng, (_STAINS_PX, _STAINS_PX), 90, 4)
    grain = rng.standard_normal((_STAINS_PX, _STAINS_PX), np.float32)
    return np.clip(200 + 9 * dirt + 5 * grain, 0, 255).astype(np.uint8)


class _Facade:
    """A front in the making; lengths in pixels unless their names end in ``_m``."""

    def __init__(
        self,
        rng: np.random.Generator,
        size_m: tuple[float, float],
        pixels_per_m: float,
        style: FacadeStyle,
        lit_share: float,
    ) -> None:
        self.rng, self.style, self.lit_share = rng, style, lit_share
        self.scale = pixels_per_m
        self.columns, self.rows = (self.px(length_m, 24) for length_m in size_m)
        palette = _WALLS[style]
        self.wall = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.88, 1.1)
        self.front = self._plain_wall()

    def px(self, length_m: float, least: int = 0) -> int:
        return max(int(length_m * self.scale), least)

    def _plain_wall(self) -> np.ndarray:
        size = (min(self.rows, _STAINS_PX), min(self.columns, _STAINS_PX))
        top, left = (int(self.rng.integers(_STAINS_PX - side + 1)) for side in size)
        tone = _stains()[top : top + size[0], left : left + size[1]].copy()
        tone = cv2.resize(tone, (self.columns, self.rows)) if tone.shape != (self.rows, self.columns) else tone
        if self.style == 'brick':
            course = self.px(0.26, 4)
            tone[::course] = cv2.convertScaleAbs(tone[::course], alpha=1.13)
            for start in range(0, self.columns, 2 * course):  # some bricks are darker
                tone[int(start * 7919 % course) :: 3 * course, start : start + course] -= 14
        elif self.style == 'concrete':
            joints = tone[:, :: self.px(3.0, 10)]
            joints[:] = cv2.convertScaleAbs(joints, alpha=0.8)
        return cv2.transform(tone, (self.wall / 200)[:, None])

    def box(
        self, left: float, top: float, right: float, bottom: float, color: np.ndarray | Point, line: int = -1
    ) -> None:
        """A filled rectangle, or its border of that line width."""
        corners = (int(left), int(top)), (int(right), int(bottom))
        cv2.rectangle(self.front, *corners, _rgb(color), line)

    def draw_cornice(self) -> None:
        deep = self.px(0.35, 3)
        self.box(0, 0, self.columns, deep, self.wall * 1.16)
        self.box(0, deep, self.columns, deep + 1, self.wall * 0.5)

    def draw_upper_floors(self, ground_m: float, height_m: float) -> None:
        """Rows of equal windows, with shutters, balconies and bands as the house has them."""
        rng, glassy = self.rng, self.style == 'glass'
        floor_m = rng.uniform(2.8, 3.5)
        floors = max(int((height_m - ground_m - 0.4) / floor_m), 0)
        bays = max(int(self.columns / self.px(rng.uniform(1.3, 1.8) if glassy else rng.uniform(1.9, 3.3))), 1)
        width = int(self.columns / bays * (0.94 if glassy else rng.uniform(0.4, 0.66)))
        height = self.px(floor_m * (0.86 if glassy else rng.uniform(0.48, 0.66)))
        frame = _WINDOW_FRAMES[rng.integers(len(_WINDOW_FRAMES))]
        balconies = (rng.random(bays) < 0.5) & (not glassy and rng.random() < 0.35)
        shutter = _SHUTTERS[rng.integers(len(_SHUTTERS))] if self.style == 'plaster' and rng.random() < 0.3 else None
        band = self.px(0.12, 1) if rng.random() < 0.4 else 0
        for floor in range(floors):
            foot = self.rows - self.px(ground_m + floor * floor_m)
            sill = foot - self.px(floor_m * (0.08 if glassy else 0.26))
            if band:
                self.box(0, foot - band, self.columns, foot, self.wall * 1.12)
            for bay in range(bays):
                left = int((bay + 0.5) * self.columns / bays - width / 2)
                if shutter:
                    self.box(left - width // 2, sill - height, left + width * 3 // 2, sill, shutter)
                self.draw_window(left, sill - height, width, height, None if glassy else frame)
                if balconies[bay]:
                    self.draw_balcony(left - width // 3, foot, width + 2 * width // 3)

    def draw_window(self, left: int, top: int, width: int, height: int, frame: Point | None) -> None:
        """A pane, dark with the sky's reflection above or lit; with a frame it has curtains and a sill."""
        pane = self.front[max(top, 0) : top + height, max(left, 0) : left + width]
        if width < 3 or height < 3 or top < 0 or pane.size == 0:
            return
        rng, right, bottom = self.rng, left + width, top + height
        lit = rng.random() < self.lit_share
        glass = np.array((255, 216, 150) if lit else (58, 68, 78)) * rng.uniform(0.75, 1.0 if lit else 1.25)
        ramp = np.linspace(1.0 if lit else 1.75, 0.82, pane.shape[0])
        pane[:] = np.clip(glass * ramp[:, None, None], 0, 255).astype(np.uint8)
        if frame is None:
            self.box(left, top, right, bottom, self.wall * 0.6, 1)
            return
        dressing = rng.random()
        if dressing < 0.45:
            curtain = max(int(width * rng.uniform(0.15, 0.34)), 1)
            self.box(left, top, left + curtain, bottom, (176, 172, 162))
            self.box(right - curtain, top, right, bottom, (176, 172, 162))
        elif dressing < 0.6:
            self.box(left, top, right, top + height * rng.uniform(0.2, 0.7), (190, 186, 176))
        line, middle = max(int(width * 0.06), 1), (left + right) // 2
        self.box(left, top, right, bottom, frame, line)
        self.box(middle, top, middle + line - 1, bottom, frame)
        self.box(left, top + height // 3, right, top + height // 3, frame)
        self.box(left - 2, bottom, right + 2, bottom + line, self.wall * 1.18)
        self.box(left - 2, bottom + line + 1, right + 2, bottom + line + 1, self.wall * 0.68)
        self.box(left, top - 1, right, top - 1, self.wall * 0.62)

    def draw_balcony(self, left: int, foot: int, width: int) -> None:
        right, rail, iron = left + width, foot - self.px(1.0), (44, 46, 48)
        self.box(left, foot - 2, right, foot + self.px(0.15, 2), self.wall * 0.8)
        self.box(left, foot + self.px(0.15), right, foot + self.px(0.5), self.wall * 0.72)
        for x in range(left, right, self.px(0.14, 3)):
            self.box(x, rail, x, foot, iron)
        self.box(left, rail, right, rail + 1, iron)

    def draw_ground_floor(self, ground_m: float, shop: bool) -> None:
        """A door, and shop windows under a sign or the windows of flats."""
        rng, top = self.rng, self.rows - self.px(ground_m)
        if shop:
            self.front[top:] = cv2.convertScaleAbs(self.front[top:], alpha=rng.uniform(0.6, 1.0))
        self.box(0, self.rows - self.px(0.5, 3), self.columns, self.rows, self.wall * 0.62)
        bays = max(int(self.columns / self.px(rng.uniform(2.6, 4.2))), 1)
        door_bay = int(rng.integers(bays))
        for bay in range(bays):
            left, right = int(bay * self.columns / bays), int((bay + 1) * self.columns / bays)
            inset = max(int((right - left) * (0.07 if shop else 0.24)), 2)
            width = right - left - 2 * inset
            if bay == door_bay:
                self._draw_door((left + right) // 2)
            elif shop:
                self.draw_window(left + inset, top + self.px(0.95), width, self.px(ground_m - 1.4), None)
                self._draw_goods(left + inset, right - inset)
            else:
                self.draw_window(left + inset, top + self.px(0.7), width, self.px(1.5), (230, 230, 226))
        if shop:
            self._draw_shop_sign(top)

    def _draw_door(self, middle: int) -> None:
        half, head = self.px(0.6), self.rows - self.px(2.3)
        self.box(middle - half, head, middle + half, self.rows, _DOORS[self.rng.integers(len(_DOORS))])
        self.box(middle - half, head, middle + half, self.rows, self.wall * 1.15, self.px(0.08, 1))
        self.draw_window(middle - half // 2, self.rows - self.px(2.1), half, self.px(0.8), None)

    def _draw_goods(self, left: int, right: int) -> None:
        """Things in a shop window."""
        for _ in range(3):
            x = left + (right - left) * self.rng.uniform(0, 0.9)
            size = self.px(self.rng.uniform(0.2, 0.6))
            low = self.rows - self.px(0.5)
            self.box(x, low - size, min(x + size, right), low, self.rng.uniform(60, 200, 3))

    def _draw_shop_sign(self, top: int) -> None:
        rng, low = self.rng, top + self.px(0.85)
        color = np.array(_SHOPS[rng.integers(len(_SHOPS))])
        self.box(0, top + self.px(0.2), self.columns, low, color)
        ink = (240, 238, 230) if color.sum() < 420 else (40, 40, 44)
        word = ''.join(_LETTERS[index] for index in rng.integers(0, len(_LETTERS), int(rng.integers(4, 9))))
        place = (int(self.columns * rng.uniform(0.08, 0.4)), low - self.px(0.14))
        thick = self.px(0.06, 1)
        cv2.putText(self.front, word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.024 * self.scale, ink, thick, cv2.LINE_AA)
        if rng.random() < 0.4:
            step = self.px(0.4, 4)
            for number, x in enumerate(range(0, self.columns, step)):
                self.box(x, low, x + step, low + self.px(0.5), color if number % 2 else (232, 230, 222))


def _rgb(color: np.ndarray | Point) -> Point:
    red, green, blue = color if isinstance(color, tuple) else color.tolist()
    return (min(red, 255.0), min(green, 255.0), min(blue, 255.0))
