"""The best and the worst images of an evaluation as pictures, prediction and truth, kept while it runs.

Only as many pictures as will be shown are held, as JPEG: memory does not grow with the number of images.

Shape letters: H W rows and columns, N boxes.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, replace

import cv2
import numpy as np

from perception.drawing import color_mask
from perception.interfaces import UNLABELLED, GroundTruth, LabelSpace, SceneResult
from perception.metrics.report import FrameScore, Score

_MASK_WEIGHT = 0.45
_IGNORED_RGB = (160, 160, 160)


@dataclass(frozen=True, kw_only=True)
class ScenePicture:
    """One image of the report: what was predicted and what is true, painted on the photo."""

    frame: FrameScore
    prediction_jpeg: bytes
    truth_jpeg: bytes
    agreement: Score = None
    """What it was chosen by where no truth is known; ``truth_jpeg`` is the photo then."""


_Kept = tuple[tuple[int, float, int], ScenePicture]
"""What it was chosen by (0 mean IoU, 1 AP50, 2 agreement), its rank, how many came before it; and the picture."""


class PictureKeeper:
    """Keeps the best and the worst images by ``FrameScore.rank``; among equals the earlier one.

    Mean IoU, AP50 and agreement are no one scale: only images of the first of these that there is are shown.

    Args:
        labels: Gives the colours.
        count: Pictures of each kind.
        score_threshold: Detections below it are not painted.
        max_width_px: Wider images are reduced.
    """

    def __init__(
        self, labels: LabelSpace, *, count: int = 6, score_threshold: float = 0.3, max_width_px: int = 512
    ) -> None:
        self.labels = labels
        self._count = count
        self._score_threshold = score_threshold
        self._max_width_px = max_width_px
        self._offered: Counter[int] = Counter()
        self._worst: list[_Kept] = []
        self._best: list[_Kept] = []

    def offer(
        self,
        frame: FrameScore,
        image_rgb: np.ndarray,
        result: SceneResult,
        truth: GroundTruth,
        agreement: Score = None,
    ) -> None:
        """Show one (H, W, 3) uint8 image with its result and truth; it is kept if it is among the extremes.

        Args:
            agreement: What to choose by where no truth is known.
        """
        rank = agreement if frame.rank is None else frame.rank
        if rank is None or not self._count:
            return
        measure = 2 if frame.rank is None else 1 if frame.mean_iou is None else 0
        self._offered[measure] += 1
        place = self._offered.total()
        picture = None
        for kept, order in ((self._worst, (measure, rank, place)), (self._best, (measure, -rank, place))):
            if len(kept) == self._count and kept[-1][0] < order:
                continue
            picture = picture or self._paint(frame, image_rgb, result, truth)
            if frame.rank is None:
                picture = replace(picture, agreement=agreement)
            insort(kept, (order, picture), key=lambda entry: entry[0])
            del kept[self._count :]

    def merge(self, other: PictureKeeper) -> None:
        """Take over the pictures of another keeper, whose images come behind those that were offered here."""
        before = self._offered.total()
        for kept, theirs in ((self._worst, other._worst), (self._best, other._best)):
            for (measure, rank, place), picture in theirs:
                insort(kept, ((measure, rank, before + place), picture), key=lambda entry: entry[0])
            del kept[self._count :]
        self._offered.update(other._offered)

    def worst(self) -> list[ScenePicture]:
        """The worst images, worst first."""
        return self._shown(self._worst, upper_half=True)

    def best(self) -> list[ScenePicture]:
        """The best images, best first; none that is among the worst."""
        return self._shown(self._best, upper_half=False)

    def _shown(self, kept: list[_Kept], *, upper_half: bool) -> list[ScenePicture]:
        measure = min(self._offered, default=0)
        half = (self._offered[measure] + upper_half) // 2
        return [picture for order, picture in kept if order[0] == measure][:half]

    def _paint(self, frame: FrameScore, image_rgb: np.ndarray, result: SceneResult, truth: GroundTruth) -> ScenePicture:
        scale = min(1.0, self._max_width_px / image_rgb.shape[1])
        found = result.detections
        shown = found.scores >= self._score_threshold
        prediction = _paint_scene(
            image_rgb, scale, self.labels, result.mask, found.boxes_xyxy[shown], found.labels[shown]
        )
        true_picture = _paint_scene(
            image_rgb, scale, self.labels, truth.mask, truth.boxes_xyxy, truth.labels, truth.ignore_boxes_xyxy
        )
        return ScenePicture(frame=frame, prediction_jpeg=_encode(prediction), truth_jpeg=_encode(true_picture))


def _paint_scene(
    image_rgb: np.ndarray,
    scale: float,
    labels: LabelSpace,
    mask: np.ndarray | None,
    boxes_xyxy: np.ndarray | None,
    box_labels: np.ndarray | None,
    ignored_xyxy: np.ndarray | None = None,
) -> np.ndarray:
    """Mask colours and boxes without words, so that small pictures stay readable; the page has the legend."""
    width, height = (max(1, round(side * scale)) for side in (image_rgb.shape[1], image_rgb.shape[0]))
    canvas = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
    if mask is not None:
        small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        mixed = cv2.addWeighted(canvas, 1 - _MASK_WEIGHT, color_mask(small, labels.segmentation), _MASK_WEIGHT, 0)
        canvas = np.where((small == UNLABELLED)[:, :, None], canvas, mixed)
    for box in () if ignored_xyxy is None else ignored_xyxy:
        _paint_box(canvas, box * scale, _IGNORED_RGB)
    if boxes_xyxy is not None and box_labels is not None:
        for box, label in zip(boxes_xyxy, box_labels.tolist(), strict=True):
            _paint_box(canvas, box * scale, labels.detection[label].color_rgb)
    return canvas


def _paint_box(canvas: np.ndarray, box_xyxy: np.ndarray, color_rgb: tuple[int, int, int]) -> None:
    left, top, right, bottom = (round(float(side)) for side in box_xyxy)
    # A dark rim keeps the box visible on a mask of the same colour.
    cv2.rectangle(canvas, (left, top), (right, bottom), (0, 0, 0), 4)
    cv2.rectangle(canvas, (left, top), (right, bottom), color_rgb, 2)


def _encode(picture_rgb: np.ndarray) -> bytes:
    _, content = cv2.imencode('.jpg', cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return content.tobytes()
