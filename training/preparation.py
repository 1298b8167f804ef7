"""What a run needs before its first step: cached data, anchors, class weights, the network with its first weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from perception.checkpoint import Checkpoint, load_checkpoint
from perception.errors import ConfigError, list_names
from perception.interfaces import LabelSpace, PerceptionNetwork
from perception.labels import check_same_classes, parse_label_space
from perception.networks import build_network, config_to_dict, resolve_config
from perception.networks.configuration import override_config, takes_anchors
from perception.networks.encoders import load_imagenet_weights
from training.cluster_anchors import cluster_anchors, mix_sizes
from training.configuration import DataConfig, TrainingConfig
from training.criterion import CriterionConfig
from training.data import build_dataset
from training.data.cache import CachedDataset, prepare_cache
from training.data.dataset import SceneDataset, sum_pixels
from training.data.ssd_augmentation import class_beyond
from training.data.stream import TrainingStream
from training.data.taught import TaughtDataset
from training.data.transforms import TrainTransform
from training.data_checks import check_training_data, check_validation_data
from training.phases import Phase
from training.rehearsal import rehearse
from training.segmentation_loss import resolve_class_weights

LOG = logging.getLogger(__name__)


def open_dataset(config: DataConfig, labels: LabelSpace) -> SceneDataset:
    """Open a data set at its original size, in the label space of the network.

    Raises:
        ConfigError: If nobody says which of its ids are which of these classes.
    """
    dataset = build_dataset(config.name, config.root, config.split, labels, **config.options)
    return dataset if config.teacher is None else TaughtDataset(dataset, config.teacher)


def prepare_datasets(
    config: TrainingConfig, fabric: Fabric, checkpoint: Checkpoint | None, state: Mapping[str, Any] | None
) -> list[CachedDataset]:
    """The training data as it is cached; the first process of a machine builds what is missing.

    Args:
        config: The run, whose phases are rehearsed first.
        fabric: Launched.
        checkpoint: What the run starts from; None: it starts from scratch, or goes on.
        state: What a run that goes on began with; None: it begins.

    Raises:
        CheckpointError: If there are to be ImageNet weights and their file is missing or does not fit.
        ConfigError: If a phase cannot be trained, or there is nothing to learn from a data set.
        ShapeError: If the input is not a multiple of the network's divisor.
    """
    network_config: Any = config.network_config
    if state is not None:
        network_config = state['network_config']
    elif checkpoint is not None:
        network_config = checkpoint.network.config
    network = build_network(config.network, config.label_space, network_config, config.input_spec)
    if config.imagenet_weights and state is None:
        load_imagenet_weights(network, config.imagenet_weights)
    learnable = rehearse(config, network)
    datasets = [open_dataset(data, config.label_space) for data in config.data]
    with fabric.rank_zero_first(local=True):
        prepared = [
            prepare_cache(dataset, config.prepared_hw, Path(config.cache), show_progress=fabric.local_rank == 0)
            for dataset in datasets
        ]
    check_training_data(config, learnable, prepared)
    return prepared


def prepare_validation(config: TrainingConfig) -> list[SceneDataset]:
    """The validation data at its original size.

    Raises:
        ConfigError: If the figure that chooses the checkpoint cannot be measured on it.
    """
    datasets = [open_dataset(data, config.label_space) for data in config.validation]
    trained = {_images_of(data) for data in config.data}
    for data, dataset in zip(config.validation, datasets, strict=True):
        if _images_of(data) in trained:
            LOG.warning(
                '%s is trained on and validated on: best.safetensors will be what has learned it by heart.',
                dataset.name,
            )
    check_validation_data(config, datasets)
    return datasets


def _images_of(data: DataConfig) -> tuple[object, ...]:
    """What decides which images a data set holds; other options decide what is read of them."""
    chosen = [data.options.get(option) for option in ('annotations', 'images', 'years', 'image_set')]
    return (data.name, Path(data.root).expanduser().resolve(), data.split, json.dumps(chosen))


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with, and what its state keeps so that it goes on with the same.

    Attributes:
        network: With its first weights, the same ones in every process.
        criterion: The losses, with class weights in numbers.
        started_from: Provenance of the checkpoint that the weights are from; empty: from scratch.
        data: Fingerprints of the data sets.
    """

    network: PerceptionNetwork
    criterion: CriterionConfig
    started_from: dict[str, Any]
    data: tuple[str, ...]

    def state(self) -> dict[str, Any]:
        """All but the weights, as plain values."""
        return {
            'network_config': config_to_dict(self.network.config),
            'labels': asdict(self.network.labels),
            'class_weights': self.criterion.segmentation.class_weights,
            'started_from': self.started_from,
            'data': self.data,
        }


