"""PairNet and TripleNet: sizes as the paper's parts give them, every output's shape, and what each module does."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.errors import ConfigError
from perception.interfaces import InputSpec, LabelSpace, NetworkOutput
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.networks import NETWORKS, build_network
from perception.networks.triplenet import PAIRNET, TRIPLENET, SkipFusion, TripleNet, TripleNetConfig

VOC, COCO = load_label_space('voc_21_20'), load_label_space('coco_81_80')
NARROW = replace(
    TRIPLENET,
    encoder='tf_efficientnet_lite0',
    down_units=1,
    down_width=16,
    width=16,
    mask_width=8,
    inner_widths=(8, 8),
    detector_width=16,
)
OFF = {'fused_masks': False, 'inner_connected': False, 'class_agnostic': False, 'attention': False}


def build(config: TripleNetConfig, labels: LabelSpace = CITYSCAPES_11_3, *, device: str = 'cpu') -> TripleNet:
    torch.manual_seed(0)
    with torch.device(device):
        return TripleNet(name='drawn', config=config, labels=labels, input_spec=InputSpec(image_hw=(64, 96)))


def narrow(**switches: object) -> TripleNet:
    return build(replace(NARROW, **switches))  # type: ignore[arg-type]


def images_like(batch: int, height: int, width: int, device: str = 'cpu') -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, device=device)


@pytest.mark.parametrize(
    ('config', 'labels', 'parameters'),
    [
        (PAIRNET, VOC, 66_857_538),
        (replace(PAIRNET, fused_masks=True), VOC, 68_700_375),
        (replace(PAIRNET, fused_masks=True, inner_connected=True), VOC, 70_858_167),
        (replace(TRIPLENET, attention=False), VOC, 70_913_475),
        (TRIPLENET, VOC, 71_740_515),
        (replace(TRIPLENET, class_agnostic=False), VOC, 71_685_207),
        (replace(TRIPLENET, encoder='resnet101'), VOC, 90_732_643),
        (TRIPLENET, COCO, 74_317_815),
        (replace(TRIPLENET, down_width=512), VOC, 45_532_259),
    ],
)
def test_parameters_of_the_published_parts(config: TripleNetConfig, labels: LabelSpace, parameters: int) -> None:
    network = build(config, labels, device='meta')
    assert sum(value.numel() for value in network.parameters()) == parameters


@pytest.mark.parametrize('name', ['pairnet300_small', 'triplenet300_small'])
def test_the_small_ones_have_at_most_four_million_parameters(name: str) -> None:
    with torch.device('meta'):
        network = build_network(name, CITYSCAPES_11_3)
    assert 3_400_000 < sum(value.numel() for value in network.parameters()) <= 4_000_000


@pytest.mark.parametrize(
    ('name', 'sides', 'proposals'),
    [('pairnet300', (38, 19, 10, 5, 3, 2), 11_658), ('triplenet300', (38, 19, 10, 5, 3, 2), 11_658),
     ('pairnet512', (64, 32, 16, 8, 4, 2), 32_760), ('triplenet512', (64, 32, 16, 8, 4, 2), 32_760)],
)  # fmt: skip
def test_every_output_shape(name: str, sides: tuple[int, ...], proposals: int) -> None:
    side = NETWORKS[name].input_spec.image_hw[0]
    with torch.device('meta'):
        network = build_network(name, VOC)
    output = network(images_like(2, side, side, 'meta'))
    assert network.prediction_layout((side, side)).predictions == proposals
    assert output.boxes.shape == (2, proposals, 4)
    assert output.box_codes is not None
    assert output.box_codes.shape == (2, proposals, 4)
    assert output.objectness.shape == (2, proposals)
    assert output.class_logits.shape == (2, proposals, 20)
    assert output.mask_logits.shape == (2, 21, side, side)
    triple = name.startswith('triple')
    # Without fused masks the finest level is the output itself.
    assert shapes(output.auxiliary_mask_logits) == [(2, 21, n, n) for n in (sides if triple else sides[1:])]
    assert shapes(output.agnostic_mask_logits) == [(2, 2, n, n) for n in (sides if triple else ())]
    assert network.auxiliary_weights == (1.0,) * len(output.auxiliary_mask_logits)
    found = network.eval()(images_like(1, side, side, 'meta'))
    assert (found.box_codes, found.auxiliary_mask_logits, found.agnostic_mask_logits) == (None, (), ())
    assert found.boxes.shape == (1, proposals, 4)
    assert found.mask_logits.shape == (1, 21, side, side)


def shapes(tensors: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]


@pytest.mark.parametrize('image_hw', [(64, 96), (45, 70), (300, 200)])
def test_levels_are_at_strides_8_to_256_rounded_up(image_hw: tuple[int, int]) -> None:
    network = narrow()
    with torch.no_grad():
        output = network(images_like(2, *image_hw))
    strides = [8, 16, 32, 64, 128, 256]
    sizes = [tuple(-(-side // stride) for side in image_hw) for stride in strides]
    assert [tuple(logits.shape[2:]) for logits in output.auxiliary_mask_logits] == sizes
    assert [tuple(logits.shape[2:]) for logits in output.agnostic_mask_logits] == sizes
    assert network.prediction_layout(image_hw).levels_hw == tuple(sizes)


def test_a_fusion_is_a_residual_unit_over_both_maps() -> None:
    torch.manual_seed(0)
    fusion = SkipFusion(6, replace(NARROW, width=8, attention=False)).eval()
    coarser, skip = torch.randn(2, 8, 3, 4), torch.randn(2, 6, 5, 8)
    joined = torch.cat((F.interpolate(coarser, (5, 8), mode='bilinear', align_corners=False), skip), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(fusion(coarser, skip), F.relu(fusion.shortcut(joined) + fusion.residual(joined)))


def test_attention_weighs_the_encoders_channels_by_what_the_decoder_has() -> None:
    torch.manual_seed(0)
    fusion = SkipFusion(6, replace(NARROW, width=8, attention_reduction=2)).eval()
    coarser, skip = torch.randn(1, 8, 3, 4), torch.randn(1, 6, 5, 8)
    seen: list[Tensor] = []
    fusion.residual.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    squeeze, excite = fusion.excite[1], fusion.excite[3]
    with torch.no_grad():
        fusion(coarser, skip)
        upsampled, weighed = seen[0].split(8, dim=1)
        mean = upsampled.mean(dim=(2, 3))
        hidden = F.relu(mean @ squeeze.weight.flatten(1).T + squeeze.bias)
        weights = torch.sigmoid(hidden @ excite.weight.flatten(1).T + excite.bias)
        torch.testing.assert_close(weighed, fusion.project(skip) * weights[..., None, None])
        torch.testing.assert_close(upsampled, F.interpolate(coarser, (5, 8), mode='bilinear', align_corners=False))


def test_fused_masks_are_made_of_all_levels() -> None:
    network = narrow().eval()
    head, levels = network.mask_head, [torch.randn(1, 16, side, side) for side in (8, 4, 2, 1, 1, 1)]
    with torch.no_grad():
        narrowed = [layer(x) for layer, x in zip(head.narrow, levels, strict=True)]
        resized = [F.interpolate(x, (8, 8), mode='bilinear', align_corners=False) for x in narrowed]
        expected = head.parse_fused(torch.cat(resized, dim=1))
        expected = F.interpolate(expected, (64, 64), mode='bilinear', align_corners=False)
        torch.testing.assert_close(head(levels, [], (64, 64)), expected)


def test_without_fused_masks_the_finest_level_is_the_output() -> None:
    network = narrow(**OFF)
    seen: list[Tensor] = []
    network.mask_head.parse[0].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        output = network(images_like(2, 64, 96))
        expected = F.interpolate(seen[0], (64, 96), mode='bilinear', align_corners=False)
    torch.testing.assert_close(output.mask_logits, expected)
    assert len(output.auxiliary_mask_logits) == 5


@pytest.mark.parametrize('connected', [True, False])
def test_the_detector_learns_from_mask_logits_only_where_they_are_connected(connected: bool) -> None:
    network = narrow(inner_connected=connected)
    output = network(images_like(2, 64, 96), segment=False)
    (output.class_logits * torch.randn_like(output.class_logits)).sum().backward()
    for layer in network.mask_head.parse:
        assert isinstance(layer, nn.Conv2d)
        assert (layer.weight.grad is not None and bool(layer.weight.grad.any())) == connected


@pytest.mark.parametrize(
    ('switches', 'tasks', 'parsed'),
    [
        ({}, {}, 6),  # the detector reads them
        ({}, {'detect': False}, 0),
        ({}, {'segment': False}, 6),
        ({'inner_connected': False}, {}, 0),
        (OFF, {}, 1),
        (OFF, {'segment': False}, 0),
    ],
)
def test_in_evaluation_only_what_is_read_is_computed(
    switches: dict[str, bool], tasks: dict[str, bool], parsed: int
) -> None:
    network = narrow(**switches).eval()
    ran: list[nn.Module] = []
    for layer in (*network.mask_head.parse, *network.mask_head.separate):
        layer.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.no_grad():
        output = network(images_like(1, 64, 96), **tasks)
    assert ran == list(network.mask_head.parse)[:parsed]
    assert (output.auxiliary_mask_logits, output.agnostic_mask_logits) == ((), ())


def test_class_agnostic_layers_change_nothing_in_evaluation() -> None:
    trained, images = narrow().eval(), images_like(1, 64, 96)
    without = narrow(class_agnostic=False).eval()
    kept = {key: value for key, value in trained.state_dict().items() if not key.startswith('mask_head.separate')}
    without.load_state_dict(kept)
    with torch.no_grad():
        for found, expected in zip(without(images), trained(images), strict=True):
            if isinstance(found, Tensor):
                assert torch.equal(found, expected)


def test_levels_learn_the_objects_of_their_size_where_they_are_specific() -> None:
    boxes = torch.tensor([[10.0, 10.0, 40.0, 40.0], [0.0, 0.0, 300.0, 290.0], [5.0, 5.0, 65.0, 65.0]])
    specific = build(replace(TRIPLENET, scale_specific=True), device='meta')
    found = specific.auxiliary_objects(boxes, (300, 300))
    assert found is not None
    assert [row.nonzero().flatten().tolist() for row in found] == [[0], [4, 5], [0, 1]]
    assert build(TRIPLENET, device='meta').auxiliary_objects(boxes, (300, 300)) is None


@pytest.mark.parametrize(
    ('switches', 'said'),
    [
        ({'mask_levels': 'finest'}, 'are of all levels, not finest'),
        ({'mask_levels': 'some'}, 'mask_levels'),
        ({'fused_masks': False, 'scale_specific': True}, 'needs fused_masks'),
        ({'scales': (0.1, 0.2)}, 'expected those of the first'),
        ({'scales': (0.3, 0.2, 0.9)}, 'grow'),
        ({'inner_widths': ()}, 'one or more'),
        ({'width': 0}, 'width'),
        ({'width': 30}, 'multiple of 4'),
    ],
)
def test_what_does_not_go_together_is_refused(switches: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(TRIPLENET, **switches)  # type: ignore[arg-type]


def test_masks_of_the_finest_level_alone_have_no_auxiliary_ones() -> None:
    network = narrow(**OFF, mask_levels='finest')
    output: NetworkOutput = network(images_like(2, 64, 96))
    assert output.auxiliary_mask_logits == network.auxiliary_weights == ()
    assert len(network.mask_head.parse) == 1
