"""Several processes that train as one: batch norm over all of them, and the sums that losses are divided by.

torch.nn.SyncBatchNorm serves GPUs only. CPU processes take the same statistics with autograd-aware sums, so that what a
test proves with two CPU processes is what several GPUs do. (Ioffe and Szegedy, "Batch Normalization", section 3.)

Shape letters: B images of this process, D channels, H W rows and columns of the map.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn

from perception.errors import ConfigError
from training.configuration import TrainingConfig
from training.criterion import Reduce, only_this_process


def build_fabric(config: TrainingConfig) -> Fabric:
    """Lightning Fabric as the configuration says; its ``launch`` starts or joins the processes.

    Raises:
        ConfigError: If this machine does not have what the configuration asks for.
    """
    processes = config.devices * config.num_nodes
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            precision=config.precision,
            strategy=DDPStrategy(forward_sync_buffers=False) if processes > 1 else 'auto',
        )
    except (RuntimeError, ValueError) as error:  # Lightning's own errors are ValueErrors and RuntimeErrors
        raise ConfigError(
            f'accelerator {config.accelerator!r} with {config.devices} devices cannot be had here: {error}'
        ) from error


def any_process(fabric: Fabric, here: bool) -> bool:
    """Whether something holds in at least one process; the same answer in all of them."""
    if fabric.world_size == 1:
        return here
    return bool(sum_over_processes(fabric)(torch.tensor([int(here)], device=fabric.device)))


def sum_over_processes(fabric: Fabric) -> Reduce:
    """What Criterion needs to divide by counts of the joint batch."""
    if fabric.world_size == 1:
        return only_this_process

    def total(counts: Tensor) -> Tensor:
        summed = counts.clone()
        torch.distributed.all_reduce(summed)
        return summed

    return total


def synchronise_batch_norm(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Let every batch norm use the statistics of all processes' images; a single process keeps its own."""
    if fabric.world_size == 1:
        return network
    if fabric.device.type == 'cuda':
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, CpuSyncBatchNorm.like(child))
        else:
            synchronise_batch_norm(child, fabric)
    return network


class _Sum(torch.autograd.Function):
    """Sum over all processes; so is its gradient, since every process's result depends on every process's input."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes; weights and buffers as in nn.BatchNorm2d."""

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> CpuSyncBatchNorm:
        """The same norm, with the same tensors."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synced.weight, synced.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(synced, name, buffer)
        return synced.train(norm.training)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, D, H, W) -> the same."""
        if not self.training:
            return super().forward(maps)
        count = _Sum.apply(maps.new_tensor(float(maps[:, 0].numel())))
        mean = _Sum.apply(maps.sum((0, 2, 3))) / count
        # Centred first: mean of squares minus square of mean would cancel away the digits.
        centred = maps - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        return centred * (self.weight * torch.rsqrt(variance + self.eps))[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
