"""Bring an image to the network's input size, and undo it for boxes and masks.

The resize works on 8-bit pixels and the channel swap on the small image; normalisation belongs to the network's graph.
Continuous pixel coordinates map linearly between both images, because cv2.resize aligns the outer image edges.

Shape letters: H W the original image, h w the network input, N boxes.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from perception.errors import ShapeError
from perception.interfaces import InputSpec, PixelOrder

_TO_RGB = {
    PixelOrder.BGR: cv2.COLOR_BGR2RGB,
    PixelOrder.RGBA: cv2.COLOR_RGBA2RGB,
    PixelOrder.BGRA: cv2.COLOR_BGRA2RGB,
    PixelOrder.MONO: cv2.COLOR_GRAY2RGB,
}


def to_rgb(pixels: np.ndarray, order: PixelOrder) -> np.ndarray:
    """Convert (H, W[, channels]) uint8 pixels to (H, W, 3) RGB; RGB comes back as it is."""
    return pixels if order is PixelOrder.RGB else cv2.cvtColor(pixels, _TO_RGB[order])


@dataclass(frozen=True, kw_only=True)
class FrameGeometry:
    """Where an original image lies inside the network input.

    Attributes:
        original_hw: Size of the original image.
        content_hw: Size of the resized image.
        top, left: Its offset inside the network input; not zero only for a letterbox.
    """

    original_hw: tuple[int, int]
    content_hw: tuple[int, int]
    top: int = 0
    left: int = 0

    def boxes_to_original(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map (N, 4) boxes from network-input to original pixels, clipped to the original image."""
        (height, width), (content_height, content_width) = self.original_hw, self.content_hw
        offset = np.array([self.left, self.top] * 2, np.float32)
        scale = np.array([width / content_width, height / content_height] * 2, np.float32)
        limit = np.array([width, height] * 2, np.float32)
        return np.clip((boxes_xyxy - offset) * scale, 0, limit).astype(np.float32)

    def mask_to_original(self, mask: np.ndarray) -> np.ndarray:
        """Enlarge an 8-bit (h, w) map to (H, W) by the nearest pixel, without the letterbox's borders."""
        content_height, content_width = self.content_hw
        content = mask[self.top : self.top + content_height, self.left : self.left + content_width]
        height, width = self.original_hw
        return cv2.resize(content, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def plan_geometry(original_hw: tuple[int, int], spec: InputSpec) -> FrameGeometry:
    """Decide where an image of the given size goes in the network input."""
    height, width = original_hw
    network_height, network_width = spec.image_hw
    if spec.resize == 'stretch':
        return FrameGeometry(original_hw=original_hw, content_hw=spec.image_hw)
    scale = min(network_height / height, network_width / width)
    content_height = min(network_height, max(1, round(height * scale)))
    content_width = min(network_width, max(1, round(width * scale)))
    return FrameGeometry(
        original_hw=original_hw,
        content_hw=(content_height, content_width),
        top=(network_height - content_height) // 2,
        left=(network_width - content_width) // 2,
    )


def prepare_image(
    pixels: np.ndarray, spec: InputSpec, order: PixelOrder = PixelOrder.RGB
) -> tuple[np.ndarray, FrameGeometry]:
    """Resize an 8-bit image to the network's input size.

    Args:
        pixels: (H, W, 3 or 4) uint8, or (H, W) for PixelOrder.MONO; rows may be padded, no copy is made of them.

    Returns:
        (h, w, 3) uint8 RGB, and the geometry that undoes the resize.

    Raises:
        ShapeError: If the array is not an 8-bit image of that pixel order, or is empty.
    """
    channels = {PixelOrder.MONO: 1, PixelOrder.RGB: 3, PixelOrder.BGR: 3}.get(order, 4)
    found = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or found != channels or pixels.size == 0:
        raise ShapeError(
            f'An image in {order.value} must be a non-empty (H, W, {channels}) uint8 array; '
            f'got shape {pixels.shape} of {pixels.dtype}.'
        )
    geometry = plan_geometry((pixels.shape[0], pixels.shape[1]), spec)
    content_height, content_width = geometry.content_hw
    resized = cv2.resize(pixels, (content_width, content_height), interpolation=cv2.INTER_LINEAR)
    image_rgb = to_rgb(resized, order)
    if geometry.content_hw == tuple(spec.image_hw):
        return image_rgb, geometry
    padded = np.empty((*spec.image_hw, 3), np.uint8)
    padded[:] = np.round(spec.mean_rgb).astype(np.uint8)
    padded[geometry.top : geometry.top + content_height, geometry.left : geometry.left + content_width] = image_rgb
    return padded, geometry
