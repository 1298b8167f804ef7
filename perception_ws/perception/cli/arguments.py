"""What options of several commands have in common: how numbers are read, and how a model is chosen."""

from __future__ import annotations

import argparse
import json
import os
import re
from typing import Any

from perception.errors import CheckpointError, nearest

BACKEND_NAMES = ('eager', 'openvino')
"""The keys of perception.backends.BACKENDS, which would take seconds to import for ``--help``."""
PRECISION_NAMES = ('fp32', 'bf16', 'fp16')

_TABLE_EXAMPLE = """write for example '{"van": "car/truck/bus"}', or name a CSV or YAML file"""

MODEL_OPTIONS = ('model', 'backend', 'device', 'precision', 'score_threshold')
"""What add_model_options adds."""


def add_model_options(parser: argparse.ArgumentParser, *, defaults: bool = True) -> None:
    """Which network, and how it is run.

    Args:
        defaults: If False, the parsed options have only those that were given.
    """

    def default(value: str | float) -> str | float:
        return value if defaults else argparse.SUPPRESS

    parser.add_argument(
        '--model',
        default=default(''),
        help="checkpoint file; empty: the weights that ship; a network's name: its weights that ship, else random "
        'ones; NAME@untrained: random ones',
    )
    parser.add_argument('--backend', default=default('eager'), choices=BACKEND_NAMES, help='how the network is run')
    parser.add_argument('--device', type=device, default=default('auto'), help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--precision',
        default=default('fp32'),
        choices=PRECISION_NAMES,
        help='arithmetic of the network; fp16 needs a GPU',
    )
    parser.add_argument(
        '--score-threshold', type=share, default=default(0.3), help='lowest score of a reported detection'
    )


def add_truth_options(parser: argparse.ArgumentParser) -> None:
    """Where the truth of recordings lies; ``truth_options`` takes them up."""
    parser.add_argument('--topic', action='append', default=[], help='camera topic, may be repeated; default: all')
    parser.add_argument(
        '--truth',
        default='',
        help='topics (of the bag), none, a folder in CamVid, Cityscapes or COCO layout, or a COCO file; empty: topics '
        'if there are some',
    )
    parser.add_argument('--truth-split', default='', help='split of that folder; empty: the only one there is')
    parser.add_argument(
        '--truth-match',
        choices=('name', 'stamp', 'order'),
        help="how annotations belong to frames; default: images by name, a bag by the stamp that ends annotations' "
        'names; where there are none, by order',
    )
    parser.add_argument(
        '--truth-classes',
        type=class_table,
        metavar='FILE|JSON',
        help='table (CSV or YAML) that says which id or category is which class; for COCO also category name to class '
        'of boxes as JSON; default: what is usual for the label space of the network',
    )
    parser.add_argument('--truth-mask-topic', help='default: <camera>/truth/mask, or .../compressed')
    parser.add_argument('--truth-detections-topic', help='default: <camera>/truth/detections')


def truth_options(options: argparse.Namespace) -> dict[str, Any]:
    """What ReplayOptions takes of them."""
    return {
        'topics': tuple(options.topic),
        'truth': options.truth,
        'truth_split': options.truth_split,
        'truth_match': options.truth_match,
        'truth_classes': options.truth_classes,
        'mask_topic': options.truth_mask_topic,
        'detections_topic': options.truth_detections_topic,
    }


def class_table(text: str) -> dict[str, str] | str:
    """Which id or category is which class: the path of a table, or a mapping of categories as JSON."""
    if os.path.isfile(text):
        return text
    try:
        table = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'is no JSON ({error}); {_TABLE_EXAMPLE}') from error
    if not isinstance(table, dict) or not table or not all(isinstance(label, str) for label in table.values()):
        raise argparse.ArgumentTypeError(f'must be a JSON object of names, got {text}; {_TABLE_EXAMPLE}')
    return table


def check_model(model: str) -> None:
    """Refuse a model that is neither a file nor a network, before anything is started for it.

    Raises:
        CheckpointError: With the nearest name.
    """
    from perception.checkpoint import is_network
    from perception.networks import NETWORKS

    if model and not is_network(model) and not os.path.isfile(model):
        raise CheckpointError(
            f'--model {model} is no file, and no network of that name exists: {nearest(model, list(NETWORKS))}'
        )


def not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number from 0, got {text}')
    return value


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'must be a whole number from 0, got {text}')
    return int(text)


def whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'must be a whole number from 1, got {text}')
    return int(text)


def positive(text: str) -> float:
    try:
        value = not_negative(text)
    except argparse.ArgumentTypeError:
        value = 0
    if value == 0:
        raise argparse.ArgumentTypeError(f'must be a number above 0, got {text}')
    return value


def quality(text: str) -> int:
    value = count(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f'must lie in 1..100, got {text}')
    return value


def device(text: str) -> str:
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', text):
        raise argparse.ArgumentTypeError(f'must be auto, cpu, cuda or cuda:N, got {text}')
    return text


def share(text: str) -> float:
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f'must lie in 0..1, got {text}')
    return value
