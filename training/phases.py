"""The phases of staged training: which parts of a network learn, and for how long.

The parts say the rest: a task runs, and counts in the loss, where its head is among those that learn.

The interdependent paper trains all parts, then segmentation alone, then the detector alone on the finished segmentation
features, then all again. Frozen means that not a bit changes: no gradient, and evaluation mode, since batch norm's
statistics and dropout would otherwise still alter what the frozen part says. A phase that freezes anything goes on from
the averaged network where there is one: that is the network that is kept, and what is frozen is then frozen in it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from perception.errors import ConfigError, nearest
from perception.interfaces import PerceptionNetwork
from training.checks import check_weights
from training.criterion import CriterionConfig

TrainedParts = tuple[str, ...] | Literal['all']
MASK_HEAD, DETECTION_HEAD = 'mask_head', 'detection_head'
MAY_BE_MISSING = ('bottleneck',)
"""Parts that not every network has: phases may name them for all, and train the others where there is none."""

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training.

    Attributes:
        name: For log lines and file names.
        trains: Names of the network's parts that learn, for example ``encoder``, or ``all``. With ``mask_head`` among
            them they learn from segmentation, with ``detection_head`` from detection; the other task does not run. A
            ``bottleneck`` may be named for networks that have none.
        w_seg, w_det: Weights of the losses of these tasks; None leaves the criterion's own.
        crop_hw: Height and width of what the augmentation gives; None leaves the transform's own. Crops at first, whole
            images at last: crops are quick, but large objects are seldom whole in them.
        shares: Of each data set in the draws, in their order; empty leaves their own. An image without a mask takes as
            long as one with a mask: masks first and both at last is more for the same time.
        freeze_batch_norm: Normalise with the running statistics and leave them as they are; scales and shifts still
            learn. Images of another kind then change no statistics of those before (Wu and Johnson: "Rethinking 'Batch'
            in BatchNorm").
        iterations: Optimizer steps.
        learning_rate: The full rate of its schedule.
    """

    name: str
    trains: TrainedParts = 'all'
    w_seg: float | None = None
    w_det: float | None = None
    crop_hw: tuple[int, int] | None = None
    shares: tuple[float, ...] = ()
    freeze_batch_norm: bool = False
    iterations: int
    learning_rate: float

    def __post_init__(self) -> None:
        if isinstance(self.trains, str) and self.trains != 'all':
            raise ConfigError(f'Phase {self.name!r}: trains is a list of parts or all; write [{self.trains}].')
        if not (self.segment or self.detect):
            raise ConfigError(
                f'Phase {self.name!r} trains {list(self.trains)} and no head, so from no task: add {MASK_HEAD} '
                f'(segmentation), {DETECTION_HEAD} (detection) or both.'
            )
        self._check_weight('w_seg', self.w_seg, MASK_HEAD)
        self._check_weight('w_det', self.w_det, DETECTION_HEAD)
        if self.crop_hw and min(self.crop_hw) < 1:
            raise ConfigError(f'Phase {self.name!r}: crop_hw must be two positive sides; got {self.crop_hw}.')
        check_weights(f'Phase {self.name!r}: shares', *self.shares)
        if self.shares and not any(self.shares):
            raise ConfigError(f'Phase {self.name!r}: shares must not all be 0; it would have no image.')
        if self.iterations < 1 or self.learning_rate <= 0:
            raise ConfigError(
                f'Phase {self.name!r} needs at least 1 iteration and a positive learning rate; '
                f'got {self.iterations} and {self.learning_rate}.'
            )

    def _check_weight(self, key: str, weight: float | None, head: str) -> None:
        if weight is None:
            return
        check_weights(f'Phase {self.name!r}: {key}', weight)
        if not self._trains(head):
            raise ConfigError(f'Phase {self.name!r}: {key} is of {head}, which it does not train; leave {key} out.')
        if not weight:
            raise ConfigError(f'Phase {self.name!r}: {key} is 0; leave {head} out of trains, and {key}.')

    def _trains(self, part: str) -> bool:
        return self.trains == 'all' or part in self.trains

    @property
    def segment(self) -> bool:
        """Whether masks are predicted and learned from."""
        return self._trains(MASK_HEAD)

    @property
    def detect(self) -> bool:
        """Whether boxes are predicted and learned from."""
        return self._trains(DETECTION_HEAD)


SEGMENTATION_PARTS = ('encoder', 'bottleneck', 'decoder', MASK_HEAD)

