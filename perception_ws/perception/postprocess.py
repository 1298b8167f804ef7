"""NetworkOutput -> what was seen, in pixels of the original image. The only post-processing; it serves all networks.

Boxes: score = sigmoid(objectness) * class probability, the best candidates first (so that suppression stays cheap),
then class-wise non-maximum suppression by torchvision. How much overlaps and how many are kept, the network says.
Masks: the best class per pixel at the network's size, then the 8-bit labels are enlarged. Enlarging logits instead
would cost more than the network itself.

Shape letters: B images, A anchors, K detection classes, C segmentation classes, H W original image, N kept detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.boxes import class_wise_suppression
from perception.errors import ConfigError, NotFiniteError
from perception.image import FrameGeometry
from perception.interfaces import UNLABELLED, Detections, NetworkOutput, SceneResult, Suppression


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Which detections are reported.

    Attributes:
        score_threshold: Lowest score reported. 0.01 for average precision, higher for people who look.
        nms_threshold, max_detections, max_candidates, max_candidates_per_class, max_detections_per_class: In place of
            the network's own, which are those of its ``suppression``; None leaves these.

    Raises:
        ConfigError: If a value is out of range.
    """

    score_threshold: float = 0.3
    nms_threshold: float | None = None
    max_detections: int | None = None
    max_candidates: int | None = None
    max_candidates_per_class: int | None = None
    max_detections_per_class: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise ConfigError(f'score_threshold must lie in 0..1; got {self.score_threshold}.')
        self.suppression(Suppression())

    def suppression(self, own: Suppression) -> Suppression:
        """That of a network, with what is stated here in its place."""
        stated = {field.name: getattr(self, field.name) for field in fields(own)}
        return replace(own, **{name: value for name, value in stated.items() if value is not None})


def postprocess(
    output: NetworkOutput,
    frames: Sequence[FrameGeometry],
    config: PostprocessConfig,
    *,
    class_activation: Literal['sigmoid', 'softmax'] = 'sigmoid',
    suppression: Suppression = Suppression(),  # noqa: B008 - frozen
    with_confidence: bool = False,
) -> list[SceneResult]:
    """Turn the output for B images into B results.

    Args:
        frames: How each image was laid into the network input.
        class_activation, suppression: The network's fields of these names.
        with_confidence: Also the probability of the best class per pixel, as 8 bits.

    Raises:
        NotFiniteError: If the output is not finite: it would look like an image without objects.
    """
    # Before sigmoid and softmax, which make numbers of infinities.
    _check_finite('scores', output.objectness.float().sum() + output.class_logits.float().sum())
    _check_finite('boxes', output.boxes.float().sum())
    scores = _class_scores(output, class_activation)
    masks, confidences = _masks(output.mask_logits.float(), with_confidence)
    limits = config.suppression(suppression)
    return [
        SceneResult(
            detections=_detections(output.boxes[index], scores[index], geometry, config.score_threshold, limits),
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


def _detections(
    boxes: Tensor, scores: Tensor, geometry: FrameGeometry, score_threshold: float, limits: Suppression
) -> Detections:
    """Select from (A, 4) boxes with (A, K) scores; a box may be reported for several classes."""
    classes = scores.shape[1]
    order = _candidates(scores, score_threshold, limits)
    anchors, labels = order // classes, order % classes
    candidate_boxes, candidate_scores = boxes.float()[anchors], scores.flatten()[order]
    kept = class_wise_suppression(candidate_boxes, candidate_scores, labels, limits.nms_threshold)
    if limits.max_detections_per_class:
        of_class = F.one_hot(labels[kept], classes).cumsum(dim=0)  # (N, K), those of each class so far
        kept = kept[of_class.gather(1, labels[kept, None])[:, 0] <= limits.max_detections_per_class]
    kept = kept[: limits.max_detections]
    boxes_xyxy = geometry.boxes_to_original(candidate_boxes[kept].cpu().numpy())
    # A box that lies wholly in a letterbox border, or beside the image, has nothing left to show.
    visible = (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])
    return Detections(
        boxes_xyxy=boxes_xyxy[visible],
        scores=candidate_scores[kept].cpu().numpy()[visible],
        labels=labels[kept].cpu().numpy()[visible],
    )


def _candidates(scores: Tensor, score_threshold: float, limits: Suppression) -> Tensor:
    """Places of the (box, class) pairs that enter suppression, among the A * K of (A, K) scores, best first."""
    ranked, places = scores.flatten(), None
    per_class = limits.max_candidates_per_class
    if 0 < per_class < len(scores):
        best, rows = scores.t().contiguous().topk(per_class, dim=1)  # (K, per_class)
        ranked = best.flatten()
        places = (rows * scores.shape[1] + torch.arange(scores.shape[1], device=rows.device)[:, None]).flatten()
    most = min(limits.max_candidates or len(ranked), len(ranked))
    candidates, order = ranked.topk(most)
    order = order[candidates >= score_threshold]
    return order if places is None else places[order]


def _check_finite(name: str, total: Tensor) -> None:
    """Refuse NaN and infinities: a sum is finite if all are, and takes a fraction of the time of asking each."""
    if not total.isfinite():
        raise NotFiniteError(
            f'The network gave {name} that are not finite for this image. Its weights may be damaged, or too large for '
            'the precision: try fp32.',
        )
