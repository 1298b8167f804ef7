"""The contract that every network in the registry keeps."""

import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from perception.errors import ConfigError, ShapeError
from perception.interfaces import InputSpec, NetworkOutput, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, build_network, config_to_dict, resolve_config
from tests.small_networks import overrides_of

CLASSES, KINDS = 11, 3


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module', params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> PerceptionNetwork:
    torch.manual_seed(0)
    return build_network(request.param, CITYSCAPES_11_3, overrides_of(request.param))


def images_like(batch: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


def allowed(network: PerceptionNetwork, image_hw: tuple[int, int]) -> tuple[int, int]:
    """That size, or the next smaller one that the network takes."""
    height, width = (side // network.divisor * network.divisor for side in image_hw)
    return height, width


def check_shapes(output: NetworkOutput, batch: int, image_hw: tuple[int, int], *, training: bool) -> None:
    predictions = output.boxes.shape[1]
    assert output.boxes.shape == (batch, predictions, 4)
    assert output.boxes.dtype == torch.float32
    assert output.objectness.shape == (batch, predictions)
    assert output.class_logits.shape == (batch, predictions, KINDS)
    assert output.mask_logits.shape == (batch, CLASSES, *image_hw)
    if training:
        assert output.box_codes is not None
        assert output.box_codes.shape == (batch, predictions, 4)
        sizes = [tuple(logits.shape[2:]) for logits in output.auxiliary_mask_logits]
        assert [logits.shape for logits in output.auxiliary_mask_logits] == [(batch, CLASSES, *hw) for hw in sizes]
        # Nearest to the output first.
        assert sizes == sorted(sizes, reverse=True)
        agnostic = [tuple(logits.shape[2:]) for logits in output.agnostic_mask_logits]
        assert [logits.shape for logits in output.agnostic_mask_logits] == [(batch, 2, *hw) for hw in agnostic]
        assert agnostic == sorted(agnostic, reverse=True)
    else:
        assert output.box_codes is None
        assert output.auxiliary_mask_logits == output.agnostic_mask_logits == ()
    tensors = [output.boxes, output.objectness, output.class_logits, *masks_of(output)]
    assert all(torch.isfinite(tensor).all() for tensor in tensors)


def masks_of(output: NetworkOutput) -> list[Tensor]:
    return [output.mask_logits, *output.auxiliary_mask_logits, *output.agnostic_mask_logits]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('batch', 'image_hw'), [(1, (64, 96)), (2, (48, 32)), (2, (45, 70))])
def test_output_shapes(network: PerceptionNetwork, batch: int, image_hw: tuple[int, int], training: bool) -> None:
    image_hw = allowed(network, image_hw)
    network.train(training)
    with torch.no_grad():
        output = network(images_like(batch, *image_hw))
    check_shapes(output, batch, image_hw, training=training)


@pytest.mark.parametrize('image_hw', [(64, 96), (48, 32), (45, 70), (300, 300)])
def test_the_layout_counts_the_predictions(network: PerceptionNetwork, image_hw: tuple[int, int]) -> None:
    image_hw = allowed(network, image_hw)
    with torch.no_grad():
        found = network.eval()(images_like(1, *image_hw)).boxes.shape[1]
    layout = network.prediction_layout(image_hw)
    assert layout.predictions == found
    # What multi-box training minimises is a softmax with the background.
    assert layout.matching != 'multi_box' or network.class_activation == 'softmax'


@pytest.mark.parametrize('training', [True, False])
def test_a_task_can_be_switched_off(network: PerceptionNetwork, training: bool) -> None:
    network.train(training)
    ran: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda module, *_: ran.append(module))
        for part in (network.mask_head, network.detection_head)
        for layer in part.modules()
    ]
    images = images_like(2, 32, 32)
    with torch.no_grad():
        masks_only = network(images, detect=False)
        assert not set(ran) & set(network.detection_head.modules())
    ran.clear()
    boxes_only = network(images, segment=False)
    # Boxes may be made of masks: only what nothing of theirs is made of must not run.
    read = [value for layer in {*ran} & {*network.mask_head.modules()} for value in layer.parameters(recurse=False)]
    if read:
        assert None not in torch.autograd.grad(boxes_only.class_logits.sum(), read, allow_unused=True)
    for hook in hooks:
        hook.remove()
    assert masks_only.boxes.shape == (2, 0, 4)
    assert masks_only.objectness.shape == (2, 0)
    assert masks_only.class_logits.shape == (2, 0, KINDS)
    assert masks_only.mask_logits.shape == (2, CLASSES, 32, 32)
    assert boxes_only.mask_logits.shape == (2, 0, 32, 32)
    assert boxes_only.auxiliary_mask_logits == boxes_only.agnostic_mask_logits == ()
    assert boxes_only.boxes.shape[1] > 0


