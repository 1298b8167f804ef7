"""Configuration of the interdependent network, and its small preset.

The defaults are the published network: 37,892,870 trainable parameters with 11 segmentation and 3 detection classes.
Which readings of the paper they are: docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from perception.errors import ConfigError
from perception.networks.configuration import check_choices, check_counts


@dataclass(frozen=True, kw_only=True)
class InterdependentConfig:
    """Widths, depths and switches. Widths are channels.

    Attributes:
        encoder: ``adapnet`` (published), ``resnet50``, ``resnet101``, ``tf_efficientnet_lite0``, ``1`` or ``2``, or the
            name of a model of timm.
        stem_width: Output of AdapNet's 7x7 stem; the fields from here to encoder_dropout are its alone.
        input_norm: The published code learns a normalisation of the colours on top of the fixed one.
        block_widths, block_mid_widths: Output and inner width of the four encoder blocks (strides 4, 8, 16, 16).
        unit_dilations: For each block, for each of its units, the dilations of its 3x3. One dilation is a plain unit; a
            pair is a multiscale unit, whose 3x3 is split into convolutions with half of the channels each.
        encoder_dropout: Applied once, to the last unit's residual branch.
        bottleneck_width, bottleneck_mid_width, bottleneck_rates: eASPP branches.
        decoder_width, skip_width: Decoder maps, and encoder maps refined for them.
        class_map_width: Channels that enter the last deconvolution; 0 (published): one per class.
        norm_on_logits: The published code ends every logit layer with batch norm; without, they have a bias.
        detector_features: ``decoder`` (published) or, for the ablation, ``encoder``: the block ends in place of the
            upsampled maps beside the same refined skips.
        detector_strides: Where the detector reads these features: (4,), or (4, 8).
        detector_widths: 3x3/2 to stride 8, 1x1, 3x3/2 to stride 16. The trident's width is the last plus the
            bottleneck's.
        trident_units, trident_mid_width, trident_dilations: Residual units; one branch for each dilation.
        detector_dropout: In front of the trident.
        centre_reach: Width in cells of the square that a predicted centre may lie in; 1 is its own cell (YOLOv2).
        anchors_wh: Anchor sizes in input pixels by growing area, an equal share for each branch. The default suits
            768x384 road scenes; training clusters its own from the data.
        removed: Fields that there were, as ``override_config`` takes them: older checkpoints name them.
    """

    removed: ClassVar[Mapping[str, object]] = {
        'dropout_kind': 'element',
        'relu_on_class_map': True,
        'share_heads': False,
    }

    encoder: str = 'adapnet'
    stem_width: int = 64
    input_norm: bool = True
    block_widths: tuple[int, ...] = (256, 512, 1024, 2048)
    block_mid_widths: tuple[int, ...] = (64, 128, 256, 512)
    # The published code has rate 2 throughout; why these: docs/decisions.md#the-encoder.
    unit_dilations: tuple[tuple[tuple[int, ...], ...], ...] = (
        ((1,), (1,), (1,)),
        ((1,), (1,), (1,), (1, 2)),
        ((1,), (1,), (1, 2), (1, 16), (1, 8), (1, 4)),
        ((2, 4), (2, 8), (2, 16)),
    )
    encoder_dropout: float = 0.5

    bottleneck_width: int = 256
    bottleneck_mid_width: int = 64
    bottleneck_rates: tuple[int, ...] = (3, 6, 12)

    decoder_width: int = 256
    skip_width: int = 24
    class_map_width: int = 0
    norm_on_logits: bool = True

    detector_features: Literal['decoder', 'encoder'] = 'decoder'
    detector_strides: tuple[int, ...] = (4,)
    detector_widths: tuple[int, ...] = (256, 512, 768)
    trident_units: int = 3
    trident_mid_width: int = 256
    trident_dilations: tuple[int, ...] = (1, 2, 3)
    detector_dropout: float = 0.5
    centre_reach: float = 1.0
    anchors_wh: tuple[tuple[float, float], ...] = (
        (5.0, 12.0), (12.0, 9.0), (9.0, 26.0),
        (22.0, 16.0), (17.0, 46.0), (38.0, 26.0),
        (66.0, 46.0), (35.0, 90.0), (130.0, 90.0),
    )  # fmt: skip

    @property
    def anchors_per_branch(self) -> int:
        """Anchors at each cell of each branch."""
        return len(self.anchors_wh) // len(self.trident_dilations)

    def __post_init__(self) -> None:
        check_counts(self, zero=('class_map_width', 'trident_units'))
        _check_encoder(self)
        _check_choices(self)
        _check_anchors(self.anchors_wh, len(self.trident_dilations))


def _check_encoder(config: InterdependentConfig) -> None:
    for key in ('block_widths', 'block_mid_widths', 'unit_dilations'):
        if len(getattr(config, key)) != 4:
            raise ConfigError(f'{key}: the encoder has 4 blocks, got {len(getattr(config, key))} entries.')
    for mid_width, units in zip(config.block_mid_widths, config.unit_dilations, strict=True):
        if not units or any(not dilations or mid_width % len(dilations) for dilations in units):
            raise ConfigError(
                f'unit_dilations: every block needs units, and the dilations of a unit must split its '
                f'{mid_width} channels evenly; got {units}.'
            )


def _check_choices(config: InterdependentConfig) -> None:
    check_choices(config, {'detector_features': ('decoder', 'encoder'), 'detector_strides': ((4,), (4, 8))})
    for key in ('encoder_dropout', 'detector_dropout'):
        if not 0 <= getattr(config, key) < 1:
            raise ConfigError(f'{key}: expected a probability in [0, 1), got {getattr(config, key)}.')
    if not 1 <= config.centre_reach <= 3:
        raise ConfigError(f'centre_reach: expected 1 to 3 cells, got {config.centre_reach}.')
    if len(config.detector_widths) != 3:
        raise ConfigError(f'detector_widths: expected 3 widths, got {config.detector_widths}.')


def _check_anchors(anchors_wh: tuple[tuple[float, float], ...], branches: int) -> None:
    if branches == 0 or not anchors_wh or len(anchors_wh) % branches:
        raise ConfigError(f'anchors_wh: {len(anchors_wh)} anchors cannot be shared evenly by {branches} branches.')
    if any(len(pair) != 2 or min(pair) <= 0 for pair in anchors_wh):
        raise ConfigError(f'anchors_wh: expected pairs of positive width and height in pixels, got {anchors_wh}.')
    areas = [width * height for width, height in anchors_wh]
    if areas != sorted(areas):
        raise ConfigError('anchors_wh: sort the anchors by area; the first share belongs to the smallest dilation.')


# For CPUs and for training from scratch on a few hundred images: the same code at 1/14 of the parameters (2.66 M) and
# 1/12 of the work (7.9 GMAC at 384x768). What it keeps and why:
# - All depths and dilations: context is cheap at stride 16, where a unit costs 0.14 to 0.25 GMAC.
# - 64 channels at stride 4 in encoder and decoder: poles, signs and pedestrians are two to four pixels wide and live
#   only there, so two fifths of the work are spent at that stride.
# - A class map of 32 features instead of one per class: the last deconvolution then places edges between the cells of
#   stride 4 rather than interpolating finished logits. It is rectified like any feature map.
# - Logits without batch norm: a rare class's statistics swing with the few images of a small batch.
# - No learned normalisation of the colours: it costs a pass over the whole image, and its gradient one more through
#   the stem, a twelfth of a training step.
# - Dropout 0.1: there is little capacity to regularise.
INTERDEPENDENT_SMALL = InterdependentConfig(
    stem_width=32,
    input_norm=False,
    block_widths=(64, 128, 192, 256),
    block_mid_widths=(32, 64, 96, 128),
    encoder_dropout=0.1,
    bottleneck_width=128,
    bottleneck_mid_width=32,
    decoder_width=64,
    class_map_width=32,
    norm_on_logits=False,
    detector_widths=(64, 96, 128),
    trident_units=2,
    trident_mid_width=64,
    detector_dropout=0.1,
)

# For pre-trained weights on CPUs: 3.0 of the 4.0 M parameters are EfficientNet-Lite0's. The rest is as in the small
# preset; besides, the detector reads the decoder at both strides, and the centre of a box may leave its cell, so that
# neighbours learn it, too.
INTERDEPENDENT_LITE = InterdependentConfig(
    encoder='tf_efficientnet_lite0',
    bottleneck_width=128,
    bottleneck_mid_width=48,
    decoder_width=64,
    class_map_width=32,
    norm_on_logits=False,
    detector_strides=(4, 8),
    detector_widths=(64, 96, 128),
    trident_units=2,
    trident_mid_width=64,
    detector_dropout=0.1,
    centre_reach=2.0,
)
