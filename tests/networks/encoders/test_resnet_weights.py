"""ImageNet weights of an ordinary ResNet-50 into the pre-activation encoder."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18, resnet50

from perception.errors import CheckpointError, ConfigError
from perception.interfaces import PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network
from perception.networks.encoders import load_imagenet_weights
from perception.networks.encoders.adapnet import AdapNet


@pytest.fixture(scope='module')
def resnet() -> ResNet:
    torch.manual_seed(1)
    return resnet50(weights=None)


@pytest.fixture(scope='module')
def weights(resnet: ResNet) -> dict[str, Tensor]:
    state = {name: value.clone() for name, value in resnet.state_dict().items()}
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
            scaled = weights[f'{theirs}.conv3.weight'] * scale_of(weights, f'{theirs}.bn3')[:, None, None, None]
            torch.testing.assert_close(own[f'{ours}.expand.weight'], scaled)
            parts = [value for name, value in own.items() if name.startswith(f'{ours}.spatial.')]
            assert torch.equal(torch.cat(parts), weights[f'{theirs}.conv2.weight'])
        scale = scale_of(weights, f'layer{layer}.0.downsample.1')[:, None, None, None]
        scaled = weights[f'layer{layer}.0.downsample.0.weight'] * scale
        torch.testing.assert_close(own[f'block{layer}.units.0.project.weight'], scaled)
    first, second = own['block3.units.3.spatial.0.weight'], own['block3.units.3.spatial.1.weight']
    assert torch.equal(first, weights['layer3.3.conv2.weight'][:128])
    assert torch.equal(second, weights['layer3.3.conv2.weight'][128:])

    copied = {f'encoder.{name}' for name in report.copied}
    kept = {name for name in untouched if name not in copied}
    assert all(torch.equal(network.state_dict()[name], untouched[name]) for name in kept)
    assert not torch.equal(network.state_dict()['encoder.stem.conv.weight'], untouched['encoder.stem.conv.weight'])
    # 53 convolutions, 8 of them split in two, and the four tensors of the norms after the stem, conv1 and conv2, before
    # the 13 units that read a sum and at the ends of three blocks.
    assert len(report.copied) == 53 + 8 + (1 + 16 + 16 + 13 + 3) * 4
    assert {name.rsplit('.', 1)[0] for name in report.without_counterpart} == {'input_norm'}
    assert {name.rsplit('.', 1)[0] for name in report.unused if 'num_batches' not in name} == {'fc'}


def scale_of(weights: dict[str, Tensor], norm: str) -> Tensor:
    return weights[f'{norm}.weight'] / (weights[f'{norm}.running_var'] + 1e-5).sqrt()


class Pair(NamedTuple):
    """A ResNet-50, and the encoder that starts from its weights."""

    resnet: ResNet
    encoder: AdapNet


PairUp = Callable[[dict[str, Tensor]], Pair]


@pytest.fixture
def pair_up(resnet: ResNet, network: PerceptionNetwork, tmp_path: Path) -> PairUp:
    def pair(weights: dict[str, Tensor]) -> Pair:
        torch.save(weights, tmp_path / 'resnet50.pth')
        load_imagenet_weights(network, tmp_path / 'resnet50.pth')
        resnet.load_state_dict(weights)
        assert isinstance(network.encoder, AdapNet)
        return Pair(resnet.eval(), network.encoder.eval())

    return pair


def draw_norms(weights: dict[str, Tensor], *, positive_sums: bool = False) -> dict[str, Tensor]:
    """The same convolutions with norms of both signs; on demand what is added up is never negative."""
    generator = torch.Generator().manual_seed(2)
    drawn = dict(weights)
    for name, value in weights.items():
        if value.ndim == 1 and 'fc' not in name:
            drawn[name] = torch.randn(value.shape, generator=generator)
            if name.endswith('running_var'):
                drawn[name] = drawn[name].abs() + 0.5
            if positive_sums and ('bn3' in name or 'downsample.1' in name):
                drawn[name] = drawn[name].abs() + 9 if name.endswith('bias') else drawn[name] / 50
    return drawn


def stem_of(resnet: ResNet, images: Tensor) -> Tensor:
    return resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))


@torch.no_grad()
def test_the_first_unit_says_what_an_ordinary_one_says(weights: dict[str, Tensor], pair_up: PairUp) -> None:
    resnet, encoder = pair_up(draw_norms(weights))
    images = torch.randn(2, 3, 64, 96)
    pooled = encoder.pool(encoder.stem(encoder.input_norm(images)))
    torch.testing.assert_close(pooled, stem_of(resnet, images), rtol=1e-4, atol=1e-4)
    # Of each block the first unit, on the same activated maps; block 4's reads a sum, and is dilated.
    for number, x in enumerate((torch.rand(2, 64, 8, 8), torch.rand(2, 256, 8, 8), torch.rand(2, 512, 8, 8)), start=1):
        block, layer = encoder.get_submodule(f'block{number}'), resnet.get_submodule(f'layer{number}')
        ours = block.units[1].activate(block.units[0](x))
        torch.testing.assert_close(ours, layer[0](x), rtol=1e-3, atol=1e-3)
        assert 0.1 < (ours == 0).float().mean() < 0.9, 'a sum of both signs'


@torch.no_grad()
def test_a_block_says_the_same_where_sums_are_not_negative(weights: dict[str, Tensor], pair_up: PairUp) -> None:
    resnet, encoder = pair_up(draw_norms(weights, positive_sums=True))
    images = torch.randn(1, 3, 64, 64)
    expected = resnet.layer1(stem_of(resnet, images))
    assert expected.min() > 0, 'an ordinary unit cut nothing'
    found = encoder.block1(encoder.pool(encoder.stem(encoder.input_norm(images))))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_sums_over_two_blocks_keep_their_shifts(weights: dict[str, Tensor], pair_up: PairUp) -> None:
    """Block 3 has no norm at its end: that of block 4 reads its sum."""
    drawn = draw_norms(weights)
    _, encoder = pair_up(drawn)
    norm = encoder.get_submodule('block4.units.0.activate.0')
    names = ['layer3.0.downsample.1', *(f'layer3.{unit}.bn3' for unit in range(6))]
    torch.testing.assert_close(norm.bias, sum(drawn[f'{name}.bias'] for name in names))
    shift = sum(drawn[f'{name}.bias'] - scale_of(drawn, name) * drawn[f'{name}.running_mean'] for name in names)
    x = torch.randn(1, 1024, 2, 2)
    torch.testing.assert_close(norm(x), x + shift[:, None, None], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_in_training_the_first_unit_is_near_an_ordinary_one(weights: dict[str, Tensor], pair_up: PairUp) -> None:
    images = torch.rand(4, 64, 16, 16)
    resnet, _ = pair_up(draw_norms(weights))
    unit = deepcopy(resnet.layer1[0]).train()
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics that are those of the images, as after a training
    expected = unit(images)
    trained = {f'layer1.0.{name}': value for name, value in unit.state_dict().items()}
    units = pair_up({**weights, **trained}).encoder.train().block1.units
    off = (units[1].activate(units[0](images)) - expected).norm() / expected.norm()
    assert off < 0.1


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
    with pytest.raises(ConfigError, match='has no encoder that takes ImageNet weights'):
        load_imagenet_weights(small, file)
