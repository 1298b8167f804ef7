"""ImageNet weights of an ordinary ResNet-50 into the pre-activation encoder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from perception.errors import CheckpointError, ConfigError
from perception.interfaces import PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network
from perception.networks.resnet_weights import load_imagenet_weights


@pytest.fixture(scope='module')
def weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = resnet50(weights=None).state_dict()
    # A fresh network's norms are all ones and zeros; drawn values show where each of them went.
    return {name: torch.rand_like(value) if value.ndim == 1 else value for name, value in state.items()}


@pytest.fixture(scope='module')
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'resnet50.pth'
    torch.save(weights, path)
    return path


@pytest.fixture(scope='module')
def network() -> PerceptionNetwork:
    return build_network('interdependent', CITYSCAPES_11_3)


def test_layers_get_their_counterparts(network: PerceptionNetwork, weights: dict[str, Tensor], file: Path) -> None:
    untouched = {name: value.clone() for name, value in network.state_dict().items()}
    report = load_imagenet_weights(network, file)
    own = network.encoder.state_dict()

    assert torch.equal(own['stem.conv.weight'], weights['conv1.weight'])
    for ours, theirs in (
        ('stem.norm', 'bn1'),
        ('block1.units.0.reduce.norm', 'layer1.0.bn1'),
        ('block4.units.2.spatial_norm.0', 'layer4.2.bn2'),
    ):
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            assert torch.equal(own[f'{ours}.{kind}'], weights[f'{theirs}.{kind}'])
    units = {1: 3, 2: 4, 3: 6, 4: 3}
    for layer, count in units.items():
        for unit in range(count):
            ours, theirs = f'block{layer}.units.{unit}', f'layer{layer}.{unit}'
            assert torch.equal(own[f'{ours}.reduce.conv.weight'], weights[f'{theirs}.conv1.weight'])
            assert torch.equal(own[f'{ours}.expand.weight'], weights[f'{theirs}.conv3.weight'])
            parts = [value for name, value in own.items() if name.startswith(f'{ours}.spatial.')]
            assert torch.equal(torch.cat(parts), weights[f'{theirs}.conv2.weight'])
        assert torch.equal(own[f'block{layer}.units.0.project.weight'], weights[f'layer{layer}.0.downsample.0.weight'])
    first, second = own['block3.units.3.spatial.0.weight'], own['block3.units.3.spatial.1.weight']
    assert torch.equal(first, weights['layer3.3.conv2.weight'][:128])
    assert torch.equal(second, weights['layer3.3.conv2.weight'][128:])

    copied = {f'encoder.{name}' for name in report.copied}
    kept = {name for name in untouched if name not in copied}
    assert all(torch.equal(network.state_dict()[name], untouched[name]) for name in kept)
    assert not torch.equal(network.state_dict()['encoder.stem.conv.weight'], untouched['encoder.stem.conv.weight'])
    # 53 convolutions, 8 of them split in two, and the four tensors of the norms after the stem, conv1 and conv2.
    assert len(report.copied) == 53 + 8 + (1 + 16 + 16) * 4
    assert {name.rsplit('.', 1)[0] for name in report.without_counterpart} == {
        'input_norm',
        *(f'block{layer}.end' + '.0' for layer in (1, 2, 4)),
        *(
            f'block{layer}.units.{unit}.activate.0'
            for layer, count in units.items()
            for unit in range(count)
            if unit or layer == 4
        ),
    }
    assert {'fc.weight', 'layer1.0.bn3.weight', 'layer1.0.downsample.1.weight'} <= set(report.unused)
    assert 'layer1.0.conv1.weight' not in report.unused


def test_other_wrappings_of_the_same_weights(
    network: PerceptionNetwork, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(weights, tmp_path / 'a.safetensors')
    torch.save({'state_dict': weights, 'epoch': 3}, tmp_path / 'b.pt')
    for path in (tmp_path / 'a.safetensors', tmp_path / 'b.pt'):
        nn.init.zeros_(network.encoder.get_parameter('stem.conv.weight'))
        load_imagenet_weights(network, str(path))
        assert torch.equal(network.encoder.get_parameter('stem.conv.weight'), weights['conv1.weight'])


def test_wrong_file_changes_nothing(network: PerceptionNetwork, weights: dict[str, Tensor], tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(resnet18(weights=None).state_dict(), tmp_path / 'resnet18.pth')
    torch.save({name: value for name, value in weights.items() if 'layer4.2' not in name}, tmp_path / 'short.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    (tmp_path / 'text.safetensors').write_text('not a checkpoint')
    for name, message in {
        'absent.pth': 'there is no file',
        'resnet18.pth': 'has shape .* needs',
        'short.pth': "has no 'layer4.2.conv1.weight'",
        'list.pth': 'holds a list, not named tensors',
        'text.pth': 'not a readable state dict',
        'text.safetensors': 'not a readable state dict',
    }.items():
        with pytest.raises(CheckpointError, match=message):
            load_imagenet_weights(network, tmp_path / name)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_networks_without_counterparts(file: Path) -> None:
    small = build_network('interdependent_small', CITYSCAPES_11_3)
    with pytest.raises(CheckpointError, match=r'stem.conv.weight needs \(32, 3, 7, 7\).*network of its widths'):
        load_imagenet_weights(small, file)
    small.encoder = nn.Identity()
    with pytest.raises(ConfigError, match='no counterpart in ResNet-50'):
        load_imagenet_weights(small, file)
