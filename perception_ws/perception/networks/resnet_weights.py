"""ImageNet weights of an ordinary ResNet-50 for encoders that are made of the same layers.

Files in torchvision's naming are read (timm's ResNet-50 has the same names). A network takes part by giving its encoder
a method ``imagenet_counterparts()`` that yields its layers with the layers they can start from. Where norms stand
otherwise than in ResNet-50, as in units of pre-activation, they are folded: docs/decisions.md#imagenet-weights.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from perception.errors import CheckpointError, ConfigError
from perception.interfaces import PerceptionNetwork

SOURCE_EPS = 1e-5
"""Of ResNet-50's batch norms; a state dict does not tell."""
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
        folded_norm: Name of the norm behind a convolution of the source, where the encoder has none: its scale goes
            into the weights, its shift into a ``SummedNorms``.
    """

    name: str
    layer: nn.Module
    source: str
    first_row: int = 0
    source_rows: int | None = None
    folded_norm: str = ''


@dataclass(frozen=True, kw_only=True)
class SummedNorms:
    """A norm of an encoder that reads a sum, each part of which has a norm of its own in ResNet-50.

    Their scales are in the convolutions (``Counterpart.folded_norm``), so what is left of them is their shifts. In
    evaluation the norm adds just these; in training it does so about, as a batch's statistics stand in for its own.

    Attributes:
        name, layer: The encoder's batch norm.
        sources: Names of the norms in the ResNet-50.
    """

    name: str
    layer: nn.BatchNorm2d
    sources: tuple[str, ...]


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
    value: Tensor


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
    resnet = _ResNet(read_resnet_weights(source), str(source))
    copies = list(_plan(counterparts(), resnet))
    with torch.no_grad():
        for copy in copies:
            copy.target.copy_(copy.value)
    copied = {copy.name for copy in copies}
    own = [name for name in network.encoder.state_dict() if not name.endswith('num_batches_tracked')]
    return ImageNetReport(
        copied=tuple(name for name in own if name in copied),
        without_counterpart=tuple(name for name in own if name not in copied),
        unused=tuple(name for name in resnet.weights if name not in resnet.used),
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


class _ResNet:
    """The source's tensors, each checked as it is asked for, and the names of those that were."""

    def __init__(self, weights: dict[str, Tensor], title: str) -> None:
        self.weights, self.title = weights, title
        self.used: set[str] = set()

    def tensor(self, name: str, shape: tuple[int, ...], asked_by: str) -> Tensor:
        if name not in self.weights:
            raise CheckpointError(
                f'ImageNet weights: {self.title} has no {name!r}, which {asked_by} starts from. '
                f"Expected a ResNet-50 in torchvision's naming."
            )
        found = tuple(self.weights[name].shape)
        if found != shape:
            raise CheckpointError(
                f'ImageNet weights: {name} in {self.title} has shape {found}, but {asked_by} needs {shape}. '
                f'Give a ResNet-50 and a network of its widths.'
            )
        self.used.add(name)
        return self.weights[name]

    def norm(self, name: str, width: int, asked_by: str) -> _Norm:
        weight, bias, mean, var = (self.tensor(f'{name}.{kind}', (width,), asked_by).double() for kind in LAYER_TENSORS)
        return _Norm(scale=weight / (var + SOURCE_EPS).sqrt(), bias=bias, mean=mean, var=var)


class _Norm(NamedTuple):
    """A batch norm in evaluation: ``(x - mean) * scale + bias``; each (channels,) float64."""

    scale: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor


def _plan(parts: Iterator[Counterpart | SummedNorms], resnet: _ResNet) -> Iterator[_Copy]:
    for part in parts:
        values = _counterpart(part, resnet) if isinstance(part, Counterpart) else _sum(part, resnet)
        for kind, value in values.items():
            yield _Copy(name=f'{part.name}.{kind}', target=getattr(part.layer, kind), value=value)


def _counterpart(part: Counterpart, resnet: _ResNet) -> dict[str, Tensor]:
    values = {}
    for kind in LAYER_TENSORS:
        target = getattr(part.layer, kind, None)
        if isinstance(target, Tensor):
            shape = (part.source_rows or target.shape[0], *target.shape[1:])
            whole = resnet.tensor(f'{part.source}.{kind}', shape, f'{part.name}.{kind}')
            values[kind] = whole[part.first_row : part.first_row + target.shape[0]]
    if part.folded_norm:
        scale = resnet.norm(part.folded_norm, len(values['weight']), part.name).scale
        values['weight'] = values['weight'] * scale[:, None, None, None]
    return values


def _sum(part: SummedNorms, resnet: _ResNet) -> dict[str, Tensor]:
    norms = [resnet.norm(name, part.layer.num_features, part.name) for name in part.sources]
    # Of the sum with folded scales, as if its parts were independent.
    mean = torch.stack([norm.scale * norm.mean for norm in norms]).sum(dim=0)
    var = torch.stack([norm.scale.square() * norm.var for norm in norms]).sum(dim=0)
    return {
        'weight': (var + part.layer.eps).sqrt(),  # undoes the division
        'bias': torch.stack([norm.bias for norm in norms]).sum(dim=0),
        'running_mean': mean,
        'running_var': var,
    }
