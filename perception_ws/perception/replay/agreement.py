"""How far the two heads of a network agree, which needs no truth: boxes without their mask, and masks without a box.

Shape letters: H W rows and columns, N detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from perception.interfaces import LabelSpace, SceneResult
from perception.labels import object_areas


@dataclass(frozen=True, kw_only=True)
class FrameAgreement:
    """The agreement in one image, and what was seen in it.

    Attributes:
        supported: Mean over the detections of the share of their box that has a class of such an object; None without
            detections. A car fills some four fifths of its box, a walking person half of it.
        covered: Share of the pixels of objects' classes that lie in a box of such an object; None without such pixels.
        boxes, object_pixels: Of how many boxes and pixels these are the shares.
        pixels: (C,) pixels of each segmentation class.
        detections: (K,) detections of each class.
    """

    supported: float | None
    covered: float | None
    boxes: int
    object_pixels: int
    pixels: tuple[int, ...]
    detections: tuple[int, ...]

    @property
    def mean(self) -> float | None:
        """Of both shares; None where neither is measured."""
        known = [value for value in (self.supported, self.covered) if value is not None]
        return sum(known) / len(known) if known else None


class AgreementMeter:
    """Measures frames of one label space. Objects of which nobody said what areas they are made of are left out.

    Args:
        score_threshold: Detections below it do not count.
    """

    def __init__(self, labels: LabelSpace, score_threshold: float) -> None:
        self.labels, self.score_threshold = labels, score_threshold
        self._is_area = object_areas(labels)  # (K, mask value)

    def measure(self, result: SceneResult) -> FrameAgreement:
        """Measure one image."""
        found = result.detections
        reported = found.scores >= self.score_threshold
        boxes, labels = found.boxes_xyxy[reported], found.labels[reported]
        mask = result.mask
        height, width = mask.shape
        shares = []
        boxed = np.zeros((len(self.labels.detection), height, width), np.uint8)
        for (left, top, right, bottom), label in zip(np.rint(boxes).astype(int).tolist(), labels.tolist(), strict=True):
            inside = mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if inside.size and self._is_area[label].any():
                shares.append(float(self._is_area[label][inside].mean()))
                cv2.rectangle(boxed[label], (left, top), (right - 1, bottom - 1), 1, cv2.FILLED)
        things = np.asarray(self._is_area.any(axis=0))[mask]  # (H, W)
        # A rider's pixels are covered by the box of a person or of a cycle.
        covered = np.zeros((height, width), bool)
        for label in np.unique(labels).tolist():
            covered |= self._is_area[label][mask] & (boxed[label] > 0)
        pixels = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()[: len(self.labels.segmentation)]
        return FrameAgreement(
            supported=sum(shares) / len(shares) if shares else None,
            covered=float(covered.sum() / things.sum()) if things.any() else None,
            boxes=len(shares),
            object_pixels=int(things.sum()),
            pixels=tuple(int(count) for count in pixels),
            detections=tuple(np.bincount(labels, minlength=len(self.labels.detection)).tolist()),
        )
