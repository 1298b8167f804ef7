"""Mask scores: one confusion matrix over all pixels, and IoU from it, both by torchmetrics.

Shape letters: H W rows and columns, C segmentation classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception.errors import ConfigError, ShapeError
from perception.interfaces import UNLABELLED
from perception.metrics.libraries import MASK_LIBRARY, require
from perception.metrics.report import Score, SegmentationScores


@dataclass(frozen=True, kw_only=True)
class MaskScore:
    """The agreement of one mask, or of all: IoU per class and the confusion matrix."""

    iou: Tensor
    """(C,) float; meaningless where the class has no truth."""
    confusion: Tensor
    """(C, C) int64; rows are the truth."""

    @property
    def class_iou(self) -> tuple[Score, ...]:
        """(C,) with None for classes without truth."""
        present = (self.confusion.sum(dim=1) > 0).tolist()
        return tuple(
            iou if has_truth else None for iou, has_truth in zip(self.iou.reshape(-1).tolist(), present, strict=True)
        )

    @property
    def mean_iou(self) -> Score:
        measured = [iou for iou in self.class_iou if iou is not None]
        return sum(measured) / len(measured) if measured else None

    @property
    def pixel_accuracy(self) -> Score:
        pixels = int(self.confusion.sum())
        return int(self.confusion.trace()) / pixels if pixels else None


class SegmentationScorer:
    """Accumulates masks; its memory is one confusion matrix."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.images = 0

    @cached_property
    def _jaccard(self) -> Any:
        """Made for the first mask: without truth, no scoring library is needed."""
        return require(MASK_LIBRARY).MulticlassJaccardIndex(
            num_classes=len(self.classes),
            average=None,
            validate_args=False,  # checked below, several times faster
            sync_on_compute=False,  # ranks are joined by merge, in order
        )

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> MaskScore:
        """Score one (H, W) uint8 mask against its truth.

        Raises:
            ShapeError: If the sizes differ.
            ConfigError: If a mask holds a class that the label space lacks.
            MissingDependencyError: If torchmetrics is not installed.
        """
        if predicted.shape != truth.shape or truth.ndim != 2:
            raise ShapeError(
                f'Predicted mask {predicted.shape} and true mask {truth.shape} must be of one size (H, W); '
                'score results in the pixels of their own image.'
            )
        _check_classes(predicted, len(self.classes), 'Predicted', unlabelled=False)
        _check_classes(truth, len(self.classes), 'True', unlabelled=True)
        labelled = truth != UNLABELLED
        before = self._jaccard.confmat.clone()
        iou = self._jaccard(_pixels(predicted[labelled]), _pixels(truth[labelled]))
        self.images += 1
        return MaskScore(iou=iou, confusion=self._jaccard.confmat - before)

    def merge(self, other: SegmentationScorer) -> None:
        """Take over what another scorer has seen."""
        if other.images:
            self._jaccard.merge_state(other._jaccard)
            # merge_state does not count as an update, and torchmetrics warns of scores without one.
            nothing = torch.zeros(0, dtype=torch.int64)
            self._jaccard.update(nothing, nothing)
            self.images += other.images

    def scores(self) -> SegmentationScores:
        """The scores over everything added."""
        if self.images:
            total = MaskScore(iou=self._jaccard.compute(), confusion=self._jaccard.confmat)
        else:
            nothing = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)
            total = MaskScore(iou=torch.zeros(len(self.classes)), confusion=nothing)
        return SegmentationScores(
            classes=self.classes,
            iou=total.class_iou,
            mean_iou=total.mean_iou,
            pixel_accuracy=total.pixel_accuracy,
            confusion=tuple(tuple(row) for row in total.confusion.tolist()),
            images=self.images,
            pixels=int(total.confusion.sum()),
        )


def _pixels(classes: np.ndarray) -> Tensor:
    return torch.from_numpy(classes.astype(np.int64))


def _check_classes(mask: np.ndarray, classes: int, which: str, *, unlabelled: bool) -> None:
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = [int(value) for value in present if value >= classes and not (unlabelled and value == UNLABELLED)]
    if unknown:
        raise ConfigError(
            f'{which} mask holds class {unknown[0]}, but the label space has {classes} segmentation classes. '
            'Evaluate with the label space that both masks use.'
        )
