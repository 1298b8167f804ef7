"""Augmentation of the SSD line: zoom-out, crops that overlap an object, and photometric distortion, by torchvision.

Liu et al. ("SSD: Single shot multibox detector", section 2.2 and 3.6) and, with other figures, BlitzNet's code. What is
drawn is torchvision's; of the picture a View is made, so that it is cut and resized once, however it was chosen.

torchvision draws from torch's global generator, so each draw gets one that is seeded from the sample's own, and the
global state stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED, LabelSpace
from training.data.sample import Sample
from training.data.view import View

BACKGROUND = 'background'
"""What label spaces call the class of all that is none of their objects."""


@dataclass(frozen=True, kw_only=True)
class ZoomOutConfig:
    """The image in a larger canvas, for small objects. The defaults are SSD's.

    Attributes:
        probability: Of a sample to be laid in one.
        largest: Sides of the canvas over those of the image, at most.
        fill: What the mask has beyond the image: ``background`` (BlitzNet's code), ``unlabelled``, or the first where
            the label space has such a class and the second where it has none (``auto``).
    """

    probability: float = 0.5
    largest: float = 4.0
    fill: Literal['auto', 'background', 'unlabelled'] = 'auto'

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 1 <= self.largest < float('inf'):
            raise ConfigError(
                'zoom_out needs a probability in 0..1 and largest of at least 1; got '
                f'{self.probability} and {self.largest}.'
            )
        if self.fill not in ('auto', 'background', 'unlabelled'):
            raise ConfigError(f'zoom_out.fill: expected auto, background or unlabelled, got {self.fill!r}.')


@dataclass(frozen=True, kw_only=True)
class IoUCropConfig:
    """A part of the image that overlaps one of its objects so much. The defaults are SSD's.

    Attributes:
        overlaps: IoU of the part with an object whose centre it holds, at least; one of these is drawn, and another
            where no part is found. 1 stands for the whole image, and must be among them: it is always found.
        sides: Range of the part's sides over those of the image.
        aspect: Range of its width over its height.
    """

    overlaps: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    sides: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        if not all(0 <= overlap <= 1 for overlap in self.overlaps) or 1 not in self.overlaps:
            raise ConfigError(
                'iou_crop.overlaps: expected IoUs in 0..1 and among them 1, the whole image, which is taken where no '
                f'part is found; got {list(self.overlaps)}.'
            )
        if not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise ConfigError(f'iou_crop.sides must be 0 < low <= high <= 1; got {list(self.sides)}.')
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ConfigError(f'iou_crop.aspect must be 0 < low <= high; got {list(self.aspect)}.')


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """Changes of colour, in one of two random orders. The defaults are SSD's.

    Attributes:
        probability: Of each of the changes.
        brightness, contrast, saturation: Largest change of the factor from 1.
        hue: Largest turn of the colour circle, of which 1 is all.
        swap_channels: Whether the colour channels change places, too.
    """

    probability: float = 0.5
    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05
    swap_channels: bool = False

    def __post_init__(self) -> None:
        for name in ('probability', 'brightness', 'contrast', 'saturation'):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'photometric.{name} must lie in 0..1; got {getattr(self, name)}.')
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f'photometric.hue must lie in 0..0.5; got {self.hue}.')


def class_beyond(config: ZoomOutConfig | None, labels: LabelSpace) -> int:
    """What masks have beyond the image.

    Raises:
        ConfigError: If that is to be the background, and the label space has none.
    """
    if config is None or config.fill == 'unlabelled':
        return UNLABELLED
    names = [label.name for label in labels.segmentation]
    if BACKGROUND in names:
        return names.index(BACKGROUND)
    if config.fill == 'auto':
        return UNLABELLED
    raise ConfigError(
        f'transform.zoom_out.fill: {config.fill}, but no segmentation class of {labels.name} is named {BACKGROUND!r}; '
        'take unlabelled.'
    )


def zoom_out(view: View, config: ZoomOutConfig, generator: torch.Generator) -> View:
    """A view that the given one lies in, or that one itself."""
    with _global_draws(generator):
        if torch.rand(()) >= config.probability:
            return view
        transform = v2.RandomZoomOut(side_range=(1.0, config.largest))
        left, top, right, bottom = transform.make_params([_boxes(torch.zeros(0, 4), view)])['padding']
    return View(view.top - top, view.left - left, view.height + top + bottom, view.width + left + right)


def crop_to_object(sample: Sample, view: View, config: IoUCropConfig, generator: torch.Generator) -> View:
    """A part of a view of a sample, or all of it; without an object the image itself stands for one."""
    objects = sample.boxes
    if objects is None or not len(objects):
        objects = torch.tensor([[0, 0, sample.image.shape[2], sample.image.shape[1]]])
    objects = objects - torch.tensor([view.left, view.top] * 2)
    transform = v2.RandomIoUCrop(*config.sides, *config.aspect, list(config.overlaps))
    with _global_draws(generator):
        part = transform.make_params([_boxes(objects.float(), view)])
    if not part:
        return view
    return View(view.top + part['top'], view.left + part['left'], part['height'], part['width'])


def distort_color(image: Tensor, config: PhotometricConfig, generator: torch.Generator) -> Tensor:
    """An image (3, H, W) uint8 in other colours."""
    transform = v2.RandomPhotometricDistort(
        *((1 - change, 1 + change) for change in (config.brightness, config.contrast, config.saturation)),
        hue=(-config.hue, config.hue),
        p=config.probability,
    )
    with _global_draws(generator):
        choice = transform.make_params([image])
    if not config.swap_channels:
        choice['channel_permutation'] = None
    return transform.transform(image, choice)


def _boxes(boxes: Tensor, view: View) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format='XYXY', canvas_size=(view.height, view.width), clamping_mode=None)


@contextmanager
def _global_draws(generator: torch.Generator) -> Iterator[None]:
    """Torch's global draws on the CPU as the generator seeds them, and their state as before afterwards."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed the GPUs, too
        yield
