"""Staged training of a joint network: the interdependent paper's four phases, or any others.

    python training/staged_train.py --config config/training/interdependent_cityscapes.yaml
    python -m training.staged_train --config ... --batch_size 4 --output out/training/small

Several GPUs: ``--devices 4``, here or under torchrun. A killed run goes on with ``--resume``; on a CPU it ends with the
same weights to the bit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ''):
    # Run as a file: the checkout's root, not this folder, is where packages are found.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from perception.errors import PerceptionError
from perception.output_folder import StopRequest
from training.configuration import TrainingConfig, config_values, parse_arguments
from training.distributed import build_fabric, leave_processes
from training.engine import Trainer
from training.preparation import load_start, prepare_datasets, prepare_start, prepare_validation, restore_start
from training.run_folder import RunFolder


def train(config: TrainingConfig, *, resume: bool = False) -> Path:
    """Train as configured.

    Returns:
        The run's folder, with ``last.safetensors`` and, where there was validation, ``best.safetensors``.

    Raises:
        PerceptionError: If the configuration, the data or the disk do not allow it, or a loss is not a number.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = build_fabric(config)
    fabric.launch()
    values, path = config_values(config), Path(config.output)
    with RunFolder(path, values, resume=resume, writes=fabric.global_rank == 0) as folder:
        state = folder.load_state() if resume else None
        checkpoint = load_start(config) if state is None else None
        datasets = prepare_datasets(config, fabric, checkpoint, None if state is None else state['start'])
        validation = prepare_validation(config)
        if state is None:
            start = prepare_start(config, datasets, checkpoint)
        else:
            start = restore_start(config, datasets, state['start'])
        stop = StopRequest()
        trainer = Trainer(config, fabric, folder, start, datasets, validation, stop)
        if state is not None:
            trainer.restore(state)
            if trainer.progress.step == config.iterations:
                _say(f'All {config.iterations:,} steps were taken before; nothing is left to do.')
        folder.begin()
        folder.forget_after(trainer.progress.step if resume else 0)
        with stop:
            trainer.run()
    leave_processes()
    return folder.path


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says. Returns the exit code: 0 done, 1 it could not be done, 130 stopped."""
    try:
        config, resume = parse_arguments(arguments)
        path = train(config, resume=resume)
    except PerceptionError as error:
        print(f'staged_train: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say('staged_train: stopped; add --resume to go on from the saved state.', file=sys.stderr)
        return 130
    _say(f'Done. The run is in {path}')
    return 0


_say = rank_zero_only(print)


if __name__ == '__main__':
    sys.exit(main())
