"""The sections of the report page that show scores. Each is text of HTML; every word from outside is escaped.

Shape letters: C segmentation classes, K detection classes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from perception.interfaces import LabelClass, LabelSpace
from perception.metrics.pictures import ScenePicture
from perception.metrics.plots import Axis, Series, line_chart
from perception.metrics.report import Report, Score
from perception.metrics.tables import share


@dataclass(frozen=True, kw_only=True)
class Section:
    """One card of the page."""

    title: str
    body: str
    """HTML."""
    note: str = ''
    """Plain text: how to read it."""
    half: bool = False
    """Half as wide as the page, if there is another such section to stand beside."""

    def html(self, *, half: bool = False) -> str:
        """The card as HTML."""
        kind = '' if half else ' class="full"'
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ''
        return f'<section{kind}><h2>{escape(self.title)}</h2>{note}{self.body}</section>'


def segmentation_section(report: Report, labels: LabelSpace) -> Section:
    """IoU of each class, as figure and bar, and what the class is most often taken for."""
    scores = report.segmentation
    rows = []
    for index, (label, row, iou) in enumerate(zip(labels.segmentation, scores.confusion, scores.iou, strict=True)):
        rows.append(
            f'<tr><th scope="row">{_swatch(label)}{escape(label.name)}</th><td class="n">{_score(iou)}</td>'
            f'<td class="wide">{_bar(iou)}</td><td class="n">{_score(sum(row) / scores.pixels)}</td>'
            f'<td>{_mistaken(row, index, labels)}</td></tr>'
        )
    rows.append(
        f'<tr class="mean"><th scope="row">mean</th><td class="n">{_score(scores.mean_iou)}</td>'
        f'<td class="wide">{_bar(scores.mean_iou)}</td><td></td><td></td></tr>'
    )
    head = '<th>class</th><th class="n">IoU</th><th></th><th class="n">of pixels</th><th>mostly taken for</th>'
    return Section(
        title='Segmentation',
        half=True,
        note=f'Percent. {scores.images:,} images, {scores.pixels:,} labelled pixels.',
        body=table(head, rows),
    )


def detection_section(report: Report, labels: LabelSpace) -> Section:
    """Average precision of each class, overall and by the objects' size."""
    scores = report.detection
    rows = []
    for index, label in enumerate(labels.detection):
        cells = [scores.ap50[index], scores.ap[index], *(scores.ap_by_size[size][index] for size in scores.ap_by_size)]
        rows.append(_detection_row(f'{_swatch(label)}{escape(label.name)}', scores.boxes[index], cells))
    means = [scores.mean_ap50, scores.mean_ap, *scores.mean_ap_by_size.values()]
    rows.append(_detection_row('mean', sum(scores.boxes), means, 'mean'))
    sizes = ''.join(f'<th class="n">{escape(size)}</th>' for size in scores.ap_by_size)
    head = f'<th>class</th><th class="n">objects</th><th class="n">AP50</th><th class="n">AP50:95</th>{sizes}'
    ignored = f', {scores.ignore_regions:,} ignored regions' if scores.ignore_regions else ''
    return Section(
        title='Detection',
        half=True,
        note=(
            f'Percent. {scores.images:,} images, {sum(scores.boxes):,} objects{ignored}. '
            'Sizes: AP50:95 of objects under 32², under 96² and over 96² pixels.'
        ),
        body=table(head, rows),
    )


def curve_section(report: Report) -> Section:
    """Precision over recall at IoU 0.5, one line a class."""
    scores = report.detection
    series = []
    for name, curve, ap50 in zip(scores.classes, scores.curves, scores.ap50, strict=True):
        points = [pair for pair in zip(scores.recall_levels, curve.precision, strict=False) if pair[1] > 0]
        series.append(Series(name=name, points=points, value=f'AP50 {share(ap50)}'))
    chart = line_chart(
        series,
        Axis(title='recall', low=0, high=1),
        Axis(title='precision', low=0, high=1),
        label='Precision over recall for each class',
    )
    return Section(
        title='Precision and recall', note='At IoU 0.5; a line ends where no more is found.', body=chart, half=True
    )


