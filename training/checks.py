"""Checks that several configurations make."""

import math

from perception.errors import ConfigError


def check_weights(name: str, *weights: float) -> None:
    """Refuse weights of losses that would turn learning round, or spoil it.

    Raises:
        ConfigError: If one is negative or not finite.
    """
    if not all(0 <= weight < math.inf for weight in weights):
        raise ConfigError(f'{name}: expected 0 or more, got {", ".join(map(str, weights))}.')
