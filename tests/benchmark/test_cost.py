"""Parameters and operations against figures that are known, from a publication or by hand."""

import pytest
import torch
from torch import Tensor, nn

from perception.benchmark.cost import Cost, measure_cost
from perception.checkpoint import untrained_checkpoint
from perception.errors import ShapeError
from perception.interfaces import InputSpec
from perception.networks import NETWORKS
from tests.conftest import build_tiny_network


class Counted(nn.Module):
    """Two layers whose operations can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(image_hw=(10, 20))
        self.encoder = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.unused = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images.float()))


def test_operations_are_those_counted_by_hand() -> None:
    cost = measure_cost(Counted().eval())  # type: ignore[arg-type]
    pixels = 10 * 20
    assert cost.image_hw == (10, 20)
    assert cost.macs == pixels * (8 * 27 + 4 * 8)
    assert cost.parameters == 8 * 27 + (4 * 8 + 4) + 2 * 4 + (5 * 2 + 2)
    assert dict(cost.parts) == {
        'encoder': Cost(parameters=8 * 27, macs=pixels * 8 * 27),
        'head': Cost(parameters=4 * 8 + 4 + 2 * 4, macs=pixels * 4 * 8),
        'unused': Cost(parameters=12, macs=0),
    }
    larger = measure_cost(Counted().eval(), (20, 40))  # type: ignore[arg-type]
    assert larger.macs == 4 * cost.macs


def test_the_full_network_has_what_is_stated_of_it() -> None:
    cost = measure_cost(untrained_checkpoint('interdependent').network)
    assert (cost.parameters, cost.image_hw) == (37_892_870, (384, 768))
    assert cost.macs / 1e9 == pytest.approx(92.4, abs=0.05)
    stated = {'encoder': 36.5, 'bottleneck': 1.75, 'decoder': 11.9, 'mask_head': 23.0, 'detection_head': 19.3}
    for part, gmacs in stated.items():
        assert cost.parts[part].macs / 1e9 == pytest.approx(gmacs, abs=0.05), part


@pytest.mark.parametrize('name', [name for name in NETWORKS if name.endswith('_small')])
def test_the_parts_of_every_network_are_the_whole(name: str) -> None:
    cost = measure_cost(untrained_checkpoint(name).network, (128, 256))
    assert {'encoder', 'decoder', 'mask_head', 'detection_head'} <= set(cost.parts)
    assert sum(part.parameters for part in cost.parts.values()) == cost.parameters
    assert sum(part.macs for part in cost.parts.values()) == cost.macs > 0


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure_cost(network)
    assert not network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_size_that_the_network_cannot_serve_is_refused() -> None:
    with pytest.raises(ShapeError, match='100'):
        measure_cost(build_tiny_network(), (100, 200))