def confusion_section(report: Report, labels: LabelSpace) -> Section:
    """Where the pixels of each class went."""
    matrix = report.segmentation.confusion
    names = [escape(label.name) for label in labels.segmentation]
    head = ''.join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    rows = []
    for name, row in zip(names, matrix, strict=True):
        cells = ''.join(
            _confusion_cell(pixels, sum(row), f'{name} taken for {other}')
            for other, pixels in zip(names, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return Section(
        title='Confusion matrix',
        half=True,
        note='Rows are the truth, columns the prediction; percent of the pixels in the row.',
        body=(
            '<div class="scroll" tabindex="0"><table class="confusion"><thead><tr><th class="corner">predicted →<br>'
            f'truth ↓</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        ),
    )


def picture_section(title: str, pictures: Iterable[ScenePicture], labels: LabelSpace, note: str) -> Section:
    """A grid of pictures, prediction beside truth."""
    figures = ''.join(_figure(picture) for picture in pictures)
    return Section(title=title, note=note, body=f'{_color_key(labels)}<div class="pictures">{figures}</div>')


def provenance_section(provenance: dict[str, Any]) -> Section:
    """What was evaluated on what."""
    rows = ''.join(f'<dt>{escape(key)}</dt><dd>{escape(_plain(value))}</dd>' for key, value in provenance.items())
    return Section(title='Provenance', half=True, body=f'<dl>{rows}</dl>')


def table(head: str, rows: Sequence[str]) -> str:
    """A table of figures, of rows of HTML, that scrolls by itself where it is too wide."""
    body = ''.join(rows)
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def tile(title: str, value: str) -> str:
    """One headline figure."""
    return f'<div class="tile"><span>{escape(title)}</span><b>{escape(value)}</b></div>'


def _plain(value: Any) -> str:
    """A JSON value for people: without brackets."""
    if isinstance(value, dict):
        return ', '.join(f'{name} {_plain(part)}' for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return '; '.join(dict.fromkeys(_plain(part) for part in value))
    return str(value)


def _detection_row(name: str, boxes: int, cells: Sequence[Score], kind: str = '') -> str:
    figures = ''.join(f'<td class="n">{_score(cell)}</td>' for cell in cells)
    return f'<tr class="{kind}"><th scope="row">{name}</th><td class="n">{boxes:,}</td>{figures}</tr>'


def _score(score: Score) -> str:
    return '<span class="none">n/a</span>' if score is None else share(score)


def _bar(score: Score) -> str:
    return '' if score is None else f'<span class="bar"><i style="width:{100 * score:.1f}%"></i></span>'


def _swatch(label: LabelClass) -> str:
    return f'<i class="swatch" style="background:rgb{label.color_rgb}"></i>'


def _mistaken(row: Sequence[int], own: int, labels: LabelSpace) -> str:
    """The class that takes most of this one's pixels, if that is at least half a percent."""
    pixels, other = max(((count, -index) for index, count in enumerate(row) if index != own), default=(0, 0))
    if not sum(row) or pixels / sum(row) < 0.005:
        return ''
    return f'<span class="muted">{escape(labels.segmentation[-other].name)} {share(pixels / sum(row))}</span>'


def _confusion_cell(pixels: int, total: int, words: str) -> str:
    percent = 100 * pixels / total if total else 0.0
    text = '' if percent < 0.05 else f'{percent:.1f}'
    strong = ' class="strong"' if percent > 60 else ''
    return f'<td{strong} style="--p:{percent:.1f}" title="{words}: {pixels:,} pixels">{text}</td>'


def _figure(picture: ScenePicture) -> str:
    frame = picture.frame
    figures = [
        f'{title} <b>{share(score)}</b>'
        for title, score in (('mIoU', frame.mean_iou), ('AP50', frame.ap50), ('agreement', picture.agreement))
        if score is not None
    ]
    beside = 'truth' if picture.agreement is None else 'photo'
    images = ''.join(
        f'<div><img src="data:image/jpeg;base64,{base64.b64encode(content).decode()}" loading="lazy" '
        f'alt="{word} of {escape(frame.name)}"><span>{word}</span></div>'
        for word, content in (('prediction', picture.prediction_jpeg), (beside, picture.truth_jpeg))
    )
    words = f'{" · ".join(figures)} &nbsp;<span class="muted">{escape(frame.name)}</span>'
    return f'<figure><div class="pair">{images}</div><figcaption>{words}</figcaption></figure>'


def _color_key(labels: LabelSpace) -> str:
    masks = ''.join(f'<li>{_swatch(label)}{escape(label.name)}</li>' for label in labels.segmentation)
    boxes = ''.join(f'<li>{_swatch(label)}{escape(label.name)}</li>' for label in labels.detection)
    return (
        f'<ul class="legend"><li class="muted">areas</li>{masks}</ul>'
        f'<ul class="legend" style="margin-bottom:14px"><li class="muted">boxes</li>{boxes}</ul>'
    )
