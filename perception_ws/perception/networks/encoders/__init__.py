"""The encoders, by name. A new one is one file here and one line in ENCODERS; names outside of it are timm's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from perception.errors import ConfigError
from perception.networks.encoders.adapnet import AdapNet
from perception.networks.encoders.efficientnet_lite import LITE_NORMALIZATION, EfficientNetLite
from perception.networks.encoders.encoder import Encoder, EncoderFeatures, EncoderWidths, Normalization
from perception.networks.encoders.imagenet import load_imagenet_weights
from perception.networks.encoders.resnet import ResNet
from perception.networks.encoders.timm_features import TimmEncoder, timm_normalization

__all__ = [
    'ENCODERS',
    'Encoder',
    'EncoderFeatures',
    'EncoderWidths',
    'Normalization',
    'build_encoder',
    'load_imagenet_weights',
    'normalization_of',
]


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """How an encoder is built.

    Attributes:
        build: Takes the output stride, and the widths of ``AdapNet`` as keywords.
        normalization: Of the weights that it is known with.
    """

    build: Callable[..., Encoder]
    normalization: Normalization


def _lite(width_factor: float, depth_factor: float) -> EncoderEntry:
    return EncoderEntry(
        build=lambda output_stride, **_: EfficientNetLite(width_factor, depth_factor, output_stride),
        normalization=LITE_NORMALIZATION,
    )


def _resnet(model: str) -> EncoderEntry:
    return EncoderEntry(build=lambda output_stride, **_: ResNet(model, output_stride), normalization=Normalization())


def _build_adapnet(output_stride: int, **widths: Any) -> AdapNet:
    if output_stride != 16:
        raise ConfigError(
            'encoder: adapnet has maps at strides 4, 8 and 16, and this network reads one at stride '
            f'{output_stride}, too. Take resnet50, resnet101, tf_efficientnet_lite0 or one of timm.'
        )
    return AdapNet(**widths)


ENCODERS: dict[str, EncoderEntry] = {
    'adapnet': EncoderEntry(build=_build_adapnet, normalization=Normalization()),
    'resnet50': _resnet('resnet50'),
    'resnet101': _resnet('resnet101'),
    'tf_efficientnet_lite0': _lite(1.0, 1.0),
    'tf_efficientnet_lite1': _lite(1.0, 1.1),
    'tf_efficientnet_lite2': _lite(1.1, 1.2),
}


def build_encoder(name: str, output_stride: Literal[16, 32] = 16, **adapnet: Any) -> Encoder:
    """Build an encoder with random weights.

    Args:
        name: A name in ENCODERS, or one of timm's.
        output_stride: Of its coarsest map. At 16 an encoder of stride 32 has its last stage dilated instead.
        **adapnet: The widths of ``AdapNet``, which no other encoder heeds.

    Raises:
        ConfigError: If neither knows the name, or it has no map at one of the strides.
        MissingDependencyError: If timm is needed and not installed.
    """
    return ENCODERS[name].build(output_stride, **adapnet) if name in ENCODERS else TimmEncoder(name, output_stride)


def normalization_of(name: str) -> Normalization:
    """The normalisation of the images that an encoder's published weights were trained with.

    Raises:
        ConfigError: If nobody knows the name.
        MissingDependencyError: If timm is needed and not installed.
    """
    return ENCODERS[name].normalization if name in ENCODERS else timm_normalization(name)
