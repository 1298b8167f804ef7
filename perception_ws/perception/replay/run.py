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
from perception.interfaces import GroundTruth, SceneResult, StampedImage
from perception.metrics import Evaluator
from perception.metrics.pictures import PictureKeeper
from perception.output_folder import STOPPED, StopRequest, claim_folder
from perception.pipeline import Perceiver
from perception.replay.agreement import AgreementMeter, FrameAgreement
from perception.replay.predictions import PredictionWriter
from perception.replay.provenance import hash_recording, versions
from perception.replay.report import REPORT_FILE, ReplayReport, Skip
from perception.replay.store import ResultStore, StoredResult
from perception.replay.timing import Timing
from perception.replay.truth import TruthSource, open_truth
from perception.throughput import map_in_order, read_ahead

RESULTS_FILE = 'results.sqlite'
SCORE_THRESHOLD = 0.01
"""Average precision looks at weak detections too."""


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
        workers: Frames to look at at once; 0: as is fastest; 1: as a vehicle does, which latency should be read from.
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
    workers: int = 0
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
    with claim_folder(options.output):
        _check_output(options)
        return _replay(streams, perceiver, options, skipped, progress=progress)


def _replay(
    streams: Sequence[Stream], perceiver: Perceiver, options: ReplayOptions, skipped: list[Skip], *, progress: bool
) -> Replay:
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
    names = [stream.name for stream in streams]
    report = ReplayReport(
        scores=ledger.evaluator.report(identity),
        agreement=tuple(ledger.agreement),
        recorded_ns=tuple(ledger.recorded_ns),
        streams=tuple(ledger.streams),
        stream_names=tuple(names),
        truth=tuple(stream.truth.description for stream in streams),
        with_truth=ledger.with_truth,
        # Damaged frames are noted by the thread that reads ahead, bad truth behind it.
        skipped=tuple(sorted(ledger.skipped, key=lambda skip: (names.index(skip.stream), skip.stamp_ns))),
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


def _check_output(options: ReplayOptions) -> None:
    output = options.output
    if (output / RESULTS_FILE).exists() and not options.resume:
        raise RecordingError(f'{output} holds an unfinished replay: --resume goes on with it, or name another one.')
    if (output / REPORT_FILE).exists() and not (options.overwrite or (output / RESULTS_FILE).exists()):
        raise RecordingError(f'{output} holds a report already; name another --output, or give --overwrite.')


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
        'threads a frame': 1 if perceiver.device.startswith('cpu') and options.workers != 1 else 'all',
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
    recorder = _Recorder(ledger, writer, AgreementMeter(perceiver.labels, options.score_threshold))

    def look(read: _Read) -> tuple[SceneResult, StoredResult | None]:
        kept = store.get(read.number, read.place)
        return (perceiver(read.frame.image_rgb), None) if kept is None else (kept.result(), kept)

    with (
        tqdm(total=total, unit='frame', desc=perceiver.checkpoint.title, disable=not progress) as bar,
        read_ahead(_read(streams, options)) as frames,
        map_in_order(look, frames, perceiver.device, options.workers) as looked,
        StopRequest() as stop,
    ):
        for read, (result, kept) in looked:
            recorder.record(read, result, kept, store)
            bar.update()
            stop.check()


@dataclass(frozen=True)
class _Read:
    """A frame with what is known of it before anybody looks."""

    number: int
    stream: Stream
    place: int
    frame: StampedImage
    at_s: float
    truth: GroundTruth | None
    bad_truth: str
    read_ms: float


def _read(streams: Sequence[Stream], options: ReplayOptions) -> Iterator[_Read]:
    for number, stream in enumerate(streams):
        frames, first_ns, count = iter(stream.source), None, 0
        while not options.frames or count < options.frames:
            clock = perf_counter()
            frame = next(frames, None)
            if frame is None:
                break
            # Damaged frames count, so that truth in order stays beside its frame.
            place = count + stream.source.skipped.total()
            count += 1
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            truth, bad_truth = None, ''
            try:
                truth = stream.truth.of(place, frame)
            except (DatasetError, ShapeError) as error:
                bad_truth = str(error)
            at_s = (frame.stamp_ns - first_ns) / 1e9
            yield _Read(number, stream, place, frame, at_s, truth, bad_truth, (perf_counter() - clock) * 1000)


@dataclass
class _Recorder:
    """Takes down what was seen, in order."""

    ledger: _Ledger
    writer: PredictionWriter
    meter: AgreementMeter

    def record(self, read: _Read, result: SceneResult, kept: StoredResult | None, store: ResultStore) -> None:
        ledger, frame, clock = self.ledger, read.frame, perf_counter()
        if kept is None:
            kept = StoredResult.of(result)
            store.put(read.number, read.place, kept)
            ledger.timing.computed += 1
        if read.bad_truth:
            # The frame counts as not annotated.
            name, stamp_ns = read.stream.name, frame.stamp_ns
            ledger.skipped.append(Skip(stream=name, stamp_ns=stamp_ns, reason='bad_truth', message=read.bad_truth))
        truth = read.truth or GroundTruth()
        ledger.with_truth += read.truth is not None
        scored = ledger.evaluator.add(result, truth, f'{read.stream.name}@{frame.stamp_ns}')
        ledger.agreement.append(self.meter.measure(result))
        times_ms = {'read': read.read_ms, **result.times_ms}
        times_ms['score'], clock = _since(clock)
        ledger.pictures.offer(scored, frame.image_rgb, result, truth)
        self.writer.add(read.stream.camera, frame, result, kept.mask_png)
        times_ms['write'], clock = _since(clock)
        ledger.recorded_ns.append(frame.stamp_ns)
        ledger.streams.append(read.number)
        ledger.timing.add(read.at_s, times_ms)


def _since(clock: float) -> tuple[float, float]:
    """Milliseconds since a time, and the time now."""
    now = perf_counter()
    return (now - clock) * 1000, now
