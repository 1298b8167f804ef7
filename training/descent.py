"""The training loop: steps down a loss, the same for every network that is trained here and whatever ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from perception.output_folder import StopRequest
from training.data.batch import Batch
from training.distributed import any_process
from training.errors import StepError
from training.phases import set_learning_rate

Losses = Callable[[Batch], Mapping[str, Tensor]]
"""Named scalars of a batch; ``total`` is descended on."""
Rate = Callable[[], float | None]
"""The learning rate of the next step; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that was taken."""

    losses: Mapping[str, Tensor]
    gradient_norm: Tensor
    """Of the joint batch, before it was clipped; not finite where half precision overflowed, and nothing changed."""
    rate: float
    images: int
    """In this process."""
    waited_s: float
    """For the batch."""
    stop: bool
    """Whether somebody asked a process to stop."""


class Descent:
    """Takes the steps of an optimizer.

    Args:
        fabric: Launched.
        network: The bare network, on its device.
        optimizer: Of what learns in it; not yet set up by Fabric.
        average: Follows the network; None: there is none.
        clip_norm: Largest norm of the gradient; 0: not clipped.
        stop: Is asked after every step.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        optimizer: Optimizer,
        *,
        average: AveragedModel | None,
        clip_norm: float,
        stop: StopRequest,
    ) -> None:
        self.fabric, self.network, self.average, self.stop = fabric, network, average, stop
        self.max_norm = clip_norm or math.inf
        self.optimizer = cast(Optimizer, fabric.setup_optimizers(optimizer))

    def steps(self, batches: Iterable[Batch], rate: Rate, losses: Losses) -> Iterator[Step]:
        """Take steps for as long as there is a rate.

        Raises:
            StepError: If a loss or the gradient is not finite in a process; all of them throw that step away.
        """
        source = iter(batches)
        while (now := rate()) is not None:
            waited = time.perf_counter()
            batch = next(source)
            waited = time.perf_counter() - waited
            set_learning_rate(self.optimizer, now)
            found = losses(batch)
            norm, stop = self._descend(found)
            yield Step(losses=found, gradient_norm=norm, rate=now, images=len(batch), waited_s=waited, stop=stop)

    def _descend(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, bool]:
        """The norm of the gradient, and whether somebody asked a process to stop."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(losses['total'])
        # Fabric takes back the scale of half-precision losses first; their scaler skips infinite gradients. A limit
        # without end multiplies by exactly 1.
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.max_norm, error_if_nonfinite=False
        )
        assert norm is not None
        figures = dict(losses)
        if getattr(self.fabric.strategy.precision, 'scaler', None) is None:
            figures['norm of the gradient'] = norm
        # Read after the backward pass is on its way: a GPU would wait for what is not yet asked of it.
        finite = bool(torch.stack([figure.detach().isfinite() for figure in figures.values()]).all())
        failed, stop = any_process(self.fabric, not finite, self.stop.requested)
        if failed:
            raise StepError(_not_finite(figures) or ['a loss of another process is not finite'])
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return norm, stop


def _not_finite(figures: Mapping[str, Tensor]) -> list[str]:
    return [f'{name} = {float(value.detach())}' for name, value in figures.items() if not value.detach().isfinite()]
