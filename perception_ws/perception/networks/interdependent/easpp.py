"""eASPP, the bottleneck of AdapNet++: parallel cascades of dilated convolutions and the global mean.

Shape letters: B images in a batch, h w rows and columns at stride 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.networks.interdependent.config import InterdependentConfig
from perception.networks.layers import SinglePixelNorm, conv_norm


class Easpp(nn.Module):
    """A plain 1x1, one cascade for each rate, and the global mean; concatenated and fused without a ReLU."""

    def __init__(self, in_width: int, config: InterdependentConfig) -> None:
        super().__init__()
        width = config.bottleneck_width
        self.pointwise = conv_norm(in_width, width, 1, activation=nn.ReLU(True))
        self.cascades = nn.ModuleList(
            _dilated_cascade(in_width, config.bottleneck_mid_width, width, rate) for rate in config.bottleneck_rates
        )
        self.context = GlobalContext(in_width, width)
        self.fuse = conv_norm((2 + len(self.cascades)) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2048, h, w) -> (B, 256, h, w); widths as published."""
        branches = [self.pointwise(x), *(cascade(x) for cascade in self.cascades), self.context(x)]
        return self.fuse(torch.cat(branches, dim=1))


class GlobalContext(nn.Module):
    """Global mean, 1x1, batch norm, ReLU, spread over the map again."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, out_width, 1, bias=False)
        self.norm = SinglePixelNorm(out_width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w), constant over h and w."""
        context = F.relu(self.norm(self.conv(x.mean(dim=(2, 3), keepdim=True))))  # (B, out, 1, 1)
        return context.expand(-1, -1, x.shape[2], x.shape[3])


def _dilated_cascade(in_width: int, mid_width: int, out_width: int, rate: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(in_width, mid_width, 1, activation=nn.ReLU(True)),
        conv_norm(mid_width, mid_width, 3, dilation=rate, activation=nn.ReLU(True)),
        conv_norm(mid_width, mid_width, 3, dilation=rate, activation=nn.ReLU(True)),
        conv_norm(mid_width, out_width, 1, activation=nn.ReLU(True)),
    )
