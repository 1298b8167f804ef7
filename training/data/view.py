"""View: the part of a sample that is shown at network size, cut once and resized once, boxes and mask in step.

Where a view reaches beyond the image, the image lies in a canvas of one colour.

Shape letters: H W the sample's image, h w the result, N objects, M ignored regions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from perception.interfaces import UNLABELLED
from training.data.sample import Sample


@dataclass(frozen=True)
class View:
    """The rectangle of the image that fills the canvas; it may reach beyond the image."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What views are shown on.

    Attributes:
        image_hw: Height and width of the result.
        padding_rgb: Colour beyond the image.
        padding_class: What the mask has there.
        min_box_side_px: Boxes with a shorter side after clipping are dropped.
    """

    image_hw: tuple[int, int]
    padding_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)
    padding_class: int = UNLABELLED
    min_box_side_px: float = 2.0


def whole_view(sample: Sample) -> View:
    """All of its image."""
    return View(0, 0, sample.image.shape[1], sample.image.shape[2])


def show_view(sample: Sample, view: View, canvas: Canvas) -> Sample:
    """Cut a view out of a sample.

    A box stays if its centre lies in the view and, clipped, its sides are long enough.

    Args:
        sample: (H, W).
        view: In the sample's pixels.
        canvas: What it is shown on.
    """
    image_hw, result_hw = (sample.image.shape[1], sample.image.shape[2]), canvas.image_hw
    if not _touches(view, image_hw):
        return _blank(sample, canvas)
    placement = _place(view, image_hw, result_hw)
    boxes, labels, mask = sample.boxes, sample.labels, sample.mask
    if boxes is not None and labels is not None:
        whole = placement.move_boxes(boxes)
        boxes = _clip(whole, result_hw)
        centre = (whole[:, :2] + whole[:, 2:]) / 2  # (N, 2); of the whole object, so taken before clipping
        inside = ((centre >= 0) & (centre < torch.tensor(result_hw[::-1]))).all(1)
        stays = inside & (_sides(boxes) >= canvas.min_box_side_px).all(1)
        boxes, labels = boxes[stays], labels[stays]
    ignored = _clip(placement.move_boxes(sample.ignore_boxes), result_hw)
    if mask is not None:
        # As an image, because v2 resizes masks by the pixel before, which shifts thin things against the image.
        mask = placement.move_picture(mask[None], (canvas.padding_class,), InterpolationMode.NEAREST_EXACT)[0]
    return replace(
        sample,
        image=placement.move_picture(sample.image, canvas.padding_rgb, InterpolationMode.BILINEAR),
        boxes=boxes,
        labels=labels,
        ignore_boxes=ignored[(_sides(ignored) > 0).all(1)],
        ignore_labels=None,  # only scores ask for them
        mask=mask,
    )


def _touches(view: View, image_hw: tuple[int, int]) -> bool:
    """Whether there is any of the image in a view."""
    return -view.height < view.top < image_hw[0] and -view.width < view.left < image_hw[1]


def _blank(sample: Sample, canvas: Canvas) -> Sample:
    """Nothing of a sample: what is beyond its image."""
    return replace(
        sample,
        image=_plain(canvas.image_hw, canvas.padding_rgb),
        boxes=None if sample.boxes is None else sample.boxes[:0],
        labels=None if sample.labels is None else sample.labels[:0],
        ignore_boxes=sample.ignore_boxes[:0],
        ignore_labels=None,
        mask=None if sample.mask is None else sample.mask.new_full(canvas.image_hw, canvas.padding_class),
    )


def _plain(image_hw: tuple[int, int], color: tuple[float, ...]) -> Tensor:
    """(C, h, w) uint8 of one colour, in channels-last memory."""
    return torch.tensor(color).round().to(torch.uint8).expand(*image_hw, len(color)).clone().permute(2, 0, 1)


def flip(sample: Sample) -> Sample:
    """Mirror a sample left to right."""
    image_hw = sample.image.shape[1], sample.image.shape[2]

    def flip_boxes(boxes: Tensor) -> Tensor:
        return functional.horizontal_flip(_as_boxes(boxes, image_hw)).as_subclass(Tensor)

    return replace(
        sample,
        image=functional.horizontal_flip(sample.image),
        boxes=None if sample.boxes is None else flip_boxes(sample.boxes),
        ignore_boxes=flip_boxes(sample.ignore_boxes),
        mask=None if sample.mask is None else functional.horizontal_flip(sample.mask),
    )


@dataclass(frozen=True)
class _Placement:
    """Which part of the image goes where in the canvas: all of the canvas, unless the view reaches beyond the image."""

    part: tuple[int, int, int, int]
    """Top, left, height, width in the image (H, W)."""
    corner: tuple[int, int]
    """Its first row and column in the canvas."""
    size: tuple[int, int]
    """Its height and width there."""
    image_hw: tuple[int, int]
    canvas_hw: tuple[int, int]

    def move_picture(self, picture: Tensor, padding: tuple[float, ...], interpolation: InterpolationMode) -> Tensor:
        """(C, H, W) uint8 to (C, h, w), in channels-last memory."""
        part = functional.crop(picture, *self.part)
        # The resize has a fast kernel for whole channels-last memory, and takes it for nothing else.
        part = part.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        antialias = interpolation is InterpolationMode.BILINEAR
        moved = functional.resize(part, list(self.size), interpolation=interpolation, antialias=antialias)
        if self.size == self.canvas_hw:
            return moved
        canvas = _plain(self.canvas_hw, padding)
        (top, left), (height, width) = self.corner, self.size
        canvas[:, top : top + height, left : left + width] = moved
        return canvas

    def move_boxes(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes to canvas pixels, not clipped."""
        top, left = self.corner
        moved = functional.resized_crop(_as_boxes(boxes, self.image_hw), *self.part, list(self.size))
        return moved.as_subclass(Tensor) + torch.tensor([left, top, left, top])


def _place(view: View, image_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> _Placement:
    top, bottom = max(view.top, 0), min(view.top + view.height, image_hw[0])
    left, right = max(view.left, 0), min(view.left + view.width, image_hw[1])
    first_row, rows = _scale_range(top - view.top, bottom - view.top, canvas_hw[0], view.height)
    first_column, columns = _scale_range(left - view.left, right - view.left, canvas_hw[1], view.width)
    return _Placement(
        part=(top, left, bottom - top, right - left),
        corner=(first_row, first_column),
        size=(rows, columns),
        image_hw=image_hw,
        canvas_hw=(canvas_hw[0], canvas_hw[1]),
    )


def _scale_range(first: int, last: int, shown: int, side: int) -> tuple[int, int]:
    """Start and length of a range of a view's pixels, where its side is shown in so many; never empty, never beyond."""
    scale = shown / side
    start = min(round(first * scale), shown - 1)
    return start, max(1, round(last * scale) - start)


def _as_boxes(boxes: Tensor, image_hw: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format='XYXY', canvas_size=image_hw, clamping_mode=None)


def _clip(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    limit = torch.tensor([image_hw[1], image_hw[0]] * 2, dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def _sides(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]
