"""BlitzNet (Dvornik et al.: "BlitzNet: a real-time deep network for scene understanding"): one decoder, two tasks.

An encoder goes on downwards, and ResSkip blocks lead up again over skips from every map. Both heads read all levels on
the way up: prior boxes at each, and one mask from all of them together. What the paper leaves open, and where its code
does otherwise: docs/decisions.md#blitznet.

Shape letters: B images in a batch, A predictions per image, K detection classes, C segmentation classes, L levels,
H W rows and columns of the input, h w of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.interfaces import InputSpec, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.networks.configuration import check_choices, check_counts, check_multiples
from perception.networks.downscale import Downscale, residual_downscale
from perception.networks.encoders import Encoder, build_encoder
from perception.networks.layers import (
    InputNormalization,
    bottleneck,
    check_images,
    conv_norm,
    initialize_he,
    resize_to,
    stack_levels,
)
from perception.networks.multibox import (
    SSD_SUPPRESSION,
    MultiBoxHead,
    PriorLayout,
    check_scales,
    level_sizes,
    prior_scales,
    prior_shapes,
)
from perception.networks.predictions import assemble_output

FUSIONS = ('resskip', 'resskip_without_residual', 'hourglass', 'refine')
ENCODER_LEVELS = {4: 4, 8: 3}
"""How many maps of the encoder are read, for the finest stride."""


@dataclass(frozen=True, kw_only=True)
class BlitzNetConfig:
    """Widths and switches; widths are channels. The defaults are BlitzNet300 with stride 4.

    Attributes:
        encoder: ``resnet50`` (published), or any other with a map at stride 32.
        finest_stride: Of the finest level, 4 or 8.
        down_blocks, down_units: Blocks beyond the encoder, and units of each; for 512x512 there are 4 blocks.
        down_width: Of their maps, four times that inside a unit. 2048 is the code's; the paper's text has 512.
        width: Of the levels on the way up.
        fusion: How a level and a skip become one: a row of the paper's table 8.
        mask_width: Of each level's part in the mask.
        mask_resize: How the parts are brought to the finest level's size; the code has ``nearest``.
        scales: Sides of the square priors of the finest, the second and the coarsest level, in units of the root of the
            image's area.
    """

    encoder: str = 'resnet50'
    finest_stride: int = 4
    down_blocks: int = 3
    down_units: int = 2
    down_width: int = 2048
    width: int = 512
    fusion: Literal['resskip', 'resskip_without_residual', 'hourglass', 'refine'] = 'resskip'
    mask_width: int = 64
    mask_resize: Literal['bilinear', 'nearest'] = 'bilinear'
    scales: tuple[float, ...] = (0.04, 0.10, 0.95)

    @property
    def levels(self) -> int:
        """L: all maps but the coarsest, in whose place is a mean of 1x1."""
        return ENCODER_LEVELS[self.finest_stride] + self.down_blocks

    def __post_init__(self) -> None:
        check_counts(self)
        strides = tuple(ENCODER_LEVELS)
        check_choices(self, {'finest_stride': strides, 'fusion': FUSIONS, 'mask_resize': ('bilinear', 'nearest')})
        check_multiples(self, 4, ('down_width', 'width'))
        check_scales(self.levels, self.scales)


BLITZNET512 = BlitzNetConfig(finest_stride=8, down_blocks=4)

# For CPUs: 3.0 of its 3.8 M parameters are EfficientNet-Lite0's. Stride 4 and the small scales of the published network
# for 512x512 at that stride, since half of the pedestrians of a road scene are less than a dozen pixels wide.
BLITZNET_SMALL = BlitzNetConfig(
    encoder='tf_efficientnet_lite0', down_width=256, down_units=1, width=128, mask_width=32, scales=(0.02, 0.08, 0.95)
)


class Fusion(nn.Module):
    """A coarser map and a skip become a level of the skip's size, by ResSkip or another block of table 8."""

    def __init__(self, in_width: int, skip_width: int, config: BlitzNetConfig) -> None:
        super().__init__()
        width, mid_width = config.width, config.width // 4
        self.kind = config.fusion
        self.project = conv_norm(in_width, width, 1) if in_width != width else nn.Identity()
        if self.kind == 'hourglass':
            self.branch = bottleneck(skip_width, mid_width, width)
        elif self.kind == 'refine':
            self.lateral = conv_norm(skip_width, mid_width, 3, activation=nn.ReLU(True))
            self.branch = conv_norm(width + mid_width, width, 3)
        else:
            self.branch = bottleneck(in_width + skip_width, mid_width, width)

    def forward(self, coarser: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in, h / 2, w / 2) and (B, skip, h, w) -> level and shortcut, each (B, width, h, w)."""
        upsampled = resize_to(coarser, skip.shape[2:])
        shortcut = self.project(upsampled)
        if self.kind == 'hourglass':
            return F.relu(shortcut + self.branch(skip)), shortcut
        if self.kind == 'refine':
            return F.relu(self.branch(torch.cat((shortcut, self.lateral(skip)), dim=1))), shortcut
        branch = self.branch(torch.cat((upsampled, skip), dim=1))
        return F.relu(shortcut + branch if self.kind == 'resskip' else branch), shortcut


class Decoder(nn.ModuleList):
    """The way up: a fusion for each map but the coarsest, which is the first to be fused."""

    def __init__(self, widths: Sequence[int], config: BlitzNetConfig) -> None:
        in_widths = [widths[-1], *[config.width] * (len(widths) - 2)]
        skips = reversed(widths[:-1])
        super().__init__(Fusion(before, skip, config) for before, skip in zip(in_widths, skips, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps, finest first -> L levels (B, width, h, w), the last one (B, width, 1, 1)."""
        levels, shortcuts = [maps[-1]], []
        for fusion, skip in zip(self, reversed(maps[:-1]), strict=True):
            level, shortcut = fusion(levels[-1], skip)
            levels.append(level)
            shortcuts.append(shortcut)
        return [*reversed(levels[1:]), shortcuts[0].mean(dim=(2, 3), keepdim=True)]


