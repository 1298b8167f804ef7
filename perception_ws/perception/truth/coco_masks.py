"""Masks out of the outlines in COCO files: polygons, or run lengths (RLE), painted one over the other.

As BlitzNet has them (Dvornik et al., ICCV 2017, on COCO): all objects in the order of the file, crowds among them,
later ones over earlier ones, on a ground of background. The pixels of an outline are COCO's, by faster_coco_eval.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

import importlib
import math
import reprlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from perception.errors import ConfigError, MissingDependencyError, nearest
from perception.interfaces import UNLABELLED, LabelSpace
from perception.truth.coco_entries import Entry

_LIBRARY = 'faster_coco_eval.core.mask'
_BACKGROUND = 'background'
_FEWEST_NUMBERS = 6
"""Of a polygon with an area: three corners."""
_FARTHEST = 10
"""Sides of the image that a polygon may reach beyond it. Its border is walked step by step: of 1e9 pixels, for ever."""


class MaskConfig(NamedTuple):
    """How masks are made of outlines.

    Attributes:
        ground: Name of the segmentation class of what no object covers. None: the class ``background``, where the
            label space has one; else unlabelled.
    """

    ground: str | None = None

    def ground_class(self, labels: LabelSpace) -> int:
        """Its class, or UNLABELLED.

        Raises:
            ConfigError: If the label space has no such class.
        """
        names = [label.name for label in labels.segmentation]
        if self.ground is not None and self.ground not in names:
            raise ConfigError(f'background {self.ground!r} is no segmentation class: {nearest(self.ground, names)}')
        ground = self.ground or _BACKGROUND
        return names.index(ground) if ground in names else UNLABELLED


class Outline(NamedTuple):
    """What one object covers.

    Attributes:
        area: Segmentation class, or UNLABELLED.
        run_lengths: Compressed, as COCO writes them; empty: the object has no outline.
        box_xyxy: Where it is.
    """

    area: int
    run_lengths: bytes
    box_xyxy: tuple[float, float, float, float]


def require_library() -> ModuleType:
    """What turns outlines into pixels.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(_LIBRARY)
    except ImportError as error:
        raise MissingDependencyError(
            f'Masks of COCO files need {_LIBRARY.partition(".")[0]}, which is not installed. '
            'Run: pip install -r requirements/evaluation.txt, or read boxes alone.'
        ) from error


def read_outline(annotation: Entry, image_hw: tuple[int, int]) -> bytes:
    """The run lengths of what an annotation outlines; empty: it has no outline, or one without an area.

    Raises:
        DatasetError: If it is neither polygons nor run lengths of that image, or lies wholly outside of it.
    """
    segmentation = annotation.values.get('segmentation')
    if not segmentation:
        return b''
    try:
        if isinstance(segmentation, dict):
            return _check_run_lengths(segmentation, image_hw)
        return _encode_polygons(segmentation, image_hw)
    except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        rows, columns = image_hw
        raise annotation.error(
            f'has segmentation {reprlib.repr(segmentation)} ({error}); expected polygons [[x1, y1, x2, y2, x3, y3, '
            f'...], ...] in pixels of its image, which is {rows}x{columns} (height x width), or run lengths '
            f'{{"counts": ..., "size": [{rows}, {columns}]}}.'
        ) from error


def _check_run_lengths(segmentation: dict[str, Any], image_hw: tuple[int, int]) -> bytes:
    counts, size = segmentation['counts'], [int(side) for side in segmentation['size']]
    if size != list(image_hw):
        raise ValueError(f'size {size}')
    library = require_library()
    if isinstance(counts, str):
        encoded = {'counts': counts.encode('ascii'), 'size': size}
    else:
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError('counts below 0, or no integers')
        encoded = library.frPyObjects({'counts': counts, 'size': size}, *image_hw)
    library.decode(encoded)  # refuses other than one run for each pixel
    return bytes(encoded['counts'])


def _encode_polygons(segmentation: Sequence[Any], image_hw: tuple[int, int]) -> bytes:
    polygons = [[float(number) for number in polygon] for polygon in segmentation]
    numbers = [number for polygon in polygons for number in polygon]
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError('an x without its y')
    farthest = _FARTHEST * max(image_hw)
    if not all(math.isfinite(number) and abs(number) <= farthest for number in numbers):
        raise ValueError('numbers far outside of the image')
    polygons = [polygon for polygon in polygons if len(polygon) >= _FEWEST_NUMBERS]
    if not polygons:
        return b''
    rows, columns = image_hw
    x, y = ([number for polygon in polygons for number in polygon[axis::2]] for axis in (0, 1))
    if max(x) < 0 or min(x) > columns or max(y) < 0 or min(y) > rows:
        raise ValueError('wholly outside of the image')
    library = require_library()
    return bytes(library.merge(library.frPyObjects(polygons, rows, columns))['counts'])


def paint(outlines: Sequence[Outline], image_hw: tuple[int, int], ground: int) -> np.ndarray:
    """The mask (H, W) uint8 of an image.

    Where an object without an outline is, nobody knows which pixels of its box are its own: those that no outline
    covers are unlabelled.

    Args:
        outlines: In the order in which they are painted.
        image_hw: Height and width.
        ground: The class of what no object covers, or UNLABELLED.
    """
    library = require_library()
    mask = np.full(image_hw, ground, np.uint8)
    for outline in outlines:
        if not outline.run_lengths:
            left, top, right, bottom = outline.box_xyxy
            rows, columns = (
                slice(max(0, math.floor(a)), max(0, math.ceil(b))) for a, b in ((top, bottom), (left, right))
            )
            mask[rows, columns] = UNLABELLED
    for outline in outlines:
        if outline.run_lengths:
            covered = library.decode({'counts': outline.run_lengths, 'size': list(image_hw)})
            mask[covered.astype(bool)] = outline.area
    return mask
