"""Many recordings on many machines, by Ray: one recording is one task, and a task whose worker dies is tried again.

Every machine sees the recordings and the output folder under the same path (storage that they share) and has the same
versions installed. A task that is tried again takes over what the dead one has seen.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any
from uuid import uuid4

from tqdm import tqdm

from perception.errors import ConfigError, MissingDependencyError, PerceptionError, RecordingError
from perception.output_folder import StopRequest
from perception.pipeline import Perceiver
from perception.replay.recordings import Recording, ReplayOptions
from perception.replay.run import RecordingReplay, replay_recording
from perception.replay.truth import is_folder

LOCAL = 'local'
CPUS_A_WORKER = 2
"""Cores that a worker takes: on a CPU one for each frame in hand, beside a GPU for decoding and scoring."""
RETRIES = 3
_OBJECT_STORE_BYTES = 256 << 20
"""Of a local Ray; only checkpoints and results pass through it, and its default is a third of the memory."""
_REPORT_EVERY_S = 0.5
_KNOCK_S = 5.0


@dataclass(frozen=True)
class Fleet:
    """A Ray cluster.

    Attributes:
        address: ``local`` starts one on this machine, for as long as it is needed; else that of a running one, such as
            ``auto`` or ``10.0.0.1:6379``.
        device: What a worker's network runs on, ``auto``, ``cpu`` or ``cuda``; ``auto``: a GPU each, where the cluster
            has some.

    Raises:
        ConfigError: If the device is one of several GPUs.
        MissingDependencyError: If Ray is not installed.
    """

    address: str
    device: str = 'auto'

    def __post_init__(self) -> None:
        if self.device.startswith('cuda:'):
            raise ConfigError(
                f'--device {self.device}: a worker of a fleet sees only the GPU that Ray gives it; give --device cuda.'
            )
        _require_ray()

    def replay(
        self,
        recordings: Sequence[Recording],
        build_perceiver: Callable[[], Perceiver],
        options: ReplayOptions,
        bar: tqdm,
        stop: StopRequest,
    ) -> tuple[list[RecordingReplay], list[str]]:
        """Replay each recording somewhere.

        Returns:
            What was found in each, in the order of the recordings, and what could not be done.

        Raises:
            ConfigError: If no cluster answers.
            RecordingError: If nothing could be done.
        """
        ray = _require_ray()
        started_here = not ray.is_initialized()
        if started_here:
            self._connect(ray)
        try:
            return self._replay(ray, recordings, build_perceiver, options, bar, stop)
        finally:
            if started_here:
                ray.shutdown()

    def _connect(self, ray: ModuleType) -> None:
        quiet = {'logging_level': 'ERROR', 'log_to_driver': False}
        try:
            if self.address == LOCAL:
                ray.init(LOCAL, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
            else:
                self._knock()
                ray.init(self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f'--ray {self.address}: no Ray cluster answers there ({error}). Start one with `ray start --head`; if '
                f'it wants a token, set RAY_AUTH_MODE=token; or give --ray {LOCAL}.'
            ) from error

    def _knock(self) -> None:
        """Ray itself would wait for minutes."""
        host, _, port = self.address.rpartition('://')[2].rpartition(':')
        if port.isdecimal():
            socket.create_connection((host, int(port)), _KNOCK_S).close()

    def _replay(
        self,
        ray: ModuleType,
        recordings: Sequence[Recording],
        build_perceiver: Callable[[], Perceiver],
        options: ReplayOptions,
        bar: tqdm,
        stop: StopRequest,
    ) -> tuple[list[RecordingReplay], list[str]]:
        cpus, gpus = self._resources(ray)
        # Never 1, which would mean all threads of a machine that the worker has only a part of.
        options = _absolute(replace(options, workers=options.workers or max(2, cpus)))
        desk = ray.remote(_Desk).options(num_cpus=0).remote()
        task = ray.remote(_replay_there).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        build, run = ray.put(build_perceiver), uuid4().hex
        pending = {
            task.remote(run, number, _at_absolute(recording), build, options, desk): number
            for number, recording in enumerate(recordings)
        }
        parts: dict[int, RecordingReplay] = {}
        failures: dict[int, str] = {}
        told = False
        while pending:
            done, _ = ray.wait(list(pending), timeout=_REPORT_EVERY_S)
            bar.update(ray.get(desk.frames.remote()) - bar.n)
            for reference in done:
                number = pending.pop(reference)
                try:
                    part = ray.get(reference)
                except ray.exceptions.RayError as error:
                    failures[number] = _describe(recordings[number], error)
                else:
                    # None: it had not begun when the run was stopped.
                    parts |= {} if part is None else {number: part}
            if stop.requested and not told:
                ray.get(desk.stop.remote())
                told = True
        failed = [failures[number] for number in sorted(failures)]
        if not parts:
            raise RecordingError(failed[0] if failed else 'Stopped before any recording was begun.')
        return [parts[number] for number in sorted(parts)], failed

    def _resources(self, ray: ModuleType) -> tuple[int, int]:
        """CPUs and GPUs of a worker."""
        nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
        cpus = int(min(CPUS_A_WORKER, max((node.get('CPU', 0) for node in nodes), default=1)))
        has_gpus = any(node.get('GPU', 0) for node in nodes)
        if self.device.startswith('cuda') and not has_gpus:
            raise ConfigError(f'--device {self.device}: no machine of the cluster {self.address} has a GPU.')
        return cpus, int(has_gpus and self.device != 'cpu')


class _Desk:
    """An actor: workers say here how far they are, and hear whether to stop."""

    def __init__(self) -> None:
        self._frames: dict[int, int] = {}
        self._stop = False

    def report(self, number: int, frames: int) -> bool:
        self._frames[number] = frames
        return self._stop

    def stop(self) -> None:
        self._stop = True

    def frames(self) -> int:
        return sum(self._frames.values())


_perceivers: dict[str, Perceiver] = {}
"""In a worker: that of the run, which serves all recordings it gets."""


def _replay_there(
    run: str,
    number: int,
    recording: Recording,
    build_perceiver: Callable[[], Perceiver],
    options: ReplayOptions,
    desk: Any,
) -> RecordingReplay | None:
    """The task; None if the run was stopped before it began."""
    ray = _require_ray()
    if ray.get(desk.report.remote(number, 0)):
        return None
    if run not in _perceivers:
        _perceivers.clear()
        _perceivers[run] = build_perceiver()
    frames, reported_at = 0, perf_counter()

    def on_frame() -> None:
        nonlocal frames, reported_at
        frames += 1
        if perf_counter() - reported_at > _REPORT_EVERY_S:
            reported_at = perf_counter()
            if ray.get(desk.report.remote(number, frames)):
                raise KeyboardInterrupt

    outcome = replay_recording(recording, _perceivers[run], options, on_frame, progress=False)
    ray.get(desk.report.remote(number, frames))
    return outcome


def _describe(recording: Recording, error: Exception) -> str:
    cause = getattr(error, 'cause', None)
    if isinstance(cause, PerceptionError):
        return f'{recording.name}: {cause}'
    if cause is not None:
        return f'{recording.name}: {type(cause).__name__}: {cause}'
    return (
        f'{recording.name}: its worker died {RETRIES + 1} times ({type(error).__name__}), perhaps for lack of memory; '
        '--resume goes on where it died'
    )


def _absolute(options: ReplayOptions) -> ReplayOptions:
    """Workers have a working directory of their own."""
    truth = str(Path(options.truth).absolute()) if is_folder(options.truth) else options.truth
    return replace(options, output=options.output.absolute(), truth=truth)


def _at_absolute(recording: Recording) -> Recording:
    return replace(recording, path=recording.path.absolute(), folder=recording.folder.absolute())


def _require_ray() -> ModuleType:
    # It reports its use over the network unless it is told not to.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError(
            'A fleet needs Ray, which is not installed. Run: pip install -r requirements/fleet.txt'
        ) from error
    return ray
