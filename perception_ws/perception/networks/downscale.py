"""The maps beyond an encoder's last: what the SSD line looks for large objects in.

Each block halves the map before it, rounded up. BlitzNet (Dvornik et al.) and its successors go on with the encoder's
bottleneck units, IvaNet with two convolutions, as SSD does.

Shape letters: B images in a batch, C channels, h w rows and columns of a level.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from perception.networks.layers import SinglePixelNorm, conv_norm


class Downscale(nn.ModuleList):
    """Blocks that go on from the coarsest map, each from the one before.

    Attributes:
        width: Channels of all its maps.
    """

    def __init__(self, blocks: Iterable[nn.Module], width: int) -> None:
        super().__init__(blocks)
        self.width = width

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        """(B, C, h, w) -> for each block (B, width, h / 2, w / 2) and so on, finest first."""
        levels = [coarsest]
        for block in self:
            levels.append(block(levels[-1]))
        return levels[1:]


def residual_downscale(in_width: int, width: int, *, blocks: int, units: int = 2) -> Downscale:
    """Blocks of ResNet's bottleneck units, a quarter as wide inside; the first unit of each has a stride of 2.

    The shortcut of that unit is every other pixel of its input, projected where the width changes.

    Args:
        in_width: Channels of the encoder's coarsest map.
        width: A multiple of 4.
        blocks, units: How many blocks, of how many units each.
    """
    widths = [in_width, *[width] * blocks]
    return Downscale((_residual_block(before, width, units) for before in widths[:-1]), width)


def _residual_block(in_width: int, width: int, units: int) -> nn.Sequential:
    shortcut = nn.MaxPool2d(1, stride=2) if in_width == width else conv_norm(in_width, width, 1, stride=2)
    first = Bottleneck(in_width, width // 4, stride=2, downsample=shortcut, norm_layer=SinglePixelNorm)
    return nn.Sequential(first, *(Bottleneck(width, width // 4, norm_layer=SinglePixelNorm) for _ in range(units - 1)))


def plain_downscale(in_width: int, mid_width: int, width: int, *, blocks: int) -> Downscale:
    """Blocks of a 1x1 and a 3x3 of stride 2, each with batch norm and ReLU.

    Args:
        in_width: Channels of the encoder's coarsest map.
        mid_width, width: Behind the 1x1, and behind the 3x3.
        blocks: How many.
    """
    widths = [in_width, *[width] * blocks]
    return Downscale((_plain_block(before, mid_width, width) for before in widths[:-1]), width)


def _plain_block(in_width: int, mid_width: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(in_width, mid_width, 1, activation=nn.ReLU(True)),
        conv_norm(mid_width, width, 3, stride=2, activation=nn.ReLU(True)),
    )
