"""Encoder: the door of everything that turns images into the maps that the rest of a network reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

IMAGENET_MEAN_RGB, IMAGENET_STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


STRIDES = (4, 8, 16, 32)
"""Of the maps that an encoder may have; at output stride 16 the last one is missing."""


class EncoderFeatures(NamedTuple):
    """Activated maps at three strides, or at four; the widths are the encoder's, and sides are rounded up."""

    stride4: Tensor
    """(B, D4, H/4, W/4)."""
    stride8: Tensor
    """(B, D8, H/8, W/8)."""
    stride16: Tensor
    """(B, D16, H/16, W/16)."""
    stride32: Tensor | None = None
    """(B, D32, H/32, W/32) at output stride 32."""

    def levels(self, finest: int = 4) -> list[Tensor]:
        """The maps from a stride on, finest first."""
        return [x for stride, x in zip(STRIDES, self, strict=True) if stride >= finest and x is not None]


class EncoderWidths(NamedTuple):
    """Channels of the maps."""

    stride4: int
    stride8: int
    stride16: int
    stride32: int | None = None

    def levels(self, finest: int = 4) -> list[int]:
        """Those of the maps from a stride on, finest first."""
        return [width for stride, width in zip(STRIDES, self, strict=True) if stride >= finest and width is not None]


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
    """Images to maps at strides 4, 8 and 16 and, at output stride 32, at that one.

    Attributes:
        widths: Channels of the maps.
        divisor: Of sides that it divides, the maps' sides are known: side / stride, rounded up.
        torchvision_model: The classifier of torchvision whose weights fit it; empty: none.
    """

    widths: EncoderWidths
    divisor: int = 32
    torchvision_model: str = ''

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised, sides multiples of the divisor -> EncoderFeatures."""
        raise NotImplementedError

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """Which tensor starts with which values.

        Raises:
            CheckpointError: If the weights are of another architecture.
        """
        raise NotImplementedError
