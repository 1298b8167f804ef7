"""Bring a sample to network size, with the resize of perception.image that inference uses.

Shape letters: H W the sample's image, h w the network input.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import torch

from perception.image import prepare_image
from perception.interfaces import InputSpec
from training.data.sample import Sample


def resize_sample(sample: Sample, image_hw: tuple[int, int]) -> Sample:
    """Bring a sample to network size: image bilinear, mask by the nearest pixel, boxes scaled.

    Args:
        sample: At any size (H, W).
        image_hw: (h, w).
    """
    height, width = sample.image.shape[1:]
    image, _ = prepare_image(sample.image.permute(1, 2, 0).numpy(), InputSpec(image_hw=image_hw))
    scale = torch.tensor([image_hw[1] / width, image_hw[0] / height] * 2)
    mask = sample.mask
    if mask is not None:
        resized = cv2.resize(mask.numpy(), image_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        mask = torch.from_numpy(resized)
    return replace(
        sample,
        image=torch.from_numpy(image).permute(2, 0, 1),
        boxes=None if sample.boxes is None else sample.boxes * scale,
        ignore_boxes=sample.ignore_boxes * scale,
        mask=mask,
    )
