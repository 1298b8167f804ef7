"""What makes the networks of a family small: tests over the registry are quick, whatever a preset weighs."""

from typing import Any

from perception.networks import NETWORKS

SMALLEST: dict[str, dict[str, Any]] = {
    'interdependent': {
        'stem_width': 8,
        'unit_dilations': [[[1]], [[1, 2]], [[1], [1, 2]], [[2, 4]]],
        'trident_units': 1,
        'block_widths': [8, 8, 8, 8],
        'block_mid_widths': [4, 4, 4, 4],
        'bottleneck_width': 8,
        'bottleneck_mid_width': 4,
        'decoder_width': 8,
        'skip_width': 4,
        'detector_widths': [8, 8, 8],
        'trident_mid_width': 4,
        'anchors_wh': [[1.1, 2.0], [3.0, 4.3], [50.1, 60.7]],
    },
    'blitznet': {
        'encoder': 'tf_efficientnet_lite0',
        'down_width': 16,
        'down_units': 1,
        'width': 16,
        'mask_width': 8,
    },
    'ivanet': {
        'encoder': 'tf_efficientnet_lite0',
        'down_mid_width': 8,
        'down_width': 16,
        'top_down_width': 8,
        'width': 16,
        'mask_width': 8,
    },
    'triplenet': {
        'encoder': 'tf_efficientnet_lite0',
        'down_width': 16,
        'down_units': 1,
        'width': 16,
        'mask_width': 8,
        'attention_reduction': 2,
        'inner_widths': [8],
        'detector_width': 16,
    },
}
"""By family; a new one belongs here where its presets have tens of millions of parameters."""

TESTED_AS_THEY_ARE = ('interdependent',)
"""Families whose presets the tests can afford."""


def overrides_of(name: str) -> dict[str, Any]:
    """What to build a network of the registry with: its preset's structure in small widths, or nothing."""
    family = NETWORKS[name].network.family
    return {} if family in TESTED_AS_THEY_ARE else SMALLEST.get(family, {})
