"""``perception compare-networks``: what networks cost, how long they take and how well they see, beside each other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perception.cli.arguments import (
    BACKEND_NAMES,
    PRECISION_NAMES,
    add_truth_options,
    count,
    device,
    truth_options,
    whole_number,
)

HELP = 'hold networks against each other: parameters, operations, latency, accuracy'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help="a checkpoint file, or a network's name: its weights that ship, else random ones, which have no accuracy",
    )
    parser.add_argument('--output', type=Path, required=True, help='folder for comparison.json and comparison.html')
    parser.add_argument('--overwrite', action='store_true', help='replace the report in --output')
    parser.add_argument(
        '--data', nargs='+', type=Path, default=[], metavar='BAG', help='recordings with truth, as of perception replay'
    )
    add_truth_options(parser)
    parser.add_argument('--frames', type=count, default=0, help='only so many of each camera; 0: all')
    parser.add_argument(
        '--backend',
        action='append',
        choices=BACKEND_NAMES,
        help='how networks are run, may be repeated; accuracy is measured with the first; default: all that run here',
    )
    parser.add_argument(
        '--precision', action='append', choices=PRECISION_NAMES, help='the same of the arithmetic; default: fp32'
    )
    parser.add_argument('--device', type=device, default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--rounds', type=whole_number, default=20, help='times that each network is timed')


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 0 done, 1 something could not be done, 130 stopped by a signal."""
    from perception.network_comparison.job import ComparisonOptions, compare_networks
    from perception.network_comparison.latency import Way
    from perception.network_comparison.tables import format_comparison
    from perception.replay.recordings import ReplayOptions

    ways = [
        Way(backend=backend, precision=precision)
        for backend in dict.fromkeys(options.backend or BACKEND_NAMES)
        for precision in dict.fromkeys(options.precision or PRECISION_NAMES[:1])
    ]
    comparison = compare_networks(
        options.checkpoints,
        ComparisonOptions(
            data=tuple(options.data),
            replay=ReplayOptions(
                output=options.output,
                **truth_options(options),
                frames=options.frames,
                overlay=False,
                overwrite=options.overwrite,
            ),
            ways=tuple(ways),
            backends_named=bool(options.backend),
            precisions_named=bool(options.precision),
            device=options.device,
            rounds=options.rounds,
        ),
    )
    print(f'\n{format_comparison(comparison)}\n\ncomparison.json and comparison.html are in {options.output}/')
    if comparison.ended_by:
        return 130
    if comparison.failures:
        names = ', '.join(dict.fromkeys(failure.checkpoint for failure in comparison.failures))
        print(f'perception compare-networks: not all could be done for {names}; see FAILED above.', file=sys.stderr)
    return 1 if comparison.failures else 0
