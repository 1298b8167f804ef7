"""ImageNet weights of an ordinary ResNet-50 for encoders that are made of the same layers.

Files in torchvision's naming are read (timm's ResNet-50 has the same names). A network takes part by giving its encoder
a method ``imagenet_counterparts()`` that yields its layers with the layers they can start from.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from perception.errors import CheckpointError, ConfigError
from perception.interfaces import PerceptionNetwork

LAYER_TENSORS = ('weight', 'bias', 'running_mean', 'running_var')
WRAPPER_KEYS = ('state_dict', 'model')


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """A layer of an encoder and the layer of torchvision's ResNet-50 that it starts from.

    Attributes:
        name, layer: The encoder's layer, a convolution without bias or a batch norm.
        source: Name of the layer in the ResNet-50.
        first_row, source_rows: For a convolution that is a part of a split one: its first output channel in the source,
            and the output channels of the whole.
    """

    name: str
    layer: nn.Module
    source: str
    first_row: int = 0
    source_rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageNetReport:
    """What ``load_imagenet_weights`` did, as tensor names."""

    copied: tuple[str, ...]
    """Tensors of the encoder that were set."""
    without_counterpart: tuple[str, ...]
    """Tensors of the encoder that kept their initialisation."""
    unused: tuple[str, ...]
    """Tensors of the source that fit nowhere."""


@dataclass(frozen=True, kw_only=True)
class _Copy:
    name: str
    target: Tensor
    source: str
    source_shape: tuple[int, ...]
    rows: slice


def load_imagenet_weights(network: PerceptionNetwork, source: str | Path) -> ImageNetReport:
    """Copy what an ordinary ResNet-50 shares with the network's encoder; all or, on an error, nothing.

    Args:
        network: A network whose encoder has ``imagenet_counterparts()``, in the widths of ResNet-50.
        source: A state dict on disk (.pth, .pt or .safetensors), or ``torchvision`` to download the one that
            torchvision names IMAGENET1K_V1.

    Raises:
        CheckpointError: If the file is missing or unreadable, or does not fit the network.
        ConfigError: If the network takes no such weights.
    """
    counterparts = getattr(network.encoder, 'imagenet_counterparts', None)
    if counterparts is None:
        raise ConfigError(
            f'Network {network.name!r} has no counterpart in ResNet-50; start it without ImageNet weights.'
        )
    weights = read_resnet_weights(source)
    copies = list(_plan(counterparts()))
    for copy in copies:
        _check(copy, weights, source)
    with torch.no_grad():
        for copy in copies:
            copy.target.copy_(weights[copy.source][copy.rows])
    copied = {copy.name for copy in copies}
    own = [name for name in network.encoder.state_dict() if not name.endswith('num_batches_tracked')]
    used = {copy.source for copy in copies}
    return ImageNetReport(
        copied=tuple(name for name in own if name in copied),
        without_counterpart=tuple(name for name in own if name not in copied),
        unused=tuple(name for name in weights if name not in used),
    )


def read_resnet_weights(source: str | Path) -> dict[str, Tensor]:
    """A ResNet-50 state dict from a file, or downloaded on the word ``torchvision``.

    Raises:
        CheckpointError: If it cannot be had or holds no named tensors.
    """
    if source == 'torchvision':
        return _download()
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"ImageNet weights: there is no file {path}. Give a state dict, or 'torchvision'.")
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f'ImageNet weights: {path} is not a readable state dict ({error}).') from error
    for key in WRAPPER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f'ImageNet weights: {path} holds a {type(content).__name__}, not named tensors.')
    return dict(content)


def _download() -> dict[str, Tensor]:
    from torchvision.models import ResNet50_Weights

    try:
        return dict(ResNet50_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'ImageNet weights: torchvision could not download them ({error}). Give the path of a local file instead.'
        ) from error


def _plan(counterparts: Iterator[Counterpart]) -> Iterator[_Copy]:
    for part in counterparts:
        for kind in LAYER_TENSORS:
            target = getattr(part.layer, kind, None)
            if isinstance(target, Tensor):
                rows = target.shape[0]
                yield _Copy(
                    name=f'{part.name}.{kind}',
                    target=target,
                    source=f'{part.source}.{kind}',
                    source_shape=(part.source_rows or rows, *target.shape[1:]),
                    rows=slice(part.first_row, part.first_row + rows),
                )


def _check(copy: _Copy, weights: Mapping[str, Tensor], source: str | Path) -> None:
    if copy.source not in weights:
        raise CheckpointError(
            f'ImageNet weights: {source} has no {copy.source!r}, which {copy.name} starts from. '
            f"Expected a ResNet-50 in torchvision's naming."
        )
    found = tuple(weights[copy.source].shape)
    if found != copy.source_shape:
        raise CheckpointError(
            f'ImageNet weights: {copy.source} in {source} has shape {found}, '
            f'but {copy.name} needs {copy.source_shape}. '
            f'Give a ResNet-50 and a network of its widths.'
        )
