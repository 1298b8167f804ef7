"""The run of a joint network: phase after phase, step after step, in a way that a killed run repeats to the bit.

A step is a function of the state and its number: the stream gives batch s, and the random numbers of dropout are seeded
from s. So the state that is saved holds weights, optimizer and step, and nothing about loaders or generators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from perception.checkpoint import not_finite, save_checkpoint
from perception.errors import NotFiniteError
from perception.interfaces import PerceptionNetwork
from perception.output_folder import StopRequest
from training.average import average_of
from training.configuration import TrainingConfig, config_values
from training.criterion import Criterion, unlearned
from training.data.batch import Batch
from training.data.dataset import SceneDataset
from training.data.mixture import seed_of
from training.descent import Descent, Step
from training.distributed import any_process, gather_from_processes, sum_over_processes, synchronise_batch_norm
from training.errors import StepError, TrainingError
from training.meter import Meter
from training.phases import Phase, build_optimizer, freezes, set_batch_norm_momentum, set_training_mode, weigh_losses
from training.preparation import Start, open_stream
from training.run_folder import LAST, RunFolder, describe_environment
from training.schedule import learning_rate
from training.validation import format_scores, validate

DROPOUT_STREAM = 1
"""Tells the random numbers of dropout apart from those of order and augmentation, which have the same seed."""


@dataclass
class Progress:
    """Where a run stands."""

    phase: int = 0
    phase_step: int = 0
    step: int = 0
    best: float = float('-inf')
    scores: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains one network.

    Args:
        config: The run.
        fabric: Launched.
        folder: Where it is written down.
        start: Network and losses; phases may weigh the tasks otherwise.
        datasets: What is trained on, at network size.
        validation: What chooses the checkpoint.
        stop: Is asked after every step.
    """

    def __init__(
        self,
        config: TrainingConfig,
        fabric: Fabric,
        folder: RunFolder,
        start: Start,
        datasets: Sequence[SceneDataset],
        validation: Sequence[SceneDataset],
        stop: StopRequest,
    ) -> None:
        self.config, self.fabric, self.folder = config, fabric, folder
        self.start, self.datasets, self.validation = start, datasets, validation
        set_batch_norm_momentum(start.network, config.batch_norm_momentum)
        synchronise_batch_norm(start.network, fabric)
        self.network = start.network.to(fabric.device).to(memory_format=torch.channels_last)
        self.average = average_of(self.network, config.average_decay)
        self.progress = Progress()
        self.stop = stop
        self.meter = Meter(gather_from_processes(fabric))
        self._saved_optimizer: dict[str, Any] | None = None

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.network.load_state_dict(state['network'])
        if self.average is not None:
            self.average.load_state_dict(state['average'])
        self.progress = Progress(**state['progress'])
        own = {name: sums[self.fabric.global_rank] for name, sums in state['losses'].items()}
        self.meter = Meter(self.meter.gather, own, state['gradient_norms'])
        self._saved_optimizer = state['optimizer']
        self.fabric.strategy.precision.load_state_dict(state['precision'])

    def run(self) -> None:
        """Train all phases that are left, or until somebody asks to stop: then the state is saved.

        Raises:
            KeyboardInterrupt: If somebody did.
            TrainingError: If a loss is not a number, or the disk is full.
        """
        bar = tqdm(
            total=self.config.iterations,
            initial=self.progress.step,
            unit='step',
            disable=not self.folder.writes,
            dynamic_ncols=True,
        )
        with bar:
            for phase in self.config.phases[self.progress.phase :]:
                self._train_phase(phase, bar)
                self.progress.phase += 1
                self.progress.phase_step = 0
                self._keep(phase, None)

    def _train_phase(self, phase: Phase, bar: tqdm[Any]) -> None:
        config, progress, meter = self.config, self.progress, self.meter
        if freezes(self.network, phase) and self.average is not None and progress.phase_step == 0:
            # What is frozen is then the same in both and stays so. Else the average would still come closer to it, and
            # what learns would learn on what is not kept. All comes along: statistics and weights fit each other.
            self.network.load_state_dict(self.average.module.state_dict())
        set_training_mode(self.network, phase)
        optimizer = build_optimizer(self.network, phase, config.optimizer)
        # Set up anew in each phase: the parameters that processes exchange gradients of are other ones.
        module = self.fabric.setup_module(self.network, move_to_device=False)
        descent = Descent(
            self.fabric, self.network, optimizer, average=self.average, clip_norm=config.clip_norm, stop=self.stop
        )
        if self._saved_optimizer is not None:
            optimizer.load_state_dict(self._saved_optimizer)
            self._saved_optimizer = None
        criterion = Criterion(weigh_losses(self.start.criterion, phase), sum_over_processes(self.fabric))
        left = phase.iterations - progress.phase_step
        stream = open_stream(
            config, phase, self.datasets, self.fabric, start_step=progress.step, stop_step=progress.step + left
        )
        bar.set_description(phase.name)
        meter.restart_clock()
        try:
            for step in descent.steps(
                stream, lambda: self._rate(phase), lambda batch: self._losses(phase, module, criterion, batch)
            ):
                self._note(phase, step, optimizer, bar)
        except StepError as error:
            self._give_up(phase, error.reasons)

    def _rate(self, phase: Phase) -> float | None:
        """The rate of the phase's next step; None at its end."""
        done, schedule = self.progress.phase_step, self.config.schedule
        if done == phase.iterations:
            return None
        return learning_rate(schedule, done, initial=phase.learning_rate, iterations=phase.iterations)

    def _losses(self, phase: Phase, module: nn.Module, criterion: Criterion, batch: Batch) -> dict[str, Tensor]:
        torch.manual_seed(seed_of(self.config.seed, DROPOUT_STREAM, self.progress.step, self.fabric.global_rank))
        images = batch.images.to(self.fabric.device, non_blocking=True)
        output = module(images, segment=phase.segment, detect=phase.detect)
        losses = criterion(self.network, output, batch)
        return losses | {'total': losses['total'] + 0 * unlearned(losses, output)}

    def _note(self, phase: Phase, step: Step, optimizer: Optimizer, bar: tqdm[Any]) -> None:
        """Count a step that was taken, and do what is due after it.

        Raises:
            KeyboardInterrupt: If somebody asked to stop; the state is saved.
        """
        config, progress, meter = self.config, self.progress, self.meter
        progress.step += 1
        progress.phase_step += 1
        meter.wait(step.waited_s)
        meter.add(step.losses, step.gradient_norm, step.images * self.fabric.world_size)
        bar.update()
        done = progress.phase_step == phase.iterations
        if done or progress.step % config.log_every == 0:
            record = meter.record()
            bar.set_postfix(loss=f'{record["losses"]["total"]:.3g}', img_s=f'{record["images_per_s"]:.1f}')
            self.folder.log({'step': progress.step, 'phase': phase.name, 'learning_rate': step.rate, **record})
        if done or (config.validate_every and progress.step % config.validate_every == 0):
            self._validate(phase)
            meter.restart_clock()
        if not done and (step.stop or progress.step % config.save_every == 0):
            self._keep(phase, optimizer)
        if step.stop and not done:
            raise KeyboardInterrupt

    def _give_up(self, phase: Phase, reasons: Sequence[str]) -> None:
        last = self.folder.path / LAST
        kept = f'{last} is intact: start a new run with --start_from it' if last.exists() else 'Start a new run'
        raise TrainingError(
            f'Phase {phase.name!r}, step {self.progress.step}: {", ".join(reasons)}. The weights of this step were '
            f'thrown away. {kept}, with a lower learning rate or with clip_norm.'
        )

    def _validate(self, phase: Phase) -> None:
        """Score in the first process, while the others wait."""
        error: Exception | None = None
        try:
            if self.validation and self.folder.writes:
                self._score(phase)
        except Exception as raised:
            error = raised
        (failed,) = any_process(self.fabric, error is not None)
        if failed:
            raise error or TrainingError(f'Step {self.progress.step}: the first process could not validate.')
        set_training_mode(self.network, phase)

    def _score(self, phase: Phase) -> None:
        """Keep the network if it is the best so far."""
        progress, network = self.progress, self._best_guess()
        try:
            progress.scores = validate(network, self.validation, str(self.fabric.device))
        except NotFiniteError as error:
            self._give_up(phase, [str(error).rstrip('.')])
        self.folder.log({'step': progress.step, 'phase': phase.name, 'validation': progress.scores})
        best = progress.scores[self.config.select_by] > progress.best
        if best:
            progress.best = progress.scores[self.config.select_by]
            self._save_checkpoint('best.safetensors', network, phase)
        tqdm.write(
            f'Step {progress.step:,}, {phase.name}: {format_scores(progress.scores)}{"; the best so far" * best}'
        )

    def _keep(self, phase: Phase, optimizer: Optimizer | None) -> None:
        """Save what a killed run goes on from, and the network as it is. All processes wait for the first one: once
        another has ended, their launcher ends it, too.
        """
        broken = not_finite(self.network.state_dict())
        if broken:
            self._give_up(phase, [f'{name} is not finite' for name in broken[:3]])
        # The state first: weights without one mean that it was lost.
        self.folder.save_state(
            {
                'step': self.progress.step,
                'start': self.start.state(),
                'progress': vars(self.progress),
                'network': self.network.state_dict(),
                'average': None if self.average is None else self.average.state_dict(),
                'optimizer': None if optimizer is None else optimizer.state_dict(),
                'losses': self.meter.sums(),
                'gradient_norms': self.meter.gradient_norms,
                'precision': self.fabric.strategy.precision.state_dict(),
            }
        )
        self._save_checkpoint(LAST, self._best_guess(), phase)
        self.fabric.barrier()
        set_training_mode(self.network, phase)

    def _best_guess(self) -> PerceptionNetwork:
        """The averaged network where there is one."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]

    def _save_checkpoint(self, name: str, network: PerceptionNetwork, phase: Phase) -> None:
        if not self.folder.writes:
            return
        provenance = {
            'step': self.progress.step,
            'of': self.config.iterations,
            'phase': phase.name,
            'validation': self.progress.scores,
            'training': config_values(self.config),
            'environment': describe_environment(),
        }
        if self.start.started_from:
            # A run's figures repeat only if the runs before it are known, too.
            provenance['started_from'] = self.start.started_from
        save_checkpoint(self.folder.path / name, network, provenance)
