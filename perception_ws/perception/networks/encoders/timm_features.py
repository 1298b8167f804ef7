"""Any convolutional encoder of timm (Wightman: "PyTorch Image Models") that can be had at output stride 16 or 32.

timm is optional, and nothing is downloaded: weights come from a file (``imagenet_weights`` of a training), which may be
one that timm publishes.

Shape letters: B images in a batch, D channels.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from perception.errors import ConfigError, MissingDependencyError, nearest
from perception.networks.encoders.encoder import (
    STRIDES,
    Copy,
    Encoder,
    EncoderFeatures,
    EncoderWidths,
    Normalization,
    WeightSource,
)
from perception.networks.encoders.named_weights import copies_by_name

if TYPE_CHECKING:
    from types import ModuleType


class TimmEncoder(Encoder):
    """``timm.create_model(name, features_only=True, output_stride=...)``.

    Raises:
        ConfigError: If timm has no model of that name, or none with maps at all strides up to the output's.
        MissingDependencyError: If timm is not installed.
    """

    def __init__(self, name: str, output_stride: int = 16) -> None:
        super().__init__()
        self.name, self.divisor = name, output_stride
        info = self._create().feature_info
        last = {stride: index for index, stride in enumerate(info.reduction())}
        strides = [stride for stride in STRIDES if stride <= output_stride]
        if not set(strides) <= last.keys():
            raise ConfigError(
                f'encoder: {name} of timm has maps at strides {sorted(last)}, but {strides} are read. Take another.'
            )
        # Without what lies behind the last map that is read: it would never learn.
        self.body = self._create(out_indices=tuple(last[stride] for stride in strides))
        self.widths = EncoderWidths(*self.body.feature_info.channels())

    def _create(self, **options: Any) -> Any:
        try:
            create = load_timm(self.name).create_model
            return create(self.name, features_only=True, output_stride=self.divisor, **options)
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError, AttributeError) as error:
            raise ConfigError(
                f'encoder: {self.name} of timm cannot be had at output stride {self.divisor} '
                f'({str(error) or type(error).__name__}). Take another, such as resnet18 or mobilenetv3_large_100.'
            ) from error

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised -> EncoderFeatures."""
        return EncoderFeatures(*self.body(images))

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """By name, as timm's own checkpoints have them."""
        classifier = load_timm(self.name).create_model(self.name).state_dict()
        names = {name: re.sub(r'^([a-z]+)_(\d+)\.', r'\1.\2.', name) for name in self.body.state_dict()}
        names = {name: there for name, there in names.items() if name not in classifier}
        unread = classifier.keys() - {names.get(name, name) for name in self.body.state_dict()}
        for copy in copies_by_name(self.body, source, unread=unread, names=names):
            yield Copy(name=f'body.{copy.name}', target=copy.target, value=copy.value)


def load_timm(name: str) -> ModuleType:
    """timm, once it is sure that it has a model of that name.

    Raises:
        ConfigError: If it has none.
        MissingDependencyError: If timm is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)  # what it says of its own code
            import timm
    except ImportError as error:
        raise MissingDependencyError(
            f'encoder: {name!r} is one of timm, which is not installed: pip install timm. Without it there are '
            'adapnet, resnet50, resnet101 and tf_efficientnet_lite0 to 2.'
        ) from error
    known = timm.list_models()
    if name not in known:
        raise ConfigError(f'encoder: timm {timm.__version__} has no model {name!r}; {nearest(name, known)}')
    return timm


def timm_normalization(name: str) -> Normalization:
    """What the published weights of a model of timm expect."""
    found = load_timm(name).get_pretrained_cfg(name)
    mean, std = found.mean, found.std
    return Normalization(tuple(255 * value for value in mean), tuple(255 * value for value in std))
