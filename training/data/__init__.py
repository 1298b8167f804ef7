"""Data sets for training and evaluation, all behind the one door of SceneDataset and Sample."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from perception.errors import ConfigError, nearest
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.coco import CocoBoxes, DrivingBoxes
from training.data.dataset import SceneDataset

_OPTIONS_EXAMPLE = """write for example --options '{"annotations": "labels.json"}'."""

DatasetClass = type[SceneDataset]

DATASETS: dict[str, DatasetClass] = {
    'cityscapes': Cityscapes,
    'camvid': CamVid,
    'coco': CocoBoxes,
    'driving_boxes': DrivingBoxes,
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
        _check_kind(name, option, options[option], get_type_hints(dataset_class.__init__)[option])
    return dataset_class(Path(root).expanduser(), split, **options)  # type: ignore[call-arg]


def _check_kind(name: str, option: str, value: object, expected: Any) -> None:
    """Refuse a value that is no JSON value of the kind that a constructor names; words are left to the constructor."""
    kinds = {get_origin(kind) or kind for kind in get_args(expected) or [expected]}
    if get_origin(expected) is Literal:
        kinds = {str}
    words = {bool: 'true or false', int: 'a whole number', str: 'a text', Mapping: 'an object of texts', NoneType: ''}
    is_flag = isinstance(value, bool) and bool not in kinds
    texts = not isinstance(value, Mapping) or all(isinstance(item, str) for item in value.values())
    if is_flag or not texts or not isinstance(value, tuple(kinds)):
        wanted = ' or '.join(word for kind, word in words.items() if word and kind in kinds)
        raise ConfigError(f'Option {option!r} of data set {name!r} is {value!r}; expected {wanted}.')
