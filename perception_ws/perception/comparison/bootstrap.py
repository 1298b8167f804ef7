"""Figures of drawn frames: how far a figure hangs on which frames were recorded.

Frames are drawn with replacement and every figure is taken anew from the frames drawn (Efron and Tibshirani, "An
Introduction to the Bootstrap", chapter 13). Frames of a drive resemble their neighbours, so blocks of neighbours are
drawn.

Shape letters: F frames, C segmentation classes, R rounds of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perception.metrics.report import FrameScore

ROUNDS = 1000
BLOCK_FRAMES = 10
"""A second of most cameras. Shorter blocks would be more, but not independent."""
MIN_BLOCKS = 10
"""With fewer, intervals are too narrow. Over frames that resemble their neighbours (correlation 0.5) intervals of 95 %
find a difference where there is none 23 times of 100 with 3 blocks, 18 with 5, 11 with 10 and, hardly better, 10 with
20."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """One figure of one model.

    Attributes:
        known: (F,) frames in which there is something to measure.
        of: From frames drawn (R, F) to the figure of each round (R,); not a number where there is nothing to measure.
    """

    known: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]

    @property
    def blocks(self) -> int:
        """How many blocks have something to measure."""
        return len(np.unique(np.flatnonzero(self.known) // BLOCK_FRAMES))


def draw_blocks(frames: int, rounds: int, seed: int) -> np.ndarray:
    """(R, F) indices of frames, drawn in blocks of neighbours that run round the end."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, frames, (rounds, -(-frames // BLOCK_FRAMES)))
    indices = (starts[:, :, None] + np.arange(BLOCK_FRAMES)) % frames
    return indices.reshape(rounds, -1)[:, :frames]


def mean_figure(values: np.ndarray) -> Figure:
    """The mean over the frames drawn that have a value (F,)."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0)

    def mean(drawn: np.ndarray) -> np.ndarray:
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.asarray(filled[drawn].sum(axis=1) / known[drawn].sum(axis=1))

    return Figure(known, mean)


def iou_figures(frames: Sequence[FrameScore], scored: np.ndarray, classes: int) -> list[Figure]:
    """IoU of each class over the pixels of all frames drawn that are scored (F,), as in the report."""
    none = (0,) * classes
    truth, predicted, correct = (
        np.array(
            [getattr(frame, f'{kind}_pixels') if has else none for frame, has in zip(frames, scored, strict=True)],
            np.float64,
        )  # (F, C)
        for kind in ('truth', 'predicted', 'correct')
    )

    def figure(index: int) -> Figure:
        def iou(drawn: np.ndarray) -> np.ndarray:
            true, found, right = (counts[drawn, index].sum(axis=1) for counts in (truth, predicted, correct))
            with np.errstate(invalid='ignore', divide='ignore'):
                return np.where(true > 0, right / (true + found - right), np.nan)

        return Figure(truth[:, index] > 0, iou)

    return [figure(index) for index in range(classes)]


def mean_of(figures: Sequence[Figure]) -> Figure:
    """The mean over the figures that are measured."""

    def mean(drawn: np.ndarray) -> np.ndarray:
        values = np.stack([figure.of(drawn) for figure in figures])  # (C, R)
        known = np.isfinite(values)
        with np.errstate(invalid='ignore'):
            return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))

    return Figure(np.any([figure.known for figure in figures], axis=0), mean)
