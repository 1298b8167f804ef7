"""The table from Cityscapes ids to our classes, against the labels of cityscapesscripts and the paper."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.errors import ConfigError, DatasetError
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.truth import CityscapesAnnotations, CocoAnnotations, class_table
from perception.truth.cityscapes import INSTANCES_END, LABELS_END
from perception.truth.class_table import read_categories, read_ids, usual_categories, usual_table
from perception.truth.index_maps import ImageSize

_SEGMENTATION = [label.name for label in CITYSCAPES_11_3.segmentation]
_DETECTION = [label.name for label in CITYSCAPES_11_3.detection]


def test_the_table_agrees_with_cityscapesscripts() -> None:
    labels = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    table = usual_table('cityscapes', CITYSCAPES_11_3)
    assert table is not None
    with table.open(newline='') as lines:
        rows = {int(row['id']): row for row in csv.DictReader(lines)}
    assert {number: row['name'] for number, row in rows.items()} == {
        label.id: label.name for label in labels if label.id >= 0
    }
    instances = {label.id for label in labels if label.hasInstances and not label.ignoreInEval}
    assert {number for number, row in rows.items() if row['detection']} == instances - {31}  # the train


def test_the_table_gives_the_classes_of_the_paper() -> None:
    table = read_ids('cityscapes', CITYSCAPES_11_3)
    segmentation, detection = table.segmentation, table.detection
    assert {segmentation[number] for number in range(34)} == {*range(11), 255}
    assert [_SEGMENTATION[segmentation[number]] for number in (25, 32, 33)] == ['rider/cycle'] * 3
    assert all(segmentation[number] == 255 for number in (12, 19, 31))  # wall, traffic light, train
    assert _SEGMENTATION[segmentation[22]] == 'vegetation'  # terrain
    assert {number: _DETECTION[label] for number, label in detection.items()} == {
        24: 'person/rider',
        25: 'person/rider',
        26: 'car/truck/bus',
        27: 'car/truck/bus',
        28: 'car/truck/bus',
        32: 'bicycle/motorcycle',
        33: 'bicycle/motorcycle',
    }


@pytest.mark.parametrize('path', sorted((Path(class_table.__file__).parent / 'tables').glob('*/*.csv')), ids=str)
def test_every_table_that_ships_fits_its_label_space(path: Path) -> None:
    labels = load_label_space(path.stem)
    if path.parent.name in ('coco', 'driving_boxes'):
        assert any(category.detection for category in read_categories(path, labels).values())
    elif path.parent.name == 'voc' and labels == CITYSCAPES_11_3:
        assert {*read_ids('voc', labels).detection.values()} == {0, 1, 2}, 'of the areas, VOC has some'
    else:
        table = read_ids(path.parent.name, labels)
        assert {*range(len(labels.segmentation))} <= {*table.segmentation.tolist()}
        assert {*table.detection.values()} == {*range(len(labels.detection))}


ROWS = 'id,name,segmentation,detection\n'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (
            f'{ROWS}7,road,raod,\n',
            r"line 2: 'raod' is no segmentation class of .*'cityscapes_11_3': did you mean 'road'.*has raod",
        ),
        (f'{ROWS}7,road,road,\n8,car,,car\n', r"line 3: 'car' is no detection class"),
        (f'{ROWS}7,road,road,\n7,car,,\n', r'line 3: 7 stands there twice'),
        (f'{ROWS}seven,road,road,\n', r"line 2 has id 'seven'"),
        (f'{ROWS}256,road,road,\n', r'line 2 has id 256; masks have ids of 0 to 255'),
        (f'{ROWS},road,road,\n', r'line 2 has id None'),
        ('id,name,area\n7,road,road\n', r"line 2 has a column 'area'"),
        (f'{ROWS}7,road,road,,,\n', r'line 2 has a column'),
        (ROWS, r'holds no rows'),
        ('\xff', r'is no CSV in UTF-8'),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / 'own.csv'
    file.write_bytes(text.encode('latin-1'))
    with pytest.raises(ConfigError, match=rf'own\.csv.*{said}'):
        read_ids('camvid', CITYSCAPES_11_3, file)


def test_yaml_says_the_same_as_csv(tmp_path: Path) -> None:
    csv_file, yaml_file = tmp_path / 'own.csv', tmp_path / 'own.yaml'
    csv_file.write_text(f'{ROWS}0,,,\n7,road,road,\n9,car,car/truck/bus,car/truck/bus\n')
    yaml_file.write_text(
        '- {id: 0}\n- {id: 7, name: road, segmentation: road}\n'
        '- {id: 9, segmentation: car/truck/bus, detection: car/truck/bus}\n'
    )
    tables = [read_ids('camvid', CITYSCAPES_11_3, file) for file in (csv_file, yaml_file)]
    assert tables[0].settings() == tables[1].settings()
    assert tables[0].segmentation[[0, 7, 9, 8]].tolist() == [255, 0, 10, 254]
    assert dict(tables[0].detection) == {9: 0}


def test_low_ids_with_a_class_are_no_void(tmp_path: Path) -> None:
    """Ids 0 to 3 are void in Cityscapes itself: an image of nothing else would count as not annotated."""
    table = tmp_path / 'own.csv'
    table.write_text(f'{ROWS}0,road,road,\n1,car,car/truck/bus,car/truck/bus\n2,none,,\n')
    ids = np.zeros((8, 12), np.uint8)
    ids[2:6, 3:9] = 1
    ids[0, 0] = 2
    instances = np.where(ids == 1, 1000, 0).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f'a{LABELS_END}'), ids)
    cv2.imwrite(str(tmp_path / f'a{INSTANCES_END}'), instances)
    reader = CityscapesAnnotations(classes=read_ids('cityscapes', CITYSCAPES_11_3, table))
    truth = reader.read(tmp_path / f'a{LABELS_END}', ImageSize('a', (8, 12)))
    assert truth.mask is not None
    assert truth.boxes_xyxy is not None
    assert (truth.mask[4, 4], truth.mask[7, 7], truth.mask[0, 0]) == (10, 0, 255)
    assert truth.boxes_xyxy.tolist() == [[3, 2, 9, 6]]
    table.write_text(f'{ROWS}0,car,car/truck/bus,car/truck/bus\n')
    with pytest.raises(ConfigError, match='gives id 0 a detection class'):
        CityscapesAnnotations(classes=read_ids('cityscapes', CITYSCAPES_11_3, table))


def test_a_table_says_what_every_category_is(tmp_path: Path) -> None:
    table, file = tmp_path / 'own.csv', tmp_path / 'boxes.json'
    categories = [{'id': 1, 'name': 'van'}, {'id': 2, 'name': 'cow'}]
    images = [{'id': 1, 'file_name': 'a.png', 'height': 8, 'width': 12}]
    boxes = [{'id': n, 'image_id': 1, 'category_id': n, 'bbox': [1, 1, 4, 4]} for n in (1, 2)]
    file.write_text(json.dumps({'images': images, 'categories': categories, 'annotations': boxes}))
    table.write_text('name,detection\nvan,car/truck/bus\nsheep,\n')
    with pytest.raises(DatasetError, match=r"boxes\.json has a category 'cow', which .*own\.csv does not list"):
        CocoAnnotations(file, classes=table)
    table.write_text('name,detection\nvan,car/truck/bus\nsheep,\ncow,\n')
    annotations = CocoAnnotations(file, classes=str(table))
    assert (annotations.classes, annotations.left_out) == ({'van': 'car/truck/bus'}, ('cow',))


def test_a_label_space_reads_the_categories_that_its_classes_are_named_after(tmp_path: Path) -> None:
    coco = load_label_space('coco_81_80')
    assert usual_categories(coco) == {label.name: (label.name, label.name) for label in coco.detection}
    assert usual_categories(CITYSCAPES_11_3)['two_wheeler'] == ('', 'bicycle/motorcycle')
    # Pixels of a class that is made of several areas are of one of them, and nobody says of which.
    assert usual_categories(CITYSCAPES_11_3)['person/rider'] == ('', 'person/rider')
