"""Meter: what a run writes down of its losses, its speed and its memory."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
"""(N,) values of this process -> (P, N), those of all P; every process must call it."""


def alone(values: Tensor) -> Tensor:
    """Gathers from a single process."""
    return values[None]


class Meter:
    """Means of losses over steps and processes, and the speed since the last record.

    Args:
        gather: From all processes that train together.
        losses: Sums that this process had come to before an interruption.
        gradient_norms: Of the steps that they are of.
    """

    def __init__(
        self,
        gather: Gather = alone,
        losses: Mapping[str, Tensor] | None = None,
        gradient_norms: Sequence[float | None] = (),
    ) -> None:
        self.gather = gather
        self.losses, self.gradient_norms = dict(losses or {}), list(gradient_norms)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Measure speed from now on; what was in between does not count."""
        self._images, self._waited_s = 0, 0.0
        self._start = time.perf_counter()

    def wait(self, seconds: float) -> None:
        self._waited_s += seconds

    def add(self, losses: Mapping[str, Tensor], gradient_norm: Tensor, images: int) -> None:
        """Count a step. The norm, before it was clipped, is that of the joint batch, so the same in all processes."""
        # Added on the device: reading each value would make the GPU wait.
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, torch.zeros_like(loss)) + loss.detach()
        norm = float(gradient_norm)
        self.gradient_norms.append(float(f'{norm:.4g}') if math.isfinite(norm) else None)
        self._images += images

    def sums(self) -> dict[str, Tensor]:
        """The sums of all P processes, (P,) for each loss; every process must ask for them at the same step."""
        if not self.losses:
            return {}
        gathered = self.gather(torch.stack(list(self.losses.values())))
        return dict(zip(self.losses, gathered.unbind(1), strict=True))

    def record(self) -> dict[str, Any]:
        """Mean losses, norm of the gradient in each step (None where half precision overflowed), images a second, share
        of the time spent waiting for data, and memory; then a new stretch.

        As ``sums``, every process must ask for it at the same step.
        """
        seconds = time.perf_counter() - self._start
        cuda = any(loss.is_cuda for loss in self.losses.values())  # a machine with a GPU may train on its CPU
        record = {
            'losses': {name: float(value.mean()) / len(self.gradient_norms) for name, value in self.sums().items()},
            'gradient_norms': self.gradient_norms,
            'images_per_s': round(self._images / seconds, 2),
            'waiting_share': round(self._waited_s / seconds, 4),
            'memory_mib': round(
                torch.cuda.max_memory_allocated() / 2**20
                if cuda
                else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            ),
        }
        self.losses, self.gradient_norms = {}, []
        self.restart_clock()
        return record
