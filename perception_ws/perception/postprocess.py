"""NetworkOutput -> what was seen, in pixels of the original image. The only post-processing; it serves all networks.

Boxes: score = sigmoid(objectness) * class probability, the best candidates first (so that suppression stays cheap),
then class-wise non-maximum suppression (interdependent paper, section 4.3: IoU 0.55) by torchvision.
Masks: the best class per pixel at the network's size, then the 8-bit labels are enlarged. Enlarging logits instead
would cost more than the network itself.

Shape letters: B images, A anchors, K detection classes, C segmentation classes, H W original image, N kept detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from perception.boxes import class_wise_suppression
from perception.errors import ConfigError, NotFiniteError
from perception.image import FrameGeometry
from perception.interfaces import UNLABELLED, Detections, NetworkOutput, SceneResult


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Which detections are reported.

    Attributes:
        score_threshold: Lowest score reported. 0.01 for average precision, higher for people who look.
        nms_threshold: Boxes of one class that overlap more than this (IoU) are one object.
        max_detections: At most so many per image.
        max_candidates: At most so many (box, class) pairs enter suppression.

    Raises:
        ConfigError: If a value is out of range.
    """

    score_threshold: float = 0.3
    nms_threshold: float = 0.55
    max_detections: int = 200
    max_candidates: int = 1000

    def __post_init__(self) -> None:
        for name in ('score_threshold', 'nms_threshold'):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'{name} must lie in 0..1; got {getattr(self, name)}.')
        for name in ('max_detections', 'max_candidates'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1; got {getattr(self, name)}.')


def postprocess(
    output: NetworkOutput,
    frames: Sequence[FrameGeometry],
    config: PostprocessConfig,
    *,
    class_activation: Literal['sigmoid', 'softmax'] = 'sigmoid',
    with_confidence: bool = False,
) -> list[SceneResult]:
    """Turn the output for B images into B results.

    Args:
        frames: How each image was laid into the network input.
        class_activation: The network's field of that name.
        with_confidence: Also the probability of the best class per pixel, as 8 bits.

    Raises:
        NotFiniteError: If the output is not finite: it would look like an image without objects.
    """
    # Before sigmoid and softmax, which make numbers of infinities.
    _check_finite('scores', output.objectness.float().sum() + output.class_logits.float().sum())
    _check_finite('boxes', output.boxes.float().sum())
    scores = _class_scores(output, class_activation)
    masks, confidences = _masks(output.mask_logits.float(), with_confidence)
    return [
        SceneResult(
            detections=_detections(output.boxes[index], scores[index], geometry, config),
            mask=geometry.mask_to_original(masks[index]),
            confidence=None if confidences is None else geometry.mask_to_original(confidences[index]),
        )
        for index, geometry in enumerate(frames)
    ]


def _masks(logits: Tensor, with_confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """(B, C, h, w) -> best class and, when asked for, its probability in 8 bits, each (B, h, w) uint8."""
    if not logits.shape[1]:  # segmentation is switched off
        unlabelled = np.full((len(logits), *logits.shape[2:]), UNLABELLED, np.uint8)
        return unlabelled, np.zeros_like(unlabelled) if with_confidence else None
    # max, not argmax: the same classes, on a CPU in a tenth of the time.
    best_logits, best_classes = logits.max(dim=1)
    _check_finite('mask', best_logits.sum())  # max hands every NaN on, so none hides behind the best
    masks = best_classes.to(torch.uint8).cpu().numpy()
    if not with_confidence:
        return masks, None
    # softmax of the best class = exp(best - logsumexp)
    probability = torch.exp(best_logits - torch.logsumexp(logits, dim=1))
    return masks, (probability * 255).round().to(torch.uint8).cpu().numpy()


def _class_scores(output: NetworkOutput, class_activation: str) -> Tensor:
    """(B, A, K) probability that a box holds an object of a class."""
    logits = output.class_logits.float()
    classes = logits.softmax(dim=-1) if class_activation == 'softmax' else logits.sigmoid()
    return output.objectness.float().sigmoid().unsqueeze(-1) * classes


def _detections(boxes: Tensor, scores: Tensor, geometry: FrameGeometry, config: PostprocessConfig) -> Detections:
    """Select from (A, 4) boxes with (A, K) scores; a box may be reported for several classes."""
    classes = scores.shape[1]
    candidates, order = scores.flatten().topk(min(config.max_candidates, scores.numel()))
    order = order[candidates >= config.score_threshold]
    anchors, labels = order // classes, order % classes
    candidate_boxes, candidate_scores = boxes.float()[anchors], scores.flatten()[order]
    kept = class_wise_suppression(candidate_boxes, candidate_scores, labels, config.nms_threshold)
    kept = kept[: config.max_detections]
    boxes_xyxy = geometry.boxes_to_original(candidate_boxes[kept].cpu().numpy())
    # A box that lies wholly in a letterbox border, or beside the image, has nothing left to show.
    visible = (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])
    return Detections(
        boxes_xyxy=boxes_xyxy[visible],
        scores=candidate_scores[kept].cpu().numpy()[visible],
        labels=labels[kept].cpu().numpy()[visible],
    )


def _check_finite(name: str, total: Tensor) -> None:
    """Refuse NaN and infinities: a sum is finite if all are, and takes a fraction of the time of asking each."""
    if not total.isfinite():
        raise NotFiniteError(
            f'The network gave {name} that are not finite for this image. Its weights may be damaged, or too large for '
            'the precision: try fp32.',
        )
