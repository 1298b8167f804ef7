"""Annotation files in the form of Pascal VOC: read rightly, or refused with the file and the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from perception.errors import ConfigError, DatasetError
from perception.interfaces import GroundTruth
from perception.labels import load_label_space
from perception.truth import VocAnnotations
from perception.truth.class_table import read_ids
from perception.truth.index_maps import ImageSize
from perception.truth.pascal_voc import read_names
from tests.image_messages.drawn_pictures import palette_png
from tests.training.data.drawn_layouts import voc_xml

HW = (40, 64)
VOC = load_label_space('voc_21_20')
CLASSES = [label.name for label in VOC.detection]
CAR = ('car', 0, 5, 6, 24, 15)


def read(file: Path, mask: Path | None = None, table: Path | None = None, **rest: Any) -> GroundTruth:
    reader = VocAnnotations(names=read_names(VOC, table), ids=read_ids('voc', VOC), **rest)
    return reader.read(file, mask, ImageSize('a.jpg', HW))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'a.xml'


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def boxes(truth: GroundTruth) -> list[list[float]]:
    assert truth.boxes_xyxy is not None
    return truth.boxes_xyxy.tolist()


def test_pixels_count_from_one_and_the_last_one_belongs_to_the_box(file: Path) -> None:
    write(file, voc_xml(CAR, ('dog', 0, 1, 1, 64, 40), ('cat', 0, 9, 9, 9, 9)))
    truth = read(file)
    assert boxes(truth) == [[4, 5, 24, 15], [0, 0, 64, 40], [8, 8, 9, 9]]
    assert truth.labels is not None
    assert [CLASSES[label] for label in truth.labels] == ['car', 'dog', 'cat']
    assert (truth.boxes_xyxy.dtype, truth.labels.dtype, truth.mask) == (np.float32, np.int64, None)


def test_other_tools_count_from_zero_and_write_edges(file: Path) -> None:
    write(file, voc_xml(('car', 0, 0, 6.5, '24.0', 15)))
    assert boxes(read(file, first_pixel=0)) == [[0, 6.5, 24, 15]]
    with pytest.raises(DatasetError, match=r'a\.xml: object 0 .*begins at \(0, 6\.5\), .*the option first_pixel: 0'):
        read(file)


def test_difficult_objects_are_ignored_for_their_class(file: Path) -> None:
    truth = read(write(file, voc_xml(CAR, ('bus', 1, 5, 6, 24, 15), ('dog', '', 5, 6, 24, 15))))
    assert truth.labels is not None
    assert truth.ignore_labels is not None
    assert truth.ignore_boxes_xyxy is not None
    assert [CLASSES[label] for label in (*truth.labels, *truth.ignore_labels)] == ['car', 'dog', 'bus']
    assert truth.ignore_boxes_xyxy.tolist() == [[4, 5, 24, 15]]


def test_without_objects_it_is_annotated_and_empty(file: Path) -> None:
    truth = read(write(file, voc_xml()))
    assert truth.boxes_xyxy is not None
    assert (truth.boxes_xyxy.shape, truth.boxes_xyxy.dtype) == ((0, 4), np.float32)


@pytest.mark.parametrize('size', ['', '<size/>', '<size><width>0</width><height>0</height></size>'])
def test_a_size_that_is_not_stated_is_the_pictures(file: Path, size: str) -> None:
    assert boxes(read(write(file, voc_xml(CAR, size=size)))) == [[4, 5, 24, 15]]


def test_boxes_that_reach_over_the_border_are_clipped(file: Path) -> None:
    assert boxes(read(write(file, voc_xml(('car', 0, 60, 6, 70, 15), ('car', 0, 65, 1, 70, 4))))) == [[59, 5, 64, 15]]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (voc_xml(CAR, ('cat', 0, 70, 6, 80, 15)), r"object 1 \(from 0\), 'cat', in a\.jpg: The box .* wholly outside"),
        (voc_xml(CAR, ('cat', 1, 5, 60, 9, 70)), r"object 1 \(from 0\), 'cat', in a\.jpg: The box .* wholly outside"),
        (
            voc_xml(('lorry', 0, 5, 6, 24, 15)),
            r"object 0 .* is named 'lorry', which voc_21_20\.csv does not list: known",
        ),
        (voc_xml(('dogs', 0, 5, 6, 24, 15)), r"named 'dogs', .*did you mean 'dog'.*option classes"),
        (voc_xml(('car', 2, 5, 6, 24, 15)), r"'car', has difficult '2'; expected 0 or 1"),
        (voc_xml(('car', 0, 24, 6, 5, 15)), r"'car', has bndbox 24, 6, 5, 15; expected numbers xmin, ymin, xmax, ymax"),
        (voc_xml(('car', 0, '', 6, 24, 15)), r'has bndbox nothing, 6, 24, 15'),
        (voc_xml(('car', 0, 'left', 6, 24, 15)), r'has bndbox left, 6'),
        (voc_xml(('car', 0, 'nan', 6, 24, 15)), r'has bndbox nan, 6'),
        (voc_xml(CAR).replace('bndbox', 'box', 2), r'has bndbox nothing, nothing, nothing, nothing'),
        (
            voc_xml(CAR, size='<size><width>40</width><height>64</height></size>'),
            r'states 64x40 \(height x width\), but its image a\.jpg is 40x64',
        ),
        ('<annotation><object>', r'is no XML'),
        ('', r'is no XML'),
        ('<html/>', r'holds <html>; expected <annotation>'),
    ],
)
def test_what_is_wrong_is_named_with_its_file(file: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=rf'a\.xml.*{said}'):
        read(write(file, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'none\.xml is missing'):
        read(tmp_path / 'none.xml')


def test_the_users_table_says_what_other_names_are(file: Path, tmp_path: Path) -> None:
    table = tmp_path / 'own.csv'
    table.write_text('name,detection\ncar,car\nlorry,bus\ntree,\n')
    write(file, voc_xml(CAR, ('lorry', 0, 5, 6, 24, 15), ('tree', 0, 500, 6, 24, 15)))
    truth = read(file, table=table)
    assert truth.labels is not None
    assert [CLASSES[label] for label in truth.labels] == ['car', 'bus']
    with pytest.raises(DatasetError, match=r"a\.xml: object 0 .* 'dog', which .*own\.csv does not list"):
        read(write(file, voc_xml(('dog', 0, 5, 6, 24, 15))), table=table)
    table.write_text('name,detection\ncar,carr\n')
    with pytest.raises(ConfigError, match=r"own\.csv, line 2: 'carr' is no detection class"):
        read(file, table=table)


def test_masks_are_palettes_or_grey_and_an_unknown_id_is_named(file: Path, tmp_path: Path) -> None:
    write(file, voc_xml(CAR))
    ids, mask = np.zeros(HW, np.uint8), tmp_path / 'a.png'
    ids[5:15, 4:24], ids[5:15, 24] = 7, 255
    mask.write_bytes(palette_png(ids))
    colored = read(file, mask).mask
    cv2.imwrite(str(mask), ids)
    grey = read(file, mask).mask
    assert colored is not None
    assert grey is not None
    assert np.array_equal(colored, ids), 'the classes are in the order of the ids'
    assert np.array_equal(grey, ids)
    ids[0, 0] = 21
    cv2.imwrite(str(mask), ids)
    with pytest.raises(DatasetError, match=r'a\.png holds id 21, which voc_21_20\.csv does not list'):
        read(file, mask)
    cv2.imwrite(str(mask), ids[1:])
    with pytest.raises(DatasetError, match=r'a\.png is 39x64 .*, but its image a\.jpg is 40x64'):
        read(file, mask)
