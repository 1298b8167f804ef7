"""Augmentation: random scale, crop, flip, and colour as an option (interdependent paper, experiments).

The paper enlarges by 1 to 1.5 and crops at network size. Here the part of the image that the crop would show is cut
first and resized once. Below scale 1 the image lies in a canvas of its mean colour, which is unlabelled in the mask.
The result depends on the sample and the generator alone: nothing draws from a global random state.

Shape letters: H W the sample's image, h w the network input, N objects, M ignored regions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from training.data.color import apply_color_matrix, color_matrix, mean_color
from training.data.sample import Sample


@dataclass(frozen=True, kw_only=True)
class TrainTransformConfig:
    """What TrainTransform does; the defaults are the paper's.

    Attributes:
        crop_hw: Height and width of the result; (0, 0): as the network input. A smaller crop costs less for each step
            and shows a part of the image, at the size that it has in the whole one.
        scale: Range of the enlargement; needs padding where the image is then smaller than the crop.
        flip_probability: Of a horizontal flip.
        brightness, contrast, saturation: Largest change of the factor from 1.
        focus_probability: Of a crop that is laid around a rare class, where the sample has one.
        focus_classes: Segmentation classes to lay it around: one that the mask has, then one of its pixels. Samples
            without a mask take one of their boxes.
        min_box_side_px: Boxes with a shorter side after clipping are dropped; the paper makes them background.
        padding_rgb: Colour of the canvas, before the change of colour; the mean that the networks subtract.
    """

    crop_hw: tuple[int, int] = (0, 0)
    scale: tuple[float, float] = (1.0, 1.5)
    flip_probability: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    focus_probability: float = 0.0
    focus_classes: tuple[int, ...] = ()
    min_box_side_px: float = 2.0
    padding_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: If a value is out of range.
        """
        low, high = self.scale
        probabilities = (self.flip_probability, self.focus_probability)
        changes = (self.brightness, self.contrast, self.saturation)
        if not 0 < low <= high:
            raise ConfigError(f'scale must be 0 < low <= high; got {self.scale}.')
        if any(self.crop_hw) and min(self.crop_hw) < 1:
            raise ConfigError(
                f'crop_hw must be two positive sides, or 0 and 0 for the whole input; got {self.crop_hw}.'
            )
        if not all(0 <= probability <= 1 for probability in probabilities):
            raise ConfigError(f'flip_probability and focus_probability must lie in 0..1; got {probabilities}.')
        if not all(0 <= index < UNLABELLED for index in self.focus_classes):
            raise ConfigError(f'focus_classes: expected ids of 0 to {UNLABELLED - 1}, got {self.focus_classes}.')
        if not all(0 <= change <= 1 for change in changes):
            raise ConfigError(f'brightness, contrast and saturation must lie in 0..1; got {changes}.')


@dataclass(frozen=True)
class View:
    """The rectangle of the image that fills the canvas; where the scale is below 1 it reaches beyond the image."""

    top: int
    left: int
    height: int
    width: int


class TrainTransform:
    """``transform(sample, generator)`` gives an augmented sample; pickles, holds no state.

    Args:
        config: What it does.
        image_hw: Height and width of the network input, at which an enlargement of 1 shows the whole image.
    """

    def __init__(self, config: TrainTransformConfig, image_hw: tuple[int, int]) -> None:
        self.config, self.image_hw = config, image_hw
        self.result_hw = config.crop_hw if any(config.crop_hw) else image_hw

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        view = self._choose_view(sample, generator)
        sample = show_view(sample, view, self.result_hw, self.config)
        if _uniform(0, 1, generator) < self.config.flip_probability:
            sample = flip(sample)
        return self._change_color(sample, generator)

    def _choose_view(self, sample: Sample, generator: torch.Generator) -> View:
        height, width = sample.image.shape[1:]
        scale = _uniform(*self.config.scale, generator)
        view_hw = [
            max(1, round(side * shown / (whole * scale)))
            for side, shown, whole in zip((height, width), self.result_hw, self.image_hw, strict=True)
        ]
        focus = None
        if self.config.focus_probability and _uniform(0, 1, generator) < self.config.focus_probability:
            focus = self._choose_focus(sample, generator)
        top, left = (
            _choose_offset(side, shown, focus and focus[axis], generator)
            for axis, (side, shown) in enumerate(zip((height, width), view_hw, strict=True))
        )
        return View(top, left, view_hw[0], view_hw[1])

    def _choose_focus(self, sample: Sample, generator: torch.Generator) -> tuple[int, int] | None:
        """Row and column of a random pixel of a random rare class; None where the sample has none."""
        if sample.mask is None:
            if sample.boxes is None or not len(sample.boxes):
                return None
            left, top, right, bottom = sample.boxes[_integer(0, len(sample.boxes) - 1, generator)].tolist()
            return int((top + bottom) / 2), int((left + right) / 2)
        counts = cv2.calcHist([sample.mask.numpy()], [0], None, [256], [0, 256]).ravel()
        present = [index for index in self.config.focus_classes if counts[index]]
        if not present:
            return None
        chosen = present[_integer(0, len(present) - 1, generator)]
        pixels = torch.nonzero(sample.mask.flatten() == chosen)  # (count, 1)
        row, column = divmod(int(pixels[_integer(0, len(pixels) - 1, generator)]), sample.mask.shape[1])
        return row, column

    def _change_color(self, sample: Sample, generator: torch.Generator) -> Sample:
        config = self.config
        if not (config.brightness or config.contrast or config.saturation):
            return sample
        image_rgb = sample.image.permute(1, 2, 0).numpy()
        factors = {
            name: _uniform(1 - change, 1 + change, generator)
            for name, change in (
                ('brightness', config.brightness),
                ('contrast', config.contrast),
                ('saturation', config.saturation),
            )
        }
        matrix = color_matrix(mean_color(image_rgb), **factors)
        return replace(sample, image=torch.from_numpy(apply_color_matrix(image_rgb, matrix)).permute(2, 0, 1))


