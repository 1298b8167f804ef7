"""The networks of torchvision that ours is held against, one for each task.

Segmentation is lraspp_mobilenet_v3_large (Howard et al., "Searching for MobileNetV3"), detection its ssdlite320.

Shape letters: B images, C segmentation classes, H W rows and columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from perception.errors import ConfigError
from perception.interfaces import Detections, InputSpec, LabelSpace, SceneResult
from training.configuration import TrainingConfig
from training.data.batch import Batch
from training.data.dataset import SceneDataset, sum_pixels
from training.data.sample import send
from training.evaluation import SCORE_THRESHOLD
from training.segmentation_loss import SegmentationLossConfig, resolve_class_weights


class Baseline(nn.Module, ABC):
    """A network of torchvision behind what the comparison needs; ``evaluate_dataset`` scores it as any other.

    Args:
        labels: Classes.
        input_spec: Input size and normalisation.
    """

    network: nn.Module

    def __init__(self, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.labels, self.input_spec = labels, input_spec

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The scalar to descend on."""

    @abstractmethod
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        """What it sees in (H, W, 3) uint8, in the pixels of the image."""

    def perceive(self, images: Sequence[np.ndarray]) -> list[SceneResult]:
        """What it sees in each of several images, as ``look``."""
        return [self.look(image_rgb) for image_rgb in images]

    @property
    def device(self) -> str:
        return str(next(self.parameters()).device)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float, on the network's device."""
        mean, std = (send(torch.tensor(of), self.device) for of in (self.input_spec.mean_rgb, self.input_spec.std_rgb))
        return (send(images, self.device).float() - mean.view(3, 1, 1)) / std.view(3, 1, 1)


class SegmentationBaseline(Baseline):
    """lraspp_mobilenet_v3_large, 3.2 million parameters."""

    def __init__(self, labels: LabelSpace, input_spec: InputSpec, loss: SegmentationLossConfig) -> None:
        super().__init__(labels, input_spec)
        classes = len(labels.segmentation)
        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        self.register_buffer('class_weights', torch.tensor(loss.class_weights) if loss.class_weights else None)

    def loss(self, batch: Batch) -> Tensor:
        target = send(torch.stack([sample.mask for sample in batch if sample.mask is not None]), self.device)
        logits = self.network(self.normalise(batch.images))['out']
        return F.cross_entropy(logits, target.long(), weight=self.get_buffer('class_weights'), ignore_index=255)

    @torch.inference_mode()
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        height, width = self.input_spec.image_hw
        small = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
        images = torch.from_numpy(small).permute(2, 0, 1)[None]
        mask = self.network(self.normalise(images))['out'].argmax(1)[0].to(torch.uint8).cpu().numpy()
        size = (image_rgb.shape[1], image_rgb.shape[0])
        return SceneResult(detections=_nothing(), mask=cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT))


class DetectionBaseline(Baseline):
    """ssdlite320_mobilenet_v3_large, 2.2 million parameters for three classes; it resizes every image to 320x320."""

    def __init__(self, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__(labels, input_spec)
        self.network = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=1 + len(labels.detection), score_thresh=SCORE_THRESHOLD
        )

    def loss(self, batch: Batch) -> Tensor:
        targets = [
            {'boxes': send(sample.boxes, self.device), 'labels': send(sample.labels + 1, self.device)}  # 0: background
            for sample in batch
            if sample.boxes is not None and sample.labels is not None
        ]
        losses = self.network(list(send(batch.images, self.device).float() / 255), targets)
        return torch.stack(list(losses.values())).sum()

    @torch.inference_mode()
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        image = send(torch.from_numpy(image_rgb), self.device).permute(2, 0, 1).float() / 255
        found = {name: values.cpu() for name, values in self.network([image])[0].items()}
        detections = Detections(
            boxes_xyxy=found['boxes'].numpy().astype(np.float32),
            scores=found['scores'].numpy().astype(np.float32),
            labels=found['labels'].numpy() - 1,
        )
        return SceneResult(detections=detections, mask=np.zeros(image_rgb.shape[:2], np.uint8))


def _nothing() -> Detections:
    return Detections(boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, int))


def build_baseline(
    task: str, config: TrainingConfig, datasets: Sequence[SceneDataset], weights: Path | None = None
) -> Baseline:
    """The network of a task, with random weights or those of a file.

    Raises:
        ConfigError: If the file holds no weights of this baseline.
    """
    torch.manual_seed(config.seed)
    baseline = _build_network(task, config, datasets)
    if weights is not None:
        try:
            baseline.load_state_dict(
                {**torch.load(weights, map_location='cpu', weights_only=True), **_constants(baseline)}
            )
        except Exception as error:
            raise ConfigError(f'--weights {weights}: expected weights.pt of a {task} baseline ({error}).') from error
    return baseline


def _constants(baseline: Baseline) -> dict[str, Tensor]:
    """Buffers that are the configuration's and not learned."""
    return {name: buffer for name, buffer in baseline.named_buffers() if name == 'class_weights'}


def _build_network(task: str, config: TrainingConfig, datasets: Sequence[SceneDataset]) -> Baseline:
    if task == 'detection':
        return DetectionBaseline(config.label_space, config.input_spec)
    loss = config.criterion.segmentation
    if loss.class_weights == 'balanced':
        loss = resolve_class_weights(loss, sum_pixels(datasets))
    return SegmentationBaseline(config.label_space, config.input_spec, loss)
