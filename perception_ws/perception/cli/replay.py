"""``perception replay``: judge a model on recordings, offline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception.cli.arguments import add_model_options, add_truth_options, check_model, count, truth_options

if TYPE_CHECKING:
    from perception.replay.report import ReplayReport

HELP = 'score a model on recordings: figures, pictures and predictions, the same each time'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('recordings', nargs='+', type=Path, metavar='BAG', help='MCAP, sqlite3 or ROS 1; also a video')
    parser.add_argument('--output', type=Path, required=True, help='folder for the report and predictions.mcap')
    add_truth_options(parser)
    add_model_options(parser)
    parser.add_argument('--frames', type=count, default=0, help='only so many of each camera; 0: all')
    parser.add_argument('--pictures', type=count, default=10, help='worst and best frames on the page, each')
    parser.add_argument(
        '--workers', type=count, default=0, help='frames at once; 0: as is fastest; 1: as on a vehicle, for its latency'
    )
    parser.add_argument(
        '--ray',
        default='',
        metavar='ADDRESS',
        help="spread recordings over a Ray cluster; 'local': one on this machine",
    )
    parser.add_argument('--no-overlay', action='store_true', help='no overlays in predictions.mcap')
    parser.add_argument('--video', action='store_true', help='also write overlay.mp4')
    parser.add_argument('--resume', action='store_true', help='go on with an unfinished replay in --output')
    parser.add_argument('--overwrite', action='store_true', help='replace the report in --output')


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 0 done, 1 ended early or of no use, 130 stopped by a signal."""
    check_model(options.model)
    from functools import partial

    from perception.checkpoint import resolve_checkpoint
    from perception.output_folder import STOPPED
    from perception.pipeline import Perceiver
    from perception.postprocess import PostprocessConfig
    from perception.replay.fleet import Fleet
    from perception.replay.job import find_finished, replay
    from perception.replay.outputs import format_replay
    from perception.replay.recordings import ReplayOptions
    from perception.replay.run import SCORE_THRESHOLD
    from perception.replay.truth import is_wanted

    checkpoint = resolve_checkpoint(options.model)
    perceiver_options: dict[str, Any] = {
        'backend': options.backend,
        'precision': options.precision,
        'config': PostprocessConfig(score_threshold=SCORE_THRESHOLD),
    }
    replay_options = ReplayOptions(
        output=options.output,
        **truth_options(options),
        score_threshold=options.score_threshold,
        frames=options.frames,
        overlay=not options.no_overlay,
        video=options.video,
        pictures=options.pictures,
        workers=options.workers,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if options.resume:
        device = None if options.ray else options.device
        finished = find_finished(options.recordings, checkpoint, replay_options, device=device, **perceiver_options)
        if finished is not None:
            print(f'{options.output} holds the whole report of this already; --resume has nothing to do.')
            return _judge(finished, truth_wanted=is_wanted(options.truth))
    result = replay(
        options.recordings,
        checkpoint,
        partial(Perceiver, checkpoint, device=options.device, **perceiver_options),
        replay_options,
        fleet=Fleet(options.ray, options.device) if options.ray else None,
    )
    print(f'\n{format_replay(result)}\n\nReport, page and predictions are in {options.output}/')
    if not checkpoint.trained:
        print('UNTRAINED WEIGHTS: what it says about the pictures means nothing.')
    if result.report.ended_by == STOPPED:
        return 130
    return _judge(result.report, truth_wanted=is_wanted(options.truth))


def _judge(report: ReplayReport, *, truth_wanted: bool) -> int:
    """The exit code of a report that no signal ended; says why it is of no use."""
    from perception.replay.outputs import find_faults

    faults = find_faults(report, truth_wanted=truth_wanted)
    for fault in faults:
        print(f'perception replay: {fault}', file=sys.stderr)
    return 0 if report.complete and not faults else 1
