"""Detection head: fast downsampling to stride 16, a trident of weight-sharing branches, YOLO-coded predictions.

The branches differ in dilation only (Li et al.: "Scale-aware trident networks for object detection"), so each sees
objects of its own size range and owns an equal share of the anchors. They are stacked along the batch axis: the 1x1
layers and the norms then run once, with joint statistics, and just the 3x3 runs once per dilation, on one weight.
All branches also run in evaluation, since each predicts for its own anchors. Choices: docs/decisions.md#the-detector.

Shape letters: B images in a batch, A predictions per image, K detection classes, T branches, P anchors per branch,
h w rows and columns at stride 16. The order of the A predictions is that of networks/anchors.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.boxes import decode_yolo
from perception.networks.anchors import PredictionGrid, prediction_grid
from perception.networks.interdependent.config import InterdependentConfig
from perception.networks.interdependent.decoder import PyramidLevels
from perception.networks.layers import conv_norm
from perception.networks.predictions import Predictions

LEAKY_SLOPE = 0.1
OBJECT_PRIOR = 0.01
PREDICTION_STD = 0.01


class TridentUnit(nn.Module):
    """Residual unit 1x1, 3x3, 1x1 whose one 3x3 weight acts with another dilation on each branch."""

    def __init__(self, width: int, mid_width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.reduce = conv_norm(width, mid_width, 1, activation=_leaky())
        self.spatial = nn.Conv2d(mid_width, mid_width, 3, bias=False)
        self.spatial_norm = nn.Sequential(nn.BatchNorm2d(mid_width), _leaky())
        self.expand = conv_norm(mid_width, width, 1)
        self.activation = _leaky()

    def forward(self, x: Tensor) -> Tensor:
        """(T * B, C, h, w), branch-major -> the same shape."""
        branches = split_branches(self.reduce(x), len(self.dilations))  # T of (B, mid, h, w)
        spatial = [
            F.conv2d(branch, self.spatial.weight, padding=rate, dilation=rate)
            for branch, rate in zip(branches, self.dilations, strict=True)
        ]
        return self.activation(x + self.expand(self.spatial_norm(torch.cat(spatial))))


class PyramidWidths(NamedTuple):
    """Channels of the maps that the head reads."""

    stride4: int
    stride8: int


class DetectionHead(nn.Module):
    """Downsampling, trident and prediction layers.

    Attributes:
        stride: Input pixels per cell.
        anchors_wh: (T * P, 2) in input pixels, branch by branch; not in the state dict, since the configuration has it.
    """

    stride = 16
    anchors_wh: Tensor

    def __init__(self, in_widths: PyramidWidths, classes: int, config: InterdependentConfig) -> None:
        super().__init__()
        down_width, mix_width, out_width = config.detector_widths
        trident_width = out_width + config.bottleneck_width
        self.branches = len(config.trident_dilations)
        self.anchors_per_branch = config.anchors_per_branch
        self.centre_reach = config.centre_reach
        self.reads_stride8 = 8 in config.detector_strides
        self.down_stride8 = conv_norm(in_widths.stride4, down_width, 3, stride=2, activation=_leaky())
        mix_input = down_width + (in_widths.stride8 if self.reads_stride8 else 0)
        self.mix = conv_norm(mix_input, mix_width, 1, activation=_leaky())
        self.down_stride16 = conv_norm(mix_width, out_width, 3, stride=2, activation=_leaky())
        self.dropout = nn.Dropout(config.detector_dropout)
        self.trident = nn.Sequential(
            *(
                TridentUnit(trident_width, config.trident_mid_width, config.trident_dilations)
                for _ in range(config.trident_units)
            )
        )
        channels = self.anchors_per_branch * (4 + 1 + classes)
        self.predict = nn.ModuleList(nn.Conv2d(trident_width, channels, 1) for _ in range(self.branches))
        self.register_buffer('anchors_wh', torch.tensor(config.anchors_wh), persistent=False)

    def initialize_predictions(self) -> None:
        """Start at objectness 0.01 everywhere: small weights, so that no prediction leaves its bias before training."""
        for layer in self.predict:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=PREDICTION_STD)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.bias.view(self.anchors_per_branch, -1)[:, 4] = -math.log(1 / OBJECT_PRIOR - 1)

    def forward(self, levels: PyramidLevels, bottleneck: Tensor) -> Predictions:
        """Maps at strides 4 and 8 (B, 280, ...) and the bottleneck (B, 256, h, w), widths as published."""
        x = self.down_stride8(levels.stride4)
        if self.reads_stride8:
            x = torch.cat((x, levels.stride8), dim=1)
        x = self.down_stride16(self.mix(x))
        x = self.dropout(torch.cat((x, bottleneck), dim=1))  # (B, 1024, h, w) as published
        # cat rather than repeat, which would lose the channels-last layout.
        x = self.trident(torch.cat([x] * self.branches))
        branches = split_branches(x, self.branches)  # T of (B, 1024, h, w)
        rows = [self._rows(layer(branch)) for layer, branch in zip(self.predict, branches, strict=True)]
        predictions = torch.cat(rows, dim=1)  # (B, A, 4 + 1 + K)
        codes = predictions[..., :4]
        boxes = self.decode(codes, (bottleneck.shape[2], bottleneck.shape[3]))
        return Predictions(boxes, predictions[..., 4], predictions[..., 5:], codes)

    def _rows(self, branch_map: Tensor) -> Tensor:
        """(B, P * (5 + K), h, w) -> (B, h * w * P, 5 + K)."""
        return branch_map.permute(0, 2, 3, 1).unflatten(3, (self.anchors_per_branch, -1)).flatten(1, 3)

    def prediction_grid(self, feature_hw: tuple[int, int]) -> PredictionGrid:
        """Cell and anchor of every prediction for a feature map of this size, on the anchors' device."""
        return prediction_grid(
            feature_hw,
            branches=self.branches,
            anchors_per_branch=self.anchors_per_branch,
            device=self.anchors_wh.device,
        )

    def decode(self, box_codes: Tensor, feature_hw: tuple[int, int]) -> Tensor:
        """Raw codes (B, A, 4) to boxes (B, A, 4), xyxy in input pixels, float32."""
        grid = self.prediction_grid(feature_hw)
        anchors_wh = self.anchors_wh[grid.anchor]
        return decode_yolo(box_codes, grid.cells_xy, anchors_wh, self.stride, centre_reach=self.centre_reach)


def split_branches(x: Tensor, branches: int) -> tuple[Tensor, ...]:
    """(T * B, C, h, w), branch-major -> T of (B, C, h, w)."""
    # chunk() would do, but an exported graph with a free batch size does not follow its rounding.
    return x.unflatten(0, (branches, -1)).unbind(0)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
