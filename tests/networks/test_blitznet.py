"""BlitzNet against the published counts, its maps' shapes, and its fusion blocks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from perception.errors import ConfigError
from perception.interfaces import InputSpec, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.networks import build_network, resolve_config, resolve_input_spec
from perception.networks.blitznet import FUSIONS, BlitzNet, BlitzNetConfig, Fusion

S8_300 = {'finest_stride': 8, 'scales': (0.1, 0.2, 0.95)}
S4_512 = {'finest_stride': 4, 'scales': (0.02, 0.08, 0.95)}
TINY = BlitzNetConfig(encoder='tf_efficientnet_lite0', down_width=16, down_units=1, width=16, mask_width=8)


def build(name: str, overrides: dict[str, Any] | None = None, labels: str = 'voc_21_20') -> PerceptionNetwork:
    """Shapes alone: no memory, no initialisation."""
    with torch.device('meta'):
        return build_network(name, load_label_space(labels), overrides)


def build_tiny(config: BlitzNetConfig = TINY) -> BlitzNet:
    torch.manual_seed(0)
    network = BlitzNet(name='tiny', config=config, labels=CITYSCAPES_11_3, input_spec=InputSpec(image_hw=(64, 96)))
    return network.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('name', 'overrides', 'proposals', 'total', 'with_down_width_512'),
    [
        ('blitznet300', {}, 45_390, 59_379_951, 33_891_567),
        ('blitznet300', S8_300, 11_640, 58_330_841, 32_842_457),
        ('blitznet512', {}, 32_766, 68_534_511, 34_484_463),
        ('blitznet512', S4_512, 131_070, 69_583_621, 35_533_573),
    ],
)
def test_proposals_and_parameters(
    name: str, overrides: dict[str, Any], proposals: int, total: int, with_down_width_512: int
) -> None:
    network = build(name, overrides)
    assert network.prediction_layout(network.input_spec.image_hw).predictions == proposals
    assert parameters(network) == total
    assert parameters(build(name, {**overrides, 'down_width': 512})) == with_down_width_512


def test_parameters_with_the_classes_of_coco() -> None:
    assert parameters(build('blitznet300', labels='coco_81_80')) == 71_236_611


def test_parameters_of_the_parts() -> None:
    network = build('blitznet300')
    assert parameters(network.encoder) == 23_508_032
    assert parameters(network.bottleneck) == 26_775_552
    assert isinstance(network.decoder, nn.ModuleList)
    # Coarsest first: from block 7 to block 6, and so on up to stride 4.
    assert [parameters(fusion) for fusion in network.decoder] == [
        1_788_416, 542_208, 542_208, 411_136, 345_600, 312_832,
    ]  # fmt: skip
    assert parameters(network.detection_head.get_submodule('locate')) == 774_312
    assert parameters(network.detection_head.get_submodule('classify')) == 4_065_138
    assert parameters(network.mask_head.get_submodule('narrow')) == 229_824
    assert parameters(network.mask_head.get_submodule('classify')) == 84_693


def test_the_small_preset_stays_small() -> None:
    network = build('blitznet300_small', labels='cityscapes_11_3')
    assert parameters(network) == 3_871_195
    assert network.input_spec == resolve_input_spec('blitznet300_small')
    assert network.input_spec.mean_rgb == (126.99,) * 3  # the encoder's


@pytest.mark.parametrize(
    ('name', 'overrides', 'sides'),
    [
        ('blitznet300', {}, [75, 38, 19, 10, 5, 3, 1]),
        ('blitznet300', S8_300, [38, 19, 10, 5, 3, 1]),
        ('blitznet512', {}, [64, 32, 16, 8, 4, 2, 1]),
        ('blitznet512', S4_512, [128, 64, 32, 16, 8, 4, 2, 1]),
    ],
)
def test_every_shape_of_the_published_networks(name: str, overrides: dict[str, Any], sides: list[int]) -> None:
    network = build(name, overrides).train()
    side = network.input_spec.image_hw[0]
    images = torch.empty(2, 3, side, side, device='meta')
    maps = network.encoder(images).levels(network.config.finest_stride)
    assert [tuple(x.shape) for x in maps][-3:] == [
        (2, width, -(-side // stride), -(-side // stride)) for width, stride in ((512, 8), (1024, 16), (2048, 32))
    ]
    down = network.bottleneck(maps[-1])
    assert [x.shape[1] for x in down] == [2048] * network.config.down_blocks
    levels = network.decoder([*maps, *down])
    assert [tuple(x.shape) for x in levels] == [(2, 512, cells, cells) for cells in sides]
    assert network.mask_head(levels).shape == (2, 21, sides[0], sides[0])
    output = network(images)
    count = network.prediction_layout((side, side)).predictions
    assert output.boxes.shape == (2, count, 4)
    assert output.objectness.shape == (2, count)
    assert output.class_logits.shape == (2, count, 20)
    assert output.box_codes is not None
    assert output.box_codes.shape == (2, count, 4)
    assert output.mask_logits.shape == (2, 21, side, side)


@pytest.mark.parametrize(
    ('name', 'overrides', 'scales', 'between'),
    [
        ('blitznet300', {}, (0.04, 0.10, 0.27, 0.44, 0.61, 0.78, 0.95), (0.0632, 0.1643, 0.3447, 0.5181)),
        ('blitznet300', S8_300, (0.1, 0.2, 0.3875, 0.575, 0.7625, 0.95), (0.1414, 0.2784, 0.4720, 0.6621)),
        ('blitznet512', S4_512, (0.02, 0.08, 0.225, 0.37, 0.515, 0.66, 0.805, 0.95), (0.04, 0.1342, 0.2885, 0.4365)),
    ],
)
def test_priors_of_the_published_networks(
    name: str, overrides: dict[str, Any], scales: tuple[float, ...], between: tuple[float, ...]
) -> None:
    network = build(name, overrides)
    shapes = network.prediction_layout(network.input_spec.image_hw).shapes  # type: ignore[attr-defined]
    assert [level[0] for level in shapes] == [pytest.approx((scale, scale)) for scale in scales]
    assert [len(level) for level in shapes] == [6] * len(scales)
    assert [level[5][0] for level in shapes[:4]] == pytest.approx(between, abs=5e-5)
    assert [round(width / height, 4) for width, height in shapes[0]] == [1, 2, 0.5, 3, 0.3333, 1]


def test_suppression_is_the_papers() -> None:
    found = build('blitznet300').suppression
    assert (found.max_candidates_per_class, found.max_detections_per_class, found.max_detections) == (400, 50, 200)


def test_resskip_is_what_the_figure_shows() -> None:
    torch.manual_seed(0)
    fusion = Fusion(24, 12, TINY).eval()
    coarser, skip = torch.randn(1, 24, 3, 3), torch.randn(1, 12, 5, 6)
    with torch.no_grad():
        level, shortcut = fusion(coarser, skip)
        upsampled = nn.functional.interpolate(coarser, (5, 6), mode='bilinear', align_corners=False)
        projected = fusion.project(upsampled)
        expected = (projected + fusion.branch(torch.cat((upsampled, skip), dim=1))).relu()
    assert torch.equal(level, expected)
    assert torch.equal(shortcut, projected)
    assert not parameters(Fusion(TINY.width, 12, TINY).project)


def test_the_rows_of_the_ablation_differ_as_they_say() -> None:
    skip, coarser = torch.randn(1, 12, 4, 4), torch.randn(1, 16, 2, 2)
    torch.manual_seed(0)
    fusions = {kind: Fusion(16, 12, replace(TINY, fusion=kind)).eval() for kind in FUSIONS}  # type: ignore[arg-type]
    with torch.no_grad():
        for kind, fusion in fusions.items():
            for layer in fusion.branch.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.weight.zero_()
            level, shortcut = fusion(coarser, skip)
            # With a silent branch only what is added to it is left.
            added = shortcut.relu() if kind in ('resskip', 'hourglass') else torch.zeros_like(level)
            assert torch.equal(level, added), kind
    # The hourglass's branch reads the skip alone; the others read both.
    reads = {kind: fusion.branch.get_submodule('0.conv') for kind, fusion in fusions.items() if kind != 'refine'}
    assert {kind: layer.in_channels for kind, layer in reads.items()} == {  # type: ignore[union-attr]
        'resskip': 28, 'resskip_without_residual': 28, 'hourglass': 12,
    }  # fmt: skip
    assert fusions['refine'].lateral.get_submodule('conv').kernel_size == (3, 3)


@pytest.mark.parametrize('fusion', FUSIONS)
def test_every_parameter_of_every_row_learns(fusion: Any) -> None:
    network = build_tiny(replace(TINY, fusion=fusion)).train()
    output = network(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    assert output.box_codes is not None
    tensors = (output.box_codes, output.objectness, output.class_logits, output.mask_logits)
    torch.stack([(tensor * torch.randn_like(tensor)).sum() for tensor in tensors]).sum().backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


def test_the_detection_head_begins_weak() -> None:
    layers = [layer for layer in build_tiny().detection_head.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 14
    for layer in layers:
        assert layer.weight.var().item() * layer.weight[0].numel() == pytest.approx(0.1, rel=0.2)


def test_the_last_level_is_the_mean_of_the_first_shortcut() -> None:
    network = build_tiny()
    images = torch.rand(1, 3, 64, 96)
    shortcuts: list[torch.Tensor] = []
    network.decoder[0].register_forward_hook(lambda *result: shortcuts.append(result[2][1]))
    with torch.no_grad():
        maps = network.encoder(images).levels(4)
        levels = network.decoder([*maps, *network.bottleneck(maps[-1])])
    assert torch.equal(levels[-1], shortcuts[0].mean(dim=(2, 3), keepdim=True))


def test_masks_of_the_two_ways_to_resize_differ() -> None:
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        bilinear = build_tiny()(images).mask_logits
        nearest = build_tiny(replace(TINY, mask_resize='nearest'))(images).mask_logits
    assert bilinear.shape == nearest.shape == (1, 11, 64, 96)
    assert not torch.allclose(bilinear, nearest)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'finest_stride': 16}, r'finest_stride: expected one of \(4, 8\), got 16'),
        ({'fusion': 'sum'}, "fusion: expected one of .*'resskip'.* got 'sum'"),
        ({'mask_resize': 'cubic'}, "mask_resize: expected one of .* got 'cubic'"),
        ({'width': 30}, 'width: expected a multiple of 4, got 30'),
        ({'down_blocks': 0}, 'down_blocks: expected 1 or more, got 0'),
        ({'scales': [0.1, 0.2]}, 'scales: expected those of the first, second and last level'),
        ({'scales': [0.3, 0.2, 0.9]}, 'scales that grow from one to the next; got 7 levels and 0.3, 0.2, 0.9'),
    ],
)
def test_what_cannot_be_built_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config('blitznet300', overrides)


def test_an_encoder_without_a_map_at_stride_32_is_refused() -> None:
    with pytest.raises(ConfigError, match='adapnet has maps at strides 4, 8 and 16, and this network reads one at'):
        build_network('blitznet300', CITYSCAPES_11_3, {'encoder': 'adapnet'})
