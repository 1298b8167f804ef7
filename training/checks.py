"""Checks that several configurations and losses make."""

import math

from torch import Tensor

from perception.errors import ConfigError, PerceptionError
from perception.interfaces import NetworkOutput


def check_weights(name: str, *weights: float) -> None:
    """Refuse weights of losses that would turn learning round, or spoil it.

    Raises:
        ConfigError: If one is negative or not finite.
    """
    if not all(0 <= weight < math.inf for weight in weights):
        raise ConfigError(f'{name}: expected 0 or more, got {", ".join(map(str, weights))}.')


def require_box_codes(output: NetworkOutput) -> Tensor:
    """The raw box codes (B, A, 4) of an output.

    Raises:
        PerceptionError: If it has none.
    """
    if output.box_codes is None:
        raise PerceptionError('Detection losses need box codes, which a network gives in training mode: call train().')
    return output.box_codes
