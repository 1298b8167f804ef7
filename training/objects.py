"""Whether there are objects to learn from, asked before the first step.

A detector that is never shown one learns that there is none, and ends at a loss that looks well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from perception.errors import ConfigError
from training.data.dataset import SceneDataset
from training.data.transforms import TrainTransformConfig

LOG = logging.getLogger(__name__)


def require_objects(datasets: Sequence[SceneDataset], transform: TrainTransformConfig) -> None:
    """Check that some box of what is annotated with boxes can be trained on; one data set without any is warned of.

    Args:
        datasets: At the size of the network.
        transform: Says how much they are enlarged at most, and which boxes are then dropped.

    Raises:
        ConfigError: If there is none in any of them.
    """
    problems = [
        _problem(dataset, transform) for dataset in datasets if any(sample.boxes is not None for sample in dataset)
    ]
    if problems and all(problems):
        raise ConfigError(f'There is no object to learn from. {" ".join(problems)}')
    for problem in filter(None, problems):
        LOG.warning('%s', problem)


def _problem(dataset: SceneDataset, transform: TrainTransformConfig) -> str:
    """Why nothing in a data set is trained on; empty: something is."""
    all_boxes = [sample.boxes for sample in dataset if sample.boxes is not None and len(sample.boxes)]
    if not all_boxes:
        return (
            f'{dataset.name} is annotated with boxes, and there is not one in all of its {len(dataset)} images. Is it '
            'the right split, and are its categories mapped to ours?'
        )
    largest = max(float((boxes[:, 2:] - boxes[:, :2]).amin(dim=1).max()) for boxes in all_boxes)
    if largest * transform.scale[1] >= transform.min_box_side_px:
        return ''
    return (
        f'All boxes of {dataset.name} are dropped: at the size of the network the shorter side of the largest has '
        f'{largest:.3g} px, enlarged by at most {transform.scale[1]:g}, and min_box_side_px is '
        f'{transform.min_box_side_px:g}. Are they in pixels of the original image?'
    )
