"""Several processes that train as one: batch norm over all of them, and the sums that losses are divided by.

torch.nn.SyncBatchNorm serves GPUs only. CPU processes take the same statistics with autograd-aware sums, so that what a
test proves with two CPU processes is what several GPUs do. (Ioffe and Szegedy, "Batch Normalization", section 3.)

Shape letters: B images of this process, D channels, H W rows and columns of the map.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from perception.errors import ConfigError
from training.configuration import TrainingConfig
from training.criterion import Reduce, only_this_process
from training.meter import Gather, alone

PATIENCE = timedelta(days=1)
"""How long processes wait for one that validates. A process that died is noticed at once."""


def build_fabric(config: TrainingConfig) -> Fabric:
    """Lightning Fabric as the configuration says; its ``launch`` starts or joins the processes.

    Raises:
        ConfigError: If this machine does not have what the configuration asks for.
    """
    processes = config.devices * config.num_nodes
    if 'TORCHELASTIC_RUN_ID' in os.environ and int(os.environ['WORLD_SIZE']) != processes:
        raise ConfigError(
            f'torchrun started {os.environ["WORLD_SIZE"]} processes, but devices {config.devices} x num_nodes '
            f'{config.num_nodes} asks for {processes}; set --devices (of one machine) and --num_nodes to match.'
        )
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            precision=config.precision,
            strategy=DDPStrategy(forward_sync_buffers=False, timeout=PATIENCE) if processes > 1 else 'auto',
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(
            f'accelerator {config.accelerator!r} with {config.devices} devices cannot be had here: {error}'
        ) from error


def leave_processes() -> None:
    """End the work of several processes together, after the last thing that they do as one.

    One that ends while another still talks to it may take that one with it: gloo's threads are then cut off in the
    middle, and the process aborts.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def any_process(fabric: Fabric, *here: bool) -> list[bool]:
    """Whether each of some things holds in at least one process; the same answers in all of them, which wait for it."""
    if fabric.world_size == 1:
        return list(here)
    sums = sum_over_processes(fabric)(torch.tensor(here, dtype=torch.int64, device=fabric.device))
    return [count > 0 for count in sums.tolist()]


def sum_over_processes(fabric: Fabric) -> Reduce:
    """What Criterion needs to divide by counts of the joint batch."""
    if fabric.world_size == 1:
        return only_this_process

    def total(counts: Tensor) -> Tensor:
        summed = counts.clone()
        torch.distributed.all_reduce(summed)
        return summed

    return total


def gather_from_processes(fabric: Fabric) -> Gather:
    """What Meter needs to write down the losses of the joint batch."""
    if fabric.world_size == 1:
        return alone

    def gathered(values: Tensor) -> Tensor:
        rows = [torch.empty_like(values) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(rows, values)
        return torch.stack(rows)

    return gathered


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
        dtype = maps.dtype
        maps = maps.to(self.weight.dtype)  # in half precision a count of pixels has no room
        count = _Sum.apply(maps.new_tensor(float(maps[:, 0].numel())))
        mean = _Sum.apply(maps.sum((0, 2, 3))) / count
        # Centred first: mean of squares minus square of mean would cancel away the digits.
        centred = maps - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
