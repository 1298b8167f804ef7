"""Blocks that more than one part or network is built from.

Shape letters: B images in a batch, C channels, H W rows and columns.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.errors import ShapeError


class InputNormalization(nn.Module):
    """``(image - mean) / std`` per colour channel, inside the graph, so that backends are fed 8-bit images.

    The buffers are left out of the state dict: the InputSpec that they come from is stored beside the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean_rgb: tuple[float, float, float], std_rgb: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean_rgb).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std_rgb).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in 0..255 -> (B, 3, H, W) in the floating type that the network has."""
        return (images.to(self.mean.dtype) - self.mean) / self.std


class SinglePixelNorm(nn.BatchNorm2d):
    """Batch norm that takes the 1x1 map of a single image: one value has no variance, the running statistics do.

    They are left as they are in that case, also in training; the scale and shift still learn.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


def resize_to(x: Tensor, size_hw: Sequence[int], mode: Literal['bilinear', 'nearest'] = 'bilinear') -> Tensor:
    """(B, C, h, w) -> (B, C, *size_hw), the corners of the two maps, not their first pixels, on each other."""
    # Nearest takes no such choice.
    return F.interpolate(x, tuple(size_hw), mode=mode, align_corners=False if mode == 'bilinear' else None)


def stack_levels(levels: Sequence[Tensor], mode: Literal['bilinear', 'nearest'] = 'bilinear') -> Tensor:
    """Maps (B, C, h, w), finest first -> one of the finest's size with the channels of all."""
    finest = levels[0]
    return torch.cat([finest, *(resize_to(x, finest.shape[2:], mode) for x in levels[1:])], dim=1)


def conv_norm(
    in_width: int,
    out_width: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias that keeps the size (by stride, rounded up), batch norm, and an activation if given."""
    padding = dilation * (kernel - 1) // 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_width, out_width, kernel, stride, padding, dilation, bias=False),
        norm=SinglePixelNorm(out_width),
    )
    if activation is not None:
        layers['activation'] = activation
    return nn.Sequential(layers)


def bottleneck(in_width: int, mid_width: int, out_width: int) -> nn.Sequential:
    """1x1, 3x3, 1x1, each with batch norm, the first two with ReLU: the residual branch of ResNet's units."""
    return nn.Sequential(
        conv_norm(in_width, mid_width, 1, activation=nn.ReLU(True)),
        conv_norm(mid_width, mid_width, 3, activation=nn.ReLU(True)),
        conv_norm(mid_width, out_width, 1),
    )


def deconv_norm(in_width: int, out_width: int, factor: int, *, norm: bool = True) -> nn.Sequential:
    """Transposed convolution that enlarges by an even factor with a kernel of twice that, then batch norm.

    Without the norm, the convolution has a bias instead.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.ConvTranspose2d(in_width, out_width, 2 * factor, factor, padding=factor // 2, bias=not norm)
    )
    if norm:
        layers['norm'] = nn.BatchNorm2d(out_width)
    return nn.Sequential(layers)


def initialize_he(root: nn.Module) -> None:
    """He initialisation: every (transposed) convolution normal with std sqrt(2 / (k * k * inputs)), biases zero."""
    for module in root.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs = math.prod(module.kernel_size) * module.in_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / inputs))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_images(images: Tensor, divisor: int) -> None:
    """Reject batches that the network cannot serve.

    Raises:
        ShapeError: If images is not (B, 3, H, W), or H or W is not a multiple of divisor.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f'Network input has shape {tuple(images.shape)}; give a batch of RGB images (B, 3, H, W).')
    check_divisible((images.shape[2], images.shape[3]), divisor)


def check_divisible(image_hw: tuple[int, int], divisor: int) -> None:
    """Reject sizes that the decoder cannot rebuild.

    Raises:
        ShapeError: If height or width is not a multiple of divisor.
    """
    height, width = image_hw
    if height % divisor or width % divisor:
        padded_h, padded_w = (-(-side // divisor) * divisor for side in image_hw)
        raise ShapeError(
            f'Network input is {height}x{width}; both sides must be multiples of {divisor}. '
            f'Pad or resize it to {padded_h}x{padded_w}.'
        )
