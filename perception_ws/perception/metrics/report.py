"""Report: everything an evaluation found, as one frozen value that goes through JSON without loss.

``None`` means not measured (a class without truth, a task without annotation); it is never 0 and never NaN.

Shape letters: C segmentation classes, K detection classes, R recall levels (101, as COCO).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perception.errors import ConfigError

FORMAT = 'perception-report'
FORMAT_VERSION = 2
SCORE_LEVELS = 1000
"""Of the scores that a frame keeps of its detections."""

Score = float | None
"""0..1, or None where there was nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """How well the masks agree with the truth, over all pixels of all images together."""

    classes: tuple[str, ...]
    iou: tuple[Score, ...]
    """(C,) intersection over union; None for a class without truth."""
    mean_iou: Score
    """Over the classes that have truth."""
    pixel_accuracy: Score
    confusion: tuple[tuple[int, ...], ...]
    """(C, C) pixels; rows are the truth, columns the prediction."""
    images: int
    """Images with an annotated mask."""
    pixels: int
    """Labelled pixels in them."""


@dataclass(frozen=True, kw_only=True)
class PrecisionRecallCurve:
    """Precision of one class at IoU 0.5 over the recall levels; empty without truth."""

    precision: tuple[float, ...]
    """(R,) interpolated as COCO does: the best precision at this recall or a higher one; 0 where it is not reached."""
    scores: tuple[float, ...]
    """(R,) the score threshold that reaches the recall."""


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """Average precision as COCO defines it. ``ap`` is the mean over the IoU thresholds 0.5, 0.55, ... 0.95."""

    classes: tuple[str, ...]
    ap50: tuple[Score, ...]
    """(K,) at IoU 0.5."""
    ap: tuple[Score, ...]
    """(K,)"""
    mean_ap50: Score
    mean_ap: Score
    ap_by_size: dict[str, tuple[Score, ...]]
    """``small``, ``medium``, ``large`` (areas parted at 32 and 96 squared pixels) -> (K,) ap."""
    mean_ap_by_size: dict[str, Score]
    recall_levels: tuple[float, ...]
    """(R,)"""
    curves: tuple[PrecisionRecallCurve, ...]
    """(K,)"""
    boxes: tuple[int, ...]
    """(K,) objects in the truth."""
    ignore_regions: int
    detections: int
    images: int
    """Images with annotated boxes."""


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """The scores of one image by itself: for timelines, for the best and worst pictures, for resampling frames."""

    name: str
    mean_iou: Score = None
    pixel_accuracy: Score = None
    truth_pixels: tuple[int, ...] | None = None
    """(C,) labelled pixels of each class; None when the mask is not annotated."""
    predicted_pixels: tuple[int, ...] | None = None
    """(C,) predictions of each class on labelled pixels."""
    correct_pixels: tuple[int, ...] | None = None
    """(C,)"""
    ap50: Score = None
    """Mean over the classes that have objects in this image."""
    boxes: int | None = None
    """Objects in the truth; None when boxes are not annotated."""
    detections: int | None = None
    objects: tuple[int, ...] | None = None
    """(K,) objects in the truth by class."""
    right: tuple[tuple[int, ...], ...] | None = None
    """(K,) of each class the scores, in whole thousandths, of detections that found an object at an IoU of 0.5."""
    wrong: tuple[tuple[int, ...], ...] | None = None
    """(K,) the same of those that found none; those in an ignored region are neither."""

    @property
    def rank(self) -> Score:
        """What best and worst images are chosen by: the mean IoU, or AP50 where no mask is annotated."""
        return self.ap50 if self.mean_iou is None else self.mean_iou


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of an evaluation."""

    label_space: str
    segmentation: SegmentationScores
    detection: DetectionScores
    frames: tuple[FrameScore, ...]
    """In the order in which they were scored."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What was evaluated on what, as plain JSON values. Times do not belong here: equal runs give equal reports."""

    def to_json(self) -> str:
        """The report as one JSON document; equal reports give equal text."""
        document = {'format': FORMAT, 'format_version': FORMAT_VERSION, **asdict(self)}
        return json.dumps(document, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of ``to_json``.

        Raises:
            ConfigError: If the text is not a report, or one of another version.
        """
        try:
            document = json.loads(text)
            if document.pop('format') != FORMAT:
                raise KeyError('format')
            version = document.pop('format_version')
            if version != FORMAT_VERSION:
                raise ConfigError(f'Report has format version {version}; this version reads {FORMAT_VERSION}.')
            detection = _freeze(document['detection'])
            curves = tuple(PrecisionRecallCurve(**curve) for curve in detection.pop('curves'))
            return cls(
                label_space=document['label_space'],
                segmentation=SegmentationScores(**_freeze(document['segmentation'])),
                detection=DetectionScores(**detection, curves=curves),
                frames=tuple(FrameScore(**_freeze(frame)) for frame in document['frames']),
                provenance=document['provenance'],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'Not a report of this package ({error!r}); expected text of Report.to_json.') from error

    def save(self, path: Path | str) -> None:
        """Write the report as JSON."""
        Path(path).write_text(self.to_json() + '\n', encoding='utf-8')

    @classmethod
    def load(cls, path: Path | str) -> Report:
        """Read a report.

        Raises:
            ConfigError: If the file is missing or is not a report.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding='utf-8'))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(f'Cannot read the report {path}: {error}') from error


def _freeze(value: Any) -> Any:
    """JSON's lists back to tuples."""
    if isinstance(value, list):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    return value
