"""Where the files that ship with the package lie: in an installation, or in the checkout it runs from."""

import sys
from pathlib import Path

from perception.errors import PerceptionError

SAMPLE_BAG = Path(__file__).parent / 'samples' / 'street'
"""A short drive through the synthetic street, as a bag."""


def config_file(name: str) -> Path:
    """Path of a file of ``config/``.

    Raises:
        PerceptionError: If it is in neither place.
    """
    package = Path(__file__).resolve().parent
    shares = [parent / 'share' / 'perception' for parent in package.parents]
    checkout = package.parents[1]
    for root in (checkout, *shares, Path(sys.prefix) / 'share' / 'perception'):
        if (root / 'config' / name).is_file():
            return root / 'config' / name
    raise PerceptionError(f'config/{name} is not installed; install the package again.')
