"""What a run needs before its first step: cached data, anchors, class weights, the network with its first weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError
from perception.interfaces import UNLABELLED, LabelSpace, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network
from perception.networks.resnet_weights import load_imagenet_weights
from training.cluster_anchors import box_sizes, cluster_anchors
from training.configuration import DataConfig, TrainingConfig
from training.criterion import CriterionConfig
from training.data import build_dataset
from training.data.cache import CachedDataset, prepare_cache
from training.data.dataset import SceneDataset
from training.data.stream import TrainingStream
from training.data.transforms import TrainTransform
from training.segmentation_loss import count_pixels, resolve_class_weights


def open_dataset(config: DataConfig, labels: LabelSpace) -> SceneDataset:
    """Open a data set at its original size.

    Raises:
        ConfigError: If it counts its classes otherwise than the network.
    """
    dataset = build_dataset(config.name, config.root, config.split, **config.options)
    if dataset.labels != labels:
        raise ConfigError(
            f'{dataset.name} has label space {dataset.labels.name!r}, the network {labels.name!r}; they must be one.'
        )
    return dataset


def prepare_datasets(config: TrainingConfig, fabric: Fabric) -> list[CachedDataset]:
    """The training data at network size; the first process of a machine builds what is missing.

    Raises:
        ConfigError: If there is nothing to learn from a data set.
    """
    datasets = [open_dataset(data, CITYSCAPES_11_3) for data in config.data]
    with fabric.rank_zero_first(local=True):
        prepared = [
            prepare_cache(dataset, config.image_hw, Path(config.cache), show_progress=fabric.local_rank == 0)
            for dataset in datasets
        ]
    for dataset in prepared:
        _require_annotation(dataset)
    return prepared


def _require_annotation(dataset: SceneDataset) -> None:
    """Cityscapes' test split, for one, is published without annotation; its loss would be 0 in silence."""
    masks = [sample.mask for sample in dataset if sample.mask is not None]
    if masks:
        if not any((mask != UNLABELLED).any() for mask in masks):
            raise ConfigError(f'{dataset.name} has {len(masks)} masks, and not one labelled pixel in them.')
    elif all(sample.boxes is None for sample in dataset):
        raise ConfigError(f'{dataset.name} is not annotated: its {len(dataset)} images have neither masks nor boxes.')


def prepare_network(config: TrainingConfig, datasets: Sequence[SceneDataset]) -> PerceptionNetwork:
    """The network with its initial weights, the same ones in every process.

    Raises:
        ConfigError: If the run starts from another network or input size, or there are too few boxes for anchors.
    """
    if config.start_from:
        return _load_start(config)
    overrides: dict[str, Any] = dict(config.network_config)
    with_boxes = [dataset for dataset in datasets if _has_boxes(dataset)]
    if config.anchors == 'cluster' and with_boxes:
        sizes = torch.cat([box_sizes(dataset, config.image_hw) for dataset in with_boxes])
        overrides['anchors_wh'] = cluster_anchors(sizes, seed=config.seed).anchors_wh
    torch.manual_seed(config.seed)
    network = build_network(config.network, CITYSCAPES_11_3, overrides, config.input_spec)
    if config.imagenet_weights:
        load_imagenet_weights(network, config.imagenet_weights)
    return network


def _load_start(config: TrainingConfig) -> PerceptionNetwork:
    network = load_checkpoint(config.start_from).network
    found = (network.name, tuple(network.input_spec.image_hw))
    if found != (config.network, tuple(config.image_hw)):
        raise ConfigError(
            f'{config.start_from} holds {found[0]} at {list(found[1])}, but the run is to train {config.network} at '
            f'{list(config.image_hw)}. Set network and image_hw to those of the checkpoint.'
        )
    return network.train()


def prepare_criterion(config: TrainingConfig, datasets: Sequence[SceneDataset]) -> CriterionConfig:
    """The losses, with class weights counted from the training masks where they are to be balanced."""
    segmentation = config.criterion.segmentation
    if segmentation.class_weights == 'balanced':
        masks = (sample.mask for dataset in datasets for sample in dataset if sample.mask is not None)
        counts = count_pixels(masks, len(CITYSCAPES_11_3.segmentation))
        segmentation = resolve_class_weights(segmentation, counts)
    return replace(config.criterion, segmentation=segmentation)


def open_stream(
    config: TrainingConfig, datasets: Sequence[SceneDataset], fabric: Fabric, *, start_step: int, stop_step: int
) -> TrainingStream:
    """The batches of this process for some steps, counted from the start of the run."""
    shares = [data.share for data in config.data]
    return TrainingStream(
        datasets,
        None if None in shares else [share for share in shares if share is not None],
        TrainTransform(replace(config.transform, image_hw=config.image_hw)),
        config.seed,
        config.batch_size // fabric.world_size,
        start_step,
        fabric.global_rank,
        fabric.world_size,
        stop_step=stop_step,
        workers=config.workers,
        pin_memory=fabric.device.type == 'cuda',
    )


def _has_boxes(dataset: SceneDataset) -> bool:
    return any(sample.boxes is not None and len(sample.boxes) for sample in dataset)
