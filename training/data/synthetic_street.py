"""A drawn street video with exact masks, and a data set of it in the Cityscapes layout.

It has no reader: it writes what the Cityscapes tools expect and the Cityscapes reader reads it. Appearance changes
widely from sequence to sequence (domain randomisation), so that a network trained on it learns more than one street.

    python -m training.data.synthetic_street --output DIR --train 200 --val 50 --test 50 --size 512x1024 --seed 0
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from perception.errors import ConfigError, PerceptionError
from training.data.street.cityscapes_layout import prepare_output, write_cityscapes
from training.data.street.sequence import StreetConfig, StreetFrame, draw_street

__all__ = ['StreetConfig', 'StreetFrame', 'draw_street', 'main', 'plan_sequences', 'write_cityscapes']

_SPLITS = ('train', 'val', 'test')


def plan_sequences(
    frames: int,
    *,
    image_hw: tuple[int, int],
    seed: int,
    split: str,
    sequence_frames: int = 5,
    frame_rate_hz: float = 1.0,
) -> list[StreetConfig]:
    """Spread a number of frames over sequences of different streets; splits never share a street.

    Args:
        frames: Frames in all; 0 gives no sequence.
        image_hw: Height and width in pixels.
        seed: Decides the streets, together with the split.
        split: ``train``, ``val`` or ``test``.
        sequence_frames: Frames per street; the last one may have fewer.
        frame_rate_hz: Frames per second; few, so that the frames of a street differ.
    """
    first = (seed * len(_SPLITS) + _SPLITS.index(split)) * 1_000_000
    return [
        StreetConfig(
            image_hw=image_hw,
            frames=min(sequence_frames, frames - start),
            seed=first + start // sequence_frames,
            frame_rate_hz=frame_rate_hz,
        )
        for start in range(0, frames, sequence_frames)
    ]


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise ConfigError(f'Size {text!r} is not HEIGHTxWIDTH in pixels; write for example 512x1024.')
    return int(match[1]), int(match[2])


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m training.data.synthetic_street', description=__doc__.split('\n')[0]
    )
    parser.add_argument('--output', type=Path, required=True, help='folder of the data set')
    for split, frames in zip(_SPLITS, (200, 50, 50), strict=True):
        parser.add_argument(f'--{split}', type=int, default=frames, metavar='FRAMES', help=f'default {frames}')
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='default 512x1024')
    parser.add_argument('--seed', type=int, default=0, help='the same seed writes the same bytes')
    parser.add_argument('--sequence-frames', type=int, default=5, help='frames per street; default 5')
    parser.add_argument('--frame-rate', type=float, default=1.0, help='frames per second; default 1')
    parser.add_argument('--workers', type=int, default=1, help='processes to draw with; default 1')
    parser.add_argument('--overwrite', action='store_true', help='replace the data set in the output folder')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parse_arguments(arguments)
    try:
        if (
            min(options.sequence_frames, options.workers) < 1
            or min(options.seed, *(vars(options)[s] for s in _SPLITS)) < 0
        ):
            raise ConfigError('--sequence-frames and --workers must be at least 1; --seed and the splits at least 0.')
        image_hw = _parse_size(options.size)
        plans = {
            split: plan_sequences(
                getattr(options, split),
                image_hw=image_hw,
                seed=options.seed,
                split=split,
                sequence_frames=options.sequence_frames,
                frame_rate_hz=options.frame_rate,
            )
            for split in _SPLITS
        }
        prepare_output(options.output, overwrite=options.overwrite)
        for split, sequences in plans.items():
            write_cityscapes(options.output, split, sequences, workers=options.workers)
    except PerceptionError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f'Cannot write the data set to {options.output}: {error}. Name another folder.', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
