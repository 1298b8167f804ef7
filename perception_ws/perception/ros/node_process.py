"""Run the real camera_node as a process of its own, the way a launch file does."""

import ctypes
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from perception.errors import PerceptionError
from perception.resources import config_file
from perception.ros.fast_dds import PROFILE_VARIABLES

STOP_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Linux ends this process when its parent dies, even by SIGKILL: no node goes on that nobody knows of."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class NodeProcessError(PerceptionError):
    """The node's process ended when it should have gone on."""


def isolate_middleware(environment: dict[str, str]) -> None:
    """Keep this run to itself: a domain of its own unless one is set, this machine only, room for large images.

    Must be called before rclpy.init; child processes inherit it.
    """
    environment.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    for variable in PROFILE_VARIABLES:
        environment.setdefault(variable, str(config_file('fastdds_large_images.xml')))


class NodeProcess:
    """camera_node in a second process; a context manager that stops it.

    Args:
        namespace: The camera's namespace.
        parameters: Parameters that differ from the defaults.
        log: Takes what the node prints.
    """

    def __init__(self, *, namespace: str, parameters: dict[str, str | int | float | bool], log: Path) -> None:
        self._log = log
        command = [sys.executable, '-m', 'perception.ros.camera_node', '--ros-args', '-r', f'__ns:={namespace}']
        for name, value in parameters.items():
            # Quoted as YAML, so that text stays text.
            text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()
            command += ['-p', f'{name}:={text}']
        with log.open('wb') as output:
            # A session of its own: Ctrl-C at the terminal is ours to pass on, after the last results are in.
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ.copy(),
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_alive(self) -> None:
        """Raise NodeProcessError, with the end of its log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            tail = '\n'.join(self._log.read_text(errors='replace').splitlines()[-15:])
            raise NodeProcessError(f'camera_node ended with exit code {code}. The end of {self._log}:\n{tail}')

    def wait(self, timeout_s: float) -> int:
        """Wait for the process to end by itself; returns its exit code.

        Raises:
            subprocess.TimeoutExpired: If it does not.
        """
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """Ask the node to end, insist after a while; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
