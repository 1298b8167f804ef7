"""Drawn truth and predictions for the tests of scoring."""

from __future__ import annotations

import numpy as np

from perception.interfaces import Detections, GroundTruth, SceneResult
from perception.labels import CITYSCAPES_11_3

LABELS = CITYSCAPES_11_3
CLASSES, KINDS = len(LABELS.segmentation), len(LABELS.detection)


def draw_boxes(random: np.random.Generator, count: int, largest: float = 150) -> np.ndarray:
    """(count, 4) boxes with sides from 4 to ``largest`` pixels."""
    corners = random.uniform(0, 300, (count, 2))
    return np.concatenate((corners, corners + random.uniform(4, largest, (count, 2))), axis=1).astype(np.float32)


def draw_detections(random: np.random.Generator, truth: GroundTruth, clutter: int = 8) -> Detections:
    """Shifted truth and clutter."""
    assert truth.boxes_xyxy is not None
    assert truth.labels is not None
    shifted = truth.boxes_xyxy + random.normal(0, 4, truth.boxes_xyxy.shape)
    return Detections(
        boxes_xyxy=np.concatenate((shifted, draw_boxes(random, clutter))).astype(np.float32),
        scores=random.uniform(0.01, 1, len(shifted) + clutter).astype(np.float32),
        labels=np.concatenate((truth.labels, random.integers(0, KINDS, clutter))),
    )


def draw_truth(random: np.random.Generator, hw: tuple[int, int] = (24, 32), boxes: int = 6) -> GroundTruth:
    """A truth with every kind of annotation, unlabelled pixels and an ignored region."""
    mask = random.integers(0, CLASSES, hw).astype(np.uint8)
    mask[:2] = 255
    return GroundTruth(
        boxes_xyxy=draw_boxes(random, boxes),
        labels=random.integers(0, KINDS, boxes),
        ignore_boxes_xyxy=draw_boxes(random, 1),
        mask=mask,
    )


def draw_pair(random: np.random.Generator) -> tuple[SceneResult, GroundTruth]:
    """A truth, and a result that is right in part."""
    truth = draw_truth(random)
    assert truth.mask is not None
    guess = random.integers(0, CLASSES, truth.mask.shape).astype(np.uint8)
    right = (random.random(truth.mask.shape) < 0.6) & (truth.mask != 255)
    return SceneResult(detections=draw_detections(random, truth), mask=np.where(right, truth.mask, guess)), truth


def perfect(truth: GroundTruth) -> SceneResult:
    """The result that says exactly the truth; unlabelled pixels are called class 0."""
    assert truth.mask is not None
    assert truth.boxes_xyxy is not None
    assert truth.labels is not None
    found = Detections(
        boxes_xyxy=truth.boxes_xyxy, scores=np.full(len(truth.labels), 0.9, np.float32), labels=truth.labels
    )
    return SceneResult(detections=found, mask=np.where(truth.mask == 255, 0, truth.mask).astype(np.uint8))


def no_detections() -> Detections:
    """Nothing found."""
    return Detections(boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, int))
