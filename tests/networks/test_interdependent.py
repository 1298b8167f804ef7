"""The interdependent network against docs/decisions.md#the-detector: tables, prediction order, sharing, quirks."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from perception.errors import ConfigError
from perception.interfaces import InputSpec
from perception.labels import CITYSCAPES_11_3
from perception.networks.encoders.adapnet import PreActivationUnit
from perception.networks.interdependent import INTERDEPENDENT_SMALL, InterdependentConfig, InterdependentNetwork
from perception.networks.interdependent.easpp import Easpp, GlobalContext
from perception.networks.interdependent.trident import TridentUnit

TINY = replace(
    INTERDEPENDENT_SMALL,
    stem_width=8,
    block_widths=(8, 16, 16, 16),
    block_mid_widths=(4, 8, 8, 8),
    bottleneck_width=8,
    bottleneck_mid_width=4,
    decoder_width=8,
    skip_width=4,
    detector_widths=(8, 8, 8),
    trident_mid_width=4,
)


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(config: InterdependentConfig, device: str = 'cpu') -> InterdependentNetwork:
    with torch.device(device):
        return InterdependentNetwork(name='test', config=config, labels=CITYSCAPES_11_3, input_spec=InputSpec())


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture(scope='module')
def published() -> InterdependentNetwork:
    """Without weights: tables need only sizes."""
    return build(InterdependentConfig(), device='meta')


TABLE = {
    '': 37_892_870,
    'encoder': 23_500_358,
    'encoder.input_norm': 6,
    'encoder.stem': 9_536,
    'encoder.block1.units': 214_784,
    'encoder.block1.units.0': 73_984,
    'encoder.block1.units.1': 70_400,
    'encoder.block1.end': 512,
    'encoder.block2.units': 1_217_536,
    'encoder.block2.units.0': 377_344,
    'encoder.block2.units.3': 280_064,
    'encoder.block2.end': 1_024,
    'encoder.block3': 7_094_272,
    'encoder.block3.units.0': 1_508_352,
    'encoder.block3.units.5': 1_117_184,
    'encoder.block4.units': 14_958_592,
    'encoder.block4.units.0': 6_033_408,
    'encoder.block4.units.2': 4_462_592,
    'encoder.block4.end': 4_096,
    'bottleneck': 2_044_032,
    'bottleneck.pointwise': 524_800,
    'bottleneck.cascades.0': 222_080,
    'bottleneck.cascades.2': 222_080,
    'bottleneck.context': 524_800,
    'bottleneck.fuse': 328_192,
    'decoder.skip_stride8': 12_336,
    'decoder.skip_stride4': 6_192,
    'decoder.up_stride8': 1_049_088,
    'decoder.stage_stride8': 645_632 + 590_336,
    'decoder.up_stride4': 1_049_088,
    'mask_head.auxiliary_stride8': 2_838,
    'mask_head.auxiliary_stride4': 2_838,
    'mask_head.stage_stride4': 645_632 + 590_336,
    'mask_head.class_map': 2_838,
    'mask_head.up_stride1': 7_766,
    'detection_head': 7_743_560,
    'detection_head.down_stride8': 645_632,
    'detection_head.mix': 132_096,
    'detection_head.down_stride16': 3_540_480,
    'detection_head.trident': 3_351_552,
    'detection_head.trident.0': 1_117_184,
    'detection_head.predict': 73_800,
}


@pytest.mark.parametrize('part', list(TABLE))
def test_parameters_of_the_published_network(published: InterdependentNetwork, part: str) -> None:
    assert count(published.get_submodule(part)) == TABLE[part]


def test_parameters_by_stage(published: InterdependentNetwork) -> None:
    assert count(published.decoder, published.mask_head) == 4_604_920
    statistics = sum(
        value.numel() for name, value in published.named_buffers() if name.endswith(('running_mean', 'running_var'))
    )
    assert count(published) + statistics == 37_958_084


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'detector_strides': (4, 8)}, 37_892_870 + 143_360),
        ({'detector_features': 'encoder'}, 37_892_870),
        ({'detector_widths': (512, 256, 768), 'trident_units': 4}, 37_886_000),
    ],
)
def test_parameters_of_options(changes: dict[str, Any], expected: int) -> None:
    tolerance = 500 if expected % 1000 == 0 else 0  # the sheet rounds its other readings
    assert count(build(replace(InterdependentConfig(), **changes), device='meta')) == pytest.approx(
        expected, abs=tolerance, rel=0
    )


def test_predictions_at_the_published_size(published: InterdependentNetwork) -> None:
    output = published.train()(torch.empty(2, 3, 384, 768, device='meta'))
    assert output.boxes.shape == (2, 10_368, 4)
    assert output.mask_logits.shape == (2, 11, 384, 768)
    assert published.detection_head.predict[0].out_channels == 24
    assert published.anchors_wh.shape == (9, 2)
    assert published.stride == 16


def test_small_network_stays_small() -> None:
    network = build(INTERDEPENDENT_SMALL, device='meta').eval()
    assert count(network) <= 3_000_000
    with FlopCounterMode(display=False) as flops:
        network(torch.empty(1, 3, 384, 768, device='meta'))
    assert flops.get_total_flops() / 2 <= 8.0e9


def test_inner_shapes_are_as_documented() -> None:
    network = build(InterdependentConfig(), device='meta')
    features = network.encoder(torch.empty(2, 3, 64, 96, device='meta'))
    assert features.stride4.shape == (2, 256, 16, 24)
    assert features.stride8.shape == (2, 512, 8, 12)
    assert features.stride16.shape == (2, 2048, 4, 6)
    bottleneck = network.bottleneck(features.stride16)
    assert bottleneck.shape == (2, 256, 4, 6)
    skips = network.decoder.refine_skips(features)
    assert skips.stride4.shape == (2, 24, 16, 24)
    assert skips.stride8.shape == (2, 24, 8, 12)
    maps = network.decoder(bottleneck, skips)
    assert maps.upsampled.stride4.shape == (2, 256, 16, 24)
    assert maps.upsampled.stride8.shape == (2, 256, 8, 12)
    assert maps.joined.stride4.shape == (2, 280, 16, 24)
    assert maps.joined.stride8.shape == (2, 280, 8, 12)
    assert network.mask_head(maps.joined.stride4).shape == (2, 11, 64, 96)
    assert [x.shape for x in network.mask_head.auxiliary_logits(maps.upsampled)] == [(2, 11, 16, 24), (2, 11, 8, 12)]
    head = network.detection_head
    assert head.trident[0](torch.empty(6, 1024, 4, 6, device='meta')).shape == (6, 1024, 4, 6)
    predictions = head(maps.joined, bottleneck)
    assert predictions.boxes.shape == predictions.box_codes.shape == (2, 216, 4)
    assert predictions.objectness.shape == (2, 216)
    assert predictions.class_logits.shape == (2, 216, 3)
    assert head.decode(predictions.box_codes, (4, 6)).shape == (2, 216, 4)


def test_order_and_decoding_against_a_loop() -> None:
    torch.manual_seed(0)
    network = build(TINY)
    head = network.detection_head
    for layer in head.predict:
        nn.init.normal_(layer.get_parameter('weight'), std=0.5)
    maps: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda *args: maps.append(args[-1].detach())) for layer in head.predict]
    output = network(torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    assert output.box_codes is not None
    boxes, codes = output.boxes.detach().numpy(), output.box_codes.detach().numpy()
    grid = network.prediction_grid((3, 4))
    index = 0
    for branch in range(3):
        for row in range(3):
            for column in range(4):
                for anchor in range(3):
                    assert grid.cells_xy[index].tolist() == [column, row]
                    assert grid.anchor[index] == 3 * branch + anchor
                    raw = maps[branch][:, 8 * anchor : 8 * anchor + 8, row, column].numpy()  # (B, 4 + 1 + K)
                    np.testing.assert_array_equal(codes[:, index], raw[:, :4])
                    np.testing.assert_array_equal(output.objectness[:, index].detach().numpy(), raw[:, 4])
                    np.testing.assert_array_equal(output.class_logits[:, index].detach().numpy(), raw[:, 5:])
                    width, height = network.config.anchors_wh[3 * branch + anchor]
                    for image in range(2):
                        x = (1 / (1 + math.exp(-raw[image, 0])) + column) * 16
                        y = (1 / (1 + math.exp(-raw[image, 1])) + row) * 16
                        w = width * math.exp(min(raw[image, 2], 4))
                        h = height * math.exp(min(raw[image, 3], 4))
                        expected = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                        np.testing.assert_allclose(boxes[image, index], expected, rtol=1e-4, atol=1e-3)
                    index += 1
    assert index == boxes.shape[1]


def test_objectness_starts_at_one_percent() -> None:
    torch.manual_seed(0)
    output = build(INTERDEPENDENT_SMALL)(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    probabilities = output.objectness.sigmoid()
    assert probabilities.median().item() == pytest.approx(0.01, rel=0.2)
    assert probabilities.max() < 0.05


def test_trident_branches_share_one_weight() -> None:
    torch.manual_seed(0)
    unit = TridentUnit(6, 4, (1, 2, 3)).eval()
    assert [tuple(p.shape) for p in unit.parameters() if p.shape[-2:] == (3, 3)] == [(4, 4, 3, 3)]
    x = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        together = unit(torch.cat([x] * 3))
        for branch, rate in enumerate((1, 2, 3)):
            spatial = F.conv2d(unit.reduce(x), unit.spatial.weight, padding=rate, dilation=rate)
            alone = F.leaky_relu(x + unit.expand(unit.spatial_norm(spatial)), 0.1)
            torch.testing.assert_close(together.chunk(3)[branch], alone)
    assert not torch.allclose(together.chunk(3)[0], together.chunk(3)[1])


def test_trident_norms_run_once_on_all_branches() -> None:
    unit = TridentUnit(6, 4, (1, 2, 3)).train()
    unit(torch.randn(6, 6, 5, 5))
    assert [int(value) for name, value in unit.named_buffers() if name.endswith('num_batches_tracked')] == [1, 1, 1]


def test_multiscale_unit_is_a_split_plain_unit() -> None:
    torch.manual_seed(0)
    plain, split = PreActivationUnit(6, 4, 6), PreActivationUnit(6, 4, 6, dilations=(1, 1))
    assert count(plain) == count(split) == count(PreActivationUnit(6, 4, 6, dilations=(2, 16)))
    whole = plain.spatial[0].weight
    state = {name: value for name, value in plain.state_dict().items() if not name.startswith('spatial.')}
    split.load_state_dict(state | {'spatial.0.weight': whole[:2], 'spatial.1.weight': whole[2:]})  # type: ignore[index]
    x = torch.randn(2, 6, 7, 7)
    torch.testing.assert_close(plain(x), split(x))


def test_dilations_reach_the_convolutions(published: InterdependentNetwork) -> None:
    found = tuple(
        tuple(tuple(conv.dilation[0] for conv in unit.spatial) for unit in block.units)
        for block in (getattr(published.encoder, f'block{number}') for number in (1, 2, 3, 4))
    )
    assert found == InterdependentConfig().unit_dilations
    cascades = [
        [
            layer.dilation[0]
            for layer in cascade.modules()
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
        ]
        for cascade in published.bottleneck.cascades
    ]
    assert cascades == [[3, 3], [6, 6], [12, 12]]


def test_dropout_is_at_the_end_of_the_encoder_and_in_front_of_the_trident() -> None:
    network = build(InterdependentConfig(), device='meta').train()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)}
    places = {'encoder.block4.units.2.residual_dropout': (2, 2048, 4, 6), 'detection_head.dropout': (2, 1024, 4, 6)}
    assert {name: layer.p for name, layer in layers.items()} == dict.fromkeys(places, 0.5)
    dropped: dict[str, tuple[int, ...]] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *args, name=name: dropped.update({name: tuple(args[-1].shape)}))
    network(torch.empty(2, 3, 64, 96, device='meta'))
    assert dropped == places


def test_single_image_trains_on_running_statistics() -> None:
    torch.manual_seed(0)
    context = GlobalContext(6, 4).train()
    context(torch.randn(4, 6, 3, 5))
    before = {name: value.clone() for name, value in context.named_buffers()}
    x = torch.randn(1, 6, 3, 5)
    trained = context(x)
    assert trained.shape == (1, 4, 3, 5)
    assert all(torch.equal(value, before[name]) for name, value in context.named_buffers())
    torch.testing.assert_close(trained, context.eval()(x))
    trained.sum().backward()
    assert all(parameter.grad is not None for parameter in context.parameters())
    assert Easpp(6, TINY).train()(x).shape == (1, 8, 3, 5)


def test_bottleneck_ends_without_relu() -> None:
    torch.manual_seed(0)
    assert (Easpp(6, TINY)(torch.randn(2, 6, 8, 8)) < 0).any()


def test_ends_of_the_mask_head() -> None:
    def layers(**changes: Any) -> tuple[list[str], list[str]]:
        head = build(replace(TINY, class_map_width=0, **changes)).mask_head
        return [type(layer).__name__ for layer in head.class_map], [type(layer).__name__ for layer in head.up_stride1]

    assert layers(norm_on_logits=True) == (
        ['Conv2d', 'SinglePixelNorm', 'ReLU'],
        ['ConvTranspose2d', 'BatchNorm2d'],
    )
    assert layers(norm_on_logits=False) == (['Conv2d', 'ReLU'], ['ConvTranspose2d'])


@pytest.mark.parametrize('changes', [{'detector_strides': (4, 8)}, {'detector_features': 'encoder'}])
@pytest.mark.parametrize('both', [False, True])
def test_detector_inputs(changes: dict[str, Any], both: bool) -> None:
    if both:
        changes = {'detector_strides': (4, 8), 'detector_features': 'encoder'}
    network = build(replace(TINY, **changes))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    output = network(images, segment=False)
    assert output.boxes.shape == (2, 36, 4)
    output.objectness.square().sum().backward()
    learns = network.decoder.up_stride4.get_parameter('conv.weight').grad is not None
    assert learns == (network.config.detector_features == 'decoder')


def test_compiles_without_graph_breaks() -> None:
    network = build(TINY).eval()
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        found = torch.compile(network, backend='eager', fullgraph=True)(images)
        torch.testing.assert_close(found.boxes, network(images).boxes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'anchors_wh': ((5.0, 5.0), (6.0, 6.0))}, 'cannot be shared evenly by 3 branches'),
        ({'anchors_wh': ((9.0, 9.0), (6.0, 6.0), (10.0, 10.0))}, 'sort the anchors by area'),
        ({'anchors_wh': ((0.0, 5.0), (6.0, 6.0), (7.0, 7.0))}, 'positive width and height'),
        ({'detector_features': 'bottleneck'}, 'detector_features: expected one of'),
        ({'detector_strides': (8,)}, 'detector_strides: expected one of'),
        ({'detector_dropout': 1.0}, r'detector_dropout: expected a probability in \[0, 1\)'),
        ({'detector_widths': (8, 8)}, 'detector_widths: expected 3'),
        ({'block_widths': (8, 8)}, 'block_widths: the encoder has 4 blocks'),
        ({'block_mid_widths': (64, 127, 256, 512)}, 'split its 127 channels evenly'),
        ({'stem_width': 0}, 'stem_width: expected 1 or more, got 0'),
        ({'detector_widths': (-1, 2, 3)}, r'detector_widths: expected 1 or more, got \(-1, 2, 3\)'),
        ({'class_map_width': -4}, 'class_map_width: expected 0 or more'),
        ({'trident_dilations': (0, 1, 2)}, 'trident_dilations: expected 1 or more'),
        ({'unit_dilations': (((1,),), ((1,),), ((1,),), ((2, 0),))}, 'unit_dilations: expected 1 or more'),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InterdependentConfig(**changes)