def test_switching_a_task_off_leaves_the_other_alone(network: PerceptionNetwork) -> None:
    network.eval()
    images = images_like(1, 64, 64)
    with torch.no_grad():
        both = network(images)
        torch.testing.assert_close(network(images, detect=False).mask_logits, both.mask_logits)
        torch.testing.assert_close(network(images, segment=False).boxes, both.boxes)


def test_bytes_and_floats_are_the_same_input(network: PerceptionNetwork) -> None:
    network.eval()
    images = images_like(1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images).mask_logits, network(images.float()).mask_logits)


def test_every_parameter_learns(network: PerceptionNetwork) -> None:
    network.train()
    network.zero_grad()
    output = network(images_like(3, 64, 64))
    assert output.box_codes is not None
    tensors = [output.box_codes, output.objectness, output.class_logits, *masks_of(output)]
    # Random weights: the plain sum after a batch norm is a constant, and would hide a cut connection.
    loss = sum((tensor * torch.randn_like(tensor)).sum() for tensor in tensors)
    assert isinstance(loss, Tensor)
    loss.backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    network.zero_grad()
    assert not idle


def test_wrong_size_is_refused_with_the_padded_one(network: PerceptionNetwork) -> None:
    if network.divisor == 1:
        pytest.skip('takes any size')
    side = network.divisor + 1
    with pytest.raises(ShapeError, match=f'{2 * network.divisor}x{2 * network.divisor}'):
        network(images_like(1, side, side))
    with pytest.raises(ShapeError, match='multiples'):
        build_network(network.name, CITYSCAPES_11_3, input_spec=InputSpec(image_hw=(side, side)))


def test_parts_hold_all_parameters(network: PerceptionNetwork) -> None:
    parts = ['encoder', 'bottleneck', 'decoder', 'mask_head', 'detection_head']
    held = [parameter for part in parts if hasattr(network, part) for parameter in getattr(network, part).parameters()]
    assert len(held) == len({id(parameter) for parameter in held})
    own = {id(parameter) for parameter in held}
    elsewhere = [name for name, parameter in network.named_parameters() if id(parameter) not in own]
    assert not elsewhere, f'Phases and tables know {parts}; these lie in none of them: {elsewhere}'
    assert network.class_activation in ('sigmoid', 'softmax')


def test_channels_last_gives_the_same(network: PerceptionNetwork) -> None:
    network.eval()
    images = images_like(1, 64, 64)
    with torch.no_grad():
        expected = network(images)
        found = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    network.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize('name', [name for name in NETWORKS if name.endswith('_small')])
def test_export_takes_the_whole_graph(name: str) -> None:
    network = build_network(name, CITYSCAPES_11_3, overrides_of(name)).eval()
    batch, rows, columns = (torch.export.Dim(axis, min=2, max=64) for axis in ('batch', 'rows', 'columns'))
    free = {'images': {0: batch, 2: network.divisor * rows, 3: network.divisor * columns}}
    if network.divisor == 1:
        # Of one size, as backends export it: where maps become single cells another graph begins.
        free = {'images': {0: batch}}
    exported = torch.export.export(network, (images_like(2, 64, 96),), dynamic_shapes=free).module()
    images = images_like(3, 64, 96) if network.divisor == 1 else images_like(3, 48, 128)
    with torch.no_grad():
        expected = network(images)
        found = exported(images)
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.mask_logits, expected.mask_logits)


@pytest.mark.parametrize('name', list(NETWORKS))
def test_configuration_survives_json(name: str) -> None:
    preset = NETWORKS[name].config
    assert resolve_config(name) == preset
    assert resolve_config(name, json.loads(json.dumps(config_to_dict(preset)))) == preset
    assert resolve_config(name, preset) is preset
    with pytest.raises(ConfigError, match='has no field'):
        resolve_config(name, {'no_such_field': 1})
    with pytest.raises(ConfigError, match='not a InputSpec'):
        resolve_config(name, InputSpec())


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no network 'interdependant'; did you mean 'interdependent'"):
        build_network('interdependant', CITYSCAPES_11_3)


def test_network_knows_what_rebuilds_it() -> None:
    spec = InputSpec(image_hw=(96, 128))
    network = build_network('interdependent_small', CITYSCAPES_11_3, {'trident_units': 1}, spec)
    again = build_network(network.name, network.labels, config_to_dict(network.config), network.input_spec)
    again.load_state_dict(network.state_dict())
    assert again.config == network.config
    assert again.input_spec == spec
