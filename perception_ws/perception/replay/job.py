"""The whole of ``perception replay``: find the recordings, replay each here or on a fleet, put the report together."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from perception.backends import device_of
from perception.bag.source import require_exists
from perception.checkpoint import Checkpoint
from perception.errors import DatasetError, RecordingError
from perception.interfaces import LabelSpace
from perception.output_folder import STOPPED, StopRequest, claim_folder, keep_apart, refuse_report
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.replay.fleet import Fleet
from perception.replay.merge import Replay, merge_replays
from perception.replay.outputs import write_outputs
from perception.replay.predictions import FILM_FILE, PREDICTIONS_FILE
from perception.replay.provenance import difference, hash_recording
from perception.replay.recordings import (
    Recording,
    ReplayOptions,
    Stream,
    name_recordings,
    open_streams,
    refuse_shared_truth,
)
from perception.replay.report import PAGE_FILE, REPORT_FILE, TIMING_FILE, ReplayReport
from perception.replay.run import RESULTS_FILE, RecordingReplay, describe_settings, discard_results, replay_recording
from perception.replay.truth import is_folder

logger = logging.getLogger(__name__)


def replay(
    paths: Sequence[Path],
    checkpoint: Checkpoint,
    build_perceiver: Callable[[], Perceiver],
    options: ReplayOptions,
    *,
    fleet: Fleet | None = None,
    progress: bool = True,
) -> Replay:
    """Look at every frame of some recordings, score what was seen, and write predictions and report.

    Whatever ends it early, an interrupt or a damaged recording: the report says so and has all until then. Of several
    recordings, one that cannot be read costs no other. What was seen stays on disk until a complete report is written,
    for another run to take over.

    Args:
        build_perceiver: Makes the perceiver where it runs, with score threshold SCORE_THRESHOLD.
        fleet: Machines to use; None: this process.

    Raises:
        PerceptionError: If nothing could be started: a missing recording, topic or truth, an output that is taken.
    """
    recordings = name_recordings(paths, options.output)
    for recording in recordings:
        require_exists(recording.path)
    sources = [*paths, *([Path(options.truth)] if is_folder(options.truth) else [])]
    for folder in (options.output, *(recording.folder for recording in recordings)):
        for source in sources:
            keep_apart(folder, source, PREDICTIONS_FILE, FILM_FILE)
    perceiver = None if fleet else build_perceiver()
    recordings, total, failures = _count_frames(recordings, checkpoint.network.labels, options)
    with claim_folder(options.output):
        _check_output(recordings, options)
        started = perf_counter()
        with (
            tqdm(total=total, unit='frame', desc=checkpoint.title, disable=not progress) as bar,
            StopRequest() as stop,
        ):
            if fleet is None:
                assert perceiver is not None
                parts = _replay_here(recordings, perceiver, options, bar, stop)
            else:
                parts, failed = fleet.replay(recordings, build_perceiver, options, bar, stop)
                failures += failed
        merged = merge_replays(parts, perf_counter() - started, failures)
        write_outputs(merged, checkpoint, options.output)
        if merged.report.complete:
            for recording in recordings:
                discard_results(recording)
    return merged


def find_finished(
    paths: Sequence[Path],
    checkpoint: Checkpoint,
    options: ReplayOptions,
    *,
    backend: str,
    device: str | None,
    precision: str,
    config: PostprocessConfig,
) -> ReplayReport | None:
    """The report in the output folder, if it is a complete one of this very replay; None if there is something to do.

    Args:
        backend, precision, config: Of the perceiver that the replay would have.
        device: The same, as it is asked for; None: that of a fleet's workers, which nobody here knows.

    Raises:
        PerceptionError: If it is of another replay, which is not to be overwritten, or a recording is missing.
    """
    output, recordings = options.output, name_recordings(paths, options.output)
    left = [output / name for name in (REPORT_FILE, TIMING_FILE, PAGE_FILE)]
    left += [recording.folder / PREDICTIONS_FILE for recording in recordings]
    left += [recording.folder / FILM_FILE for recording in recordings if options.video]
    if _is_unfinished(recordings) or not all(path.exists() for path in left):
        return None
    report = ReplayReport.load(output)
    if not report.complete:
        return None
    found = report.scores.provenance
    device = found['device'] if device is None else device_of(backend, device)
    streams = [
        stream for recording in recordings for stream in open_streams(recording, checkpoint.network.labels, options)
    ]
    wanted = {
        **describe_settings(checkpoint, options, backend=backend, device=device, precision=precision, config=config),
        'recordings': [{'name': recording.name, 'sha256': hash_recording(recording.path)} for recording in recordings],
        'streams': [stream.name for stream in streams],
        'truth': [stream.truth.description for stream in streams],
        'truth sha256': [stream.truth.sha256 for stream in streams],
    }
    unlike = difference(*({**run, 'recordings': _hashes(run)} for run in (found, json.loads(json.dumps(wanted)))))
    if unlike and not options.overwrite:
        raise RecordingError(
            f'{output} holds the report of another replay, which differs in {unlike}. Name another --output, or give '
            '--overwrite.'
        )
    return None if unlike else report


def _hashes(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Of each recording by its name."""
    return {recording['name']: recording['sha256'] for recording in provenance['recordings']}


def _is_unfinished(recordings: Sequence[Recording]) -> bool:
    return any((recording.folder / RESULTS_FILE).exists() for recording in recordings)


def _count_frames(
    recordings: Sequence[Recording], labels: LabelSpace, options: ReplayOptions
) -> tuple[list[Recording], int | None, list[str]]:
    """The recordings that can be opened, their frames if all of them say how many, and why others cannot be opened."""
    readable: list[Recording] = []
    streams: list[Stream] = []
    failures: list[str] = []
    for recording in recordings:
        try:
            found = list(open_streams(recording, labels, options, announce=True))
        except (RecordingError, DatasetError) as error:
            if len(recordings) == 1:
                raise
            failures.append(f'{recording.name}: {error}')
            logger.warning('%s is left out. %s', recording.name, error)
        else:
            readable.append(recording)
            streams += found
    if not readable:
        raise RecordingError(f'None of the {len(recordings)} recordings can be read. {" ".join(failures)}')
    refuse_shared_truth(streams)
    counts = [stream.frame_count(options.frames) for stream in streams]
    return readable, None if None in counts else sum(count or 0 for count in counts), failures


def _replay_here(
    recordings: Sequence[Recording], perceiver: Perceiver, options: ReplayOptions, bar: tqdm, stop: StopRequest
) -> list[RecordingReplay]:
    def on_frame() -> None:
        bar.update()
        stop.check()

    parts: list[RecordingReplay] = []
    for recording in recordings:
        parts.append(replay_recording(recording, perceiver, options, on_frame, progress=not bar.disable))
        if parts[-1].ended_by == STOPPED:
            break
    return parts


def _check_output(recordings: Sequence[Recording], options: ReplayOptions) -> None:
    output = options.output
    unfinished = _is_unfinished(recordings)
    if unfinished and options.overwrite and not options.resume:
        for recording in recordings:
            discard_results(recording)
        return
    if unfinished and not options.resume:
        raise RecordingError(f'{output} holds an unfinished replay: --resume goes on with it, --overwrite begins anew.')
    refuse_report(output, REPORT_FILE, overwrite=options.overwrite or unfinished)
