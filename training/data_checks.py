"""What data must hold before a run begins on it: something to learn from, something to be scored on.

Without it a run would go to its end in silence, at a loss of 0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED
from training.configuration import TrainingConfig
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.data.survey import Survey

LOG = logging.getLogger(__name__)


def check_training_data(
    config: TrainingConfig, learnable: Sequence[set[str]], datasets: Sequence[SceneDataset]
) -> None:
    """Hold the training data against the phases; tells of box annotations that teach no object.

    Args:
        config: The run.
        learnable: For each phase what its parts can learn from: ``masks``, ``boxes`` or both.
        datasets: As they are cached, in the order of the configuration.

    Raises:
        ConfigError: If a data set is not annotated, or a phase finds nothing to learn in its own.
    """
    for dataset in datasets:
        _require_annotation(dataset)
    objects = [_missing_objects(dataset.survey, config) for dataset in datasets]
    for dataset, missing in zip(datasets, objects, strict=True):
        if missing:
            LOG.warning('%s: %s. Its images teach the detector background alone.', dataset.name, missing)
    for phase, wanted in zip(config.phases, learnable, strict=True):
        shares = config.shares_of(phase) or (1.0,) * len(datasets)
        drawn = [place for place, share in enumerate(shares) if share]
        present = set().union(*(_kinds(datasets[place].survey, objects[place]) for place in drawn))
        if wanted.isdisjoint(present):
            reasons = [f' ({datasets[place].name}: {objects[place]})' for place in drawn if objects[place]]
            raise ConfigError(
                f'Phase {phase.name!r} has nothing to learn: its data has {" and ".join(sorted(present)) or "nothing"}'
                f'{"".join(reasons)}, the phase learns from {" and ".join(sorted(wanted))}.'
            )


def _require_annotation(dataset: SceneDataset) -> None:
    """Cityscapes' test split, for one, is published without annotation."""
    survey = dataset.survey
    if survey.with_mask and not survey.pixels.any():
        raise ConfigError(f'{dataset.name} has {survey.with_mask} masks, and not one labelled pixel in them.')
    if not survey.with_mask and not survey.with_boxes:
        raise ConfigError(f'{dataset.name} is not annotated: its {survey.images} images have neither masks nor boxes.')


def _missing_objects(survey: Survey, config: TrainingConfig) -> str:
    """Why annotated boxes teach no object; empty where they do, or where none are annotated."""
    if not survey.with_boxes:
        return ''
    sizes_wh = config.at_network_size(survey.sizes_wh)
    if not len(sizes_wh):
        return f'the box annotation of {survey.with_boxes} images holds not one object'
    shortest, enlarged = config.transform.min_box_side_px, config.transform.largest_scale
    short_sides = sizes_wh.amin(dim=1)
    if (short_sides * enlarged >= shortest).any():
        return ''
    width, height = sizes_wh[short_sides.argmax()].tolist()
    return (
        f'all {len(sizes_wh)} boxes have a side below transform.min_box_side_px, {shortest:g}, at '
        f'{config.image_hw[0]}x{config.image_hw[1]} times {enlarged:g}, the largest scale; the best of them has '
        f'{width:.2g} x {height:.2g} before that. Are they in pixels of their images?'
    )


def _kinds(survey: Survey, missing_objects: str) -> set[str]:
    boxes = survey.with_boxes and not missing_objects
    return {name for name, there in (('masks', survey.with_mask), ('boxes', boxes)) if there}


def check_validation_data(config: TrainingConfig, datasets: Sequence[SceneDataset]) -> None:
    """Hold the validation data against the figure that chooses the checkpoint.

    Raises:
        ConfigError: If that cannot be measured.
    """
    needed = {'mean_iou': (_has_pixels,), 'mean_ap50': (_has_objects,), 'sum': (_has_pixels, _has_objects)}
    kinds = needed[config.select_by]
    # No survey, which would read full-size images to their end: this ends at the first one that has what is needed.
    if datasets and not any(has(sample) for dataset in datasets for sample in dataset for has in kinds):
        names = ', '.join(dataset.name for dataset in datasets)
        raise ConfigError(
            f'select_by {config.select_by} cannot be measured on {names}: no image there is annotated for it. Choose '
            'another figure or other validation data, or leave validation out.'
        )


def _has_pixels(sample: Sample) -> bool:
    return sample.mask is not None and bool((sample.mask != UNLABELLED).any())


def _has_objects(sample: Sample) -> bool:
    return sample.boxes is not None and len(sample.boxes) > 0
