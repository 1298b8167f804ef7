"""The replay of recordings through a Perceiver, offline: no middleware, every frame, the same figures each time.

One loop does all: read a frame, look at it (or take over what an earlier run saw), compare it with its truth, write it
down. What was seen is on disk before the next frame is read, so a run that ends early loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from perception.bag.frames import BAG_SUFFIXES, open_frames
from perception.bag.labelled import Match
from perception.bag.reader import camera_topics
from perception.bag.source import FrameSource
from perception.bag.truth_topics import camera_namespace
from perception.errors import DatasetError, ImageError, RecordingError, ShapeError
from perception.interfaces import GroundTruth, StampedImage
from perception.metrics import Evaluator
from perception.metrics.pictures import PictureKeeper
from perception.pipeline import Perceiver
from perception.replay.agreement import AgreementMeter, FrameAgreement
from perception.replay.predictions import PredictionWriter
from perception.replay.provenance import hash_recording, versions
from perception.replay.report import REPORT_FILE, ReplayReport, Skip
from perception.replay.store import ResultStore, StoredResult
from perception.replay.timing import Timing
from perception.replay.truth import TruthSource, open_truth

RESULTS_FILE = 'results.sqlite'
SCORE_THRESHOLD = 0.01
"""Average precision looks at weak detections too."""
STOPPED = 'a signal (Ctrl-C or SIGTERM)'


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What the command line says.

    Attributes:
        output: Folder of the report.
        topics: Camera topics; empty: every camera of each bag.
        truth: See ``open_truth``.
        truth_split, truth_match, mask_topic, detections_topic: As there.
        score_threshold: Detections below it are not drawn and count for no agreement; average precision sees all.
        frames: Stop after so many of each stream; 0: all.
        overlay: Whether predictions.mcap holds overlays.
        video: Whether overlay.mp4 is written.
        pictures: Worst and best frames on the page.
        resume: Take over what an unfinished run in ``output`` has seen.
        overwrite: Replace a finished report in ``output``.
    """

    output: Path
    topics: tuple[str, ...] = ()
    truth: str = ''
    truth_split: str = ''
    truth_match: Match | None = None
    mask_topic: str | None = None
    detections_topic: str | None = None
    score_threshold: float = 0.3
    frames: int = 0
    overlay: bool = True
    video: bool = False
    pictures: int = 10
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Stream:
    """One camera of one recording."""

    name: str
    source: FrameSource
    truth: TruthSource
    camera: str


@dataclass
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


@dataclass
class _Ledger:
    """What is added up along the way."""

    evaluator: Evaluator
    pictures: PictureKeeper
    timing: Timing = field(default_factory=Timing)
    agreement: list[FrameAgreement] = field(default_factory=list)
    recorded_ns: list[int] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    with_truth: int = 0


def replay(
    recordings: Sequence[Path], perceiver: Perceiver, options: ReplayOptions, *, progress: bool = True
) -> Replay:
    """Look at every frame of some recordings and score what was seen.

    The perceiver's score threshold should be SCORE_THRESHOLD. Writes predictions.mcap; the reports are the caller's.
    An interrupt or a recording that turns out to be damaged ends the run early: the report says so and has all until
    then, and what was seen stays in ``options.output`` for another run to take over.

    Raises:
        PerceptionError: If nothing could be started: a missing recording, topic or truth, an output that is taken.
    """
    skipped: list[Skip] = []
    streams = list(_open_streams(recordings, perceiver, options, skipped))
    _claim_output(options)
    identity = _identity(streams, perceiver, options, progress=progress)
    labels = perceiver.labels
    ledger = _Ledger(
        Evaluator(labels),
        PictureKeeper(labels, count=options.pictures, score_threshold=options.score_threshold),
        skipped=skipped,
    )
    ended_by = ''
    with ExitStack() as stack:
        store = stack.enter_context(ResultStore(options.output / RESULTS_FILE, identity))
        writer = stack.enter_context(_prediction_writer(streams, perceiver, options))
        started = perf_counter()
        try:
            _look_at_all(streams, perceiver, options, store, writer, ledger, progress=progress)
        except KeyboardInterrupt:
            ended_by = STOPPED
        except RecordingError as error:
            ended_by = str(error)
        ledger.timing.seconds = perf_counter() - started
    if not ended_by:
        store.delete()
    report = ReplayReport(
        scores=ledger.evaluator.report(identity),
        agreement=tuple(ledger.agreement),
        recorded_ns=tuple(ledger.recorded_ns),
        streams=tuple(ledger.streams),
        stream_names=tuple(stream.name for stream in streams),
        truth=tuple(stream.truth.description for stream in streams),
        with_truth=ledger.with_truth,
        skipped=tuple(ledger.skipped),
        ended_by=ended_by,
    )
    return Replay(report, ledger.timing, ledger.pictures)


def _open_streams(
    recordings: Sequence[Path], perceiver: Perceiver, options: ReplayOptions, skipped: list[Skip]
) -> Iterator[Stream]:
    for path in recordings:
        for topic in options.topics or _cameras(path):
            name = f'{path.name}{topic}' if topic else path.name
            source = open_frames(path, topic, on_skip=_note_skips(name, skipped))
            truth = open_truth(
                options.truth,
                source,
                perceiver.labels,
                split=options.truth_split,
                match=options.truth_match,
                mask_topic=options.mask_topic,
                detections_topic=options.detections_topic,
            )
            yield Stream(name, source, truth, camera_namespace(topic or '/camera'))


