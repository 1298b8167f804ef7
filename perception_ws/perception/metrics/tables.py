"""A report as text for the terminal."""

from __future__ import annotations

from tabulate import tabulate

from perception.metrics.report import Report, Score


def share(score: Score) -> str:
    """A score in percent with one decimal; ``n/a`` where nothing was measured."""
    return 'n/a' if score is None else f'{100 * score:.1f}'


def format_report(report: Report) -> str:
    """The figures in percent, as plain text; a task that was not scored says so."""
    return f'{_segmentation(report)}\n\n{_detection(report)}'


def _segmentation(report: Report) -> str:
    scores = report.segmentation
    if not scores.images:
        return 'Segmentation: no image has a true mask.'
    rows = [[name, share(iou)] for name, iou in zip(scores.classes, scores.iou, strict=True)]
    rows += [['mIoU', share(scores.mean_iou)], ['pixel accuracy', share(scores.pixel_accuracy)]]
    table = tabulate(rows, headers=['segmentation', 'IoU %'], colalign=('left', 'right'), disable_numparse=True)
    return f'{table}\n({scores.images} images, {scores.pixels:,} pixels)'


def _detection(report: Report) -> str:
    scores = report.detection
    if not scores.images:
        return 'Detection: no image has true boxes.'
    rows = [
        [name, str(scores.boxes[index]), share(scores.ap50[index]), share(scores.ap[index])]
        + [share(by_class[index]) for by_class in scores.ap_by_size.values()]
        for index, name in enumerate(scores.classes)
    ]
    means = [share(scores.mean_ap50), share(scores.mean_ap), *map(share, scores.mean_ap_by_size.values())]
    rows.append(['mean', str(sum(scores.boxes)), *means])
    headers = ['detection', 'objects', 'AP50 %', 'AP50:95 %', *scores.ap_by_size]
    table = tabulate(rows, headers=headers, colalign=('left', *['right'] * 6), disable_numparse=True)
    return f'{table}\n({scores.images} images)'
