"""COCO's own evaluation of a file against pycocotools on the same file and results."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_scores import LABELS, draw_detections, draw_truth
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from perception.errors import ConfigError
from perception.metrics.coco_scoring import FIGURES, CocoTruth, format_coco_scores, list_results, score_coco
from perception.metrics.detection import BoxTable, DetectionScorer

IMAGE_IDS, CATEGORY_IDS = tuple(range(40, 56)), (7, 3, 90)


def draw(folder: Path, seed: int = 0) -> tuple[CocoTruth, BoxTable]:
    """A file with crowds of a category and areas that are less than the boxes, and what was found in its images."""
    random = np.random.default_rng(seed)
    scorer, annotations = DetectionScorer(tuple(label.name for label in LABELS.detection)), []
    for image_id in IMAGE_IDS:
        truth = draw_truth(random, boxes=int(random.integers(1, 10)))
        assert truth.boxes_xyxy is not None
        assert truth.labels is not None
        found = draw_detections(random, truth)
        scorer.add(scorer.prepare(found, truth))
        for place, (box, label) in enumerate(zip(truth.boxes_xyxy.tolist(), truth.labels, strict=True)):
            left, top, right, bottom = box
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': CATEGORY_IDS[label],
                    'bbox': [left, top, right - left, bottom - top],
                    'area': random.uniform(0.3, 1) * (right - left) * (bottom - top),
                    'iscrowd': int(place > 6),
                }
            )
    content = {
        'images': [{'id': image_id, 'height': 500, 'width': 500} for image_id in IMAGE_IDS],
        'categories': [{'id': number, 'name': str(number)} for number in (*CATEGORY_IDS, 5)],
        'annotations': annotations,
    }
    path = folder / 'instances.json'
    path.write_text(json.dumps(content))
    return CocoTruth(path=path, image_ids=IMAGE_IDS, category_ids=CATEGORY_IDS), scorer.table


def reference(path: Path, results: list[dict[str, Any]], category_ids: tuple[int, ...]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.params.catIds = list(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize('seed', range(3))
def test_the_twelve_figures_are_those_of_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, boxes = draw(tmp_path, seed)
    results = json.loads(json.dumps(list_results(boxes, truth)))  # through a file, as a server gets them
    found = score_coco(results, truth, len(IMAGE_IDS))
    assert list(found) == list(FIGURES)
    assert 0.1 < (found['AP'] or 0) < 0.9
    assert list(found.values()) == pytest.approx(reference(truth.path, results, CATEGORY_IDS), abs=1e-12)
    assert 'AP75' in format_coco_scores(found)


def test_classes_that_the_file_has_not_are_left_out(tmp_path: Path) -> None:
    truth, boxes = draw(tmp_path)
    some = CocoTruth(path=truth.path, image_ids=IMAGE_IDS, category_ids=(CATEGORY_IDS[0], None, CATEGORY_IDS[2]))
    results = list_results(boxes, some)
    assert {entry['category_id'] for entry in results} == {CATEGORY_IDS[0], CATEGORY_IDS[2]}
    expected = reference(truth.path, results, (CATEGORY_IDS[0], CATEGORY_IDS[2]))
    assert list(score_coco(results, some, len(IMAGE_IDS)).values()) == pytest.approx(expected, abs=1e-12)


def test_only_the_images_that_were_looked_at_count(tmp_path: Path) -> None:
    truth, boxes = draw(tmp_path)
    results = [entry for entry in list_results(boxes, truth) if entry['image_id'] < IMAGE_IDS[4]]
    few, all_of_them = (score_coco(results, truth, count)['AR 100'] for count in (4, len(IMAGE_IDS)))
    assert few is not None
    assert all_of_them is not None
    assert few > 2 * all_of_them


def test_nothing_found_is_0_and_nothing_of_a_kind_not_measured(tmp_path: Path) -> None:
    truth, _ = draw(tmp_path)
    content = json.loads(truth.path.read_text())
    for annotation in content['annotations']:
        annotation['area'] = 100
    truth.path.write_text(json.dumps(content))
    scores = score_coco([], truth, len(IMAGE_IDS))
    assert (scores['AP'], scores['AP small'], scores['AP large']) == (0, 0, None)


def test_ids_that_count_from_0_or_twice_change_nothing(tmp_path: Path) -> None:
    truth, boxes = draw(tmp_path)
    results = list_results(boxes, truth)
    expected = score_coco(results, truth, len(IMAGE_IDS))
    content = json.loads(truth.path.read_text())
    for place, annotation in enumerate(content['annotations']):
        annotation['id'] = place // 3
    truth.path.write_text(json.dumps(content))
    assert score_coco(results, truth, len(IMAGE_IDS)) == expected


@pytest.mark.parametrize(('key', 'value'), [('area', None), ('category_id', '4'), ('iscrowd', True)])
def test_what_its_evaluation_cannot_take_is_named(tmp_path: Path, key: str, value: object) -> None:
    truth, _ = draw(tmp_path)
    content = json.loads(truth.path.read_text())
    content['annotations'][3][key] = value
    truth.path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf'cannot take .*instances\.json: annotation 4 has no {key}'):
        score_coco([], truth, 1)
