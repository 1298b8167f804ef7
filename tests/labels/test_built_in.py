"""The label spaces that ship. The order of their classes is frozen: checkpoints and recorded masks hold indices."""

import pytest

from perception.interfaces import UNLABELLED, LabelClass
from perception.labels import BUILT_IN, CITYSCAPES_11_3, load_label_space

CITYSCAPES_PALETTE = {
    'road': (128, 64, 128),
    'traffic sign': (220, 220, 0),
    'pedestrian': (220, 20, 60),
    'building': (70, 70, 70),
    'sky': (70, 130, 180),
    'vegetation': (107, 142, 35),
    'pole': (153, 153, 153),
    'sidewalk': (244, 35, 232),
    'fence': (190, 153, 153),
    'car/truck/bus': (0, 0, 142),
}


def names(classes: tuple[LabelClass, ...]) -> list[str]:
    return [label.name for label in classes]


def test_classes_and_their_order() -> None:
    assert CITYSCAPES_11_3.name == 'cityscapes_11_3'
    assert names(CITYSCAPES_11_3.segmentation) == [
        'road',
        'traffic sign',
        'pedestrian',
        'building',
        'sky',
        'vegetation',
        'pole',
        'sidewalk',
        'fence',
        'rider/cycle',
        'car/truck/bus',
    ]
    assert names(CITYSCAPES_11_3.detection) == ['car/truck/bus', 'person/rider', 'bicycle/motorcycle']


@pytest.mark.parametrize('name', BUILT_IN)
def test_names_and_colors_tell_the_classes_apart(name: str) -> None:
    labels = load_label_space(name)
    assert labels.name == name
    for classes in (labels.segmentation, labels.detection):
        assert 0 < len(set(names(classes))) == len(classes) <= UNLABELLED
        colors = [label.color_rgb for label in classes]
        assert len(set(colors)) == len(colors)
        assert (0, 0, 0) not in colors  # what unlabelled pixels are drawn in
        assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in colors)


def test_the_counts_are_those_of_the_names() -> None:
    counts = {
        name: [len(load_label_space(name).segmentation), len(load_label_space(name).detection)] for name in BUILT_IN
    }
    assert counts == {
        'camvid_11': [11, 3],
        'cityscapes_11_3': [11, 3],
        'cityscapes_19_8': [19, 8],
        'coco_81_80': [81, 80],
        'voc_21_20': [21, 20],
    }


@pytest.mark.parametrize('name', BUILT_IN)
def test_every_object_is_made_of_areas(name: str) -> None:
    labels = load_label_space(name)
    assert all(label.areas and {*label.areas} <= {*names(labels.segmentation)} for label in labels.detection)
    assert all(not label.areas for label in labels.segmentation)


def test_a_rider_is_a_person_and_a_part_of_a_cycle() -> None:
    assert [label.areas for label in CITYSCAPES_11_3.detection] == [
        ('car/truck/bus',),
        ('pedestrian', 'rider/cycle'),
        ('rider/cycle',),
    ]


def test_the_benchmark_classes_are_those_of_cityscapesscripts() -> None:
    theirs = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    ours = load_label_space('cityscapes_19_8')
    trained = sorted((label for label in theirs if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert [(label.name, label.color_rgb) for label in ours.segmentation] == [(one.name, one.color) for one in trained]
    assert names(ours.detection) == [label.name for label in trained if label.hasInstances]


def test_colors_are_those_of_cityscapes() -> None:
    found = {label.name: label.color_rgb for label in CITYSCAPES_11_3.segmentation}
    assert {name: found[name] for name in CITYSCAPES_PALETTE} == CITYSCAPES_PALETTE
