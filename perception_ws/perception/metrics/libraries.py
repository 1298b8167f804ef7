"""The scoring libraries, imported only when something is scored: the package runs without them."""

from __future__ import annotations

import importlib
from types import ModuleType

from perception.errors import MissingDependencyError

MASK_LIBRARY, BOX_LIBRARY = 'torchmetrics.classification', 'faster_coco_eval'


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
            'Run: pip install -r requirements/evaluation.txt (with --break-system-packages on a robot), or replay '
            'without truth: --truth none.'
        ) from error


def require_scoring() -> None:
    """Import what scores masks and boxes: before anything is played, for it takes seconds, and may be missing.

    Raises:
        MissingDependencyError: If one of them is not installed.
    """
    for module in (MASK_LIBRARY, BOX_LIBRARY):
        require(module)
