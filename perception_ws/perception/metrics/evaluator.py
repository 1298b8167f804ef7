"""Evaluator: results and truth in, a Report out. The same for a data set, a bag and a live run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perception.interfaces import GroundTruth, LabelSpace, SceneResult
from perception.labels import check_same_classes
from perception.metrics.detection import BoxTable, DetectionScorer
from perception.metrics.report import FrameScore, Report
from perception.metrics.segmentation import SegmentationScorer


class Evaluator:
    """Scores images one by one. A task that an image is not annotated for is not scored on it.

    Detections should come with a low score threshold (0.01): average precision looks at all of them.

    Args:
        labels: The label space of results and truth.
    """

    def __init__(self, labels: LabelSpace) -> None:
        self.labels = labels
        self._segmentation = SegmentationScorer(tuple(label.name for label in labels.segmentation))
        self._detection = DetectionScorer(tuple(label.name for label in labels.detection))
        self._frames: list[FrameScore] = []

    def __len__(self) -> int:
        """Images added so far."""
        return len(self._frames)

    @property
    def boxes(self) -> BoxTable:
        """Those of all images added so far, for other scores than the report's."""
        return self._detection.table

    def add(self, result: SceneResult, truth: GroundTruth, name: str = '') -> FrameScore:
        """Score one image; returns its scores by itself. An image that is refused leaves no trace.

        Args:
            name: The image's name in the report; its number when empty.

        Raises:
            ShapeError: If result and truth differ in size.
            ConfigError: If a class is not in the label space.
            MissingDependencyError: If there is a truth, and the scoring libraries are not installed.
        """
        score: dict[str, Any] = {'name': name or f'{len(self._frames):06d}'}
        boxes = None if truth.boxes_xyxy is None else self._detection.prepare(result.detections, truth)
        if truth.mask is not None:
            mask = self._segmentation.add(result.mask, truth.mask)
            score |= {
                'mean_iou': mask.mean_iou,
                'pixel_accuracy': mask.pixel_accuracy,
                'truth_pixels': tuple(mask.confusion.sum(dim=1).tolist()),
                'predicted_pixels': tuple(mask.confusion.sum(dim=0).tolist()),
                'correct_pixels': tuple(mask.confusion.diagonal().tolist()),
            }
        if boxes is not None:
            score |= vars(self._detection.add(boxes))
            score |= {'boxes': len(boxes.true), 'detections': len(boxes.found)}
        frame = FrameScore(**score)
        self._frames.append(frame)
        return frame

    def merge(self, other: Evaluator) -> None:
        """Take over the images of another evaluator, behind those that are here.

        Parts of one run merged in order give the report of the whole run exactly.

        Raises:
            ConfigError: If the label spaces differ.
        """
        check_same_classes(other.labels, 'An evaluator to be merged', self.labels, 'the one that it is merged into')
        self._segmentation.merge(other._segmentation)
        self._detection.merge(other._detection)
        self._frames.extend(other._frames)

    def report(self, provenance: dict[str, Any] | None = None) -> Report:
        """The scores of everything added so far; more may be added afterwards.

        Args:
            provenance: What was evaluated on what, as plain JSON values.
        """
        return Report(
            label_space=self.labels.name,
            segmentation=self._segmentation.scores(),
            detection=self._detection.scores(),
            frames=tuple(self._frames),
            provenance=dict(provenance or {}),
        )


def evaluate(pairs: Iterable[tuple[SceneResult, GroundTruth]], labels: LabelSpace) -> Report:
    """Score pairs of result and truth.

    Raises:
        ShapeError: If a result and its truth differ in size.
        ConfigError: If a class is not in the label space.
        MissingDependencyError: If the scoring libraries are not installed.
    """
    evaluator = Evaluator(labels)
    for result, truth in pairs:
        evaluator.add(result, truth)
    return evaluator.report()
