"""The scoring libraries, imported only when something is scored: the package runs without them."""

from __future__ import annotations

import importlib
from types import ModuleType

from perception.errors import MissingDependencyError


def require(module: str) -> ModuleType:
    """Import a scoring library.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f'Scoring needs {error.name or module}, which is not installed. '
            'Run: pip install -r requirements/evaluation.txt'
        ) from error
