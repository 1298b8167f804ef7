import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from drawn_scores import LABELS, draw_pair, no_detections

from perception.errors import ConfigError
from perception.interfaces import GroundTruth, SceneResult
from perception.metrics import Evaluator, Report, evaluate
from perception.metrics.page_sections import Section
from perception.metrics.pictures import PictureKeeper
from perception.metrics.report_page import write_report_page

VOID = {'meta', 'br', 'img', 'link', 'hr', 'input'}


class Outline(HTMLParser):
    """Checks that every element is closed in order, and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.references: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.references += [value for name, value in attributes if name in ('src', 'href', 'data', 'srcset', 'action')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open, f'</{tag}> closes nothing'
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == 'h2':
            self.titles.append(data)


def read_page(path: Path) -> tuple[str, Outline]:
    text = path.read_text(encoding='utf-8')
    outline = Outline()
    outline.feed(text)
    outline.close()
    assert outline.open == []
    return text, outline


@pytest.fixture
def scored() -> tuple[Report, PictureKeeper]:
    random = np.random.default_rng(0)
    evaluator, pictures = Evaluator(LABELS), PictureKeeper(LABELS, count=2)
    for index in range(5):
        result, truth = draw_pair(random)
        image = random.integers(0, 255, (24, 32, 3)).astype(np.uint8)
        pictures.offer(evaluator.add(result, truth, f'<frame> & "{index}"'), image, result, truth)
    return evaluator.report({'network': 'tiny<1>'}), pictures


def test_whole_page_is_well_formed_and_self_contained(scored, tmp_path: Path):
    report, pictures = scored
    losses = tmp_path / 'metrics.jsonl'
    losses.write_text(
        '\n'.join(json.dumps({'step': step, 'phase': 'all', 'total': 9.0 / (1 + step)}) for step in range(900))
        + '\n{"step": 900, "tot'
    )
    extra = Section(title='Timeline', body='<p>here</p>')
    path = tmp_path / 'report.html'
    write_report_page(
        path, report, LABELS, title='A & <b>', subtitle='s', pictures=pictures, losses=losses, extra=[extra]
    )
    text, outline = read_page(path)
    assert outline.titles == [
        'Timeline',
        'Segmentation',
        'Confusion matrix',
        'Detection',
        'Precision and recall',
        'Training',
        'Provenance',
        'Worst images',
        'Best images',
    ]
    words = re.sub(r'base64,[A-Za-z0-9+/=]+', '', text)
    assert re.search(r'(?i)https?:|//[a-z]|@import|url\(|<script|<link', words) is None
    assert re.search(r'(?i)\bnan\b', words) is None
    assert len(outline.references) == 8
    assert all(reference.startswith('data:image/jpeg;base64,') for reference in outline.references)
    assert 'A &amp; &lt;b&gt;' in text
    assert '&lt;frame&gt; &amp;' in text
    assert 'tiny&lt;1&gt;' in text
    assert 'prefers-color-scheme:dark' in text
    assert f'<b>{100 * report.segmentation.mean_iou:.1f}</b>' in text


def test_only_what_was_scored_is_shown(tmp_path: Path):
    random = np.random.default_rng(1)
    result, truth = draw_pair(random)
    path = tmp_path / 'boxes.html'
    write_report_page(path, evaluate([(result, replace(truth, mask=None))], LABELS), LABELS, title='boxes')
    text, outline = read_page(path)
    assert outline.titles == ['Detection', 'Precision and recall']
    assert 'mIoU' not in text
    write_report_page(path, evaluate([], LABELS), LABELS, title='nothing')
    assert read_page(path)[1].titles == []


def test_confusion_cells_are_shares_of_the_truth(scored, tmp_path: Path):
    report, _ = scored
    write_report_page(tmp_path / 'page.html', report, LABELS, title='t')
    text, outline = read_page(tmp_path / 'page.html')
    cells = [float(value) for value in re.findall(r'--p:([0-9.]+)', text)]
    matrix = np.array(report.segmentation.confusion)
    np.testing.assert_allclose(cells, (100 * matrix / matrix.sum(axis=1, keepdims=True)).ravel(), atol=0.051)
    assert outline.count['svg'] == 1 + len(LABELS.detection)  # the curves, and their legend


def test_one_class_is_enough(tmp_path: Path):
    one = replace(LABELS, segmentation=LABELS.segmentation[:1], detection=LABELS.detection[:1])
    truth = GroundTruth(mask=np.array([[0, 255], [0, 0]], np.uint8))
    report = evaluate([(SceneResult(detections=no_detections(), mask=np.zeros((2, 2), np.uint8)), truth)], one)
    assert report.segmentation.iou == (1.0,)
    write_report_page(tmp_path / 'page.html', report, one, title='one')
    assert read_page(tmp_path / 'page.html')[1].count['table']


def test_refuses_another_label_space(scored, tmp_path: Path):
    report, _ = scored
    with pytest.raises(ConfigError, match='cityscapes_11_3'):
        write_report_page(tmp_path / 'p.html', report, replace(LABELS, name='x', detection=()), title='t')
