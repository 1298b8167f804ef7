"""The colour matrix against torchvision's own transforms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from training.data.color import apply_color_matrix, color_matrix, mean_color


@pytest.fixture
def image_rgb() -> np.ndarray:
    """(24, 32, 3), soft colours, so that nothing saturates on the way."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    return (cv2.GaussianBlur(noise, (0, 0), 1.5) // 2 + 60).astype(np.uint8)


def _change(image_rgb: np.ndarray, **changes: float) -> np.ndarray:
    neutral = {'brightness': 1.0, 'contrast': 1.0, 'saturation': 1.0}
    return apply_color_matrix(image_rgb, color_matrix(mean_color(image_rgb), **(neutral | changes)))


def _difference(found: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(found.astype(int) - expected.permute(1, 2, 0).numpy().astype(int)).max())


def test_neutral_factors_change_nothing(image_rgb: np.ndarray) -> None:
    assert color_matrix(mean_color(image_rgb), brightness=1, contrast=1, saturation=1).shape == (3, 4)
    assert np.array_equal(_change(image_rgb), image_rgb)


@pytest.mark.parametrize('factor', [0.7, 1.2])
@pytest.mark.parametrize('kind', ['brightness', 'contrast', 'saturation'])
def test_each_change_is_that_of_torchvision(image_rgb: np.ndarray, kind: str, factor: float) -> None:
    expected = getattr(functional, f'adjust_{kind}')(torch.from_numpy(image_rgb).permute(2, 0, 1), factor)
    assert _difference(_change(image_rgb, **{kind: factor}), expected) <= 1


def test_all_changes_together_are_those_of_torchvision_in_this_order(image_rgb: np.ndarray) -> None:
    expected = functional.adjust_brightness(torch.from_numpy(image_rgb).permute(2, 0, 1), 0.9)
    expected = functional.adjust_saturation(functional.adjust_contrast(expected, 1.2), 0.8)
    assert _difference(_change(image_rgb, brightness=0.9, contrast=1.2, saturation=0.8), expected) <= 3


def test_values_saturate(image_rgb: np.ndarray) -> None:
    assert _change(np.full((2, 2, 3), 200, np.uint8), brightness=2.0).tolist() == [[[255] * 3] * 2] * 2