def prepare_start(config: TrainingConfig, datasets: Sequence[SceneDataset], checkpoint: Checkpoint | None) -> Start:
    """Find anchors and class weights in the training data, and build the network, or take that of a checkpoint.

    Raises:
        ConfigError: If there are too few boxes for anchors.
    """
    criterion, data = _prepare_criterion(config, datasets), _fingerprints(datasets)
    if checkpoint is not None:
        network, started_from = checkpoint.network.train(), checkpoint.provenance
        return Start(network=network, criterion=criterion, started_from=started_from, data=data)
    network_config = resolve_config(config.network, config.network_config)
    if config.anchors == 'cluster' and takes_anchors(network_config):
        draws = config.draws_per_image([len(dataset) for dataset in datasets])
        sizes, weights = mix_sizes([config.at_network_size(dataset.survey.sizes_wh) for dataset in datasets], draws)
        if len(sizes):
            clusters = cluster_anchors(sizes, weights, count=len(network_config.anchors_wh), seed=config.seed)
            network_config = replace(network_config, anchors_wh=clusters.anchors_wh)
    torch.manual_seed(config.seed)
    network = build_network(config.network, config.label_space, network_config, config.input_spec)
    if config.imagenet_weights:
        load_imagenet_weights(network, config.imagenet_weights)
    return Start(network=network, criterion=criterion, started_from={}, data=data)


def restore_start(config: TrainingConfig, datasets: Sequence[SceneDataset], state: Mapping[str, Any]) -> Start:
    """What an interrupted run began with, whatever has become of its data since; the weights are still to be loaded.

    Raises:
        ConfigError: If its label space has other classes now, or its objects are made of other areas.
    """
    if state['data'] != _fingerprints(datasets):
        LOG.warning(
            'Files, options or readers of the training data are not what this run began with. It goes on with its '
            'anchors and class weights, but will not end as it would have without the interruption.'
        )
    if 'labels' in state:
        began = parse_label_space(state['labels'])
        check_same_classes(config.label_space, f'labels {config.labels}', began, 'what this run began with')
        _check_same_areas(config.label_space, began)
    segmentation = replace(config.criterion.segmentation, class_weights=state['class_weights'])
    return Start(
        network=build_network(config.network, config.label_space, state['network_config'], config.input_spec),
        criterion=replace(config.criterion, segmentation=segmentation),
        started_from=state['started_from'],
        data=state['data'],
    )


def _check_same_areas(labels: LabelSpace, began: LabelSpace) -> None:
    """Masks of any object are made of them."""
    for now, before in zip(labels.detection, began.detection, strict=True):
        if now.areas != before.areas:
            raise ConfigError(
                f'{now.name} of label space {labels.name!r} is made of {list_names(now.areas)}, and was of '
                f'{list_names(before.areas)} when this run began. Put that back, or begin another run.'
            )


def _fingerprints(datasets: Sequence[SceneDataset]) -> tuple[str, ...]:
    return tuple(dataset.fingerprint() for dataset in datasets)


def load_start(config: TrainingConfig) -> Checkpoint | None:
    """The checkpoint that the run starts from; None: it starts from scratch.

    Raises:
        CheckpointError: If the file is missing or broken.
        ConfigError: If it holds another network, input size or label space.
    """
    if not config.start_from:
        return None
    checkpoint = load_checkpoint(config.start_from)
    network = checkpoint.network
    found = (network.name, tuple(network.input_spec.image_hw))
    if found != (config.network, tuple(config.image_hw)):
        raise ConfigError(
            f'{config.start_from} holds {found[0]} at {list(found[1])}, but the run is to train {config.network} at '
            f'{list(config.image_hw)}. Set network and image_hw to those of the checkpoint.'
        )
    check_same_classes(network.labels, config.start_from, config.label_space, f'labels {config.labels}')
    if override_config(network.config, config.network_config) != network.config:
        raise ConfigError(
            f'network_config {config.network_config} is not what {config.start_from} was built with, and its weights '
            'fit no other network. Leave network_config or start_from out.'
        )
    return checkpoint


def _prepare_criterion(config: TrainingConfig, datasets: Sequence[SceneDataset]) -> CriterionConfig:
    """The losses, with class weights counted from the training masks where they are to be balanced."""
    segmentation = config.criterion.segmentation
    if segmentation.class_weights == 'balanced':
        segmentation = resolve_class_weights(segmentation, sum_pixels(datasets))
    return replace(config.criterion, segmentation=segmentation)


def open_stream(
    config: TrainingConfig,
    phase: Phase,
    datasets: Sequence[SceneDataset],
    fabric: Fabric,
    *,
    start_step: int,
    stop_step: int,
) -> TrainingStream:
    """The batches of this process for some steps of a phase, counted from the start of the run."""
    transform = replace(config.transform, crop_hw=phase.crop_hw or config.transform.crop_hw)
    return TrainingStream(
        datasets,
        config.shares_of(phase),
        TrainTransform(transform, config.image_hw, class_beyond(transform.zoom_out, config.label_space)),
        config.seed,
        config.batch_size // fabric.world_size,
        start_step,
        fabric.global_rank,
        fabric.world_size,
        stop_step=stop_step,
        workers=config.workers,
        pin_memory=fabric.device.type == 'cuda',
    )
