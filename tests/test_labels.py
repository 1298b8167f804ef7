"""The label space that ships. The order of its classes is frozen: checkpoints and recorded masks hold indices."""

from perception.interfaces import UNLABELLED, LabelClass
from perception.labels import CITYSCAPES_11_3

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


def test_names_and_colors_tell_the_classes_apart() -> None:
    for classes in (CITYSCAPES_11_3.segmentation, CITYSCAPES_11_3.detection):
        assert len(set(names(classes))) == len(classes) <= UNLABELLED
        colors = [label.color_rgb for label in classes]
        assert len(set(colors)) == len(colors)
        assert (0, 0, 0) not in colors  # what unlabelled pixels are drawn in
        assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in colors)


def test_colors_are_those_of_cityscapes() -> None:
    found = {label.name: label.color_rgb for label in CITYSCAPES_11_3.segmentation}
    assert {name: found[name] for name in CITYSCAPES_PALETTE} == CITYSCAPES_PALETTE
