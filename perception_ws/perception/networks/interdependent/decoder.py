"""Segmentation decoder of AdapNet++ in two parts: the maps that both tasks read, and the layers for masks alone.

Shape letters: B images in a batch, C segmentation classes, H W rows and columns of the input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception.networks.encoders import EncoderFeatures, EncoderWidths
from perception.networks.interdependent.config import InterdependentConfig
from perception.networks.layers import conv_norm, deconv_norm


class PyramidLevels(NamedTuple):
    """One map at each of the two strides of the decoder."""

    stride4: Tensor
    stride8: Tensor


class DecoderMaps(NamedTuple):
    """What the decoder hands on."""

    upsampled: PyramidLevels
    """(B, 256, H/4, W/4) and (B, 256, H/8, W/8): under the auxiliary supervision."""
    joined: PyramidLevels
    """The same with the refined skips, 280 channels each."""


class Decoder(nn.Module):
    """Refined skips and the two upsampled maps: what masks and, in the published network, boxes are made from."""

    def __init__(self, encoder: EncoderWidths, config: InterdependentConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.skip_stride4 = conv_norm(encoder.stride4, config.skip_width, 1)
        self.skip_stride8 = conv_norm(encoder.stride8, config.skip_width, 1)
        self.up_stride8 = deconv_norm(config.bottleneck_width, width, 2)
        self.stage_stride8 = _two_convolutions(width + config.skip_width, width)
        self.up_stride4 = deconv_norm(width, width, 2)

    def refine_skips(self, features: EncoderFeatures) -> PyramidLevels:
        """Block ends to (B, 24, H/4, W/4) and (B, 24, H/8, W/8); widths as published."""
        return PyramidLevels(self.skip_stride4(features.stride4), self.skip_stride8(features.stride8))

    def forward(self, bottleneck: Tensor, skips: PyramidLevels) -> DecoderMaps:
        """Bottleneck (B, 256, H/16, W/16) and skips -> DecoderMaps; widths as published."""
        up8 = self.up_stride8(bottleneck)
        joined8 = torch.cat((up8, skips.stride8), dim=1)
        up4 = self.up_stride4(self.stage_stride8(joined8))
        joined4 = torch.cat((up4, skips.stride4), dim=1)
        return DecoderMaps(PyramidLevels(up4, up8), PyramidLevels(joined4, joined8))


class MaskHead(nn.Module):
    """The layers for masks alone: stride-4 stage, class map, last deconvolution and, in training, auxiliary logits."""

    def __init__(self, classes: int, config: InterdependentConfig) -> None:
        super().__init__()
        width, norm = config.decoder_width, config.norm_on_logits
        map_width = config.class_map_width or classes
        self.stage_stride4 = _two_convolutions(width + config.skip_width, width)
        # A map wider than the classes holds features, not logits, and keeps its norm.
        self.class_map = _pointwise(width, map_width, norm=norm or map_width != classes)
        self.class_map.append(nn.ReLU(True))  # as the published code does, odd as it is for logits
        self.up_stride1 = deconv_norm(map_width, classes, 4, norm=norm)
        self.auxiliary_stride4 = _pointwise(width, classes, norm=norm)
        self.auxiliary_stride8 = _pointwise(width, classes, norm=norm)

    def forward(self, stride4: Tensor) -> Tensor:
        """Upsampled map and skip, (B, 280, H/4, W/4) as published -> mask logits (B, C, H, W)."""
        return self.up_stride1(self.class_map(self.stage_stride4(stride4)))

    def auxiliary_logits(self, upsampled: PyramidLevels) -> tuple[Tensor, Tensor]:
        """Logits straight from the upsampled maps, (B, C, H/4, W/4) and (B, C, H/8, W/8)."""
        return self.auxiliary_stride4(upsampled.stride4), self.auxiliary_stride8(upsampled.stride8)


def _two_convolutions(in_width: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(in_width, width, 3, activation=nn.ReLU(True)),
        conv_norm(width, width, 3, activation=nn.ReLU(True)),
    )


def _pointwise(in_width: int, out_width: int, *, norm: bool) -> nn.Sequential:
    return conv_norm(in_width, out_width, 1) if norm else nn.Sequential(nn.Conv2d(in_width, out_width, 1))
