"""A network of ours as a teacher: boxes and masks.

Shape letters: H W rows and columns of an image, h w of the network's input, C segmentation classes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.checkpoint import load_checkpoint
from perception.image import FrameGeometry, prepare_image
from perception.interfaces import Detections, InputSpec, NetworkOutput
from perception.postprocess import PostprocessConfig, postprocess
from training.teachers.views import Answer, Views, join_detections, mirror_boxes


class CheckpointTeacher:
    """Runs a checkpoint in PyTorch. Probabilities of all views are averaged at the network's own size.

    Raises:
        CheckpointError: If the file is missing, broken, or does not fit its network.
    """

    segments = True

    def __init__(self, path: Path, views: Views) -> None:
        checkpoint = load_checkpoint(path)
        self._network, self._views, self.title = checkpoint.network, views, checkpoint.title
        self.labels = self._network.labels
        own_hw = self._network.input_spec.image_hw
        divisor = self._network.divisor
        self._sizes = [own_hw] if not views.sizes else [_scaled(own_hw, size, divisor) for size in views.sizes]
        self._config = PostprocessConfig(score_threshold=views.score_floor, nms_threshold=views.nms_threshold)

    def __call__(self, image_rgb: np.ndarray) -> Answer:
        """(H, W, 3) uint8 -> boxes and mask in its own pixels."""
        seen: list[Detections] = []
        total: Tensor | None = None
        own = self._network.input_spec
        for image_hw in self._sizes:
            output, geometry = self._look(image_rgb, replace(own, image_hw=image_hw))
            seen += self._boxes(output, geometry)
            straight, *mirrored = output.mask_logits.softmax(dim=1)  # each (C, h, w)
            for probability in (straight, *(one.flip(-1) for one in mirrored)):
                resized = F.interpolate(probability[None], own.image_hw, mode='bilinear', align_corners=False)
                total = resized if total is None else total + resized
        assert total is not None
        _, geometry = prepare_image(image_rgb, own)
        best, classes = (total / total.sum(dim=1, keepdim=True)).max(dim=1)
        confidence = (best[0] * 255).round().to(torch.uint8).numpy()
        return Answer(
            join_detections(seen, self._views),
            geometry.mask_to_original(classes[0].to(torch.uint8).numpy()),
            geometry.mask_to_original(confidence),
        )

    def _look(self, image_rgb: np.ndarray, spec: InputSpec) -> tuple[NetworkOutput, FrameGeometry]:
        prepared, geometry = prepare_image(image_rgb, spec)
        image = torch.from_numpy(prepared).permute(2, 0, 1)
        images = torch.stack([image, image.flip(-1)] if self._views.flip else [image])
        with torch.inference_mode():
            return self._network(images), geometry

    def _boxes(self, output: NetworkOutput, geometry: FrameGeometry) -> list[Detections]:
        results = postprocess(
            output,
            [geometry] * len(output.boxes),
            self._config,
            class_activation=self._network.class_activation,
            suppression=self._network.suppression,
        )
        straight, *mirrored = [result.detections for result in results]
        width = geometry.original_hw[1]
        return [
            straight,
            *(replace(found, boxes_xyxy=mirror_boxes(found.boxes_xyxy, width)) for found in mirrored),
        ]


def _scaled(own_hw: tuple[int, int], longer: int, divisor: int) -> tuple[int, int]:
    """The network's own shape with that longer side, in multiples of the divisor."""
    height, width = (max(divisor, round(side * longer / max(own_hw) / divisor) * divisor) for side in own_hw)
    return height, width
