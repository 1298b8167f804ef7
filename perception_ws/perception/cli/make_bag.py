"""``perception make-bag``: turn images or a video into a bag, with their truth where annotations are at hand."""

from __future__ import annotations

import argparse
from pathlib import Path

from perception.cli.arguments import class_table, positive, quality

HELP = 'turn a folder of images, a data set or a video into a bag'

_NAME_ONE = 'name the one to read'
"""How the reader puts it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('source', type=Path, help='a folder of images, a video, another bag, or a data set')
    parser.add_argument('output', type=Path, help='the new bag: a folder that does not exist yet')
    parser.add_argument(
        '--labelled',
        action='store_true',
        help='source is a data set in the layout of CamVid, Cityscapes or COCO, or a COCO file: its truth goes into '
        'the bag, too',
    )
    parser.add_argument('--split', default='', help='of the data set; empty: the only one there is')
    parser.add_argument(
        '--classes',
        type=class_table,
        metavar='FILE|JSON',
        help='table (CSV or YAML) that says which id or category is which class; for COCO also category name to class '
        'of boxes as JSON; default: what is usual',
    )
    parser.add_argument(
        '--labels',
        default='',
        metavar='NAME|FILE',
        help='label space of the truth; default: that of the weights that ship',
    )
    parser.add_argument('--encoding', choices=('jpeg', 'png', 'raw'), default='jpeg', help='png and raw lose nothing')
    parser.add_argument('--jpeg-quality', type=quality, default=90, help='1 to 100')
    parser.add_argument('--from-topic', metavar='TOPIC', help='of the bag to read, where it has several cameras')
    parser.add_argument(
        '--topic',
        default='',
        help='of the images in the new bag; empty: /camera/image/compressed, or /camera/image for raw ones',
    )
    parser.add_argument('--rate', type=positive, default=10.0, help='frames a second, for images without time stamps')


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from perception.bag.frames import open_frames
    from perception.bag.labelled import open_labelled
    from perception.bag.make_bag import labelled_frames, write_frames_bag
    from perception.errors import ConfigError, RecordingError
    from perception.labels import DEFAULT_LABELS, load_label_space

    truth = None
    labels = load_label_space(options.labels) if options.labels else DEFAULT_LABELS
    if options.labelled or options.split or options.classes:
        if options.from_topic:
            raise ConfigError('--from-topic names a topic of a bag, and a data set has none. Leave it out.')
        folder = open_labelled(options.source, options.split, options.classes, labels)
        frames, truth = labelled_frames(folder, options.rate)
    else:
        try:
            frames = open_frames(options.source, options.from_topic, rate_hz=options.rate)
        except RecordingError as error:
            # Elsewhere it is --topic; here that is the topic of the new bag.
            error.args = (str(error).replace(_NAME_ONE, f'{_NAME_ONE} with --from-topic'),)
            raise
    summary = write_frames_bag(
        frames,
        options.output,
        options.topic,
        encoding=options.encoding,
        jpeg_quality=options.jpeg_quality,
        truth=truth,
        labels=labels,
    )
    print(summary)
    return 0