def _cameras(path: Path) -> Sequence[str | None]:
    is_bag = (path / 'metadata.yaml').exists() or (path.is_file() and path.suffix in BAG_SUFFIXES)
    return camera_topics(path) if is_bag else [None]


def _note_skips(stream: str, skipped: list[Skip]) -> Any:
    def note(stamp_ns: int, error: ImageError) -> None:
        skipped.append(Skip(stream=stream, stamp_ns=stamp_ns, reason=error.reason, message=str(error)))

    return note


def _claim_output(options: ReplayOptions) -> None:
    output = options.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if (output / RESULTS_FILE).exists() and not options.resume:
            raise RecordingError(f'{output} holds an unfinished replay: --resume goes on with it, or name another one.')
        if (output / REPORT_FILE).exists() and not (options.overwrite or (output / RESULTS_FILE).exists()):
            raise RecordingError(f'{output} holds a report already; name another --output, or give --overwrite.')
    except OSError as error:
        raise RecordingError(f'Cannot write to --output {output}: {error}') from error


def _identity(
    streams: Sequence[Stream], perceiver: Perceiver, options: ReplayOptions, *, progress: bool
) -> dict[str, Any]:
    """All that the scores follow from, as plain JSON values."""
    paths = list(dict.fromkeys(stream.source.path for stream in streams))
    return {
        'network': perceiver.checkpoint.title,
        'recordings': [{'name': path.name, 'sha256': hash_recording(path, progress=progress)} for path in paths],
        'streams': [stream.name for stream in streams],
        'truth': [stream.truth.description for stream in streams],
        'frames of each': options.frames or 'all',
        'device': perceiver.device,
        'backend': perceiver.backend,
        'precision': perceiver.precision,
        'post-processing': vars(perceiver.config),
        'score threshold of pictures and agreement': options.score_threshold,
        'versions': versions(),
    }


def _prediction_writer(streams: Sequence[Stream], perceiver: Perceiver, options: ReplayOptions) -> PredictionWriter:
    rate_hz = streams[0].source.frame_rate_hz or 10.0
    return PredictionWriter(
        options.output,
        perceiver.labels,
        score_threshold=options.score_threshold,
        overlay=options.overlay,
        film_rate_hz=rate_hz if options.video else 0.0,
        banner='' if perceiver.checkpoint.trained else 'UNTRAINED WEIGHTS',
    )


def _look_at_all(
    streams: Sequence[Stream],
    perceiver: Perceiver,
    options: ReplayOptions,
    store: ResultStore,
    writer: PredictionWriter,
    ledger: _Ledger,
    *,
    progress: bool,
) -> None:
    counts = [stream.source.frame_count for stream in streams]
    total = None if None in counts else sum(min(count, options.frames or count) for count in counts if count)
    meter = AgreementMeter(perceiver.labels, options.score_threshold)
    with tqdm(total=total, unit='frame', desc=perceiver.checkpoint.title, disable=not progress) as bar:
        for number, stream in enumerate(streams):
            frames = iter(stream.source)
            first_ns, position = None, 0
            while not options.frames or position < options.frames:
                times_ms, clock = {}, perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                # Damaged frames count, so that truth in order stays beside its frame.
                position += 1
                place = position + stream.source.skipped.total() - 1
                times_ms['read'], clock = _since(clock)
                first_ns = frame.stamp_ns if first_ns is None else first_ns
                kept = _look(perceiver, store, number, place, frame, ledger)
                result = kept.result()
                clock = perf_counter()
                truth = _truth_of(stream, place, frame, ledger)
                scored = ledger.evaluator.add(result, truth, f'{stream.name}@{frame.stamp_ns}')
                ledger.agreement.append(meter.measure(result))
                times_ms['score'], clock = _since(clock)
                ledger.pictures.offer(scored, frame.image_rgb, result, truth)
                writer.add(stream.camera, frame, result, kept.mask_png)
                times_ms['write'], clock = _since(clock)
                ledger.recorded_ns.append(frame.stamp_ns)
                ledger.streams.append(number)
                ledger.timing.add((frame.stamp_ns - first_ns) / 1e9, {**times_ms, **result.times_ms})
                bar.update()


def _since(clock: float) -> tuple[float, float]:
    """Milliseconds since a time, and the time now."""
    now = perf_counter()
    return (now - clock) * 1000, now


def _look(
    perceiver: Perceiver, store: ResultStore, stream: int, place: int, frame: StampedImage, ledger: _Ledger
) -> StoredResult:
    """What the perceiver sees in a frame, or has seen in an earlier run."""
    kept = store.get(stream, place)
    if kept is None:
        kept = StoredResult.of(perceiver(frame.image_rgb))
        store.put(stream, place, kept)
        ledger.timing.computed += 1
    return kept


def _truth_of(stream: Stream, place: int, frame: StampedImage, ledger: _Ledger) -> GroundTruth:
    """The truth of a frame; one that is broken is listed, and the frame counts as not annotated."""
    try:
        truth = stream.truth.of(place, frame)
    except (DatasetError, ShapeError) as error:
        ledger.skipped.append(Skip(stream=stream.name, stamp_ns=frame.stamp_ns, reason='bad_truth', message=str(error)))
        return GroundTruth()
    if truth is None:
        return GroundTruth()
    ledger.with_truth += 1
    return truth
