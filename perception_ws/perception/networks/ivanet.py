"""IvaNet: detection and segmentation on levels that hear from their next two coarser ones alone.

Huang and Wang: "IvaNet: learning to jointly detect and segment objets with the help of local top-down modules". The
modules are those of the same authors' LTD-SSD. What the paper leaves open: docs/decisions.md#ivanet.

Shape letters: B images in a batch, A predictions per image, K detection classes, C segmentation classes, L levels,
H W rows and columns of the input, h w of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.interfaces import InputSpec, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.networks.configuration import check_choices, check_counts
from perception.networks.downscale import Downscale, plain_downscale
from perception.networks.encoders import Encoder, build_encoder
from perception.networks.encoders.encoder import STRIDES
from perception.networks.layers import (
    InputNormalization,
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


@dataclass(frozen=True, kw_only=True)
class IvaNetConfig:
    """Widths and switches; widths are channels. The defaults are IvaNet300.

    Attributes:
        encoder: ``resnet50`` (published), or any other with a map at stride 32.
        finest_stride: Of the finest level, 8 (published) or 4.
        down_blocks: Levels beyond the encoder, each a 1x1 and a strided 3x3; for 512x512 there are 4.
        down_mid_width, down_width: Behind their 1x1 and their 3x3.
        pooled: Whether the mean of the last of these is one more level, as for 300x300.
        top_down: Whether levels hear anything; without (the paper's IvaNet_NO) each is a 1x1 of its own map.
        top_down_width: Of each of the two maps that a level hears.
        width: Of the levels.
        mask_width: Of the pyramid convolutional module.
        scales: Sides of the square priors of the finest, the second and the coarsest level, in units of the root of the
            image's area.
    """

    encoder: str = 'resnet50'
    finest_stride: Literal[4, 8] = 8
    down_blocks: int = 2
    down_mid_width: int = 256
    down_width: int = 512
    pooled: bool = True
    top_down: bool = True
    top_down_width: int = 128
    width: int = 384
    mask_width: int = 384
    scales: tuple[float, ...] = (0.10, 0.20, 0.95)

    @property
    def levels(self) -> int:
        """L."""
        return sum(stride >= self.finest_stride for stride in STRIDES) + self.down_blocks + self.pooled

    def __post_init__(self) -> None:
        check_counts(self)
        check_choices(self, {'finest_stride': (4, 8)})
        check_scales(self.levels, self.scales)


IVANET512 = IvaNetConfig(down_blocks=4, pooled=False, scales=(0.04, 0.10, 0.95))

# For CPUs: 3.0 of its 3.9 M parameters are EfficientNet-Lite0's. Stride 4 and its scales as in BlitzNet's small preset.
IVANET_SMALL = IvaNetConfig(
    encoder='tf_efficientnet_lite0',
    finest_stride=4,
    down_mid_width=64,
    down_width=128,
    top_down_width=32,
    width=64,
    mask_width=64,
    scales=(0.02, 0.08, 0.95),
)


class LocalTopDown(nn.Module):
    """What a level hears: its next coarser one, and what that hears from its own next.

    Args:
        width, coarser_width: Channels of the level's own map, and of the next.
        inner_width: Of what is heard from each.
        last: Whether nothing lies beyond the next.
    """

    def __init__(self, width: int, coarser_width: int, inner_width: int, *, last: bool) -> None:
        super().__init__()
        self.out_width = inner_width if last else 2 * inner_width
        self.up = nn.ConvTranspose2d(coarser_width, inner_width, 2, 2)
        self.smooth = conv_norm(inner_width, inner_width, 3, activation=nn.ReLU(True))
        if not last:
            self.up_beyond = nn.ConvTranspose2d(inner_width, inner_width, 2, 2)
            self.project = nn.Conv2d(width, inner_width, 1)

    def forward(self, own: Tensor, coarser: Tensor, beyond: Tensor | None) -> list[Tensor]:
        """Map (B, width, h, w), the next (B, coarser_width, h / 2, w / 2), and what the next hears from its own next.

        Sides are rounded up, or those of a mean, 1; where last, ``beyond`` is None. Returns what is heard from each,
        (B, inner_width, h, w).
        """
        # Strided convolutions round up: twice the coarser map has a last row or column too many at most, left out here.
        size = own.shape[2:]
        heard = [self.smooth(resize_to(self.up(coarser), size, 'nearest'))]
        if beyond is not None:
            heard.append(F.relu(resize_to(self.up_beyond(beyond), size, 'nearest') + self.project(own)))
        return heard


class Decoder(nn.Module):
    """All maps, each beside what it hears, as levels of one width."""

    def __init__(self, widths: Sequence[int], config: IvaNetConfig) -> None:
        super().__init__()
        self.pooled = config.pooled
        widths = [*widths, *widths[-1:]] if self.pooled else widths
        pairs = list(pairwise(widths)) if config.top_down else []
        modules = [
            LocalTopDown(*pair, config.top_down_width, last=place == len(pairs)) for place, pair in enumerate(pairs, 1)
        ]
        self.top_down = nn.ModuleList(modules)
        self.join = nn.ModuleList(
            conv_norm(own + heard, config.width, 1, activation=nn.ReLU(True))
            for own, heard in zip_longest(widths, [module.out_width for module in modules], fillvalue=0)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w), finest first -> L levels (B, width, h, w)."""
        if self.pooled:
            maps = [*maps, maps[-1].mean(dim=(2, 3), keepdim=True)]
        heard: list[list[Tensor]] = [[] for _ in maps]
        for place in reversed(range(len(self.top_down))):
            beyond = heard[place + 1][0] if heard[place + 1] else None
            heard[place] = self.top_down[place](maps[place], maps[place + 1], beyond)
        return [join(torch.cat((own, *more), dim=1)) for join, own, more in zip(self.join, maps, heard, strict=True)]


class MaskHead(nn.Module):
    """The pyramid convolutional module, all levels fused by one 3x3, and the prediction of the mask."""

    def __init__(self, classes: int, config: IvaNetConfig) -> None:
        super().__init__()
        self.fuse = conv_norm(config.levels * config.width, config.mask_width, 3, activation=nn.ReLU(True))
        self.classify = nn.Conv2d(config.mask_width, classes, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """L levels (B, width, h, w) -> logits (B, C, H / finest stride, W / finest stride)."""
        return self.classify(self.fuse(stack_levels(levels)))


class IvaNet(PerceptionNetwork):
    """IvaNet; its part ``bottleneck`` is what goes on downwards from the encoder."""

    family = 'ivanet'
    class_activation = 'softmax'
    suppression = replace(SSD_SUPPRESSION, max_detections_per_class=0)
    config: IvaNetConfig
    encoder: Encoder
    bottleneck: Downscale
    decoder: Decoder
    mask_head: MaskHead
    detection_head: MultiBoxHead

    def __init__(self, *, name: str, config: IvaNetConfig, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.name, self.config, self.labels, self.input_spec = name, config, labels, input_spec
        self.normalize = InputNormalization(input_spec.mean_rgb, input_spec.std_rgb)
        self.encoder = build_encoder(config.encoder, 32)
        self.divisor = self.encoder.divisor
        widths, blocks = self.encoder.widths.levels(config.finest_stride), config.down_blocks
        self.bottleneck = plain_downscale(widths[-1], config.down_mid_width, config.down_width, blocks=blocks)
        self.decoder = Decoder([*widths, *[config.down_width] * blocks], config)
        self.mask_head = MaskHead(len(labels.segmentation), config)
        shapes = prior_shapes(prior_scales(config.levels, *config.scales))
        self.detection_head = MultiBoxHead([config.width] * config.levels, len(labels.detection), shapes)
        initialize_he(self)
        self.detection_head.initialize_predictions()

    def prediction_layout(self, image_hw: tuple[int, int]) -> PriorLayout:
        """Prior boxes for input images of this height and width."""
        stride, levels, pooled = self.config.finest_stride, self.config.levels, self.config.pooled
        return self.detection_head.layout(image_hw, level_sizes(image_hw, stride=stride, levels=levels, pooled=pooled))

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) RGB, uint8 or float in 0..255.
            segment, detect: If False, the head is skipped and C or A is 0 in the output.

        Returns:
            Boxes (B, A, 4), objectness (B, A), class logits (B, A, K), mask logits (B, C, H, W); in training also box
            codes (B, A, 4). A is 11,640 for 300x300, 32,766 for 512x512.

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
