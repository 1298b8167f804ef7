"""ReplayReport: what the replay of a recording found, as one frozen value that goes through JSON without loss.

Two runs over the same recording write the same bytes: times lie in timing.json.

Shape letters: C segmentation classes, K detection classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perception.errors import ConfigError
from perception.metrics import Report
from perception.replay.agreement import FrameAgreement

FORMAT, FORMAT_VERSION = 'perception-replay', 2
REPORT_FILE, TIMING_FILE, PAGE_FILE = 'report.json', 'timing.json', 'report.html'
BAD_TRUTH = 'bad_truth'
"""The reason of a skip that concerns a frame's truth; the frame itself is used."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A frame, or its truth, that could not be used.

    Attributes:
        stream: The recording and topic.
        stamp_ns: Of the frame.
        reason: A short fixed word.
        message: What came and what was expected.
    """

    stream: str
    stamp_ns: int
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """The result of a replay.

    Attributes:
        scores: Against the truth; its frames are in the order of ``agreement``.
        agreement: Of the two heads, frame by frame.
        recorded_ns: The stamp of each frame.
        streams: Of each frame, the index in ``stream_names``.
        stream_names: Recording and topic.
        truth: Where the truth of each stream comes from.
        with_truth: Frames that some truth was found for.
        unmatched_truth: Annotations that belong to no frame.
        truth_remarks: What of the truth was not used, for people.
        skipped: Damaged frames, and truth that does not fit.
        ended_by: Why the run ended before the recording did; empty: it did not.
    """

    scores: Report
    agreement: tuple[FrameAgreement, ...]
    recorded_ns: tuple[int, ...]
    streams: tuple[int, ...]
    stream_names: tuple[str, ...]
    truth: tuple[str, ...]
    with_truth: int
    unmatched_truth: int = 0
    truth_remarks: tuple[str, ...] = ()
    skipped: tuple[Skip, ...] = ()
    ended_by: str = ''

    @property
    def complete(self) -> bool:
        return not self.ended_by

    def mean_agreement(self) -> tuple[float | None, float | None]:
        """How far boxes are supported by the mask, and the share of objects' pixels in a box, each over all of them."""
        frames = self.agreement
        supported = _mean([frame.supported for frame in frames], [frame.boxes for frame in frames])
        return supported, _mean([frame.covered for frame in frames], [frame.object_pixels for frame in frames])

    def class_shares(self) -> tuple[float, ...]:
        """(C,) share of all pixels that each segmentation class was given."""
        sums = [sum(frame.pixels[index] for frame in self.agreement) for index in range(len(self._areas))]
        return tuple(count / max(sum(sums), 1) for count in sums)

    def detection_counts(self) -> tuple[int, ...]:
        """(K,) reported detections of each class."""
        return tuple(sum(frame.detections[index] for frame in self.agreement) for index in range(len(self._objects)))

    @property
    def _areas(self) -> Sequence[str]:
        return self.scores.segmentation.classes

    @property
    def _objects(self) -> Sequence[str]:
        return self.scores.detection.classes

    def to_json(self) -> str:
        """One JSON document; equal reports give equal text."""
        supported, covered = self.mean_agreement()
        document: dict[str, Any] = {
            'format': FORMAT,
            'format_version': FORMAT_VERSION,
            'complete': self.complete,
            'ended_by': self.ended_by,
            'frames': len(self.agreement),
            'frames_with_truth': self.with_truth,
            'unmatched_truth': self.unmatched_truth,
            'truth_remarks': self.truth_remarks,
            'stream_names': self.stream_names,
            'truth': self.truth,
            'skipped': [asdict(skip) for skip in self.skipped],
            'summary': {
                'agreement': {'boxes_supported_by_mask': supported, 'object_pixels_in_a_box': covered},
                'pixel_share': dict(zip(self._areas, self.class_shares(), strict=True)),
                'detections': dict(zip(self._objects, self.detection_counts(), strict=True)),
            },
            'agreement': [asdict(frame) for frame in self.agreement],
            'recorded_ns': self.recorded_ns,
            'streams': self.streams,
            'scores': json.loads(self.scores.to_json()),
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def load(cls, folder: Path | str) -> ReplayReport:
        """Read the report of a replay from its output folder, or from the file itself.

        Raises:
            ConfigError: If there is none.
        """
        path = Path(folder) / REPORT_FILE if Path(folder).is_dir() else Path(folder)
        try:
            document = json.loads(path.read_text(encoding='utf-8'))
            if (document['format'], document['format_version']) != (FORMAT, FORMAT_VERSION):
                raise ConfigError(f'it is {document["format"]!r}, version {document["format_version"]}')
            return cls(
                scores=Report.from_json(json.dumps(document['scores'])),
                agreement=tuple(
                    FrameAgreement(
                        **{**frame, 'pixels': tuple(frame['pixels']), 'detections': tuple(frame['detections'])}
                    )
                    for frame in document['agreement']
                ),
                recorded_ns=tuple(document['recorded_ns']),
                streams=tuple(document['streams']),
                stream_names=tuple(document['stream_names']),
                truth=tuple(document['truth']),
                with_truth=document['frames_with_truth'],
                unmatched_truth=document.get('unmatched_truth', 0),  # not in reports of old
                truth_remarks=tuple(document.get('truth_remarks', ())),
                skipped=tuple(Skip(**skip) for skip in document['skipped']),
                ended_by=document['ended_by'],
            )
        except FileNotFoundError as error:
            what = 'does not exist' if path == Path(folder) else f'holds no {REPORT_FILE}'
            raise ConfigError(f'{folder} {what}; give the output folder of a replay.') from error
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise ConfigError(
                f'{path} is no report of `perception replay` that this version reads ({error}); '
                'give the output folder of a replay.'
            ) from error


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    measured = [value * weight for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(measured) / sum(weights) if measured else None
