"""The encoders, by name. A new one is one file here and one line in ENCODERS; names outside of it are timm's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perception.networks.encoders.adapnet import AdapNet
from perception.networks.encoders.efficientnet_lite import LITE_NORMALIZATION, EfficientNetLite
from perception.networks.encoders.encoder import Encoder, EncoderFeatures, EncoderWidths, Normalization
from perception.networks.encoders.imagenet import load_imagenet_weights
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
        build: Takes the options of ``build_encoder``.
        normalization: Of the weights that it is known with.
    """

    build: Callable[..., Encoder]
    normalization: Normalization


def _lite(width_factor: float, depth_factor: float) -> EncoderEntry:
    return EncoderEntry(
        build=lambda **_: EfficientNetLite(width_factor, depth_factor), normalization=LITE_NORMALIZATION
    )


ENCODERS: dict[str, EncoderEntry] = {
    'adapnet': EncoderEntry(build=AdapNet, normalization=Normalization()),
    'tf_efficientnet_lite0': _lite(1.0, 1.0),
    'tf_efficientnet_lite1': _lite(1.0, 1.1),
    'tf_efficientnet_lite2': _lite(1.1, 1.2),
}


def build_encoder(name: str, **adapnet: Any) -> Encoder:
    """Build an encoder with random weights.

    Args:
        name: A name in ENCODERS, or one of timm's.
        **adapnet: The widths of ``AdapNet``, which no other encoder heeds.

    Raises:
        ConfigError: If neither knows the name, or timm's model has no maps at strides 4, 8 and 16.
        MissingDependencyError: If timm is needed and not installed.
    """
    return ENCODERS[name].build(**adapnet) if name in ENCODERS else TimmEncoder(name)


def normalization_of(name: str) -> Normalization:
    """The normalisation of the images that an encoder's published weights were trained with.

    Raises:
        ConfigError: If nobody knows the name.
        MissingDependencyError: If timm is needed and not installed.
    """
    return ENCODERS[name].normalization if name in ENCODERS else timm_normalization(name)
