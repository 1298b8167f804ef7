"""Intervals of the difference between two figures: how far it hangs on which frames were recorded.

Frames of a drive resemble their neighbours, and cameras see the same scene: so a figure is taken apart into blocks of a
second with all cameras in it, and how the difference changes with each block left out (the jackknife: Efron and
Tibshirani, "An Introduction to the Bootstrap", chapter 11) is a series in time. Its long-run variance weighs lags by
Bartlett's kernel (Newey and West, 1987) over a fixed share of the series, with the critical values that this share asks
for (Kiefer and Vogelsang, "A new asymptotic theory for heteroskedasticity-autocorrelation robust tests", 2005): so no
length of the resemblance is assumed.

Shape letters: F frames, B blocks, P what adds up for a figure, C classes, S levels of a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perception.metrics.detection import RECALL_LEVELS
from perception.metrics.report import SCORE_LEVELS, FrameScore

BLOCK_NS = 1_000_000_000
MIN_BLOCKS = 20
"""With fewer, intervals are too narrow. At 10 frames a second, of which neighbours correlate by 0.9, intervals of 95 %
find a difference where there is none 13 times of 100 with 10 blocks, 9 with 20, 7 with 30, and 6 with 120."""
CONFIDENCE = 0.95
_LAGS = 0.3
"""The share of the series over which lags count."""


@dataclass(frozen=True)
class Figure:
    """One figure of one model.

    Attributes:
        sums: (B, P) what adds up, block by block.
        known: (B,) blocks in which there is something to measure.
        of: From sums (..., P) to the figure (...); not a number where there is nothing to measure.
    """

    sums: np.ndarray
    known: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """Over everything."""
        return float(self.of(self.sums.sum(axis=0)))


def number_blocks(recordings: Sequence[object], stamps_ns: Sequence[int]) -> np.ndarray:
    """(F,) the block of each frame, from 0: those of one second of one recording, in the order of time.

    Args:
        recordings: Of each frame, what tells its recording from others.
        stamps_ns: Of each frame.
    """
    order = {recording: place for place, recording in enumerate(dict.fromkeys(recordings))}
    keys = [(order[recording], stamp // BLOCK_NS) for recording, stamp in zip(recordings, stamps_ns, strict=True)]
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([places[key] for key in keys], np.int64)


def difference_interval(first: Figure, second: Figure) -> tuple[float, float] | None:
    """The interval of the second less the first; None with fewer than MIN_BLOCKS that have something to measure."""
    known = first.known | second.known
    blocks = int(known.sum())
    if blocks < MIN_BLOCKS:
        return None
    difference = second.value - first.value
    without = _left_out(second, known) - _left_out(first, known)  # (B,)
    series = (blocks - 1) * (difference - without)
    series -= series.mean()
    lags = math.ceil(_LAGS * blocks)
    variance = series @ series
    for lag in range(1, lags):
        variance += 2 * (1 - lag / lags) * (series[lag:] @ series[:-lag])
    reach = _critical_value(lags / blocks) * math.sqrt(max(variance, 0.0)) / blocks
    return difference - reach, difference + reach


def _left_out(figure: Figure, known: np.ndarray) -> np.ndarray:
    """The figure without each of the blocks."""
    return figure.of(figure.sums.sum(axis=0) - figure.sums[known])


def _critical_value(share: float) -> float:
    """Of a two-sided interval of 95 % with lags over a share of the series (Kiefer and Vogelsang, table 1)."""
    return 1.96 + 2.9694 * share + 0.4160 * share**2 - 0.5324 * share**3


def mean_figure(values: np.ndarray, blocks: np.ndarray, weights: np.ndarray | None = None) -> Figure:
    """The mean over the frames that have a value (F,), each with its weight (F,)."""
    weight = np.where(np.isfinite(values), 1 if weights is None else weights, 0.0)
    sums = _sum_blocks(np.stack((np.where(weight > 0, values, 0) * weight, weight), axis=1), blocks)
    return Figure(sums, sums[:, 1] > 0, _ratio)


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.asarray(sums[..., 0] / sums[..., 1])


def iou_figures(frames: Sequence[FrameScore], scored: np.ndarray, blocks: np.ndarray, classes: int) -> list[Figure]:
    """IoU of each class over the pixels of all frames that are scored (F,), as in the report."""
    none = (0,) * classes
    counts = np.array(
        [
            [getattr(frame, f'{kind}_pixels') if has else none for kind in ('correct', 'truth', 'predicted')]
            for frame, has in zip(frames, scored, strict=True)
        ],
        np.float64,
    )  # (F, 3, C)
    sums = _sum_blocks(counts, blocks)
    return [Figure(sums[:, :, index], sums[:, 1, index] > 0, _iou) for index in range(classes)]


def _iou(sums: np.ndarray) -> np.ndarray:
    correct, true, predicted = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(true > 0, correct / (true + predicted - correct), np.nan)


def precision_figures(
    frames: Sequence[FrameScore], scored: np.ndarray, blocks: np.ndarray, classes: int
) -> list[Figure]:
    """AP50 of each class over all frames that are scored (F,), from scores in thousandths."""
    sums = np.zeros((classes, int(blocks.max()) + 1, 1 + 2 * SCORE_LEVELS))
    for frame, has, block in zip(frames, scored, blocks.tolist(), strict=True):
        if not has:
            continue
        for kind in range(classes):
            sums[kind, block, 0] += (frame.objects or ())[kind]
            for first, levels in ((1, frame.right), (1 + SCORE_LEVELS, frame.wrong)):
                np.add.at(sums[kind, block], np.array((levels or ())[kind], np.int64) + first, 1)
    return [Figure(each, np.asarray(each.any(axis=1)), _average_precision) for each in sums]


def _average_precision(sums: np.ndarray) -> np.ndarray:
    """From objects, right and wrong detections by score (..., 1 + 2S), as COCO: the mean over levels of recall."""
    flat = sums.reshape(-1, sums.shape[-1])
    objects = flat[:, :1]
    # From the highest score down.
    right = flat[:, SCORE_LEVELS:0:-1].cumsum(axis=1)
    wrong = flat[:, : -SCORE_LEVELS - 1 : -1].cumsum(axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        recall = right / objects
        precision = np.nan_to_num(right / (right + wrong))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate((best, np.zeros_like(objects)), axis=1)  # recall that is never reached
    average = [line[np.searchsorted(reached, RECALL_LEVELS)].mean() for line, reached in zip(best, recall, strict=True)]
    return np.where(objects[:, 0] > 0, average, np.nan).reshape(sums.shape[:-1])


def mean_of(figures: Sequence[Figure]) -> Figure:
    """The mean over the figures that are measured."""
    widths = np.cumsum([figure.sums.shape[1] for figure in figures])[:-1]

    def mean(sums: np.ndarray) -> np.ndarray:
        parts = np.split(sums, widths, axis=-1)
        values = np.stack([figure.of(part) for figure, part in zip(figures, parts, strict=True)])
        known = np.isfinite(values)
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))

    sums = np.concatenate([figure.sums for figure in figures], axis=1)
    return Figure(sums, np.asarray(np.stack([figure.known for figure in figures]).any(axis=0)), mean)


def _sum_blocks(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """(F, ...) -> (B, ...)"""
    sums = np.zeros((int(blocks.max()) + 1, *values.shape[1:]))
    np.add.at(sums, blocks, values)
    return sums
