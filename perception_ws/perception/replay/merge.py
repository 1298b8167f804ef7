"""From the replays of single recordings to one: the same whether they ran here, one by one, or on many machines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from perception.errors import RecordingError
from perception.metrics.pictures import PictureKeeper
from perception.replay.provenance import difference
from perception.replay.report import ReplayReport
from perception.replay.run import RecordingReplay
from perception.replay.timing import Timing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replay:
    """What a replay gave.

    Attributes:
        report: The scores, equal for equal runs.
        timing: How long it took.
        pictures: The worst and the best frames.
    """

    report: ReplayReport
    timing: Timing
    pictures: PictureKeeper


def merge_replays(parts: Sequence[RecordingReplay], seconds: float, failures: Sequence[str] = ()) -> Replay:
    """Put the replays of recordings together, in their order. The first one takes the others in.

    Args:
        parts: At least one.
        seconds: Wall time of the whole run.
        failures: Why other recordings are missing.

    Raises:
        RecordingError: If they were not made alike, such as by another version of a library on another machine.
    """
    first, *others = parts
    streams = list(first.streams)
    names = list(first.stream_names)
    known = {first.sha256: first.name}
    for part in others:
        if part.sha256 in known:
            logger.warning('%s is %s, byte for byte; it counts twice.', part.name, known[part.sha256])
        known[part.sha256] = part.name
        if part.settings != first.settings:
            raise RecordingError(
                f'{part.name} was not replayed like {first.name}, so their scores cannot be added up. It differs in '
                f'{difference(first.settings, part.settings)}. Let all machines have the same.'
            )
        first.evaluator.merge(part.evaluator)
        first.pictures.merge(part.pictures)
        first.timing.merge(part.timing)
        streams += [len(names) + number for number in part.streams]
        names += part.stream_names
    first.timing.seconds = seconds
    provenance = {
        **first.settings,
        'recordings': [{'name': part.name, 'sha256': part.sha256} for part in parts],
        'streams': names,
        'truth': [truth for part in parts for truth in part.truth],
        'truth sha256': [digest for part in parts for digest in part.truth_sha256],
    }
    report = ReplayReport(
        scores=first.evaluator.report(provenance),
        agreement=tuple(frame for part in parts for frame in part.agreement),
        recorded_ns=tuple(stamp_ns for part in parts for stamp_ns in part.recorded_ns),
        streams=tuple(streams),
        stream_names=tuple(names),
        truth=tuple(truth for part in parts for truth in part.truth),
        with_truth=sum(part.with_truth for part in parts),
        unmatched_truth=sum(part.unmatched_truth for part in parts),
        truth_remarks=tuple(remark for part in parts for remark in part.truth_remarks),
        skipped=tuple(skip for part in parts for skip in part.skipped),
        ended_by='; '.join(dict.fromkeys([*(part.ended_by for part in parts if part.ended_by), *failures])),
    )
    return Replay(report, first.timing, first.pictures)
