"""An output folder that belongs to one run at a time, and runs that end between two frames rather than within one."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any

from perception.errors import ConfigError, PerceptionError

STOPPED = 'a signal (Ctrl-C or SIGTERM)'
SAME_S = 1.0
"""Signals so close together are one, in seconds."""


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other runs out of it; a killed run's claim ends with its process.

    A folder that was not there before, and that nothing was written to, is removed again.

    Raises:
        PerceptionError: If another run is writing there, nobody can, or the file system has no locks.
    """
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / '.lock').open('w')
    except OSError as error:
        raise PerceptionError(
            f'Cannot write to --output {folder}: {error}. Name a folder that you may write to.'
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PerceptionError(f'Another run is writing to {folder}; choose another --output.') from error
        except OSError as error:
            raise PerceptionError(
                f'Cannot lock --output {folder} against other runs: {error}. Its file system may have no locks, as NFS '
                'without a lock service; choose a folder on a local disk.'
            ) from error
        if os.fstat(lock.fileno()).st_nlink == 0:
            raise PerceptionError(f'Another run has just given up {folder}; try again.')
        try:
            yield
        finally:
            with suppress(OSError):  # what cannot be tidied up is not worth failing for
                if not was_there and os.listdir(folder) == ['.lock']:
                    (folder / '.lock').unlink()
                    folder.rmdir()


def refuse_report(folder: Path, report: str, *, overwrite: bool | None) -> None:
    """Refuse an output folder that holds a report already, unless it is to be replaced.

    Args:
        report: The name of the file that a whole run leaves there.
        overwrite: Whether --overwrite was given; None: the command has no such option.

    Raises:
        ConfigError: If it is there.
    """
    if not overwrite and (folder / report).exists():
        advice = 'name another --output.' if overwrite is None else 'name another --output, or give --overwrite.'
        raise ConfigError(f'{folder} holds a report already; {advice}')


def keep_apart(folder: Path, source: Path, *written: str) -> None:
    """Refuse to write into what is read, or over it.

    Args:
        written: Names, or patterns of names, that a run replaces or removes in the folder.

    Raises:
        ConfigError: If the output folder is the source, or lies in it, or the source is what would be replaced.
    """
    inside, whole = folder.resolve(), source.resolve()
    if whole in (inside, *inside.parents):
        raise ConfigError(f'--output {folder} lies in {source}, which is to be read; name a folder outside of it.')
    if inside in whole.parents and any(fnmatch(whole.relative_to(inside).parts[0], name) for name in written):
        raise ConfigError(f'{source} is to be read, and would be replaced in --output {folder}; name another folder.')


class StopRequest:
    """Takes note of Ctrl-C and SIGTERM, so that what is in hand is finished first; a second one does not wait.

    Within ``SAME_S`` it counts as the first: launchers of several processes pass on what a terminal has sent them all.

    A context manager. Outside of the main thread, where signals cannot be caught, it does nothing.

    Attributes:
        requested: Whether somebody asked for it.
    """

    def __init__(self) -> None:
        self.requested, self._since = False, 0.0
        self._before: dict[int, Any] = {}

    def check(self) -> None:
        """Call where it is good to stop.

        Raises:
            KeyboardInterrupt: If somebody asked for it.
        """
        if self.requested:
            raise KeyboardInterrupt

    def forget(self) -> None:
        """What was asked for is done: a signal that comes now, as a launcher's second one may, counts as the first."""
        self.requested, self._since = False, 0.0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > SAME_S:
            raise KeyboardInterrupt
