"""Data sets for training and evaluation, all behind the one door of SceneDataset and Sample."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from perception.errors import ConfigError, nearest
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.coco import CocoBoxes, DrivingBoxes
from training.data.dataset import SceneDataset

DatasetClass = type[SceneDataset]

DATASETS: dict[str, DatasetClass] = {
    'cityscapes': Cityscapes,
    'camvid': CamVid,
    'coco': CocoBoxes,
    'driving_boxes': DrivingBoxes,
}


def build_dataset(name: str, root: str | Path, split: str, **options: Any) -> SceneDataset:
    """Open one split of a data set.

    Args:
        name: A name in DATASETS; drawn streets are ``cityscapes``.
        root: Its folder.
        split: ``train``, ``val`` or ``test``.
        **options: What the class takes besides; its constructor says what.

    Raises:
        ConfigError: If the name or an option is unknown, or an option is out of range.
        DatasetError: If files are missing or broken.
    """
    if name not in DATASETS:
        raise ConfigError(f'Data set {name!r} is unknown: {nearest(name, list(DATASETS))}')
    dataset_class = DATASETS[name]
    known = [option for option in inspect.signature(dataset_class).parameters if option not in ('root', 'split')]
    for option in options:
        if option not in known:
            raise ConfigError(f'Option {option!r} of data set {name!r} is unknown: {nearest(option, known)}')
    return dataset_class(Path(root).expanduser(), split, **options)  # type: ignore[call-arg]
