"""``perception replay-live``: latency, drops and scores of the running node, as a gate."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perception.cli.arguments import (
    MODEL_OPTIONS,
    add_model_options,
    check_model,
    class_table,
    count,
    not_negative,
    positive,
    share,
)
from perception.errors import MissingDependencyError

if TYPE_CHECKING:
    from perception.interfaces import LabelSpace

HELP = 'play a recording through the running node: latency, drops, scores; the exit code tells if thresholds are met'
WRONG_USAGE, MISSED = 2, 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('recording', type=Path, help='a bag, a video or a folder of images')
    parser.add_argument('--topic', help='camera topic of the bag, where it has several')
    parser.add_argument('--output', type=Path, default=Path('out/live'), help='folder for summary.json and the report')
    parser.add_argument('--overwrite', action='store_true', help='replace the report in --output')
    parser.add_argument('--node', default='', help='namespace of a camera_node that runs, as it is; empty: start one')
    parser.add_argument(
        '--start-timeout',
        type=positive,
        metavar='SECONDS',
        help='how long the node may take to become active; default: 180, or 20 with --node',
    )
    parser.add_argument('--speed', type=positive, default=1.0, help='1: at the pace of the recording')
    parser.add_argument('--frames', type=count, default=0, help='stop after so many; 0: all')
    parser.add_argument(
        '--transport',
        choices=('raw', 'compressed'),
        default='raw',
        help='how images travel to the node that is started; one that runs is sent what it listens to',
    )
    parser.add_argument('--truth', default='', help='as for perception replay')
    parser.add_argument('--truth-split', default='', help='as for perception replay')
    parser.add_argument('--truth-classes', type=class_table, metavar='FILE|JSON', help='as for perception replay')
    parser.add_argument(
        '--labels',
        default='',
        metavar='NAME|FILE',
        help='label space of the node; default: that of --model, or of the weights that ship',
    )
    # Those that are not given are as the node has them.
    add_model_options(parser, defaults=False)
    gate = parser.add_argument_group('thresholds', 'what must be reached, else the exit code is 3')
    gate.add_argument('--min-mean-iou', type=share)
    gate.add_argument('--min-ap50', type=share, help='the node reports scores from its threshold on')
    gate.add_argument('--max-latency-p95-ms', type=not_negative, help='of the slowest output, from the stamp')
    gate.add_argument(
        '--max-lost-share',
        type=share,
        help='of the frames sent, those that got no full answer: dropped by the node or lost on the way',
    )


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code.

    0 done, 1 not done or of no use, 2 wrong usage, 3 a threshold is missed, 130 stopped.
    """
    from perception.bag.frames import open_frames

    given = {name: value for name, value in vars(options).items() if name in MODEL_OPTIONS}
    if options.node and given:
        names = ', '.join(f'--{name.replace("_", "-")}' for name in given)
        print(
            f'perception replay-live: {names}: not with --node, for a node that runs keeps its own. Leave them out, or '
            'leave out --node to have a node started with them.',
            file=sys.stderr,
        )
        return WRONG_USAGE
    model = given.pop('model', '')
    check_model(model)
    try:
        from perception.ros.live_gate import Thresholds
        from perception.ros.live_replay import LiveOptions, run_live_replay
    except ImportError as error:
        raise MissingDependencyError(
            f'A live replay runs a ROS 2 node, and {error.name} is missing. Source a ROS 2 setup file, or install ROS '
            'from wheels with `make setup`; `perception replay` needs no ROS.'
        ) from error
    from perception.output_folder import STOPPED
    from perception.replay.truth import is_wanted, open_truth

    source = open_frames(options.recording, options.topic)
    labels = _label_space(options, model)
    truth = open_truth(options.truth, source, labels, split=options.truth_split, classes=options.truth_classes)
    summary = run_live_replay(
        source,
        truth,
        LiveOptions(
            output=options.output,
            overwrite=options.overwrite,
            node=options.node,
            start_timeout_s=options.start_timeout,
            parameters={'model_path': os.path.abspath(model) if os.path.exists(model) else model, **given},
            speed=options.speed,
            transport=options.transport,
            frames=options.frames,
            truth_wanted=is_wanted(options.truth),
            thresholds=Thresholds(
                min_mean_iou=options.min_mean_iou,
                min_ap50=options.min_ap50,
                max_latency_p95_ms=options.max_latency_p95_ms,
                max_lost_share=options.max_lost_share,
            ),
        ),
        labels,
    )
    if not summary['complete']:
        if summary['interrupted_by'] == STOPPED:
            return 130
        print(f'perception replay-live: {summary["interrupted_by"]}', file=sys.stderr)
        return 1
    for fault in summary['faults']:
        print(f'perception replay-live: {fault}', file=sys.stderr)
    if summary['faults']:
        return 1
    return MISSED if summary['missed'] else 0


def _label_space(options: argparse.Namespace, model: str) -> LabelSpace:
    """What truth is read as; a node that runs is held against it once it is met."""
    from perception.labels import DEFAULT_LABELS, load_label_space

    if options.labels:
        return load_label_space(options.labels)
    if options.node:
        return DEFAULT_LABELS
    from perception.checkpoint import resolve_checkpoint

    return resolve_checkpoint(model).network.labels
