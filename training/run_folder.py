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
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

import perception
from perception.errors import ConfigError
from perception.output_folder import claim_folder
from training.errors import TrainingError

CONFIG = 'config.yaml'
STATE = 'state.pt'
METRICS = 'metrics.jsonl'
LAST = 'last.safetensors'


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
    """The folder of one run, and its claim that no other run writes there. Only the first process writes; the others
    hold a silent one. A context manager.

    Args:
        path: The folder.
        config: Of the run, as plain values.
        resume: Go on with the run that is there.
        writes: Whether this process writes.

    Raises:
        ConfigError: If a run is there and ``resume`` was not asked for, or the other way round, or it was another run.
        PerceptionError: If another process is writing there, or nobody can.
    """

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self._config = config
        self._tensorboard: SummaryWriter | None = None
        self._first_step = 0
        self._claim = ExitStack()
        if resume and not (path / CONFIG).exists():
            raise ConfigError(f'There is no run in {path} to go on with; leave --resume out.')
        if writes:
            self._claim.enter_context(claim_folder(path))
        try:
            if resume:
                self._check_same_run()
            elif any((path / name).exists() for name in (STATE, METRICS)):
                raise ConfigError(
                    f'{path} holds a run already. Add --resume to go on with it, or choose another --output.'
                )
        except BaseException:
            self._claim.close()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Write down what is about to run. Up to here nothing is, so a run that cannot start leaves its folder free.

        Raises:
            TrainingError: If the disk does not take it.
        """
        if not self.writes:
            return
        environment = json.dumps(describe_environment(), indent=2).encode() + b'\n'
        try:
            replace_file(self.path / CONFIG, lambda file: file.write(_dump(self._config)))
            replace_file(self.path / 'environment.json', lambda file: file.write(environment))
        except OSError as error:
            raise TrainingError(f'Cannot write to {self.path} ({error}); nothing was trained.') from error

    def _check_same_run(self) -> None:
        path = self.path / CONFIG
        try:
            before = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f'{path} cannot be read ({error}); put back what the run wrote.') from error
        if not isinstance(before, dict):
            raise ConfigError(f'{path} holds no configuration; put back what the run wrote.')
        others = sorted(_fields(before, like=self._config) ^ _fields(self._config, like=before))
        if others:
            raise ConfigError(
                f'The run in {self.path} was started by another version, with other settings ({", ".join(others[:3])}'
                f'{", ..." if len(others) > 3 else ""}). Finish it with that version (see environment.json). '
                f'Or: {_go_on_from(self.path / LAST)}'
            )
        # Where and how often files are written changes nothing that is learned.
        free = ('output', 'cache', 'workers', 'save_every', 'log_every')
        different = [key for key in self._config if key not in free and before.get(key) != self._config[key]]
        if different:
            told = ', '.join(_difference(key, before.get(key), self._config[key]) for key in different)
            raise ConfigError(
                f'The run in {self.path} was started with other values of {told}. Take its own config.yaml, or start '
                'a new run in another --output.'
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
            earlier = (
                f'The one before, {self.path / STATE}, is intact' if (self.path / STATE).exists() else 'It is the first'
            )
            raise TrainingError(
                f'Step {state["step"]}: the state could not be saved ({error}). {earlier}: make room and add --resume.'
            ) from error

    def load_state(self) -> dict[str, Any] | None:
        """The last saved state; None when the run was killed before the first one.

        Raises:
            TrainingError: If the file is broken, or was there and is gone.
        """
        path, weights = self.path / STATE, self.path / LAST
        if not path.exists():
            if weights.exists():
                raise TrainingError(f'{path} is gone, but {weights} is there. {_go_on_from(weights)}')
            return None
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except Exception as error:
            reason = f'{type(error).__name__}: {error}'.rstrip(': ')
            raise TrainingError(f'{path} cannot be read ({reason}). {_go_on_from(weights)}') from error

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, and its numbers to TensorBoard.

        Raises:
            TrainingError: If the disk does not take it; the last state is intact.
        """
        if not self.writes:
            return
        try:
            with (self.path / METRICS).open('a') as file:
                file.write(json.dumps(record) + '\n')
            if self._tensorboard is None:
                self._tensorboard = SummaryWriter(str(self.path / 'tensorboard'), purge_step=self._first_step)
            for name, value, step in _numbers(record, record['step']):
                self._tensorboard.add_scalar(name, value, step)
        except OSError as error:
            raise TrainingError(
                f'Step {record["step"]}: the metrics could not be written ({error}). Make room and add --resume.'
            ) from error

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will take again."""
        path = self.path / METRICS
        self._first_step = step + 1
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
        """End the writing, and let other runs in."""
        if self._tensorboard is not None:
            self._tensorboard.close()
        self._claim.close()


def _fields(values: Any, place: str = '', *, like: Any = None) -> set[str]:
    """Names of the fields of a configuration, in dots, but for what a user names within them.

    Args:
        like: Another one. A group that is none there is a value here, whose fields that one could not have.
    """
    if isinstance(values, list):
        return set().union(*(_fields(item, place) for item in values))
    found = set()
    for key, value in values.items() if isinstance(values, dict) else ():
        found.add(f'{place}{key}')
        other = like.get(key, {}) if isinstance(like, dict) else {}
        if key not in ('network_config', 'data', 'validation') and other is not None:
            found |= _fields(value, f'{place}{key}.', like=other)
    return found


def _difference(key: str, before: Any, now: Any) -> str:
    told = f'{key} ({json.dumps(before, default=str)}, now {json.dumps(now)})'
    return told if len(told) <= 80 else key


def _go_on_from(weights: Path) -> str:
    if not weights.exists():
        return 'Start a new run in another --output.'
    return f'Start a new run in another --output, with --start_from {weights}: its optimizer begins afresh.'


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


@cache
def git_commit() -> str:
    """Commit of the checkout that this code lies in, with ``-dirty`` when it was changed; empty outside of one.

    Looked up once: what is committed while a run goes on is not what trains.
    """
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return result.stdout.strip()


def _dump(config: dict[str, Any]) -> bytes:
    return yaml.safe_dump(config, sort_keys=False, width=120).encode()


def _numbers(record: dict[str, Any], step: int, prefix: str = '') -> list[tuple[str, float, int]]:
    """All numbers of a nested record, by path and step; a list is of the steps up to this one."""
    found = []
    for key, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, step, f'{prefix}{key}/')
        elif key != 'step':
            values = value if isinstance(value, list) else [value]
            first = step + 1 - len(values)
            numbers = [(f'{prefix}{key}', number, first + place) for place, number in enumerate(values)]
            found += [(name, float(number), at) for name, number, at in numbers if isinstance(number, int | float)]
    return found
