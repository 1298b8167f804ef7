"""Scoring: the same for data sets, bags and live runs. Arithmetic by torchmetrics and a COCO evaluator."""

from perception.metrics.evaluator import Evaluator, evaluate
from perception.metrics.report import (
    DetectionScores,
    FrameScore,
    PrecisionRecallCurve,
    Report,
    Score,
    SegmentationScores,
)

__all__ = [
    'DetectionScores',
    'Evaluator',
    'FrameScore',
    'PrecisionRecallCurve',
    'Report',
    'Score',
    'SegmentationScores',
    'evaluate',
]
