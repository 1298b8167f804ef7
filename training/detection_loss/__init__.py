"""The losses of detections: one file for each way that objects are matched, and one line in DETECTION_LOSSES."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from perception.errors import ConfigError, nearest
from perception.interfaces import NetworkOutput, PredictionLayout
from training.data.sample import Sample
from training.detection_loss.cells import DETECTION_NAMES, CellLoss, DetectionLossConfig
from training.detection_loss.multi_box import MultiBoxLoss, MultiBoxLossConfig

__all__ = [
    'DETECTION_LOSSES',
    'DETECTION_NAMES',
    'DetectionLoss',
    'DetectionLossConfig',
    'MultiBoxLossConfig',
    'detection_loss_of',
]


class DetectionLoss(Protocol):
    """The loss of the images of a batch that have boxes.

    Attributes:
        settings: The field of CriterionConfig that holds its configuration.
        names: Of its terms; the first, ``detection``, is the sum of the others.
    """

    settings: ClassVar[str]
    names: ClassVar[tuple[str, ...]]

    def __init__(self, layout: Any, samples: Sequence[Sample], config: Any, device: torch.device) -> None: ...

    @property
    def count(self) -> int | Tensor:
        """What its sums are divided by, counted over all processes: an int, or a scalar on the device."""
        ...

    def terms(self, output: NetworkOutput, per_count: Tensor) -> dict[str, Tensor]:
        """The named terms.

        Args:
            output: Predictions for the images with boxes, of a network in training mode, on the device.
            per_count: One over the count of the joint batch.
        """
        ...


DETECTION_LOSSES: dict[str, type[DetectionLoss]] = {
    'cells': CellLoss,
    'multi_box': MultiBoxLoss,
}


def detection_loss_of(layout: PredictionLayout) -> type[DetectionLoss]:
    """The loss that networks with such predictions are trained with.

    Raises:
        ConfigError: If there is none.
    """
    if layout.matching not in DETECTION_LOSSES:
        raise ConfigError(
            f'Objects cannot be matched by {layout.matching!r}, which {type(layout).__name__} asks for; '
            f'{nearest(layout.matching, list(DETECTION_LOSSES))}'
        )
    return DETECTION_LOSSES[layout.matching]
