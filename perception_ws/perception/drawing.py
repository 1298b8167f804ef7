"""Pictures for people: the coloured mask, and the overlay of boxes, names, scores and mask on the image.

Shape letters: H W rows and columns of the original image.
"""

import cv2
import numpy as np

from perception.interfaces import UNLABELLED, LabelClass, LabelSpace, SceneResult

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BANNER_RGB = (200, 30, 30)


def color_mask(mask: np.ndarray, classes: tuple[LabelClass, ...]) -> np.ndarray:
    """Paint a (H, W) uint8 class mask in its classes' colours; unlabelled pixels black. Returns (H, W, 3) RGB."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(classes), 0] = [label.color_rgb for label in classes]
    table[UNLABELLED] = 0
    return cv2.applyColorMap(mask, table)


def draw_overlay(
    image_rgb: np.ndarray, result: SceneResult, labels: LabelSpace, *, alpha: float = 0.45, banner: str = ''
) -> np.ndarray:
    """Draw what was seen over a (H, W, 3) uint8 image; returns a new one.

    Args:
        alpha: Weight of the mask's colours, 0 to 1.
        banner: A warning written across the top.
    """
    colors = color_mask(result.mask, labels.segmentation)
    canvas = cv2.addWeighted(image_rgb, 1 - alpha, colors, alpha, 0)
    height, width = result.mask.shape
    scale = max(0.35, min(height, width) / 900)
    banner_scale = 1.2 * scale
    # Weakest first, so that the best detections lie on top.
    for index in reversed(range(len(result.detections))):
        label = labels.detection[int(result.detections.labels[index])]
        text = f'{label.name} {result.detections.scores[index]:.2f}'
        _draw_box(canvas, result.detections.boxes_xyxy[index], text, label.color_rgb, scale)
    if banner:
        (text_width, _), _ = cv2.getTextSize(banner, _FONT, banner_scale, 1)
        _draw_text(canvas, banner, (max(0, (width - text_width) // 2), 0), _BANNER_RGB, banner_scale)
    return canvas


def _draw_box(
    canvas: np.ndarray, box_xyxy: np.ndarray, text: str, color_rgb: tuple[int, int, int], scale: float
) -> None:
    left, top, right, bottom = (round(float(side)) for side in box_xyxy)
    cv2.rectangle(canvas, (left, top), (right, bottom), color_rgb, max(1, round(2 * scale)), cv2.LINE_8)
    _draw_text(canvas, text, (left, top), color_rgb, scale * 0.8, above=True)


def _draw_text(
    canvas: np.ndarray,
    text: str,
    corner: tuple[int, int],
    color_rgb: tuple[int, int, int],
    scale: float,
    above: bool = False,
) -> None:
    """Write text on a filled strip inside the image, with its left-top (with above: left-bottom) corner given."""
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    height, width = canvas.shape[:2]
    strip_height = text_height + baseline + 2
    left = max(0, min(corner[0], width - text_width - 4))
    top = max(0, min(corner[1] - (strip_height if above else 0), height - strip_height))
    cv2.rectangle(canvas, (left, top), (left + text_width + 4, top + strip_height), color_rgb, cv2.FILLED)
    ink = (0, 0, 0) if sum(color_rgb) > 380 else (255, 255, 255)
    cv2.putText(canvas, text, (left + 2, top + text_height + 1), _FONT, scale, ink, 1, cv2.LINE_AA)
