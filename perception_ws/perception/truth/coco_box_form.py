"""In which units and form the boxes of a COCO file are: told by all of them together, since each alone may be right."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from perception.truth.coco_entries import Entry

logger = logging.getLogger(__name__)

_FIRST_PIXEL = 1.001
_FEWEST_SHARES = 0.01
"""A sliver that a crop left in the corner may be so small, but not one box in a hundred."""
_FEW_BOXES, _FEWEST_BEYOND = 5, 0.1
"""Boxes that were drawn over the border are fewer, and those of right width and height seldom all fit as corners."""


class BoxForm:
    """What the boxes of a file look like together: in which units and form they are."""

    def __init__(self) -> None:
        self._count = 0
        self._shares: list[Entry] = []
        self._beyond: list[Entry] = []
        self._empty: list[Entry] = []
        self._may_be_corners = True

    def note(self, annotation: Entry, box_xyxy: Sequence[float], image_hw: tuple[int, int]) -> None:
        """Look at one box, read as [left, top, width, height]."""
        left, top, right, bottom = box_xyxy
        if not (right > left and bottom > top):
            self._empty.append(annotation)
            return
        self._count += 1
        if max(box_xyxy) <= _FIRST_PIXEL:
            self._shares.append(annotation)
        height, width = image_hw[0] + 1, image_hw[1] + 1  # rounding
        if right > width or bottom > height:
            self._beyond.append(annotation)
        second_x, second_y = right - left, bottom - top
        self._may_be_corners &= left < second_x <= width and top < second_y <= height

    def check(self) -> None:
        """Refuse boxes in shares of the image or as corners; say how many have no area.

        Raises:
            DatasetError: Naming the first of them.
        """
        if self._shares and len(self._shares) >= self._count * _FEWEST_SHARES:
            raise self._shares[0].error(
                f'has bbox {self._shares[0].values["bbox"]}; it and {len(self._shares) - 1} more of {self._count} '
                'boxes lie within the first pixel of their image. They look like shares of its width and height: '
                'multiply them by these.'
            )
        some = self._count >= _FEW_BOXES and len(self._beyond) >= self._count * _FEWEST_BEYOND
        if some and self._may_be_corners:
            raise self._beyond[0].error(
                f'has bbox {self._beyond[0].values["bbox"]}; it and {len(self._beyond) - 1} more of {self._count} '
                'boxes reach over the border of their image, and all of them would fit as corners [left, top, right, '
                'bottom]; expected [left, top, width, height].'
            )
        if self._empty:
            first = self._empty[0].error(f'has bbox {self._empty[0].values["bbox"]}.')
            logger.warning('%d boxes without an area are left out, such as: %s', len(self._empty), first)
