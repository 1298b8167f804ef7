"""Where the files that ship with the package lie: in an installation, or in the checkout it runs from."""

import sys
from pathlib import Path

SAMPLE_BAG = Path(__file__).parent / 'samples' / 'street'
"""A short drive through the synthetic street, as a bag."""


def config_file(name: str) -> Path:
    """Path of a file of ``config/``.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    package = Path(__file__).resolve().parent
    shares = [parent / 'share' / 'perception' for parent in package.parents]
    checkout = package.parents[1]
    for root in (checkout, *shares, Path(sys.prefix) / 'share' / 'perception'):
        if (root / 'config' / name).is_file():
            return root / 'config' / name
    raise FileNotFoundError(f'config/{name} is not installed; install the package again.')
