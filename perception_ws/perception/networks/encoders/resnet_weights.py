"""ImageNet weights of an ordinary ResNet-50 for encoders that are made of the same layers.

Tensors in torchvision's naming are read (timm's ResNet-50 has the same names). An encoder names its layers with the
layers they can start from. Where norms stand otherwise than in ResNet-50, as in units of pre-activation, they are
folded: docs/decisions.md#imagenet-weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception.errors import CheckpointError
from perception.networks.encoders.encoder import Copy, WeightSource

SOURCE_EPS = 1e-5
"""Of ResNet-50's batch norms; a state dict does not tell."""
LAYER_TENSORS = ('weight', 'bias', 'running_mean', 'running_var')


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


class _ResNet:
    """The source's tensors, each checked as it is asked for."""

    def __init__(self, source: WeightSource) -> None:
        self.weights, self.title, self.used = source.tensors, source.title, source.used

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


def plan_copies(parts: Iterator[Counterpart | SummedNorms], source: WeightSource) -> Iterator[Copy]:
    """What the tensors of an encoder's layers start with.

    Raises:
        CheckpointError: If the source is no ResNet-50, or the layers have other widths.
    """
    resnet = _ResNet(source)
    for part in parts:
        values = _counterpart(part, resnet) if isinstance(part, Counterpart) else _sum(part, resnet)
        for kind, value in values.items():
            yield Copy(name=f'{part.name}.{kind}', target=getattr(part.layer, kind), value=value)


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
