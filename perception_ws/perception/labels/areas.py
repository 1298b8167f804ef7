"""What objects are made of, as a table for masks."""

import numpy as np

from perception.interfaces import LabelSpace


def object_areas(labels: LabelSpace) -> np.ndarray:
    """Which mask values an object of each class is made of: (K, 256) bool.

    One of which nobody said anything has the area of its own name, if there is one, and otherwise none.
    """
    names = [label.name for label in labels.segmentation]
    is_area = np.zeros((len(labels.detection), 256), bool)
    for row, label in enumerate(labels.detection):
        for area in label.areas or (label.name,):
            if area in names:
                is_area[row, names.index(area)] = True
    return is_area
