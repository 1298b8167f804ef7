"""Let a teacher annotate images, so that a network learns from photos that nobody annotated.

    python -m training.pseudo_label --teacher yolox.onnx --images photos --output out/pseudo/photos --sizes 640 832
    python -m training.pseudo_label --teacher best.safetensors --images photos --output out/pseudo/photos

A YOLOX that was trained on COCO, as ONNX, gives boxes; a checkpoint of ours gives boxes and masks. Trained on by

    data: [{name: coco, root: photos, ..., teacher: {labels: out/pseudo/photos, positive_from: 0.4, ignore_from: 0.1}}]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from perception import __version__
from perception.errors import ConfigError, DatasetError, PerceptionError
from perception.interfaces import UNLABELLED
from perception.output_folder import StopRequest, claim_folder, keep_apart
from training.data.files import read_image
from training.data.taught import BOXES, MASKS, TEACHER, UNFINISHED
from training.label_journal import LabelJournal
from training.teachers import Answer, Teacher, Views, build_teacher

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm'}


def label_images(
    teacher: Teacher,
    images: Path,
    output: Path,
    views: Views,
    *,
    mask_from: float = 0.9,
    overwrite: bool = False,
    stop: StopRequest | None = None,
    show_progress: bool = True,
) -> Labelled:
    """Write what a teacher sees in every picture below a folder, as ``training.data.taught`` reads it.

    A run that was stopped or killed goes on where it was. A picture that cannot be decoded gets no labels.

    Args:
        teacher: Looks at them.
        images: The folder; names of labels count from it.
        output: Existing folder for the labels.
        views: For the record.
        mask_from: Pixels whose class has a lower probability stay without one.
        overwrite: Whether labels that are there are replaced.
        stop: Is asked after every image.
        show_progress: Whether to show a bar.

    Raises:
        ConfigError: If there are labels, and they are not to be replaced.
        DatasetError: If there are no pictures, or none can be decoded.
        KeyboardInterrupt: If somebody asked to stop.
    """
    files = sorted(path for path in images.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(f'{images} holds no pictures ({", ".join(sorted(IMAGE_SUFFIXES))}).')
    record = {
        'teacher': teacher.title,
        'views': {'sizes': views.sizes, 'flip': views.flip, 'score_floor': views.score_floor},
        'labels': asdict(teacher.labels),
        'mask_from': mask_from if teacher.segments else None,
        'perception': __version__,
    }
    journal = LabelJournal(output, record, overwrite=overwrite)
    damaged: list[str] = []
    names = [file.relative_to(images).as_posix() for file in files]
    with closing(journal):
        for file, name in zip(tqdm(files, unit='image', disable=not show_progress), names, strict=True):
            if stop is not None:
                stop.check()
            try:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                if journal.has(name, digest):
                    continue
                image_rgb = np.ascontiguousarray(read_image(file).permute(1, 2, 0).numpy())
            except (DatasetError, OSError) as error:
                damaged.append(str(error))
                continue
            answer = teacher(image_rgb)
            height, width = image_rgb.shape[:2]
            journal.add(name, digest, (height, width), answer.detections, _sure_mask(answer, mask_from))
        if len(damaged) == len(files):
            raise DatasetError(f'None of the {len(files)} pictures in {images} can be decoded. {damaged[0]}')
        journal.finish(teacher.labels, names)
    return Labelled(len(files) - len(damaged), tuple(damaged))


class Labelled(NamedTuple):
    """What came of it."""

    images: int
    damaged: tuple[str, ...]
    """What is wrong with the pictures that have no labels, one each."""


def _sure_mask(answer: Answer, mask_from: float) -> np.ndarray | None:
    """(H, W) uint8; UNLABELLED where the teacher is not sure."""
    if answer.mask is None or answer.confidence is None:
        return None
    return np.where(answer.confidence >= mask_from * 255, answer.mask, UNLABELLED).astype(np.uint8)


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m training.pseudo_label', description=__doc__.partition('\n')[0])
    parser.add_argument(
        '--teacher', type=Path, required=True, help='YOLOX on COCO (.onnx) or a checkpoint (.safetensors)'
    )
    parser.add_argument(
        '--images', type=Path, required=True, help='folder of pictures; those in folders below count, too'
    )
    parser.add_argument('--output', type=Path, required=True, help='folder for the labels')
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[],
        help="longer sides to look at, multiples of 32; default the teacher's own",
    )
    parser.add_argument('--no-flip', action='store_true', help='do not look at the mirrored image, too')
    parser.add_argument('--score-floor', type=float, default=0.05, help='lowest score that is kept; default 0.05')
    parser.add_argument('--mask-from', type=float, help='lowest probability of a pixel; default 0.9')
    parser.add_argument('--overwrite', action='store_true', help='replace labels that are there')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parse_arguments(arguments)
    try:
        views = Views(sizes=tuple(options.sizes), flip=not options.no_flip, score_floor=options.score_floor)
        teacher = build_teacher(options.teacher, views)
        mask_from = _mask_from(options.mask_from, teacher)
        if not options.images.is_dir():
            raise ConfigError(f'--images {options.images} is no folder; name the one that the pictures lie in.')
        keep_apart(options.output, options.images, BOXES, MASKS, TEACHER, UNFINISHED)
        with claim_folder(options.output), StopRequest() as stop:
            done = label_images(
                teacher,
                options.images,
                options.output,
                views,
                mask_from=mask_from,
                overwrite=options.overwrite,
                stop=stop,
            )
    except PerceptionError as error:
        print(f'pseudo_label: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'pseudo_label: cannot write to {options.output}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('pseudo_label: stopped; the same command goes on from here.', file=sys.stderr)
        return 130
    print(f'{teacher.title} labelled {done.images} images; the labels are in {options.output}')
    if done.damaged:
        print(f'pseudo_label: {len(done.damaged)} pictures have no labels:', *done.damaged, sep='\n  ', file=sys.stderr)
        return 1
    return 0


def _mask_from(said: float | None, teacher: Teacher) -> float:
    if said is None:
        return 0.9
    if not 0 <= said <= 1:
        raise ConfigError(f'--mask-from must lie in 0..1; got {said}.')
    if not teacher.segments:
        raise ConfigError(f'--mask-from is of masks, and {teacher.title} gives none; leave it out.')
    return said


if __name__ == '__main__':
    sys.exit(main())
