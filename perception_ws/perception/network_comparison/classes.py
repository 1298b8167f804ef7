"""Means that can be held against each other: over the classes that all networks have by name, and the truth has.

Networks may have other label spaces. A mean over eleven classes says nothing of one over nineteen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perception.metrics.report import Report, Score
from perception.replay.report import ReplayReport


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Names of classes of both tasks, in the order of the first network."""

    segmentation: tuple[str, ...] = ()
    detection: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means over classes; None: there is nothing to measure."""

    iou: Score
    ap50: Score
    ap: Score


def shared_classes(reports: Sequence[Report]) -> Classes:
    """The classes that are measured in all reports."""
    measured = [_measured(report) for report in reports]

    def shared(task: str) -> tuple[str, ...]:
        first, *others = (getattr(classes, task) for classes in measured)
        return tuple(name for name in first if all(name in other for other in others))

    return Classes(segmentation=shared('segmentation'), detection=shared('detection'))


def take_means(report: Report, classes: Classes) -> Means:
    """Means over some classes; over all that are measured they are the report's own, to the last digit."""
    areas, objects, own = report.segmentation, report.detection, _measured(report)

    def mean(names: Sequence[str], chosen: Sequence[str], scores: Sequence[Score]) -> Score:
        found = [score for name, score in zip(names, scores, strict=True) if name in chosen and score is not None]
        return sum(found) / len(found) if found else None

    all_areas, all_objects = classes.segmentation == own.segmentation, classes.detection == own.detection
    return Means(
        iou=areas.mean_iou if all_areas else mean(areas.classes, classes.segmentation, areas.iou),
        ap50=objects.mean_ap50 if all_objects else mean(objects.classes, classes.detection, objects.ap50),
        ap=objects.mean_ap if all_objects else mean(objects.classes, classes.detection, objects.ap),
    )


def find_unfairness(reports: Mapping[str, ReplayReport], classes: Classes) -> list[str]:
    """What to say where networks, by name, were not all scored on the same classes, pixels and objects."""
    notes = []
    if len({_measured(report.scores) for report in reports.values()}) > 1:
        areas, objects = (', '.join(names) or 'none' for names in (classes.segmentation, classes.detection))
        notes.append(
            'The networks know other classes. Means are over those that all of them, and the truth, have by name: '
            f'areas {areas}; objects {objects}.'
        )
    if len({_scored_on(report) for report in reports.values()}) > 1:
        each = '; '.join(
            f'{name} {pixels:,} pixels, {boxes:,} objects, {len(report.skipped):,} frames or truths skipped'
            for name, report in reports.items()
            for pixels, boxes in [_scored_on(report)]
        )
        notes.append(
            f'THE NETWORKS ARE NOT SCORED ON THE SAME: {each}. What is no class of a network is not scored for it, nor '
            'are frames that it skipped.'
        )
    return notes


def _scored_on(report: ReplayReport) -> tuple[int, int]:
    """Pixels and objects."""
    return report.scores.segmentation.pixels, sum(report.scores.detection.boxes)


def _measured(report: Report) -> Classes:
    areas, objects = report.segmentation, report.detection
    return Classes(
        segmentation=tuple(name for name, score in zip(areas.classes, areas.iou, strict=True) if score is not None),
        detection=tuple(name for name, score in zip(objects.classes, objects.ap50, strict=True) if score is not None),
    )
