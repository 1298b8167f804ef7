"""What a comparison of networks found, as one frozen value and as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perception.network_comparison.candidates import Candidate, Failure
from perception.network_comparison.classes import Classes, Means, find_unfairness, shared_classes, take_means
from perception.network_comparison.latency import Latency, Way
from perception.replay.report import ReplayReport

FORMAT, FORMAT_VERSION = 'perception-network-comparison', 1
REPLAYS = 'replays'
"""In the output folder: a replay of each network."""
RANDOM, NO_DATA = 'random weights', 'no --data'
"""Why nothing is said of a network's accuracy, unless it failed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it was measured.

    Attributes:
        ways: Backends and precisions, the one that accuracy is measured with first.
        machine, threads, versions: What times hang on, whatever the network.
        rounds: Turns of each that count.
        picture: Where the picture that latency is measured on comes from.
        picture_hw: Its height and width.
        at: When, in ISO 8601.
    """

    ways: tuple[Way, ...]
    machine: str
    threads: int
    versions: Mapping[str, str]
    rounds: int
    picture: str
    picture_hw: tuple[int, int]
    at: str


@dataclass(frozen=True, kw_only=True)
class NetworkComparison:
    """Some networks beside each other.

    Attributes:
        candidates: Those that could be loaded, in the order in which they were given.
        latencies: Of each by its name, one for each way that it can be run in.
        reports: The replay of each by its name.
        classes: What means are taken over.
        failures: What could not be done.
        unserved: Ways that nobody asked for and no network can be run in here, and why.
        notes: What of the checkpoints a reader must know, in whole sentences.
        ended_by: Why it ended before all was measured; empty: it did not.
    """

    settings: Settings
    candidates: tuple[Candidate, ...]
    latencies: Mapping[str, list[Latency]] = field(default_factory=dict)
    reports: Mapping[str, ReplayReport] = field(default_factory=dict)
    classes: Classes = field(default_factory=Classes)
    failures: tuple[Failure, ...] = ()
    unserved: Mapping[Way, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ended_by: str = ''

    def with_report(self, candidate: Candidate, report: ReplayReport) -> NetworkComparison:
        """The same with one more network replayed."""
        reports = {**self.reports, candidate.name: report}
        return replace(self, reports=reports, classes=shared_classes([each.scores for each in reports.values()]))

    def remarks(self) -> list[str]:
        """What a reader must know besides what failed, in whole sentences."""
        return [*self.notes, *find_unfairness(self.reports, self.classes)]

    def means(self, candidate: Candidate) -> Means | None:
        """Of the classes that all have; None: its accuracy is not known."""
        report = self.reports.get(candidate.name)
        return None if report is None else take_means(report.scores, self.classes)

    def why_unscored(self, candidate: Candidate) -> str:
        """Why the accuracy of a network is not known, in a few words."""
        if not candidate.checkpoint.trained:
            return RANDOM
        failed = any(each.checkpoint == candidate.name and each.stage == 'accuracy' for each in self.failures)
        return 'failed' if failed else 'stopped before' if self.ended_by else NO_DATA

    def to_json(self) -> str:
        """One JSON document; docs/replay.md says what is in it."""
        document = {
            'format': FORMAT,
            'format_version': FORMAT_VERSION,
            'complete': not (self.failures or self.ended_by),
            'ended_by': self.ended_by,
            'settings': asdict(self.settings),
            'classes': asdict(self.classes),
            'networks': [self._describe(candidate) for candidate in self.candidates],
            'failures': [asdict(failure) for failure in self.failures],
            'unserved': [{**asdict(way), 'reason': reason} for way, reason in self.unserved.items()],
            'remarks': self.remarks(),
        }
        return json.dumps(document, indent=1, allow_nan=False)

    def _describe(self, candidate: Candidate) -> dict[str, Any]:
        checkpoint, cost, report = candidate.checkpoint, candidate.cost, self.reports.get(candidate.name)
        spec = checkpoint.network.input_spec
        return {
            'name': candidate.name,
            'path': None if checkpoint.path is None else str(checkpoint.path),
            'network': checkpoint.network.name,
            'digest': checkpoint.digest,
            'trained': checkpoint.trained,
            'label_space': candidate.labels.name,
            'input_hw': spec.image_hw,
            'resize': spec.resize,
            'parameters': cost.parameters,
            'macs': cost.macs,
            'parts': {name: asdict(part) for name, part in cost.parts.items()},
            'latency': [_describe_latency(latency) for latency in self.latencies.get(candidate.name, ())],
            'accuracy': None if report is None else self._describe_accuracy(candidate, report),
            'why_no_accuracy': self.why_unscored(candidate) if report is None else '',
        }

    def _describe_accuracy(self, candidate: Candidate, report: ReplayReport) -> dict[str, Any]:
        areas, objects, means = report.scores.segmentation, report.scores.detection, self.means(candidate)
        assert means is not None
        return {
            'mean_iou': means.iou,
            'mean_ap50': means.ap50,
            'mean_ap': means.ap,
            'own_classes': {'mean_iou': areas.mean_iou, 'mean_ap50': objects.mean_ap50, 'mean_ap': objects.mean_ap},
            'iou': dict(zip(areas.classes, areas.iou, strict=True)),
            'ap50': dict(zip(objects.classes, objects.ap50, strict=True)),
            'ap': dict(zip(objects.classes, objects.ap, strict=True)),
            'frames': len(report.agreement),
            'frames_with_truth': report.with_truth,
            'skipped': len(report.skipped),
            'truth': report.truth,
            'recordings': report.scores.provenance.get('recordings', []),
            'replay': f'{REPLAYS}/{candidate.name}',
        }


def _describe_latency(latency: Latency) -> dict[str, Any]:
    return {
        **asdict(latency.way),
        'device': latency.device,
        'whole_ms': asdict(latency.whole),
        'network_ms': asdict(latency.network),
        'ratio_to_first': latency.ratio,
        'rounds_ms': {
            'whole': [round(float(value), 4) for value in latency.whole_ms],
            'network': [round(float(value), 4) for value in latency.network_ms],
        },
    }
