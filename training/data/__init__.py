"""Data sets for training and evaluation, all behind the one door of SceneDataset and Sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from perception.errors import ConfigError, nearest
from perception.interfaces import LabelSpace
from perception.labels import DEFAULT_LABELS
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.coco import CocoBoxes, DrivingBoxes
from training.data.dataset import SceneDataset
from training.data.pascal_voc import PascalVoc

_OPTIONS_EXAMPLE = """write for example --options '{"annotations": "labels.json"}'."""

DatasetClass = type[SceneDataset]

DATASETS: dict[str, DatasetClass] = {
    'cityscapes': Cityscapes,
    'camvid': CamVid,
    'coco': CocoBoxes,
    'driving_boxes': DrivingBoxes,
    'voc': PascalVoc,
}


def parse_options(text: str) -> dict[str, Any]:
    """Read a data set's options from the command line: a JSON object, such as ``{"annotations": "labels.json"}``.

    Raises:
        ConfigError: If it is none.
    """
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'--options {text!r} is not JSON ({error}); {_OPTIONS_EXAMPLE}') from error
    if not isinstance(options, dict):
        raise ConfigError(f'--options {text!r} is not a JSON object; {_OPTIONS_EXAMPLE}')
    return options


def build_dataset(
    name: str, root: str | Path, split: str, labels: LabelSpace = DEFAULT_LABELS, **options: Any
) -> SceneDataset:
    """Open one split of a data set.

    Args:
        name: A name in DATASETS; drawn streets are ``cityscapes``.
        root: Its folder.
        split: ``train``, ``val`` or ``test``, or what else the class knows.
        labels: The label space that its samples are to count in.
        **options: What the class takes besides; its constructor says what.

    Raises:
        ConfigError: If the name or an option is unknown, or an option is out of range.
        DatasetError: If files are missing or broken.
    """
    if name not in DATASETS:
        raise ConfigError(f'Data set {name!r} is unknown: {nearest(name, list(DATASETS))}')
    dataset_class = DATASETS[name]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(dataset_class, skip={'root', 'split', 'labels'})
    known = list(vars(parser.get_defaults()))
    for option in options:
        if option not in known:
            raise ConfigError(f'Option {option!r} of data set {name!r} is unknown: {nearest(option, known)}')
    try:
        values = vars(parser.parse_object(options))
    except ArgumentError as error:
        raise ConfigError(f'Data set {name!r} cannot take these options. {error}') from error
    return dataset_class(Path(root).expanduser(), split, labels=labels, **values)  # type: ignore[call-arg]
