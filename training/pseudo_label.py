"""Let a teacher annotate images, so that a network learns from photos that nobody annotated.

    python -m training.pseudo_label --teacher yolox.onnx --images photos --output out/pseudo/photos --sizes 640 832
    python -m training.pseudo_label --teacher best.safetensors --images photos --output out/pseudo/photos

A YOLOX that was trained on COCO, as ONNX, gives boxes; a checkpoint of ours gives boxes and masks. Trained on by

    data: [{name: coco, root: photos, ..., teacher: {labels: out/pseudo/photos, positive_from: 0.4, ignore_from: 0.1}}]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from perception import __version__
from perception.errors import ConfigError, DatasetError, PerceptionError
from perception.interfaces import UNLABELLED, Detections
from perception.output_folder import claim_folder, keep_apart
from training.data.files import read_image, require_folder
from training.data.taught import BOXES, MASKS, TEACHER
from training.teachers import Answer, Teacher, Views, build_teacher

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm'}


def label_images(
    teacher: Teacher, images: Path, output: Path, views: Views, *, mask_from: float = 0.9, show_progress: bool = True
) -> int:
    """Write what a teacher sees in every picture below a folder, as ``training.data.taught`` reads it.

    Args:
        teacher: Looks at them.
        images: The folder; names of labels count from it.
        output: Existing folder for the labels.
        views: For the record.
        mask_from: Pixels whose class has a lower probability stay without one.
        show_progress: Whether to show a bar.

    Returns:
        How many images were labelled.

    Raises:
        DatasetError: If there are no pictures, or one cannot be decoded.
    """
    files = sorted(path for path in images.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(f'{images} holds no pictures ({", ".join(sorted(IMAGE_SUFFIXES))}).')
    names = [file.relative_to(images).as_posix() for file in files]
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    for number, (file, name) in enumerate(
        zip(tqdm(files, unit='image', disable=not show_progress), names, strict=True)
    ):
        digests[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        image_rgb = np.ascontiguousarray(read_image(file).permute(1, 2, 0).numpy())
        answer = teacher(image_rgb)
        height, width = image_rgb.shape[:2]
        entries.append({'id': number + 1, 'file_name': name, 'height': height, 'width': width})
        annotations += _annotations(answer.detections, number + 1, first_id=len(annotations) + 1)
        _write_mask(answer, output / MASKS / Path(name).with_suffix('.png'), mask_from)
    record = {
        'teacher': teacher.title,
        'views': {'sizes': views.sizes, 'flip': views.flip, 'score_floor': views.score_floor},
        'labels': asdict(teacher.labels),
        'mask_from': mask_from if teacher.segments else None,
        'perception': __version__,
        'made': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'images': digests,
    }
    categories = [{'id': index + 1, 'name': label.name} for index, label in enumerate(teacher.labels.detection)]
    info = {key: value for key, value in record.items() if key != 'images'}
    _write_json(output / BOXES, {'info': info, 'images': entries, 'categories': categories, 'annotations': annotations})
    _write_json(output / TEACHER, record)
    return len(files)


def _annotations(detections: Detections, image_id: int, *, first_id: int) -> Iterator[dict[str, Any]]:
    boxes, scores, labels = detections.boxes_xyxy, detections.scores, detections.labels
    for number, (box, score, label) in enumerate(zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)):
        left, top, right, bottom = box
        sides = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        yield {
            'id': first_id + number,
            'image_id': image_id,
            'category_id': label + 1,
            'bbox': sides,
            'area': round(sides[2] * sides[3], 2),
            'iscrowd': 0,
            'score': round(score, 4),
        }


def _write_mask(answer: Answer, path: Path, mask_from: float) -> None:
    if answer.mask is None or answer.confidence is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.where(answer.confidence >= mask_from * 255, answer.mask, UNLABELLED).astype(np.uint8)
    if not cv2.imwrite(str(path), mask):
        raise DatasetError(f'{path} could not be written.')


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(content))
    os.replace(partial, path)


def _make_room(output: Path, *, overwrite: bool) -> None:
    """Labels are whole once TEACHER is there; what an interrupted run left is worth nothing."""
    if (output / TEACHER).exists() and not overwrite:
        raise ConfigError(f'{output} holds labels already; name another folder, or replace them with --overwrite.')
    for name in (TEACHER, BOXES):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / MASKS, ignore_errors=True)


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
    parser.add_argument('--mask-from', type=float, default=0.9, help='lowest probability of a pixel; default 0.9')
    parser.add_argument('--overwrite', action='store_true', help='replace labels that are there')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parse_arguments(arguments)
    try:
        if not 0 <= options.mask_from <= 1:
            raise ConfigError(f'--mask-from must lie in 0..1; got {options.mask_from}.')
        views = Views(sizes=tuple(options.sizes), flip=not options.no_flip, score_floor=options.score_floor)
        teacher = build_teacher(options.teacher, views)
        images = require_folder(options.images, 'Images to label')
        keep_apart(options.output, images, BOXES, MASKS, TEACHER)
        with claim_folder(options.output):
            _make_room(options.output, overwrite=options.overwrite)
            count = label_images(teacher, images, options.output, views, mask_from=options.mask_from)
    except PerceptionError as error:
        print(f'pseudo_label: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'pseudo_label: cannot write to {options.output}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('pseudo_label: stopped; labels are whole or not there, so begin again.', file=sys.stderr)
        return 130
    print(f'{teacher.title} labelled {count} images; the labels are in {options.output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
