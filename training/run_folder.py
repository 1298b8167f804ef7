"""RunFolder: everything a run leaves behind, written so that nothing is lost when the run is killed.

    config.yaml  environment.json  metrics.jsonl  tensorboard/  state.pt  last.safetensors  best.safetensors

Files are replaced, never written in place: at any moment the last good one is whole.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

import perception
from perception.errors import ConfigError
from training.errors import TrainingError

STATE = 'state.pt'
METRICS = 'metrics.jsonl'


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, flush it to the disk, and move it there.

    Raises:
        OSError: If it cannot be written; what stood there before is untouched.
    """
    partial = path.with_name(f'{path.name}.partial')
    try:
        with partial.open('wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class RunFolder:
    """The folder of one run. Only the first process writes; the others hold a silent one.

    Args:
        path: The folder.
        config: Of the run, as plain values.
        resume: Go on with the run that is there.
        writes: Whether this process writes.

    Raises:
        ConfigError: If a run is there and ``resume`` was not asked for, or the other way round, or it was another run.
    """

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        if resume:
            self._check_same_run(config)
        elif writes and (path / 'config.yaml').exists():
            raise ConfigError(f'{path} holds a run already. Add --resume to go on with it, or choose another --output.')
        self._tensorboard: SummaryWriter | None = None
        if writes:
            path.mkdir(parents=True, exist_ok=True)
            if not resume:
                replace_file(path / 'config.yaml', lambda file: file.write(_dump(config)))
            environment = json.dumps(describe_environment(), indent=2).encode() + b'\n'
            replace_file(path / 'environment.json', lambda file: file.write(environment))

    def _check_same_run(self, config: dict[str, Any]) -> None:
        try:
            before = yaml.safe_load((self.path / 'config.yaml').read_text())
        except OSError as error:
            raise ConfigError(f'There is no run in {self.path} to go on with; leave --resume out.') from error
        # Where and how often files are written changes nothing that is learned.
        free = ('output', 'cache', 'workers', 'save_every', 'log_every')
        different = [key for key in config if key not in free and before.get(key) != config[key]]
        if different:
            raise ConfigError(
                f'The run in {self.path} was started with other values of {", ".join(different)}. Take its own '
                'config.yaml, or start a new run in another --output.'
            )

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep what a killed run needs to go on.

        Raises:
            TrainingError: If the disk does not take it; the state before is intact.
        """
        if not self.writes:
            return
        try:
            replace_file(self.path / STATE, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f'Step {state["step"]}: the state could not be saved ({error}). The one before, {self.path / STATE}, '
                'is intact: make room and add --resume.'
            ) from error

    def load_state(self) -> dict[str, Any] | None:
        """The last saved state; None when the run was killed before the first one.

        Raises:
            TrainingError: If the file is broken.
        """
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except Exception as error:
            raise TrainingError(f'{path} cannot be read ({error}); start a new run.') from error

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, and its numbers to TensorBoard."""
        if not self.writes:
            return
        with (self.path / METRICS).open('a') as file:
            file.write(json.dumps(record) + '\n')
        if self._tensorboard is None:
            self._tensorboard = SummaryWriter(str(self.path / 'tensorboard'))
        for name, value in _numbers(record):
            self._tensorboard.add_scalar(name, value, record['step'])

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will take again."""
        path = self.path / METRICS
        if not self.writes or not path.exists():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)['step'] <= step:
                    kept.append(line + '\n')
            except ValueError:
                break  # the line that was being written when the run was killed
        replace_file(path, lambda file: file.writelines(line.encode() for line in kept))

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def describe_environment() -> dict[str, Any]:
    """Versions, machine, command and commit: what somebody needs to repeat a run."""
    return {
        'perception': perception.__version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'cuda': torch.version.cuda if torch.cuda.is_available() else None,
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'processor': platform.processor() or platform.machine(),
        'cpu_threads': torch.get_num_threads(),
        'command': [Path(sys.argv[0]).name, *sys.argv[1:]],
        'commit': git_commit(),
    }


def git_commit() -> str:
    """Commit of the checkout that this code lies in, with ``-dirty`` when it was changed; empty outside of one."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return result.stdout.strip()


def _dump(config: dict[str, Any]) -> bytes:
    return yaml.safe_dump(config, sort_keys=False, width=120).encode()


def _numbers(record: dict[str, Any], prefix: str = '') -> list[tuple[str, float]]:
    """All numbers of a nested record, by path."""
    found = []
    for key, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, f'{prefix}{key}/')
        elif isinstance(value, int | float) and key != 'step':
            found.append((f'{prefix}{key}', float(value)))
    return found
