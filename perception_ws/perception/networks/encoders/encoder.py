"""Encoder: the door of everything that turns images into the maps that the rest of a network reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

IMAGENET_MEAN_RGB, IMAGENET_STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class EncoderFeatures(NamedTuple):
    """Activated maps at three strides; the widths are the encoder's."""

    stride4: Tensor
    """(B, D4, H/4, W/4)."""
    stride8: Tensor
    """(B, D8, H/8, W/8)."""
    stride16: Tensor
    """(B, D16, H/16, W/16)."""


class EncoderWidths(NamedTuple):
    """Channels of the maps."""

    stride4: int
    stride8: int
    stride16: int


class Normalization(NamedTuple):
    """What an encoder's weights expect of the colours, in 8-bit units: ``(image - mean) / std``."""

    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN_RGB
    std_rgb: tuple[float, float, float] = IMAGENET_STD_RGB


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A tensor of the encoder, and what it is to start with."""

    name: str
    target: Tensor
    value: Tensor


class WeightSource:
    """Named tensors of a trained classifier, with a record of those that were used.

    Args:
        tensors: Its state dict.
        title: File or package, for error messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], title: str) -> None:
        self.tensors, self.title = tensors, title
        self.used: set[str] = set()


class Encoder(nn.Module):
    """Images to maps at strides 4, 8 and 16.

    Attributes:
        widths: Channels of the maps.
        takes_resnet50: Whether an ordinary ResNet-50's weights fit it.
    """

    widths: EncoderWidths
    takes_resnet50: bool = False

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised, sides multiples of 16 -> EncoderFeatures."""
        raise NotImplementedError

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """Which tensor starts with which values.

        Raises:
            CheckpointError: If the weights are of another architecture.
        """
        raise NotImplementedError
