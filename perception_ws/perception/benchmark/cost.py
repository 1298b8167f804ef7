"""What a network costs by its construction: parameters and multiply-accumulates, in all and by part.

Operations are counted by PyTorch while the network looks at one blank image: convolutions and matrix products. What
else there is, such as norms, activations and resizing, is left out, as publications do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from perception.interfaces import PerceptionNetwork


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a network, or of a part of it.

    Attributes:
        parameters: How many numbers it was trained with, or would be.
        macs: Multiply-accumulates for one image; half of what is called FLOPs.
    """

    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class NetworkCost(Cost):
    """Of a whole network.

    Attributes:
        image_hw: Height and width of the image that operations are counted for.
        parts: The same of what it is made of, by the names of its modules.
    """

    image_hw: tuple[int, int]
    parts: Mapping[str, Cost]


def measure_cost(network: PerceptionNetwork, image_hw: tuple[int, int] | None = None) -> NetworkCost:
    """Count what a network has and does, in evaluation.

    Args:
        network: In evaluation mode, on any device.
        image_hw: Height and width of the image; None: its own input size.

    Raises:
        ShapeError: If the network cannot serve that size.
    """
    height, width = image_hw or network.input_spec.image_hw
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros((1, 3, height, width), dtype=torch.uint8, device=device))
    flops = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    whole = type(network).__name__
    return NetworkCost(
        parameters=_count_parameters(network),
        macs=counter.get_total_flops() // 2,
        image_hw=(height, width),
        parts={
            name: Cost(parameters=_count_parameters(part), macs=_flops_of(part, f'{whole}.{name}', flops) // 2)
            for name, part in network.named_children()
        },
    )


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _flops_of(module: nn.Module, name: str, flops: Mapping[str, int]) -> int:
    """Of a module with its children, which the counter leaves out where they run in another method than ``forward``."""
    children = sum(_flops_of(child, f'{name}.{part}', flops) for part, child in module.named_children())
    return max(flops.get(name, 0), children)
