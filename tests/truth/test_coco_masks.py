"""Masks out of COCO files: painted as pycocotools sees the outlines, or refused with the file and the entry."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference_masks
from pycocotools.coco import COCO

from perception.errors import ConfigError, DatasetError, MissingDependencyError
from perception.interfaces import LabelSpace
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.truth import CocoAnnotations
from perception.truth.coco_masks import MaskConfig
from perception.truth.index_maps import ImageSize

HW = (40, 64)
VOC = load_label_space('voc_21_20')
NAMES = [label.name for label in VOC.segmentation]
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def thing(category: int = 1, segmentation: Any = ..., number: int = 0, **changes: Any) -> dict[str, Any]:
    entry = {'id': number, 'image_id': 7, 'category_id': category, 'bbox': [4, 5, 20, 10], 'iscrowd': 0, **changes}
    return entry if segmentation is ... else {**entry, 'segmentation': segmentation}


def write(
    folder: Path, *annotations: dict[str, Any], names: tuple[str, ...] = ('car', 'person', 'zebra', 'dog')
) -> Path:
    file = folder / 'instances.json'
    content = {
        'images': [{'id': number, 'file_name': f'{number}.jpg', 'height': HW[0], 'width': HW[1]} for number in (7, 8)],
        'categories': [{'id': 1 + place, 'name': name} for place, name in enumerate(names)],
        'annotations': [{**entry, 'id': place} for place, entry in enumerate(annotations)],
    }
    file.write_text(json.dumps(content))
    return file


def read(
    file: Path, number: int = 7, labels: LabelSpace = VOC, background: str | None = None, **rest: Any
) -> np.ndarray:
    annotations = CocoAnnotations(file, labels=labels, masks=MaskConfig(background), **rest)
    mask = annotations.images[number].read(ImageSize('the image', HW)).mask
    assert mask is not None
    return mask


def areas(mask: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(mask, return_counts=True)
    return {'void' if value == 255 else NAMES[value]: int(n) for value, n in zip(values, counts, strict=True)}


def run_lengths(region: np.ndarray, *, compressed: bool) -> dict[str, Any]:
    """As COCO has them: column by column, starting with what is not covered."""
    if compressed:
        found = reference_masks.encode(np.asfortranarray(region.astype(np.uint8)))
        return {'size': list(HW), 'counts': found['counts'].decode()}
    flat = np.concatenate(([False], region.ravel(order='F')))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {'size': list(HW), 'counts': np.diff([0, *changes, region.size]).tolist()}


@pytest.mark.parametrize('seed', range(3))
def test_equals_the_masks_of_pycocotools_painted_in_the_order_of_the_file(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    entries = []
    for number in range(12):
        polygons = [
            (random.uniform(-5, 45, (random.integers(3, 9), 2)) * (1.4, 0.9)).ravel().tolist() for _ in range(2)
        ]
        entries.append(thing(int(random.integers(1, 5)), polygons[: 1 + number % 2]))
    region = np.zeros(HW, bool)
    region[20:33, 15:50] = random.random((13, 35)) < 0.7
    entries.insert(5, thing(2, run_lengths(region, compressed=False), iscrowd=1))
    entries.insert(8, thing(1, run_lengths(region[::-1], compressed=True), iscrowd=1))
    file = write(tmp_path, *entries)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(file))
    expected = np.zeros(HW, np.uint8)
    for annotation in reference.loadAnns(reference.getAnnIds(7)):
        name = {1: 'car', 2: 'person', 3: 'background', 4: 'dog'}[annotation['category_id']]
        expected[reference.annToMask(annotation) > 0] = NAMES.index(name)
    found = read(file)
    assert np.array_equal(found, expected)
    assert len(np.unique(found)) == 4
    assert areas(read(file, 8)) == {'background': HW[0] * HW[1]}, 'without objects, all of it is background'


def test_boxes_and_masks_are_of_one_file(tmp_path: Path) -> None:
    file = write(tmp_path, thing(1, SQUARE), thing(2, SQUARE, iscrowd=1), thing(3, SQUARE))
    annotations = CocoAnnotations(file, labels=VOC, masks=MaskConfig())
    truth = annotations.images[7].read(ImageSize('the image', HW))
    detection = [label.name for label in VOC.detection]
    assert truth.labels is not None
    assert truth.ignore_labels is not None
    assert [detection[label] for label in truth.labels] == ['car']
    assert [detection[label] for label in truth.ignore_labels] == ['person'], 'a crowd hides its own class alone'
    assert truth.mask is not None
    assert CocoAnnotations(file, labels=VOC).images[7].read(ImageSize('the image', HW)).mask is None


@pytest.mark.parametrize('nothing', [..., None, [], {}, [[]], [[3, 4]], [[3, 4, 9, 9]]], ids=str)
def test_where_an_object_has_no_outline_its_box_is_unlabelled(tmp_path: Path, nothing: Any) -> None:
    mask = read(write(tmp_path, thing(2, [[4, 5, 8, 5, 8, 9, 4, 9]]), thing(1, nothing)))
    assert areas(mask) == {'background': HW[0] * HW[1] - 200, 'person': 16, 'void': 184}
    assert set(mask[5:15, 4:24].ravel().tolist()) == {NAMES.index('person'), 255}


def test_a_file_without_outlines_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'instances\.json has no segmentation that is not empty; leave out'):
        read(write(tmp_path, thing(1), thing(2, [])))


@pytest.mark.parametrize(
    ('segmentation', 'said'),
    [
        ([[1, 2, 3, 4, 5]], r'\[\[1, 2, 3, 4, 5\]\] \(an x without its y\); expected polygons .* which is 40x64'),
        ([[1, 2, 3, 4, 5, 1e999]], r'numbers far outside'),
        ([[1, 2, 3, 4, 5, 1e9]], r'numbers far outside'),
        ([[1, 2, 3, 4, 5, 'x']], r'could not convert'),
        ([1, 2, 3, 4, 5, 6], r'not iterable'),
        (7, r'not iterable'),
        ([[70, 2, 80, 2, 80, 9]], r'wholly outside'),
        ([[1, -9, 8, -9, 8, -2]], r'wholly outside'),
        ({'size': [64, 40], 'counts': [2560]}, r'size \[64, 40\]'),
        ({'size': [40, 64], 'counts': [100, 20]}, r'expected 2560'),
        ({'size': [40, 64], 'counts': [2600]}, r'exceed'),
        ({'size': [40, 64], 'counts': [-1, 2561]}, r'counts below 0'),
        ({'size': [40, 64], 'counts': 'abc'}, r'early end'),
        ({'size': [40, 64], 'counts': 'Y19o0'}, r'expected 2560'),
        ({'size': [40, 64], 'counts': '\u00e4'}, r'ascii'),
        ({'size': [40, 64]}, r"'counts'"),
        ({'size': None, 'counts': [2560]}, r'NoneType'),
    ],
    ids=str,
)
def test_what_is_no_outline_of_the_image_is_refused(tmp_path: Path, segmentation: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=rf'instances\.json: annotation 1 has segmentation .*{said}'):
        read(write(tmp_path, thing(1, SQUARE), thing(1, segmentation)))


def test_boxes_alone_do_not_ask_for_outlines(tmp_path: Path) -> None:
    file = write(tmp_path, thing(1, 'nonsense'))
    truth = CocoAnnotations(file, labels=VOC).images[7].read(ImageSize('the image', HW))
    assert truth.labels is not None
    assert len(truth.labels) == 1


def test_categories_of_no_class_are_ground_or_what_the_table_says(tmp_path: Path) -> None:
    file = write(tmp_path, thing(1, SQUARE), thing(2, [[20, 20, 40, 20, 40, 39, 20, 39]]), names=('car', 'lorry'))
    whole, car = HW[0] * HW[1], 400
    assert areas(read(file)) == {'background': whole - car, 'car': car}
    assert areas(read(file, classes={'car': 'bus'})) == {'background': whole - car, 'bus': car}
    table = tmp_path / 'own.csv'
    table.write_text('name,segmentation,detection\ncar,car,car\nlorry,,\n')
    assert areas(read(file, classes=table)) == {'background': whole - 680, 'car': car - 100, 'void': 380}
    table.write_text('name,segmentation,detection\ncar,car,car\nlorry,bus,\n')
    assert areas(read(file, classes=table))['bus'] == 380


def test_the_ground_is_background_a_class_of_ones_own_or_unlabelled(tmp_path: Path) -> None:
    file = write(tmp_path, thing(1, SQUARE))
    ours = [label.name for label in CITYSCAPES_11_3.segmentation]
    assert read(file, labels=CITYSCAPES_11_3)[0, 0] == 255
    assert ours[read(file, labels=CITYSCAPES_11_3, background='road')[0, 0]] == 'road'
    with pytest.raises(ConfigError, match="background 'raod' is no segmentation class: did you mean 'road'"):
        read(file, labels=CITYSCAPES_11_3, background='raod')


def test_pixels_of_a_class_of_several_areas_are_unlabelled(tmp_path: Path) -> None:
    file = write(tmp_path, thing(2, SQUARE), thing(1, [[50, 2, 60, 2, 60, 9]]))
    assert set(read(file, labels=CITYSCAPES_11_3, background='road').ravel().tolist()) == {0, 10, 255}
    with pytest.raises(ConfigError, match=r'nothing says which segmentation classes its categories person are'):
        read(file, labels=CITYSCAPES_11_3, classes={'person': 'person/rider'})


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, thing(1, SQUARE))
    monkeypatch.setitem(sys.modules, 'faster_coco_eval.core.mask', None)
    with pytest.raises(MissingDependencyError, match=r'faster_coco_eval.*requirements/evaluation\.txt'):
        read(file)
    assert CocoAnnotations(file, labels=VOC).images[7].read(ImageSize('the image', HW)).mask is None