PAPER_PHASES = (
    Phase(name='joint', iterations=30_000, learning_rate=1e-3),
    Phase(
        name='segmentation',
        trains=SEGMENTATION_PARTS,
        iterations=120_000,
        learning_rate=1e-3,
    ),
    Phase(
        name='detection',
        trains=(DETECTION_HEAD,),
        iterations=120_000,
        learning_rate=1e-4,
    ),
    Phase(name='fine_tuning', iterations=50_000, learning_rate=1e-4),
)
"""The interdependent paper's 320,000 iterations on Cityscapes."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of every phase; each phase starts it afresh.

    Attributes:
        name: ``adam`` (the paper), ``adamw``, whose weight decay acts on the weights and not on the gradient, or
            ``sgd``.
        betas: Decay of Adam's two moments; the paper's.
        eps: Added to Adam's denominator; the paper's 1e-10 would vanish in half precision.
        momentum: Of ``sgd``.
        weight_decay: Of weights; norms and biases are spared. The paper states none.
        encoder_share: Share of the learning rate at which the part ``encoder`` learns; pre-trained, it wants less than
            what learns from scratch.
    """

    name: Literal['adam', 'adamw', 'sgd'] = 'adam'
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-10
    momentum: float = 0.9
    weight_decay: float = 0.0
    encoder_share: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ConfigError(f'Optimizer {self.name!r} is not offered; {nearest(self.name, list(OPTIMIZERS))}')
        if not all(0 <= beta < 1 for beta in self.betas) or self.eps <= 0 or self.weight_decay < 0:
            raise ConfigError(
                'An optimizer needs betas in [0, 1), eps > 0 and weight_decay >= 0; got '
                f'{self.betas}, {self.eps} and {self.weight_decay}.'
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(f'momentum: expected a share in [0, 1), got {self.momentum}.')
        if not 0 < self.encoder_share <= 1:
            raise ConfigError(f'encoder_share: expected a share in (0, 1], got {self.encoder_share}.')


Groups = list[dict[str, Any]]
"""Of parameters, as PyTorch's optimizers take them."""

OPTIMIZERS: dict[str, Callable[[Groups, float, OptimizerConfig], Optimizer]] = {
    'adam': lambda groups, rate, config: torch.optim.Adam(groups, rate, config.betas, config.eps),
    'adamw': lambda groups, rate, config: torch.optim.AdamW(groups, rate, config.betas, config.eps),
    'sgd': lambda groups, rate, config: torch.optim.SGD(groups, rate, config.momentum),
}


def weigh_losses(config: CriterionConfig, phase: Phase) -> CriterionConfig:
    """The criterion of a phase: the run's, with the phase's weights where it states them, 0 for what does not run."""
    w_seg = config.w_seg if phase.w_seg is None else phase.w_seg  # None: the network's own
    w_det = config.w_det if phase.w_det is None else phase.w_det
    return replace(config, w_seg=w_seg if phase.segment else 0.0, w_det=w_det if phase.detect else 0.0)


def freeze_all_but(network: PerceptionNetwork, trains: TrainedParts) -> None:
    """Let some parts learn and hold all others: no gradients, running statistics fixed, dropout off.

    A later ``network.train()`` wakes the norms and the dropout of the frozen parts; call ``set_training_mode`` instead.

    Args:
        network: The bare network, not one wrapped for distributed training.
        trains: The parts that learn.

    Raises:
        ConfigError: If the network has no part of that name.
    """
    _check_parts(network, trains)
    # The root's own flag stays on: it makes the network return what only losses need.
    network.train()
    for part, learns in _parts(network, trains):
        part.requires_grad_(learns)
        part.train(learns)
        if not learns:
            part.zero_grad(set_to_none=True)


def set_training_mode(network: PerceptionNetwork, phase: Phase) -> None:
    """Training mode as the phase wants it; what to call in place of ``network.train()``, after each evaluation."""
    freeze_all_but(network, phase.trains)
    if phase.freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()


def freezes(network: PerceptionNetwork, phase: Phase) -> bool:
    """Whether something of the network that training would change is held by a phase: parts, or running statistics."""
    return phase.freeze_batch_norm or any(
        not learns and any(True for _ in part.parameters()) for part, learns in _parts(network, phase.trains)
    )


def set_batch_norm_momentum(network: nn.Module, momentum: float) -> None:
    """How much of each batch's statistics goes into the running ones."""
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.momentum = momentum


def build_optimizer(network: PerceptionNetwork, phase: Phase, config: OptimizerConfig | None = None) -> Optimizer:
    """A fresh optimizer for the parts that a phase trains, and for nothing else.

    Args:
        network: The bare network.
        phase: Gives the parts and the first learning rate.
        config: None for the paper's.

    Returns:
        Parameter groups with and without weight decay; those of an encoder that learns at a share of the rate apart.

    Raises:
        ConfigError: If the network has no part of a name that the phase trains.
    """
    _check_parts(network, phase.trains)
    config = config or OptimizerConfig()
    learning = [part for part, learns in _parts(network, phase.trains) if learns]
    slow = [network.encoder] if config.encoder_share != 1 and network.encoder in learning else []
    groups = [
        *_groups([p for part in learning if part not in slow for p in part.parameters()], config),
        *_groups([p for part in slow for p in part.parameters()], config, rate_share=config.encoder_share),
    ]
    return _optimizer(groups, phase.learning_rate, config)


def optimizer_of(parameters: Sequence[nn.Parameter], learning_rate: float, config: OptimizerConfig) -> Optimizer:
    """A fresh optimizer in up to two parameter groups, with and without weight decay."""
    return _optimizer(_groups(parameters, config), learning_rate, config)


def _groups(parameters: Sequence[nn.Parameter], config: OptimizerConfig, **extra: float) -> Groups:
    # Weights of convolutions have more than one axis; norms and biases have one.
    groups: Groups = [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': config.weight_decay, **extra},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0, **extra},
    ]
    return [group for group in groups if group['params']]


def _optimizer(groups: Groups, learning_rate: float, config: OptimizerConfig) -> Optimizer:
    optimizer = OPTIMIZERS[config.name](groups, learning_rate, config)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The rate of the next step; groups with a ``rate_share`` learn at that share of it."""
    for group in optimizer.param_groups:
        group['lr'] = rate * group.get('rate_share', 1.0)


def _parts(network: PerceptionNetwork, trains: TrainedParts) -> Iterator[tuple[nn.Module, bool]]:
    """The direct children of the network, each with whether it learns."""
    for name, part in network.named_children():
        yield part, trains == 'all' or name in trains


def _check_parts(network: PerceptionNetwork, trains: TrainedParts) -> None:
    known = [name for name, _ in network.named_children()]
    for name in () if trains == 'all' else trains:
        if name not in (*known, *MAY_BE_MISSING):
            offered = [part for part, module in network.named_children() if any(True for _ in module.parameters())]
            raise ConfigError(f'Network {network.name!r} has no part {name!r} to train; {nearest(name, offered)}')
