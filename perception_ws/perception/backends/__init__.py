"""Ways to run a network. A new backend is one new file and one line here."""

from collections.abc import Callable
from typing import Any

from perception.backends.eager import EagerBackend
from perception.backends.open_vino import OpenVinoBackend
from perception.errors import ConfigError, nearest
from perception.interfaces import Backend, PerceptionNetwork

BACKENDS: dict[str, Callable[..., Backend]] = {
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
    if name not in BACKENDS:
        raise ConfigError(f'Unknown backend {name!r}: {nearest(name, list(BACKENDS))}')
    return BACKENDS[name](network, **options)
