"""One self-contained HTML page of a report: light and dark, wide and narrow, no script, nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from perception.errors import ConfigError
from perception.interfaces import LabelSpace
from perception.metrics.loss_curves import loss_section
from perception.metrics.page_sections import (
    Section,
    confusion_section,
    curve_section,
    detection_section,
    picture_section,
    provenance_section,
    segmentation_section,
    tile,
)
from perception.metrics.page_template import PAGE, STYLE
from perception.metrics.pictures import PictureKeeper
from perception.metrics.report import Report
from perception.metrics.tables import share


def write_report_page(
    path: Path | str,
    report: Report,
    labels: LabelSpace,
    *,
    title: str,
    subtitle: str = '',
    pictures: PictureKeeper | None = None,
    losses: Path | str | None = None,
    extra: Sequence[Section] = (),
) -> None:
    """Write the page.

    Args:
        labels: The label space that was scored; gives names and colours.
        title, subtitle: Plain text.
        pictures: What was kept while scoring.
        losses: Metrics file (JSON lines) of the training.
        extra: Further sections, shown first: a timeline, for example.

    Raises:
        ConfigError: If the report is of another label space, or the metrics file cannot be used.
    """
    sections = [*extra, *report_sections(report, labels, pictures=pictures, losses=losses)]
    Path(path).write_text(
        render_page(title=title, subtitle=subtitle, tiles=headline(report), sections=sections), encoding='utf-8'
    )


def render_page(*, title: str, subtitle: str, tiles: Sequence[str], sections: Sequence[Section]) -> str:
    """Put the document together. ``tiles`` are HTML from ``tile``; title and subtitle are plain text."""
    return PAGE.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        style=STYLE,
        tiles=''.join(tiles),
        sections=_lay_out(sections),
        footer='Scores by torchmetrics and faster-coco-eval. n/a: nothing in the truth to measure against.',
    )


def _lay_out(sections: Sequence[Section]) -> str:
    """Half sections in pairs; one that stays alone is as wide as the page."""
    cards: list[str] = []
    waiting: Section | None = None
    for section in sections:
        if waiting is not None and section.half:
            cards += [waiting.html(half=True), section.html(half=True)]
            waiting = None
            continue
        if waiting is not None:
            cards.append(waiting.html())
        waiting = section if section.half else None
        if not section.half:
            cards.append(section.html())
    return ''.join(cards) + (waiting.html() if waiting is not None else '')


def headline(report: Report) -> list[str]:
    """The figures on top, of the tasks that were scored."""
    segmentation, detection = report.segmentation, report.detection
    tiles = [tile('images', f'{len(report.frames):,}')]
    if segmentation.images:
        tiles += [tile('mIoU %', share(segmentation.mean_iou))]
        tiles += [tile('pixel accuracy %', share(segmentation.pixel_accuracy))]
    if detection.images:
        tiles += [tile('AP50 %', share(detection.mean_ap50)), tile('AP50:95 %', share(detection.mean_ap))]
    return tiles


def report_sections(
    report: Report,
    labels: LabelSpace,
    *,
    pictures: PictureKeeper | None = None,
    losses: Path | str | None = None,
) -> list[Section]:
    """The sections that the report has something to say in.

    Raises:
        ConfigError: If the report is of another label space, or the metrics file cannot be used.
    """
    names = tuple(label.name for label in labels.segmentation), tuple(label.name for label in labels.detection)
    if names != (report.segmentation.classes, report.detection.classes):
        raise ConfigError(f'The report is of label space {report.label_space!r}, not {labels.name!r}; give its own.')
    sections = []
    if report.segmentation.pixels:
        sections += [segmentation_section(report, labels), confusion_section(report, labels)]
    if report.detection.images:
        sections += [detection_section(report, labels), curve_section(report)]
    if losses is not None:
        sections.append(loss_section(losses))
    if report.provenance:
        sections.append(provenance_section(report.provenance))
    if pictures is not None:
        measure = 'mean IoU' if report.segmentation.images else 'AP50' if report.detection.images else 'agreement'
        note = f'By the {measure} of the image by itself.'
        if measure == 'agreement':
            note = 'Nothing is known of the truth: by how far boxes and mask agree with each other.'
        for word, kept in (('Worst images', pictures.worst()), ('Best images', pictures.best())):
            if kept:
                sections.append(picture_section(word, kept, labels, note))
    return sections
