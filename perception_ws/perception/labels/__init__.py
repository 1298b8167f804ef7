"""The label spaces: which classes a network knows, with their names and colours.

A label space is a YAML file; those that are built in lie beside this one. A class id is the position in its list.

    name: my_yard
    segmentation:
      - {name: ground, color: [110, 90, 70]}
    detection:
      - {name: crate, color: [255, 190, 0], areas: [ground]}     areas that such an object is made of
"""

from perception.labels.areas import object_areas
from perception.labels.comparison import check_same_classes, describe
from perception.labels.files import BUILT_IN, load_label_space, parse_label_space

__all__ = [
    'BUILT_IN',
    'CITYSCAPES_11_3',
    'DEFAULT_LABELS',
    'check_same_classes',
    'describe',
    'load_label_space',
    'object_areas',
    'parse_label_space',
]

CITYSCAPES_11_3 = load_label_space('cityscapes_11_3')

DEFAULT_LABELS = CITYSCAPES_11_3
"""Of the weights that ship, and wherever nothing else is asked for."""
