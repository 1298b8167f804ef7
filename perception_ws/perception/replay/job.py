"""The whole of ``perception replay``: find the recordings, replay each here or on a fleet, put the report together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from perception.checkpoint import Checkpoint
from perception.errors import RecordingError
from perception.output_folder import STOPPED, StopRequest, claim_folder
from perception.pipeline import Perceiver
from perception.replay.fleet import Fleet
from perception.replay.merge import Replay, merge_replays
from perception.replay.outputs import write_outputs
from perception.replay.recordings import Recording, ReplayOptions, name_recordings, open_streams
from perception.replay.report import REPORT_FILE
from perception.replay.run import RESULTS_FILE, RecordingReplay, discard_results, replay_recording


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

    Whatever ends it early, an interrupt or a damaged recording: the report says so and has all until then. What was
    seen stays on disk until a complete report is written, for another run to take over.

    Args:
        build_perceiver: Makes the perceiver where it runs, with score threshold SCORE_THRESHOLD.
        fleet: Machines to use; None: this process.

    Raises:
        PerceptionError: If nothing could be started: a missing recording, topic or truth, an output that is taken.
    """
    recordings = name_recordings(paths, options.output)
    perceiver = None if fleet else build_perceiver()
    labels = checkpoint.network.labels
    counts = [
        stream.frame_count(options.frames)
        for recording in recordings
        for stream in open_streams(recording, labels, options)
    ]
    total = None if None in counts else sum(count or 0 for count in counts)
    with claim_folder(options.output):
        _check_output(recordings, options)
        started = perf_counter()
        with (
            tqdm(total=total, unit='frame', desc=checkpoint.title, disable=not progress) as bar,
            StopRequest() as stop,
        ):
            failures: Sequence[str] = ()
            if fleet is None:
                assert perceiver is not None
                parts = _replay_here(recordings, perceiver, options, bar, stop)
            else:
                parts, failures = fleet.replay(recordings, build_perceiver, options, bar, stop)
        merged = merge_replays(parts, perf_counter() - started, failures)
        write_outputs(merged, checkpoint, options.output)
        if merged.report.complete:
            for recording in recordings:
                discard_results(recording)
    return merged


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
    if unfinished and not options.resume:
        raise RecordingError(f'{output} holds an unfinished replay: --resume goes on with it, or name another one.')
    if (output / REPORT_FILE).exists() and not (options.overwrite or unfinished):
        raise RecordingError(f'{output} holds a report already; name another --output, or give --overwrite.')
