"""The COCO reader on hand-made files, and on driving_boxes where they lie beside the checkout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.errors import ConfigError, DatasetError
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.truth import CocoAnnotations
from perception.truth.index_maps import ImageSize
from tests.image_messages.drawn_pictures import add_exif, exif_block
from tests.training.data.drawn_layouts import draw_coco, draw_driving_boxes, write_json, write_picture
from training.data.coco import CocoBoxes, DrivingBoxes

_DETECTION = [label.name for label in CITYSCAPES_11_3.detection]
_REAL = Path(__file__).resolve().parents[3].parent / 'shared' / 'data' / 'driving_boxes'
_VOC_COCO = _REAL.with_name('voc_coco_samples') / 'labelme/examples/instance_segmentation/data_dataset_coco'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw_coco(tmp_path)
    return tmp_path


def _bad_bbox(bbox: str, annotation: int = 0) -> str:
    return re.escape(
        f'annotation {annotation} has bbox {bbox}; expected four finite numbers [left, top, width, height]'
    )


def _edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def test_boxes_are_corners_clipped_to_the_image_and_crowds_ignored(root: Path) -> None:
    sample = CocoBoxes(root, 'train')[0]
    assert sample.boxes is not None
    assert sample.labels is not None
    assert sample.boxes.tolist() == [[4, 5, 24, 15], [50, 20, 64, 30]]
    assert [_DETECTION[label] for label in sample.labels] == ['car/truck/bus', 'person/rider']
    assert sample.ignore_boxes.tolist() == [[0, 30, 12, 38]]
    assert sample.mask is None


def test_images_without_our_categories_are_annotated_and_empty(root: Path) -> None:
    _edit(root, lambda content: [entry.update(category_id=7) for entry in content['annotations']])
    sample = CocoBoxes(root, 'train')[0]
    assert sample.boxes is not None
    assert sample.boxes.shape == (0, 4)
    assert sample.labels is not None
    assert sample.labels.shape == (0,)


def test_the_table_is_an_option(root: Path) -> None:
    dataset = CocoBoxes(root, 'train', classes={'person': 'bicycle/motorcycle'})
    sample = dataset[0]
    assert sample.labels is not None
    assert [_DETECTION[label] for label in sample.labels] == ['bicycle/motorcycle']
    assert dataset.fingerprint() != CocoBoxes(root, 'train').fingerprint()


def test_the_preset_reads_driving_boxes(tmp_path: Path) -> None:
    draw_driving_boxes(tmp_path, 'val')
    sample = DrivingBoxes(tmp_path, 'val')[0]
    assert sample.labels is not None
    assert [_DETECTION[label] for label in sample.labels] == ['car/truck/bus', 'person/rider']
    assert len(sample.ignore_boxes) == 1


def test_a_table_that_does_not_fit_names_the_nearest(root: Path) -> None:
    with pytest.raises(ConfigError, match="no category 'persn': did you mean 'person'"):
        CocoBoxes(root, 'train', classes={'persn': 'person/rider'})
    with pytest.raises(ConfigError, match="did you mean 'person/rider'"):
        CocoBoxes(root, 'train', classes={'person': 'person/ridr'})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda content: content['annotations'][0].update(image_id=999),
            'annotation 0 names image 999, which the file does not list; expected one of 10, 11, 12',
        ),
        (
            lambda content: content['annotations'][0].update(category_id=99),
            'annotation 0 names category 99, which .* expected one of 1, 2, 3, 4, 5, 6, 7',
        ),
        (lambda content: content['annotations'][0].update(bbox=[1, 2, -3, 4]), _bad_bbox('[1, 2, -3, 4]')),
        (lambda content: content['annotations'][1].update(id=4, bbox=[1, 2, 3]), _bad_bbox('[1, 2, 3]', 4)),
        (lambda content: content['annotations'][0].update(bbox=[1, 2, 3, 1e999]), _bad_bbox('[1, 2, 3, inf]')),
        (lambda content: content['annotations'][0].update(bbox=None), _bad_bbox('None')),
        (lambda content: content['annotations'][1].pop('bbox'), 'annotation 1 has no bbox; expected four'),
        (
            lambda content: content['annotations'][0].pop('image_id'),
            'annotation 0 has no image_id; expected an integer',
        ),
        (lambda content: content['images'][0].pop('width'), 'image 10 has no width; expected its width in pixels'),
        (lambda content: content['images'][0].update(height='tall'), "image 10 has height 'tall'; expected its height"),
        (lambda content: content['images'][0].update(file_name=7), 'image 10 has file_name 7; expected the path'),
        (
            lambda content: content['images'][1].pop('id'),
            r'image at position 1 \(from 0\) has no id; expected an integer',
        ),
        (lambda content: content['categories'][2].pop('name'), 'category 3 has no name; expected text'),
        (
            lambda content: content['annotations'].insert(0, 7),
            r'annotation at position 0 \(from 0\) is 7; expected an object',
        ),
        (lambda content: content.pop('images'), 'not COCO detection JSON: it has no list images'),
        (lambda content: content['images'][1].update(id=10), 'image 10 is there twice; expected an id of its own'),
        (lambda content: content.update(images=[], annotations=[]), 'at least one'),
    ],
)
def test_files_that_contradict_themselves_are_named(
    root: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _edit(root, change)
    with pytest.raises(DatasetError, match=rf'instances_train2017\.json.*{message}'):
        CocoBoxes(root, 'train')


@pytest.mark.parametrize('annotation_id', [4, None])
@pytest.mark.parametrize('bbox', [[70, 2, 3, 4], [2, 41, 3, 4], [-4, 2, 3, 4], [2, -5, 3, 4]])
def test_a_box_wholly_outside_of_its_image_is_named(root: Path, bbox: list[int], annotation_id: int | None) -> None:
    def move(content: dict[str, Any]) -> None:
        content['annotations'][1]['bbox'] = bbox
        if annotation_id is None:
            del content['annotations'][1]['id']
        else:
            content['annotations'][1]['id'] = annotation_id

    _edit(root, move)
    name = 'annotation at position 1 (from 0)' if annotation_id is None else 'annotation 4'
    with pytest.raises(DatasetError) as caught:
        CocoBoxes(root, 'train')
    path, image = root / 'annotations/instances_train2017.json', root / 'train2017/000.png'
    assert f'{path}: {name} has bbox {bbox}, wholly outside of its image {image}, which is 40x64' in str(caught.value)


@pytest.mark.parametrize('bbox', [[64, 2, 3, 4], [2, -4, 3, 4], [5, 5, 0, 8]])
def test_boxes_without_area_are_left_out(root: Path, bbox: list[int]) -> None:
    _edit(root, lambda content: content['annotations'][0].update(bbox=bbox))
    sample = CocoBoxes(root, 'train')[0]
    assert sample.boxes is not None
    assert len(sample.boxes) == 1


def test_broken_json_is_named(root: Path) -> None:
    (root / 'annotations/instances_train2017.json').write_text('{"images": [')
    with pytest.raises(DatasetError, match=r'instances_train2017\.json is not valid JSON'):
        CocoBoxes(root, 'train')


def test_an_image_of_another_size_is_named(root: Path) -> None:
    write_picture(root / 'train2017/001.png', np.zeros((10, 10, 3), np.uint8))
    expected = r'train2017\.json states 40x64 .* for the image 001\.png, but .*train2017/001\.png is 10x10'
    with pytest.raises(DatasetError, match=expected):
        CocoBoxes(root, 'train')[1]


@pytest.mark.skipif(not _REAL.is_dir(), reason='not beside the checkout: ../shared/data/driving_boxes')
@pytest.mark.parametrize(
    ('split', 'images', 'boxes'), [('train', 604, 4_646), ('val', 214, 1_637), ('test', 181, 1_434)]
)
def test_the_real_driving_boxes_are_counted(split: str, images: int, boxes: int) -> None:
    dataset = DrivingBoxes(_REAL, split)
    assert len(dataset) == images
    annotations = CocoAnnotations(_REAL / f'{split}.json', _REAL)
    truths = [image.read(ImageSize('it', image.image_hw)) for image in annotations.images.values()]
    assert sum(len(truth.labels) for truth in truths if truth.labels is not None) == boxes
    sample = dataset[0]
    assert sample.boxes is not None
    assert len(sample.boxes)


@pytest.mark.skipif(not _VOC_COCO.is_dir(), reason='not beside the checkout: ../shared/data/voc_coco_samples')
def test_real_coco_files_are_read() -> None:
    classes = {'person': 'person/rider', 'bus': 'car/truck/bus'}
    dataset = CocoBoxes(_VOC_COCO, 'all', annotations='annotations.json', images='.', classes=classes)
    assert len(dataset) == 3
    assert sum(len(sample.labels) for sample in dataset if sample.labels is not None) > 0


def test_boxes_count_in_the_picture_as_its_tag_turns_it(root: Path) -> None:
    path = root / 'train2017' / '001.png'
    path.write_bytes(add_exif(path.read_bytes(), exif_block(6)))
    with pytest.raises(DatasetError, match=r'states 40x64 .* is 64x40 as a viewer shows it.*its orientation tag'):
        CocoBoxes(root, 'train')[1]
    _edit(root, lambda content: content.update(annotations=[]) or content['images'][1].update(height=64, width=40))
    assert CocoBoxes(root, 'train')[1].image.shape == (3, 64, 40)


def test_boxes_of_a_teacher_are_read_by_the_names_of_their_classes(root: Path) -> None:
    """As training.pseudo_label writes them: the categories are our classes, and none is one of COCO."""

    def guess(content: dict[str, Any]) -> None:
        content['categories'] = [{'id': 1 + place, 'name': name} for place, name in enumerate(_DETECTION)]
        for place, entry in enumerate(content['annotations']):
            entry.update(score=(0.9, 0.3, 0.05)[place % 3], iscrowd=0)

    _edit(root, guess)
    sample = CocoBoxes(root, 'train', positive_from=0.4, ignore_from=0.1)[0]
    assert sample.labels is not None
    assert sample.ignore_labels is not None
    assert (sample.labels.tolist(), sample.ignore_labels.tolist()) == ([0], [-1])


def test_a_file_need_not_have_all_usual_categories(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def keep(content: dict[str, Any], *names: str) -> None:
        content['categories'] = [{'id': 1 + place, 'name': name} for place, name in enumerate(names)]

    CocoBoxes(root, 'train')
    assert not caplog.text, 'zebras are known to be of no class'
    _edit(root, lambda content: keep(content, 'car', 'person', 'unused'))
    _edit(root, lambda content: [entry.update(category_id=1) for entry in content['annotations']])
    sample = CocoBoxes(root, 'train')[0]
    assert sample.labels is not None
    assert sample.labels.tolist() == [0, 0]
    assert not caplog.text, 'of what is left out there is no object'
    _edit(root, lambda content: keep(content, 'car', 'pedestrian', 'van'))
    _edit(root, lambda content: [entry.update(category_id=1 + n % 3) for n, entry in enumerate(content['annotations'])])
    CocoBoxes(root, 'train')
    assert 'the categories pedestrian, van have no usual name, and their objects count as background' in caplog.text


def test_masks_are_an_option(root: Path) -> None:
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    _edit(root, lambda content: [entry.update(segmentation=square) for entry in content['annotations'][::3]])
    plain, dataset = CocoBoxes(root, 'train'), CocoBoxes(root, 'train', masks=True)
    assert plain[0].mask is None
    areas = [label.name for label in CITYSCAPES_11_3.segmentation]
    mask = dataset[0].mask
    assert mask is not None
    assert (areas[mask[12, 12]], mask[0, 63]) == ('car/truck/bus', 255)
    on_road = CocoBoxes(root, 'train', masks=True, background='road')
    assert on_road[0].mask is not None
    assert areas[on_road[0].mask[0, 63]] == 'road'
    assert len({each.fingerprint() for each in (plain, dataset, on_road)}) == 3
    with pytest.raises(ConfigError, match="background 'road' says nothing without masks"):
        CocoBoxes(root, 'train', background='road')
    with pytest.raises(ConfigError, match='not made of what a model guessed'):
        CocoBoxes(root, 'train', masks=True, positive_from=0.4)


def test_coco_itself_is_background_and_its_80_categories(root: Path) -> None:
    labels = load_label_space('coco_81_80')
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    _edit(root, lambda content: [entry.update(segmentation=square) for entry in content['annotations']])
    _edit(root, lambda content: content['annotations'][1].update(category_id=7))
    sample = CocoBoxes(root, 'train', labels=labels, masks=True)[0]
    assert sample.labels is not None
    assert sample.mask is not None
    assert [labels.detection[label].name for label in sample.labels] == ['car', 'zebra']
    names = {labels.segmentation[value].name for value in sample.mask.unique().tolist()}
    assert names == {'background', 'bicycle'}, 'the last one, a crowd, lies over the others'
