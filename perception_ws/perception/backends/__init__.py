"""Ways to run a network. A new backend is one new file and one line here."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from perception.backends.eager import EagerBackend
from perception.backends.open_vino import OpenVinoBackend
from perception.errors import ConfigError, nearest
from perception.interfaces import Backend, PerceptionNetwork


class BackendClass(Protocol):
    """How every backend is constructed."""

    def __call__(self, network: PerceptionNetwork, *, device: str = ..., precision: str = ...) -> Backend: ...

    def resolve_device(self, device: str) -> torch.device:
        """Where it would run what is asked for by ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
        ...


BACKENDS: dict[str, BackendClass] = {
    'eager': EagerBackend,
    'openvino': OpenVinoBackend,
}


def build_backend(name: str, network: PerceptionNetwork, **options: Any) -> Backend:
    """Prepare a network to run.

    Args:
        options: ``device`` and ``precision``; see the backend.

    Raises:
        ConfigError: If there is no backend of that name, or it cannot serve the options on this machine.
        MissingDependencyError: If its library is not installed.
    """
    return _find(name)(network, **options)


def device_of(name: str, device: str) -> str:
    """Where a backend would run, as its ``device`` says it.

    Raises:
        ConfigError: If there is no backend of that name, or it cannot serve the device on this machine.
    """
    return str(_find(name).resolve_device(device))


def _find(name: str) -> BackendClass:
    if name not in BACKENDS:
        raise ConfigError(f'Unknown backend {name!r}: {nearest(name, list(BACKENDS))}')
    return BACKENDS[name]
