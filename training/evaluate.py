"""Evaluate a checkpoint on a data set: figures in the terminal, report.json and report.html in a folder.

    python -m training.evaluate --checkpoint F --dataset camvid --root DIR --split test --output out/evaluation/camvid
    python -m training.evaluate --teacher yolox.onnx --sizes 416 --dataset driving_boxes --root DIR --split test

For data in the layout of Cityscapes the masks are also written as PNG files and scored by cityscapesscripts. For Pascal
VOC the boxes are also scored as its devkit does, for other data with --voc-ap; for COCO files by COCO's own evaluation
of the file, where each class is one category of it, and written as its server takes them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import perception
from perception.checkpoint import resolve_checkpoint
from perception.errors import ConfigError, PerceptionError
from perception.metrics import Evaluator
from perception.metrics.cityscapes_scoring import CityscapesWriter, has_official_ids, save_official_scores
from perception.metrics.coco_scoring import CocoTruth, format_coco_scores, list_results, score_coco
from perception.metrics.loss_curves import loss_section
from perception.metrics.pictures import PictureKeeper
from perception.metrics.report_page import write_report_page
from perception.metrics.tables import format_report
from perception.metrics.voc_scoring import format_voc_scores, save_voc_scores, score_voc
from perception.output_folder import refuse_report
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from training.data import DATASETS, build_dataset, parse_options
from training.data.coco import CocoBoxes
from training.evaluation import SCORE_THRESHOLD, SceneObserver, evaluate_dataset
from training.teachers import Views, build_teacher
from training.teachers.observer import TeacherObserver, WithoutMasks

DATA_VARIABLE = 'PERCEPTION_DATA'
"""Environment variable: the folder that holds a folder for each data set."""
OFFICIAL_TOLERANCE = 1e-6
REPORT, PAGE = 'report.json', 'report.html'
OFFICIAL, VOC, COCO, COCO_RESULTS = 'cityscapesscripts.json', 'voc_ap.json', 'coco_scores.json', 'coco_results.json'
SECOND_OPINIONS = (OFFICIAL, VOC, COCO, COCO_RESULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says. Returns the exit code: 0 done, 1 it could not be done, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (PerceptionError, OSError) as error:
        print(f'training.evaluate: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; nothing was written', file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m training.evaluate',
        description='Score a checkpoint on a data set.',
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--checkpoint', default='', help='checkpoint file; empty: the weights that ship')
    parser.add_argument(
        '--teacher', type=Path, help='score a teacher of training.pseudo_label in place of a checkpoint'
    )
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[], help='longer sides that it looks at; its own if none'
    )
    parser.add_argument('--flip', action='store_true', help='it looks at the mirrored image, too')
    parser.add_argument('--dataset', required=True, choices=sorted(DATASETS))
    parser.add_argument('--root', type=Path, help=f'folder of the data set; else ${DATA_VARIABLE}/<dataset>')
    parser.add_argument('--split', default='val', help='train, val or test')
    parser.add_argument('--options', default='{}', metavar='JSON', help="what the data set's reader takes besides")
    parser.add_argument(
        '--output', type=Path, help='folder for the report; else out/evaluation/<network>@<weights>_<data set>-<split>'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the report in --output')
    parser.add_argument('--at', choices=('original', 'network'), default='original', help='size at which to score')
    parser.add_argument(
        '--voc-ap', action='store_true', help='average precision as Pascal VOC defines it, too; for voc it always is'
    )
    parser.add_argument('--limit', type=_count, default=0, help='only so many images; 0: all')
    parser.add_argument('--batch', type=_positive, default=1, help='images at a time')
    parser.add_argument('--workers', type=_count, default=0, help='batches in hand at once; 0: as is fastest')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--precision', default='fp32', choices=('fp32', 'bf16', 'fp16'))
    parser.add_argument('--losses', type=Path, help="metrics file of the training, for the page's loss curves")
    parser.add_argument('--pictures', type=_count, default=6, help='best and worst images to show, each')
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'must be 0 or more, got {text}')
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if value == 0:
        raise argparse.ArgumentTypeError('must be 1 or more')
    return value


def _run(options: argparse.Namespace) -> None:
    if options.losses is not None:
        loss_section(options.losses)  # what is wrong with the file is told before the scoring, not after it
    observer = _open_observer(options)
    dataset = files = build_dataset(
        options.dataset, _root(options), options.split, observer.scenes.labels, **parse_options(options.options)
    )
    if not observer.segments:
        dataset = WithoutMasks(dataset)
    output: Path = options.output or Path('out/evaluation') / f'{observer.title}_{dataset.name}'
    _make_folder(output, files=(REPORT, PAGE, *SECOND_OPINIONS))
    refuse_report(output, REPORT, overwrite=options.overwrite)
    pictures = PictureKeeper(dataset.labels, count=options.pictures)
    scorable = options.dataset == 'cityscapes' and has_official_ids(dataset.labels)
    masks = CityscapesWriter(output / 'masks', dataset.labels) if scorable else None
    remark = f', {dataset.remark}' if dataset.remark else ''
    start = perf_counter()
    evaluator = evaluate_dataset(
        observer.scenes,
        dataset,
        at=options.at,
        batch_size=options.batch,
        limit=options.limit,
        workers=options.workers,
        pictures=pictures,
        masks=masks,
    )
    seconds = perf_counter() - start
    report = evaluator.report(
        {
            'network': observer.title,
            'data set': f'{dataset.name}{remark}',
            'images': len(evaluator),
            'scored at': f'{options.at} size',
            'precision': options.precision,
            'device': observer.scenes.device,
            'perception': perception.__version__,
        }
    )
    for name in SECOND_OPINIONS:
        (output / name).unlink(missing_ok=True)  # of the report that is replaced
    report.save(output / REPORT)
    write_report_page(
        output / PAGE,
        report,
        dataset.labels,
        title=f'{observer.title.partition("@")[0]} on {dataset.name}',
        subtitle=f'{observer.title}, {len(evaluator):,} images, scored at {options.at} size{remark}',
        pictures=pictures,
        losses=options.losses,
    )
    print(f'\n{format_report(report)}')
    truth = files.coco_truth if isinstance(files, CocoBoxes) and options.at == 'original' else None
    _score_boxes_again(evaluator, output, truth, as_voc=options.voc_ap or options.dataset == 'voc')
    if masks is not None and len(masks):
        official = masks.score()
        save_official_scores(output / OFFICIAL, official)
        verdict = 'equal' if official.difference(report) <= OFFICIAL_TOLERANCE else 'NOT EQUAL'
        print(f'\ncityscapesscripts: mIoU {100 * (official.mean_iou or 0):.4f} %, {verdict} to the above.')
    print(f'\n{len(evaluator) / seconds:.1f} images/s on {observer.scenes.device}. Page: {output / PAGE}')


def _score_boxes_again(evaluator: Evaluator, output: Path, truth: CocoTruth | None, *, as_voc: bool) -> None:
    """Write and print what others than the report say of the boxes."""
    if as_voc:
        voc = score_voc(evaluator.boxes, tuple(label.name for label in evaluator.labels.detection))
        save_voc_scores(output / VOC, voc)
        print(f'\n{format_voc_scores(voc)}')
    if truth is not None:
        results = list_results(evaluator.boxes, truth)
        (output / COCO_RESULTS).write_text(json.dumps(results), encoding='utf-8')
        try:
            scores = score_coco(results, truth, len(evaluator))
        except ConfigError as error:
            print(f'\n{error}')
            return
        (output / COCO).write_text(json.dumps(scores, indent=2) + '\n', encoding='utf-8')
        print(f'\n{format_coco_scores(scores)}')


class _Observer(NamedTuple):
    """What is scored, and what it is called."""

    title: str
    scenes: SceneObserver
    segments: bool = True


def _open_observer(options: argparse.Namespace) -> _Observer:
    if options.teacher is not None:
        if options.checkpoint:
            raise ConfigError('Give --checkpoint or --teacher, not both.')
        if (options.device, options.precision) not in (('auto', 'fp32'), ('cpu', 'fp32')):
            raise ConfigError('A teacher runs on the CPU in fp32; leave --device and --precision out.')
        views = Views(sizes=tuple(options.sizes), flip=options.flip, score_floor=SCORE_THRESHOLD)
        teacher = build_teacher(options.teacher, views)
        seen = [*map(str, options.sizes), *(['flip'] if options.flip else [])]
        return _Observer('-'.join([teacher.title, *seen]), TeacherObserver(teacher), teacher.segments)
    if options.sizes or options.flip:
        raise ConfigError('--sizes and --flip are of --teacher; a checkpoint has its own size. Name it with --teacher.')
    checkpoint = resolve_checkpoint(options.checkpoint)
    config = PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    perceiver = Perceiver(checkpoint, device=options.device, precision=options.precision, config=config)
    return _Observer(checkpoint.title, perceiver)


def _root(options: argparse.Namespace) -> Path:
    if options.root is not None:
        return options.root
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise ConfigError(
            f'Where is the data set? Give --root DIR, or set {DATA_VARIABLE} to the folder that holds '
            f'{options.dataset}/.'
        )
    return Path(folder) / options.dataset


def _make_folder(folder: Path, files: Sequence[str]) -> None:
    """Make the output folder, and see that files of these names can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'Cannot make the output folder {folder}: {error}') from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f'Cannot write to the output folder {folder}; name another --output.')
    for name in files:
        if (folder / name).is_dir():
            raise ConfigError(f'{folder / name} is a folder; move it away or name another --output.')


if __name__ == '__main__':
    sys.exit(main())
