"""The whole of ``perception replay``: find the recordings, replay each here or on a fleet, put the report together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from perception.bag.source import require_exists
from perception.checkpoint import Checkpoint
from perception.errors import DatasetError, RecordingError
from perception.interfaces import LabelSpace
from perception.output_folder import STOPPED, StopRequest, claim_folder, keep_apart
from perception.pipeline import Perceiver
from perception.replay.fleet import Fleet
from perception.replay.merge import Replay, merge_replays
from perception.replay.outputs import write_outputs
from perception.replay.recordings import Recording, ReplayOptions, name_recordings, open_streams
from perception.replay.report import REPORT_FILE, ReplayReport
from perception.replay.run import RESULTS_FILE, RecordingReplay, discard_results, replay_recording
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
        keep_apart(options.output, recording.path)
    if is_folder(options.truth):
        keep_apart(options.output, Path(options.truth))
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


def is_finished(recordings: Sequence[Path], checkpoint: Checkpoint, output: Path) -> bool:
    """Whether a folder holds the complete report of these recordings and this checkpoint."""
    if not (output / REPORT_FILE).exists():
        return False
    report = ReplayReport.load(output)
    replayed = [recording['name'] for recording in report.scores.provenance['recordings']]
    wanted = [recording.name for recording in name_recordings(recordings, output)]
    return report.complete and replayed == wanted and report.scores.provenance['network'] == checkpoint.title


def _count_frames(
    recordings: Sequence[Recording], labels: LabelSpace, options: ReplayOptions
) -> tuple[list[Recording], int | None, list[str]]:
    """The recordings that can be opened, their frames if all of them say how many, and why others cannot be opened."""
    readable: list[Recording] = []
    counts: list[int | None] = []
    failures: list[str] = []
    for recording in recordings:
        try:
            found = [stream.frame_count(options.frames) for stream in open_streams(recording, labels, options)]
        except (RecordingError, DatasetError) as error:
            if len(recordings) == 1:
                raise
            failures.append(f'{recording.name}: {error}')
            logger.warning('%s is left out. %s', recording.name, error)
        else:
            readable.append(recording)
            counts += found
    if not readable:
        raise RecordingError(f'None of the {len(recordings)} recordings can be read. {" ".join(failures)}')
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
    unfinished = any((recording.folder / RESULTS_FILE).exists() for recording in recordings)
    if unfinished and options.overwrite and not options.resume:
        for recording in recordings:
            discard_results(recording)
        return
    if unfinished and not options.resume:
        raise RecordingError(f'{output} holds an unfinished replay: --resume goes on with it, --overwrite begins anew.')
    if (output / REPORT_FILE).exists() and not (options.overwrite or unfinished):
        raise RecordingError(f'{output} holds a report already; name another --output, or give --overwrite.')
