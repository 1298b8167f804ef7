"""IvaNet: parameters and proposals counted layer by layer, who hears whom, exact sizes, and the ablations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perception.errors import ConfigError
from perception.interfaces import NetworkOutput
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.networks import build_network
from perception.networks.ivanet import Decoder, IvaNet, IvaNetConfig, LocalTopDown

# Of the parts at 300x300 with VOC's 21 and 20 classes; a level's module and its 1x1 stand together.
TABLE: dict[tuple[str, ...], int] = {
    ('encoder',): 23_508_032,
    ('bottleneck',): 3_017_728,
    ('decoder.top_down.0', 'decoder.join.0'): 1_099_136,
    ('decoder.top_down.1', 'decoder.join.1'): 1_885_568,
    ('decoder.top_down.2', 'decoder.join.2'): 1_623_424,
    ('decoder.top_down.3', 'decoder.join.3'): 836_992,
    ('decoder.top_down.4', 'decoder.join.4'): 656_512,
    ('decoder.join.5',): 197_376,
    ('decoder',): 6_101_632 + 197_376,
    ('detection_head.locate',): 497_808,
    ('detection_head.classify',): 2_613_492,
    ('mask_head.fuse',): 7_963_392,
    ('mask_head.classify',): 72_597,
    ('',): 43_972_057,
}


def build(name: str = 'ivanet300', labels: str = 'voc_21_20', **changes: Any) -> IvaNet:
    """Shapes and counts alone."""
    with torch.device('meta'):
        network = build_network(name, load_label_space(labels), changes)
    assert isinstance(network, IvaNet)
    return network


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def run(network: IvaNet, height: int, width: int) -> NetworkOutput:
    return network(torch.empty(2, 3, height, width, device='meta'))


@pytest.mark.parametrize('parts', list(TABLE))
def test_parameters_of_each_part(parts: tuple[str, ...]) -> None:
    network = build()
    assert count(*(network.get_submodule(part) for part in parts)) == TABLE[parts]


@pytest.mark.parametrize(
    ('name', 'labels', 'changes', 'expected'),
    [
        ('ivanet300', 'coco_81_80', {}, 51_646_597),
        ('ivanet512', 'voc_21_20', {}, 49_279_215),
        ('ivanet512', 'coco_81_80', {}, 58_198_275),
        ('ivanet300', 'voc_21_20', {'mask_width': 256}, 41_293_401),
        ('ivanet512', 'voc_21_20', {'mask_width': 256}, 46_158_191),
        ('ivanet300', 'voc_21_20', {'mask_width': 512}, 46_650_713),
        ('ivanet512', 'voc_21_20', {'mask_width': 512}, 52_400_239),
    ],
)
def test_parameters_in_all(name: str, labels: str, changes: dict[str, Any], expected: int) -> None:
    assert count(build(name, labels, **changes)) == expected


@pytest.mark.parametrize(
    ('name', 'changes', 'sides', 'proposals'),
    [
        ('ivanet300', {}, [38, 19, 10, 5, 3, 1], 11_640),
        ('ivanet512', {}, [64, 32, 16, 8, 4, 2, 1], 32_766),
        ('ivanet300', {'finest_stride': 4}, [75, 38, 19, 10, 5, 3, 1], 45_390),
        ('ivanet512', {'finest_stride': 4}, [128, 64, 32, 16, 8, 4, 2, 1], 131_070),
        ('ivanet300', {'top_down': False}, [38, 19, 10, 5, 3, 1], 11_640),
    ],
)
def test_every_shape_at_the_published_size(
    name: str, changes: dict[str, Any], sides: list[int], proposals: int
) -> None:
    network = build(name, **changes)
    side = network.input_spec.image_hw[0]
    shapes: list[tuple[int, ...]] = []
    network.detection_head.register_forward_pre_hook(lambda _, given: shapes.extend(x.shape for x in given[0]))
    network.mask_head.register_forward_hook(lambda _, __, logits: shapes.append(logits.shape))
    output = run(network, side, side)
    assert shapes == [*((2, 384, each, each) for each in sides), (2, 21, sides[0], sides[0])]
    assert output.boxes.shape == (2, proposals, 4)
    assert output.box_codes is not None
    assert output.box_codes.shape == (2, proposals, 4)
    assert output.objectness.shape == (2, proposals)
    assert output.class_logits.shape == (2, proposals, 20)
    assert output.mask_logits.shape == (2, 21, side, side)
    assert output.auxiliary_mask_logits == ()
    assert network.prediction_layout((side, side)).predictions == proposals
    assert list(network.prediction_layout((side, side)).levels_hw) == [(each, each) for each in sides]


def test_suppression_is_ssds() -> None:
    own = build().suppression
    assert (own.nms_threshold, own.max_candidates_per_class, own.max_detections) == (0.45, 400, 200)
    assert own.max_detections_per_class == 0, "the limit for each class is BlitzNet's"


def maps_of(image_hw: tuple[int, int], widths: tuple[int, ...]) -> list[Tensor]:
    """Maps at strides 8, 16 and so on, sides rounded up."""
    sizes = [tuple(-(-side // (8 << level)) for side in image_hw) for level in range(len(widths))]
    return [torch.rand(2, width, *size, requires_grad=True) for width, size in zip(widths, sizes, strict=True)]


@pytest.mark.parametrize('pooled', [True, False])
@pytest.mark.parametrize('top_down', [True, False])
def test_a_level_hears_from_its_next_two_and_from_no_other(pooled: bool, top_down: bool) -> None:
    torch.manual_seed(0)
    config = IvaNetConfig(top_down=top_down, pooled=pooled, down_blocks=3, top_down_width=4, width=8)
    maps = maps_of((150, 230), (3, 4, 5, 6, 6, 6))
    levels = Decoder([x.shape[1] for x in maps], config).eval()(maps)
    assert len(levels) == 6 + pooled
    for place, level in enumerate(levels):
        gradients = torch.autograd.grad(
            (level * torch.randn_like(level)).sum(), maps, allow_unused=True, retain_graph=True
        )
        heard = [at for at, gradient in enumerate(gradients) if gradient is not None and gradient.any()]
        expected = range(place, place + 3 if top_down else place + 1)
        assert heard == sorted({min(at, 5) for at in expected}), 'the pooled level is the mean of the last map'


@pytest.mark.parametrize('size_hw', [(1, 1), (1, 2), (2, 3), (5, 10), (19, 38), (75, 100)])
def test_levels_keep_their_exact_sizes_and_places(size_hw: tuple[int, int]) -> None:
    own = torch.zeros(1, 3, *size_hw)
    half = [-(-side // 2) for side in size_hw]
    module = LocalTopDown(3, 2, 1, last=False)
    nn.init.ones_(module.up.weight)
    nn.init.zeros_(module.up.bias)  # type: ignore[arg-type]
    heard: list[Tensor] = []
    module.smooth.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    coarser = torch.rand(1, 2, *half)
    results = module(own, coarser, torch.rand(1, 1, *half))
    assert [x.shape for x in results] == [(1, 1, *size_hw)] * 2
    # A pixel hears from the one of half its row and column, to the last.
    rows, columns = (torch.arange(side) // 2 for side in size_hw)
    torch.testing.assert_close(heard[0][0, 0], coarser[0].sum(dim=0)[rows][:, columns])


def test_what_comes_from_beyond_is_added_to_the_own_map_and_rectified() -> None:
    torch.manual_seed(0)
    module = LocalTopDown(3, 2, 4, last=False).eval()
    own, coarser, beyond = torch.randn(1, 3, 5, 7), torch.randn(1, 2, 3, 4), torch.randn(1, 4, 3, 4)
    near, far = module(own, coarser, beyond)
    expected = nn.functional.conv_transpose2d(beyond, module.up_beyond.weight, module.up_beyond.bias, stride=2)
    torch.testing.assert_close(far, (expected[:, :, :5, :7] + module.project(own)).relu())
    assert torch.equal(module(own, coarser, -beyond)[0], near)
    assert count(LocalTopDown(3, 2, 4, last=True)) < count(module)


def test_without_local_top_down_a_level_is_its_own_map_made_384_wide() -> None:
    network = build(top_down=False)
    assert count(network.decoder) == sum(384 * width + 2 * 384 for width in (512, 1024, 2048, 512, 512, 512))
    assert not list(network.decoder.top_down)
    full = build()
    for part in ('encoder', 'bottleneck', 'mask_head', 'detection_head'):
        assert count(network.get_submodule(part)) == count(full.get_submodule(part))


def test_small_preset_has_less_than_4_million_parameters_and_takes_road_scenes() -> None:
    network = build('ivanet300_small', CITYSCAPES_11_3.name)
    assert count(network) == 3_880_091
    assert network.config.encoder == 'tf_efficientnet_lite0'
    height, width = network.input_spec.image_hw
    assert width > height
    assert run(network, height, width).mask_logits.shape == (2, 11, height, width)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'finest_stride': 16}, 'finest_stride: expected one of'),
        ({'width': 0}, 'width: expected 1 or more, got 0'),
        ({'scales': [0.1, 0.2]}, 'scales: expected those of the first, second and last level'),
        ({'scales': [0.2, 0.1, 0.9]}, 'scales that grow'),
        ({'encoder': 'adapnet'}, 'at stride 32'),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**changes)
