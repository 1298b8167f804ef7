"""The moving average of a network's weights and statistics, which is what is validated and kept.

What stands still, stands still in it, too: parts that a phase freezes do not change by a bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_of(network: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average of weights and running statistics, for what is validated and kept; None without decay."""
    if not decay:
        return None
    of_floats = get_ema_multi_avg_fn(decay)

    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        # A count of batches has no mean: PyTorch's would be rounded down, and fall although the count stands still.
        if averaged[0].is_floating_point():
            of_floats(averaged, current, count)
        else:
            torch._foreach_copy_(averaged, current)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return average.to(memory_format=torch.channels_last)
