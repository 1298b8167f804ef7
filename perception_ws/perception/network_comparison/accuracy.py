"""How well each network sees recordings with truth: each is replayed, so that figures are those of ``replay``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from perception.errors import ConfigError, DatasetError, PerceptionError
from perception.interfaces import LabelSpace
from perception.labels import describe
from perception.network_comparison.candidates import Candidate, Failure
from perception.network_comparison.latency import Way
from perception.output_folder import STOPPED
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.replay.job import replay
from perception.replay.outputs import find_faults
from perception.replay.recordings import ReplayOptions, name_recordings, open_streams
from perception.replay.report import ReplayReport
from perception.replay.run import SCORE_THRESHOLD
from perception.replay.truth import NOWHERE


def check_data(candidates: Sequence[Candidate], paths: Sequence[Path], options: ReplayOptions) -> list[Failure]:
    """Open recordings and truth for each network, before anything is measured.

    Returns:
        Networks that the truth does not fit.

    Raises:
        PerceptionError: If recordings or truth cannot be opened, there is no truth, or networks share no class.
    """
    by_labels = {labels: _find_fault(labels, paths, options) for labels in {each.labels: None for each in candidates}}
    refusals = {each.name: fault for each in candidates if (fault := by_labels[each.labels]) is not None}
    reasons = {str(error) for error in refusals.values()}
    if len(refusals) == len(candidates) and len(reasons) == 1:
        raise next(iter(refusals.values()))
    # Where it fits others, or not one is told the same, the classes are what is wrong.
    failures = [
        Failure(
            checkpoint=each.name,
            stage='accuracy',
            reason=f'{refusals[each.name]} The network has label space {describe(each.labels)}.',
        )
        for each in candidates
        if each.name in refusals
    ]
    if len(refusals) == len(candidates):
        raise ConfigError(' '.join(map(str, failures)))
    _require_common_classes([each for each in candidates if each.name not in refusals])
    return failures


def _find_fault(labels: LabelSpace, paths: Sequence[Path], options: ReplayOptions) -> PerceptionError | None:
    """Why recordings cannot be scored with a label space; None: they can."""
    try:
        streams = [
            stream
            for recording in name_recordings(paths, options.output)
            for stream in open_streams(recording, labels, options)
        ]
    except (ConfigError, DatasetError) as error:
        return error
    if all(stream.truth.description == NOWHERE for stream in streams):
        return ConfigError(
            f'{", ".join(map(str, paths))} holds no truth to score networks on. Say by --truth where it lies, or leave '
            'out --data for cost and latency alone.'
        )
    return None


def _require_common_classes(candidates: Sequence[Candidate]) -> None:
    tasks = [
        [{label.name for label in getattr(each.labels, task)} for each in candidates]
        for task in ('segmentation', 'detection')
    ]
    if candidates and not any(set.intersection(*names) for names in tasks):
        told = ', '.join(f'{each.name} has label space {describe(each.labels)}' for each in candidates)
        raise ConfigError(
            f'{told}: no class is in all of them, so their accuracy cannot be compared. Compare networks of classes '
            'that agree by name, or leave out --data for cost and latency alone.'
        )


def replay_candidate(
    candidate: Candidate, paths: Sequence[Path], options: ReplayOptions, way: Way, device: str, *, progress: bool = True
) -> tuple[ReplayReport | None, str]:
    """Replay recordings with one network.

    Returns:
        What was found, if it can be used; and what is wrong, in a sentence: empty, if nothing is.

    Raises:
        KeyboardInterrupt: If somebody asked to stop.
    """
    build = partial(
        Perceiver,
        candidate.checkpoint,
        backend=way.backend,
        device=device,
        precision=way.precision,
        config=PostprocessConfig(score_threshold=SCORE_THRESHOLD),
    )
    try:
        report = replay(paths, candidate.checkpoint, build, options, progress=progress).report
    except (PerceptionError, RuntimeError) as error:  # a GPU without memory left is a RuntimeError
        return None, str(error)
    if report.ended_by == STOPPED:
        raise KeyboardInterrupt
    faults = find_faults(report, truth_wanted=True)
    if faults:
        return None, ' '.join(faults)
    if not (report.scores.segmentation.pixels or sum(report.scores.detection.boxes)):
        truth = '; '.join(dict.fromkeys((*report.truth, *report.truth_remarks)))
        return None, f'The truth ({truth}) has none of the classes of label space {describe(candidate.labels)}.'
    return report, f'figures are of a part: {report.ended_by}' if report.ended_by else ''
