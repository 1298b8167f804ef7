"""Augmentation: random scale, crop, flip, and colour as an option (interdependent paper, experiments); SSD's besides.

The paper enlarges by 1 to 1.5 and crops at network size. Here the part of the image that the crop would show is cut
first and resized once. Below scale 1 the image lies in a canvas of its mean colour, which is unlabelled in the mask.
The result depends on the sample and the generator alone: nothing draws from a global random state.

Shape letters: H W the sample's image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import torch

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from training.data.color import apply_color_matrix, color_matrix, mean_color
from training.data.sample import Sample
from training.data.ssd_augmentation import (
    IoUCropConfig,
    PhotometricConfig,
    ZoomOutConfig,
    crop_to_object,
    distort_color,
    zoom_out,
)
from training.data.view import Canvas, View, flip, show_view, whole_view


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
        zoom_out: The image in a larger canvas; None: never. ``scale`` then tells of that canvas; [1, 1] shows it whole.
        iou_crop: A part that overlaps an object, of the image or the canvas; None: never. ``scale`` as before.
        photometric: SSD's changes of colour, in place of those above; None: none.
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
    zoom_out: ZoomOutConfig | None = None
    iou_crop: IoUCropConfig | None = None
    photometric: PhotometricConfig | None = None

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
        if self.photometric and any(changes):
            raise ConfigError(
                f'photometric replaces brightness, contrast and saturation, got {changes}; leave these out.'
            )
        if self.focus_probability and (self.zoom_out or self.iou_crop):
            raise ConfigError(
                'focus_probability chooses what is shown, and so do zoom_out and iou_crop; keep the one or the others.'
            )

    @property
    def largest_scale(self) -> float:
        """How much a part of an image may be enlarged."""
        return self.scale[1] / (self.iou_crop.sides[0] if self.iou_crop else 1)


class TrainTransform:
    """``transform(sample, generator)`` gives an augmented sample; pickles, holds no state.

    Args:
        config: What it does.
        image_hw: Height and width of the network input, at which an enlargement of 1 shows the whole image.
        padding_class: What masks have beyond the image.
    """

    def __init__(
        self, config: TrainTransformConfig, image_hw: tuple[int, int], padding_class: int = UNLABELLED
    ) -> None:
        self.config, self.image_hw = config, image_hw
        self.canvas = Canvas(
            image_hw=config.crop_hw if any(config.crop_hw) else image_hw,
            padding_rgb=config.padding_rgb,
            padding_class=padding_class,
            min_box_side_px=config.min_box_side_px,
        )

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        view = self._choose_view(sample, self._choose_surroundings(sample, generator), generator)
        sample = show_view(sample, view, self.canvas)
        if _uniform(0, 1, generator) < self.config.flip_probability:
            sample = flip(sample)
        return self._change_color(sample, generator)

    def _choose_surroundings(self, sample: Sample, generator: torch.Generator) -> View:
        """What is enlarged and cropped: the image, unless it is to be more or less of it."""
        around = whole_view(sample)
        if self.config.zoom_out is not None:
            around = zoom_out(around, self.config.zoom_out, generator)
        if self.config.iou_crop is not None:
            around = crop_to_object(sample, around, self.config.iou_crop, generator)
        return around

    def _choose_view(self, sample: Sample, around: View, generator: torch.Generator) -> View:
        around_hw = around.height, around.width
        scale = _uniform(*self.config.scale, generator)
        view_hw = [
            max(1, round(side * shown / (whole * scale)))
            for side, shown, whole in zip(around_hw, self.canvas.image_hw, self.image_hw, strict=True)
        ]
        focus = None
        if self.config.focus_probability and _uniform(0, 1, generator) < self.config.focus_probability:
            focus = self._choose_focus(sample, generator)
        top, left = (
            _choose_offset(side, shown, focus and focus[axis], generator)
            for axis, (side, shown) in enumerate(zip(around_hw, view_hw, strict=True))
        )
        return View(around.top + top, around.left + left, view_hw[0], view_hw[1])

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
        if config.photometric is not None:
            return replace(sample, image=distort_color(sample.image, config.photometric, generator))
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
