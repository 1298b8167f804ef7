"""The Cityscapes label names and ids that the drawn street uses (cityscapesscripts, helpers/labels.py)."""

from __future__ import annotations

LABEL_IDS = {
    'unlabeled': 0,
    'ego vehicle': 1,
    'static': 4,
    'road': 7,
    'sidewalk': 8,
    'building': 11,
    'wall': 12,
    'fence': 13,
    'pole': 17,
    'traffic light': 19,
    'traffic sign': 20,
    'vegetation': 21,
    'terrain': 22,
    'sky': 23,
    'person': 24,
    'rider': 25,
    'car': 26,
    'truck': 27,
    'bus': 28,
    'motorcycle': 32,
    'bicycle': 33,
}

INSTANCE_LABELS = frozenset({'person', 'rider', 'car', 'truck', 'bus', 'motorcycle', 'bicycle'})
"""Labels whose objects are counted; a name with ``group`` appended marks several that are outlined as one."""


def base_label(label: str) -> str:
    """``'cargroup'`` -> ``'car'``; other names stay."""
    return label if label in LABEL_IDS else label.removesuffix('group')