class MaskHead(nn.Module):
    """Each level narrowed, brought to the finest one's size, and all classified together."""

    def __init__(self, classes: int, config: BlitzNetConfig) -> None:
        super().__init__()
        self.resize = config.mask_resize
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(config.width, config.mask_width, 1), nn.ReLU(True)) for _ in range(config.levels)
        )
        self.classify = nn.Conv2d(config.levels * config.mask_width, classes, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """L levels (B, width, h, w) -> logits (B, C, H / finest stride, W / finest stride)."""
        parts = [narrow(x) for narrow, x in zip(self.narrow, levels, strict=True)]
        return self.classify(stack_levels(parts, self.resize))


class BlitzNet(PerceptionNetwork):
    """BlitzNet; its part ``bottleneck`` is what goes on downwards from the encoder."""

    family = 'blitznet'
    class_activation = 'softmax'
    suppression = SSD_SUPPRESSION
    config: BlitzNetConfig
    encoder: Encoder
    bottleneck: Downscale
    decoder: Decoder
    mask_head: MaskHead
    detection_head: MultiBoxHead

    def __init__(self, *, name: str, config: BlitzNetConfig, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.name, self.config, self.labels, self.input_spec = name, config, labels, input_spec
        self.normalize = InputNormalization(input_spec.mean_rgb, input_spec.std_rgb)
        self.encoder = build_encoder(config.encoder, 32)
        self.divisor = self.encoder.divisor
        widths, blocks = self.encoder.widths.levels(config.finest_stride), config.down_blocks
        self.bottleneck = residual_downscale(widths[-1], config.down_width, blocks=blocks, units=config.down_units)
        self.decoder = Decoder([*widths, *[config.down_width] * blocks], config)
        self.mask_head = MaskHead(len(labels.segmentation), config)
        shapes = prior_shapes(prior_scales(config.levels, *config.scales))
        self.detection_head = MultiBoxHead([config.width] * config.levels, len(labels.detection), shapes)
        initialize_he(self)
        self.detection_head.initialize_predictions()

    def prediction_layout(self, image_hw: tuple[int, int]) -> PriorLayout:
        """Prior boxes for input images of this height and width."""
        stride, levels = self.config.finest_stride, self.config.levels
        return self.detection_head.layout(image_hw, level_sizes(image_hw, stride=stride, levels=levels, pooled=True))

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) RGB, uint8 or float in 0..255.
            segment, detect: If False, the head is skipped and C or A is 0 in the output.

        Returns:
            Boxes (B, A, 4), objectness (B, A), class logits (B, A, K), mask logits (B, C, H, W); in training also box
            codes (B, A, 4). A is 45,390 for 300x300 with stride 4, 32,766 for 512x512 with stride 8.

        Raises:
            ShapeError: If images is not (B, 3, H, W) or the encoder does not take such a side.
        """
        check_images(images, self.divisor)
        image_hw = (images.shape[2], images.shape[3])
        maps = self.encoder(self.normalize(images)).levels(self.config.finest_stride)
        levels = self.decoder([*maps, *self.bottleneck(maps[-1])])
        predictions = self.detection_head(levels, image_hw) if detect else None
        mask_logits = resize_to(self.mask_head(levels), image_hw) if segment else None
        return assemble_output(self, levels[0], image_hw, predictions, mask_logits)
