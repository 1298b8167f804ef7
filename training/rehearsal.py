"""Every phase rehearsed on a blank image: what would end a late phase is told before the data is read."""

from __future__ import annotations

from dataclasses import replace

import torch

from perception.errors import ConfigError
from perception.interfaces import PerceptionNetwork
from training.configuration import TrainingConfig
from training.criterion import Criterion, CriterionConfig
from training.data.sample import Sample
from training.data.ssd_augmentation import class_beyond
from training.data.transforms import TrainTransformConfig
from training.detection_loss import DETECTION_LOSSES, detection_loss_of
from training.phases import Phase, set_training_mode, weigh_losses


def rehearse(config: TrainingConfig, network: PerceptionNetwork) -> list[set[str]]:
    """Take forward pass and losses of every phase.

    Args:
        config: The run.
        network: One like the run's, to be spoiled: its norms see the blank image.

    Returns:
        For each phase what its parts can learn from: ``masks``, ``boxes`` or both.

    Raises:
        ConfigError: If there is no such part, a part that a phase names has no part in its tasks, or losses, their
            weights, crop or focus classes do not fit the network.
        ShapeError: If the input is not a multiple of the network's divisor.
    """
    _check_transform(config.transform, network)
    _check_detection_loss(config.criterion, network)
    return [_rehearse_phase(network, phase, config.criterion) for phase in config.phases]


def _check_transform(transform: TrainTransformConfig, network: PerceptionNetwork) -> None:
    _check_crop('transform', transform.crop_hw, network)
    class_beyond(transform.zoom_out, network.labels)
    classes = len(network.labels.segmentation)
    if any(index >= classes for index in transform.focus_classes):
        raise ConfigError(
            f'transform.focus_classes: the network has classes 0 to {classes - 1}; got {list(transform.focus_classes)}.'
        )


def _check_crop(name: str, crop_hw: tuple[int, int], network: PerceptionNetwork) -> None:
    if any(side % network.divisor for side in crop_hw):
        raise ConfigError(f'{name}.crop_hw: both sides must be multiples of {network.divisor}; got {list(crop_hw)}.')


def _check_detection_loss(config: CriterionConfig, network: PerceptionNetwork) -> None:
    """Settings that nothing reads would pass for what was trained with."""
    own = detection_loss_of(network.prediction_layout(network.input_spec.image_hw)).settings
    for settings in (loss.settings for loss in DETECTION_LOSSES.values()):
        if settings != own and getattr(config, settings) != getattr(CriterionConfig(), settings):
            raise ConfigError(
                f'criterion.{settings} says nothing to {network.name}, whose detections are trained by '
                f'criterion.{own}; leave it out.'
            )


def _rehearse_phase(network: PerceptionNetwork, phase: Phase, config: CriterionConfig) -> set[str]:
    if phase.crop_hw:
        _check_crop(f'Phase {phase.name!r}', phase.crop_hw, network)
    weights = weigh_losses(config, phase)
    if weights.segmentation.class_weights == 'balanced':
        weights = replace(weights, segmentation=replace(weights.segmentation, class_weights=()))
    set_training_mode(network, phase)
    samples = [_blank_sample(2 * network.divisor)] * 2  # a batch norm takes more than one value
    output = network(torch.stack([sample.image for sample in samples]), segment=phase.segment, detect=phase.detect)
    losses = Criterion(weights)(network, output, samples)
    masks, boxes = losses['segmentation'], losses['detection']
    tasks = (('masks', weights.mask_weight(network), masks), ('boxes', weights.w_det, boxes))
    learns_from = {kind for kind, weight, loss in tasks if weight and loss.requires_grad}
    if learns_from and phase.trains != 'all':
        network.zero_grad(set_to_none=True)  # of the phase before
        losses['total'].backward()
        for name, part in network.named_children():
            if name in phase.trains and all(parameter.grad is None for parameter in part.parameters()):
                raise ConfigError(
                    f'Phase {phase.name!r} trains {name!r}, which has no part in the tasks of the heads it trains; '
                    'leave that part out.'
                )
    if not learns_from:
        raise ConfigError(
            f'Phase {phase.name!r} trains {phase.trains}, and the criterion weighs their task with 0 (w_seg '
            f'{config.mask_weight(network)}, w_det {config.w_det}).'
        )
    return learns_from


def _blank_sample(side: int) -> Sample:
    return Sample(
        image=torch.zeros(3, side, side, dtype=torch.uint8),
        mask=torch.zeros(side, side, dtype=torch.uint8),
        boxes=torch.tensor([[0.0, 0.0, side, side]]),
        labels=torch.zeros(1, dtype=torch.int64),
    )
