"""PairNet and TripleNet: every level of a decoder finds objects and parses the scene, and the two help each other.

Cao, Pang and Li: "Triply supervised decoder networks for joint detection and semantic segmentation". PairNet detects
and classifies pixels at each level. TripleNet adds, each a switch of the configuration: masks out of all levels, fused
(MFS); mask logits that the detector of their level reads (IC); background against any object, in training (CAS);
attention in the fusion of decoder and encoder (ASF). Choices: docs/decisions.md#pairnet-and-triplenet.

Shape letters: B images in a batch, A predictions per image, K detection classes, C segmentation classes, H W rows and
columns of the input, h w of a level. Levels are at strides 8 to 256, finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from perception.boxes import xyxy_to_cxcywh
from perception.errors import ConfigError
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
from perception.networks.predictions import Predictions, assemble_output

FINEST_STRIDE, LEVELS, DOWN_BLOCKS = 8, 6, 3
MATCH_IOU = 0.5  # of sizes, from which a level has an object of scale-specific masks; that of training


@dataclass(frozen=True, kw_only=True)
class TripleNetConfig:
    """Widths and switches; the defaults are the published TripleNet with ResNet-50. Widths are channels.

    Attributes:
        encoder: A name of the encoders that have a map at stride 32.
        down_units: Of each of the three blocks beyond the encoder.
        down_width, width: Of these blocks, and of the decoder's levels; a quarter of it inside a unit.
        attention: ASF: what the decoder has weighs the channels of the encoder's map before the two are fused.
        attention_reduction: How many times narrower it is inside.
        mask_levels: Which levels parse the scene: ``all``, or ``finest`` for the ablation.
        fused_masks: MFS: masks are made out of all levels in place of the finest.
        mask_width: Of each level therein.
        inner_connected: IC: the detector of a level reads its mask logits, too.
        inner_widths: Of the two convolutions in between.
        class_agnostic: CAS: in training, each level also tells background from any object.
        scale_specific: TripleNet-SS: in training, the masks of a level learn only objects that its priors match.
        detector_width: Of the convolution in front of the predictions.
        scales: Sides of the square priors at the first, second and last level, in roots of the image's area.
    """

    encoder: str = 'resnet50'
    down_units: int = 2
    down_width: int = 2048
    width: int = 512
    attention: bool = True
    attention_reduction: int = 16
    mask_levels: Literal['all', 'finest'] = 'all'
    fused_masks: bool = True
    mask_width: int = 64
    inner_connected: bool = True
    inner_widths: tuple[int, ...] = (48, 128)
    class_agnostic: bool = True
    scale_specific: bool = False
    detector_width: int = 256
    scales: tuple[float, ...] = (0.1, 0.2, 0.95)

    def __post_init__(self) -> None:
        check_counts(self)
        check_choices(self, {'mask_levels': ('all', 'finest')})
        check_multiples(self, 4, ('down_width', 'width'))
        check_scales(LEVELS, self.scales)
        if not self.inner_widths:
            raise ConfigError('inner_widths: expected one or more, got none.')
        if self.mask_levels == 'finest' and (self.inner_connected or self.class_agnostic or self.fused_masks):
            raise ConfigError(
                'mask_levels: fused_masks, inner_connected and class_agnostic are of all levels, not finest.'
            )
        if self.scale_specific and not self.fused_masks:
            raise ConfigError('scale_specific: needs fused_masks, which learn all objects; the finest level would not.')


NO_MODULES: dict[str, Any] = dict.fromkeys(('fused_masks', 'inner_connected', 'class_agnostic', 'attention'), False)
TRIPLENET = TripleNetConfig()
PAIRNET = replace(TRIPLENET, **NO_MODULES)

# For CPUs and road scenes, whose objects are small: so are the priors. EfficientNet-Lite0 has 3.0 of 3.9 M parameters.
TRIPLENET_SMALL = TripleNetConfig(
    encoder='tf_efficientnet_lite0',
    down_units=1,
    down_width=128,
    width=80,
    attention_reduction=4,
    mask_width=32,
    inner_widths=(16, 32),
    detector_width=64,
    scales=(0.03, 0.08, 0.95),
)
PAIRNET_SMALL = replace(TRIPLENET_SMALL, **NO_MODULES)


class SkipFusion(nn.Module):
    """A level out of the coarser one and the encoder's map of its size."""

    def __init__(self, skip_width: int, config: TripleNetConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = config.attention
        if config.attention:
            self.project = conv_norm(skip_width, width, 1, activation=nn.ReLU(True))
            self.excite = _excitation(width, max(width // config.attention_reduction, 1))
            skip_width = width
        self.shortcut = conv_norm(width + skip_width, width, 1)
        self.residual = bottleneck(width + skip_width, width // 4, width)

    def forward(self, coarser: Tensor, skip: Tensor) -> Tensor:
        """(B, 512, h / 2, w / 2), sides rounded up, and (B, D, h, w) -> (B, 512, h, w); width as published."""
        upsampled = resize_to(coarser, skip.shape[2:])
        if self.attention:
            skip = self.project(skip) * self.excite(upsampled)
        x = torch.cat((upsampled, skip), dim=1)
        return (self.shortcut(x) + self.residual(x)).relu()


def _excitation(width: int, mid_width: int) -> nn.Sequential:
    """A weight in 0..1 for each channel of a map, (B, width, h, w) -> (B, width, 1, 1); Hu et al.: SENet."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(width, mid_width, 1),
        nn.ReLU(True),
        nn.Conv2d(mid_width, width, 1),
        nn.Sigmoid(),
    )


class Decoder(nn.Module):
    """The way up: what both tasks read at every level."""

    def __init__(self, widths: Sequence[int], config: TripleNetConfig) -> None:
        super().__init__()
        self.top = conv_norm(widths[-1], config.width, 1, activation=nn.ReLU(True))
        self.fuse = nn.ModuleList(SkipFusion(width, config) for width in reversed(widths[:-1]))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the encoder and beyond, finest first -> levels (B, 512, h, w), width as published."""
        levels = [self.top(maps[-1])]
        for fuse, skip in zip(self.fuse, reversed(maps[:-1]), strict=True):
            levels.append(fuse(levels[-1], skip))
        return levels[::-1]


class MaskHead(nn.Module):
    """Mask logits of the levels, of all levels fused, and of background against any object."""

    def __init__(self, classes: int, config: TripleNetConfig) -> None:
        super().__init__()
        width, narrow = config.width, config.mask_width
        self.fused_masks = config.fused_masks
        self.parse = nn.ModuleList(
            nn.Conv2d(width, classes, 3, padding=1) for _ in range(LEVELS if config.mask_levels == 'all' else 1)
        )
        self.separate = nn.ModuleList(
            nn.Conv2d(width, 2, 3, padding=1) for _ in range(LEVELS if config.class_agnostic else 0)
        )
        if config.fused_masks:
            self.narrow = nn.ModuleList(conv_norm(width, narrow, 3, activation=nn.ReLU(True)) for _ in range(LEVELS))
            self.parse_fused = nn.Conv2d(LEVELS * narrow, classes, 3, padding=1)

    def forward(self, levels: Sequence[Tensor], logits: Sequence[Tensor], image_hw: tuple[int, int]) -> Tensor:
        """Levels, and their mask logits -> the logits (B, C, H, W) that the network reports."""
        if not self.fused_masks:
            return resize_to(logits[0], image_hw)
        narrow = [layer(x) for layer, x in zip(self.narrow, levels, strict=True)]
        return resize_to(self.parse_fused(stack_levels(narrow)), image_hw)

    def separate_levels(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Logits of background and any object (B, 2, h, w) of each level; empty without them."""
        return tuple(layer(x) for layer, x in zip(self.separate, levels, strict=False))


class DetectionHead(nn.Module):
    """For each level a convolution, and predictions from it; with the inner connection it reads mask logits, too."""

    def __init__(self, mask_classes: int, classes: int, config: TripleNetConfig) -> None:
        super().__init__()
        in_width, width = config.width, config.detector_width
        self.inner_connected = config.inner_connected
        if config.inner_connected:
            self.connect = nn.ModuleList(_convolutions(mask_classes, config.inner_widths) for _ in range(LEVELS))
            in_width += config.inner_widths[-1]
        self.prepare = nn.ModuleList(_convolutions(in_width, (width,)) for _ in range(LEVELS))
        shapes = prior_shapes(prior_scales(LEVELS, *config.scales))
        self.predict = MultiBoxHead([width] * LEVELS, classes, shapes, kernel=1)

    def forward(self, levels: Sequence[Tensor], logits: Sequence[Tensor], image_hw: tuple[int, int]) -> Predictions:
        """Levels (B, 512, h, w), width as published; their mask logits are read with the connection only."""
        if self.inner_connected:
            joined = zip(levels, self.connect, logits, strict=True)
            levels = [torch.cat((x, connect(masks)), dim=1) for x, connect, masks in joined]
        return self.predict([layer(x) for layer, x in zip(self.prepare, levels, strict=True)], image_hw)


def _convolutions(in_width: int, widths: Sequence[int]) -> nn.Sequential:
    pairs = zip((in_width, *widths), widths, strict=False)
    return nn.Sequential(*(conv_norm(before, after, 3, activation=nn.ReLU(True)) for before, after in pairs))


class TripleNet(PerceptionNetwork):
    """TripleNet or, without its four modules, PairNet; its part ``bottleneck`` goes on downwards from the encoder."""

    family = 'triplenet'
    class_activation = 'softmax'
    suppression = SSD_SUPPRESSION
    config: TripleNetConfig
    encoder: Encoder
    bottleneck: Downscale
    decoder: Decoder
    mask_head: MaskHead
    detection_head: DetectionHead

    def __init__(self, *, name: str, config: TripleNetConfig, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.name, self.config, self.labels, self.input_spec = name, config, labels, input_spec
        self.normalize = InputNormalization(input_spec.mean_rgb, input_spec.std_rgb)
        self.encoder = build_encoder(config.encoder, 32)
        widths = self.encoder.widths.levels(FINEST_STRIDE)
        self.bottleneck = residual_downscale(widths[-1], config.down_width, blocks=DOWN_BLOCKS, units=config.down_units)
        self.decoder = Decoder([*widths, *[config.down_width] * DOWN_BLOCKS], config)
        self.mask_head = MaskHead(len(labels.segmentation), config)
        self.detection_head = DetectionHead(len(labels.segmentation), len(labels.detection), config)
        self.divisor = self.encoder.divisor
        # The finest level is the output itself where none is fused.
        self.auxiliary_weights = (1.0,) * (len(self.mask_head.parse) - (0 if config.fused_masks else 1))
        initialize_he(self)
        self.detection_head.predict.initialize_predictions()

    def prediction_layout(self, image_hw: tuple[int, int]) -> PriorLayout:
        """Prior boxes of all levels for input images of this height and width."""
        return self.detection_head.predict.layout(image_hw, level_sizes(image_hw, stride=FINEST_STRIDE, levels=LEVELS))

    def auxiliary_objects(self, boxes_xyxy: Tensor, image_hw: tuple[int, int]) -> Tensor | None:
        """In TripleNet-SS, which objects (N, 4) the priors of each level match: (N, 6) bool; else None."""
        layout, sizes_wh = self.prediction_layout(image_hw), xyxy_to_cxcywh(boxes_xyxy)[:, 2:]
        return layout.levels_of(sizes_wh, iou=MATCH_IOU) if self.config.scale_specific else None

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) RGB, uint8 or float in 0..255, of any size that the encoder takes.
            segment, detect: If False, what only this task needs is skipped and C or A is 0 in the output.

        Returns:
            Boxes (B, A, 4), objectness (B, A), class logits (B, A, K), mask logits (B, C, H, W); in training also box
            codes (B, A, 4), mask logits of each level that is not the output itself (B, C, h, w) and, with
            class_agnostic, of background and any object (B, 2, h, w).

        Raises:
            ShapeError: If images is not (B, 3, H, W) or a side is not a multiple of the divisor.
        """
        check_images(images, self.divisor)
        image_hw, head = (images.shape[2], images.shape[3]), self.mask_head
        maps = self.encoder(self.normalize(images)).levels(FINEST_STRIDE)
        levels = self.decoder([*maps, *self.bottleneck(maps[-1])])
        logits = [parse(x) for parse, x in zip(head.parse[: self._parsed(segment, detect)], levels, strict=False)]
        return assemble_output(
            self,
            levels[0],
            image_hw,
            self.detection_head(levels, logits, image_hw) if detect else None,
            head(levels, logits, image_hw) if segment else None,
            tuple(logits[0 if self.config.fused_masks else 1 :]) if segment and self.training else (),
            head.separate_levels(levels) if segment and self.training else (),
        )

    def _parsed(self, segment: bool, detect: bool) -> int:
        """How many levels, from the finest on, somebody reads the mask logits of."""
        if (segment and self.training) or (detect and self.config.inner_connected):
            return len(self.mask_head.parse)
        return 1 if segment and not self.config.fused_masks else 0