def show_view(sample: Sample, view: View, result_hw: tuple[int, int], config: TrainTransformConfig) -> Sample:
    """Cut a view out of a sample.

    A box stays if its centre lies in the view and, clipped, its sides are long enough.

    Args:
        sample: (H, W).
        view: In the sample's pixels.
        result_hw: Height and width that it gets.
        config: Gives the padding, and the shortest side of a box.
    """
    placement = _place(view, (sample.image.shape[1], sample.image.shape[2]), result_hw)
    boxes, labels, mask = sample.boxes, sample.labels, sample.mask
    if boxes is not None and labels is not None:
        whole = placement.move_boxes(boxes)
        boxes = _clip(whole, result_hw)
        centre = (whole[:, :2] + whole[:, 2:]) / 2  # (N, 2); of the whole object, so taken before clipping
        inside = ((centre >= 0) & (centre < torch.tensor(result_hw[::-1]))).all(1)
        stays = inside & (_sides(boxes) >= config.min_box_side_px).all(1)
        boxes, labels = boxes[stays], labels[stays]
    ignored = _clip(placement.move_boxes(sample.ignore_boxes), result_hw)
    if mask is not None:
        # As an image, because v2 resizes masks by the pixel before, which shifts thin things against the image.
        mask = placement.move_picture(mask[None], (UNLABELLED,), InterpolationMode.NEAREST_EXACT)[0]
    return replace(
        sample,
        image=placement.move_picture(sample.image, config.padding_rgb, InterpolationMode.BILINEAR),
        boxes=boxes,
        labels=labels,
        ignore_boxes=ignored[(_sides(ignored) > 0).all(1)],
        ignore_labels=None,  # only scores ask for them
        mask=mask,
    )


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
        color = torch.tensor(padding).round().to(torch.uint8)
        canvas = color.expand(*self.canvas_hw, len(padding)).clone().permute(2, 0, 1)
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
    first_row, rows = _scale_range(top - view.top, bottom - view.top, canvas_hw[0] / view.height)
    first_column, columns = _scale_range(left - view.left, right - view.left, canvas_hw[1] / view.width)
    return _Placement(
        part=(top, left, bottom - top, right - left),
        corner=(first_row, first_column),
        size=(rows, columns),
        image_hw=image_hw,
        canvas_hw=(canvas_hw[0], canvas_hw[1]),
    )


def _scale_range(first: int, last: int, scale: float) -> tuple[int, int]:
    """Start and length of a range of pixels after scaling; never empty."""
    start = round(first * scale)
    return start, max(1, round(last * scale) - start)


def _as_boxes(boxes: Tensor, image_hw: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format='XYXY', canvas_size=image_hw, clamping_mode=None)


def _clip(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    limit = torch.tensor([image_hw[1], image_hw[0]] * 2, dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def _sides(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


def _choose_offset(side: int, shown: int, focus: int | None, generator: torch.Generator) -> int:
    """First row or column of a view: anywhere that shows image only, or all of it; a focus must be seen."""
    low, high = sorted((0, side - shown))
    if focus is not None:
        low, high = max(low, focus - shown + 1), min(high, focus)
    return _integer(low, high, generator)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Both ends included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
