"""The replay of one recording through a Perceiver, offline: no middleware, every frame, the same figures each time.

One loop does all: read a frame, look at it (or take over what an earlier run saw), compare it with its truth, write it
down. What was seen is on disk before the next frame is read, so a run that ends early loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from perception.bag.source import OnSkip
from perception.checkpoint import Checkpoint
from perception.errors import DatasetError, ImageError, RecordingError, ShapeError
from perception.interfaces import GroundTruth, SceneResult, StampedImage
from perception.metrics import Evaluator
from perception.metrics.pictures import PictureKeeper
from perception.output_folder import STOPPED
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.replay.agreement import AgreementMeter, FrameAgreement
from perception.replay.predictions import PredictionWriter
from perception.replay.provenance import describe_machine, hash_recording, versions
from perception.replay.recordings import Recording, ReplayOptions, Stream, open_streams
from perception.replay.report import BAD_TRUTH, Skip
from perception.replay.store import ResultStore, StoredResult
from perception.replay.timing import Timing
from perception.replay.truth import NOWHERE
from perception.throughput import map_in_order, read_ahead

RESULTS_FILE = 'results.sqlite'
"""In the recording's folder until the report is written."""
SCORE_THRESHOLD = 0.01
"""Average precision looks at weak detections too."""

OnFrame = Callable[[], None]
"""Called after each frame; may raise KeyboardInterrupt to end the replay there."""


@dataclass(kw_only=True)
class RecordingReplay:
    """What the replay of one recording gave; those of several are merged, see ``perception.replay.merge``.

    Attributes:
        name, sha256: Of the recording.
        settings: All else that the scores follow from, as plain JSON values.
        stream_names: Its cameras.
        truth, truth_sha256: Where the truth of each camera comes from, and its hash if it is no part of the recording.
        evaluator, pictures: The scores, and the worst and the best frames.
        timing: How long it took.
        agreement, recorded_ns, streams: Of each frame, see ``ReplayReport``.
        skipped: What could not be used.
        with_truth: Frames that some truth was found for.
        unmatched_truth: Annotations that belong to no frame.
        truth_remarks: What of the truth was not used, for people.
        ended_by: Why it ended before the recording did.
    """

    name: str
    sha256: str
    settings: dict[str, Any]
    stream_names: tuple[str, ...]
    truth: tuple[str, ...]
    truth_sha256: tuple[str, ...]
    evaluator: Evaluator
    pictures: PictureKeeper
    timing: Timing = field(default_factory=Timing)
    agreement: list[FrameAgreement] = field(default_factory=list)
    recorded_ns: list[int] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    with_truth: int = 0
    unmatched_truth: int = 0
    truth_remarks: list[str] = field(default_factory=list)
    ended_by: str = ''

    @property
    def identity(self) -> dict[str, Any]:
        """All that the results follow from."""
        recording = {'recording': self.name, 'sha256': self.sha256}
        return {**self.settings, **recording, 'streams': list(self.stream_names), 'truth': list(self.truth)}


def replay_recording(
    recording: Recording, perceiver: Perceiver, options: ReplayOptions, on_frame: OnFrame, *, progress: bool = True
) -> RecordingReplay:
    """Look at every frame of a recording and score what was seen.

    The perceiver's score threshold should be SCORE_THRESHOLD. Writes predictions.mcap into the recording's folder. An
    interrupt or a recording that turns out to be damaged ends the replay early: the outcome says so and has all until
    then. What was seen stays beside it for another run to take over, until ``discard_results``.

    Raises:
        PerceptionError: If nothing could be started.
    """
    skipped: list[Skip] = []

    def note_skips(stream: str) -> OnSkip:
        return lambda stamp_ns, error: skipped.append(
            Skip(stream=stream, stamp_ns=stamp_ns, reason=error.reason, message=str(error))
        )

    streams = list(open_streams(recording, perceiver.labels, options, note_skips))
    outcome = RecordingReplay(
        name=recording.name,
        sha256=hash_recording(recording.path, progress=progress),
        settings=describe_settings(
            perceiver.checkpoint,
            options,
            backend=perceiver.backend,
            device=perceiver.device,
            precision=perceiver.precision,
            config=perceiver.config,
        ),
        stream_names=tuple(stream.name for stream in streams),
        truth=tuple(stream.truth.description for stream in streams),
        truth_sha256=tuple(stream.truth.sha256 for stream in streams),
        evaluator=Evaluator(perceiver.labels),
        pictures=PictureKeeper(perceiver.labels, count=options.pictures, score_threshold=options.score_threshold),
        skipped=skipped,
    )
    recording.folder.mkdir(parents=True, exist_ok=True)
    whole: set[int] = set()
    with ExitStack() as stack:
        store = stack.enter_context(ResultStore(recording.folder / RESULTS_FILE, outcome.identity))
        writer = stack.enter_context(_prediction_writer(recording, streams, perceiver, options))
        started = perf_counter()
        try:
            _look_at_all(streams, perceiver, options, store, writer, outcome, on_frame, whole)
        except KeyboardInterrupt:
            outcome.ended_by = STOPPED
        except RecordingError as error:
            outcome.ended_by = str(error)
        outcome.timing.seconds = perf_counter() - started
    _balance_truth(streams, outcome, whole)
    # Damaged frames are noted by the thread that reads ahead, bad truth behind it.
    skipped.sort(key=lambda skip: (outcome.stream_names.index(skip.stream), skip.stamp_ns))
    return outcome


def _balance_truth(streams: Sequence[Stream], outcome: RecordingReplay, whole: set[int]) -> None:
    for number, stream in enumerate(streams):
        balance = stream.truth.balance(whole=number in whole)
        outcome.unmatched_truth += balance.unmatched
        outcome.truth_remarks += [f'{stream.name}: {remark}' for remark in balance.remarks]


def discard_results(recording: Recording) -> None:
    """Remove what was kept for another run to take over."""
    ResultStore.remove(recording.folder / RESULTS_FILE)


def describe_settings(
    checkpoint: Checkpoint,
    options: ReplayOptions,
    *,
    backend: str,
    device: str,
    precision: str,
    config: PostprocessConfig,
) -> dict[str, Any]:
    """What scores follow from besides the recording and its truth, as plain JSON values.

    Args:
        backend, device, precision, config: Those of the perceiver.
    """
    return {
        'network': checkpoint.title,
        'frames of each': options.frames or 'all',
        'device': device,
        'backend': backend,
        'precision': precision,
        'threads a frame': 1 if device.startswith('cpu') and options.workers != 1 else 'all',
        'post-processing': {
            'score_threshold': config.score_threshold,
            **vars(config.suppression(checkpoint.network.suppression)),
        },
        'score threshold of pictures and agreement': options.score_threshold,
        'versions': versions(),
    }


def _prediction_writer(
    recording: Recording, streams: Sequence[Stream], perceiver: Perceiver, options: ReplayOptions
) -> PredictionWriter:
    rate_hz = streams[0].source.frame_rate_hz or 10.0
    return PredictionWriter(
        recording.folder,
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
    outcome: RecordingReplay,
    on_frame: OnFrame,
    whole: set[int],
) -> None:
    meter = AgreementMeter(perceiver.labels, options.score_threshold)
    recorder = _Recorder(outcome, writer, store, meter, describe_machine(perceiver.device))

    def look(read: _Read) -> tuple[SceneResult, StoredResult | None] | ImageError:
        kept = store.get(read.number, read.place)
        try:
            return (perceiver(read.frame.image_rgb), None) if kept is None else (kept.result(), kept)
        except ImageError as error:
            return error

    with (
        read_ahead(_read(streams, options, whole)) as frames,
        map_in_order(look, frames, perceiver.device, options.workers) as looked,
    ):
        for read, seen in looked:
            if isinstance(seen, ImageError):
                recorder.skip(read, seen.reason, str(seen))
            else:
                recorder.record(read, *seen)
            on_frame()


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


def _read(streams: Sequence[Stream], options: ReplayOptions, whole: set[int]) -> Iterator[_Read]:
    """The frames of all streams; the numbers of those that came to their end are added to ``whole``."""
    for number, stream in enumerate(streams):
        frames, first_ns, count = iter(stream.source), None, 0
        while not options.frames or count < options.frames:
            clock = perf_counter()
            frame = next(frames, None)
            if frame is None:
                whole.add(number)
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

    outcome: RecordingReplay
    writer: PredictionWriter
    store: ResultStore
    meter: AgreementMeter
    machine: str

    def record(self, read: _Read, result: SceneResult, kept: StoredResult | None) -> None:
        outcome, frame, clock = self.outcome, read.frame, perf_counter()
        if kept is None:
            kept = StoredResult.of(result, self.machine)
            self.store.put(read.number, read.place, kept)
            outcome.timing.computed += 1
        if read.bad_truth:
            # The frame counts as not annotated.
            self.skip(read, BAD_TRUTH, read.bad_truth)
        truth = read.truth or GroundTruth()
        outcome.with_truth += read.truth is not None
        scored = outcome.evaluator.add(result, truth, f'{read.stream.name}@{frame.stamp_ns}')
        agreement = self.meter.measure(result)
        outcome.agreement.append(agreement)
        times_ms = {'read': read.read_ms, **result.times_ms}
        times_ms['score'], clock = _since(clock)
        # Beside frames with truth, one that has none is not worth a look.
        rank = agreement.mean if read.stream.truth.description == NOWHERE else None
        outcome.pictures.offer(scored, frame.image_rgb, result, truth, rank)
        self.writer.add(read.stream.camera, frame, result, kept.mask_png)
        times_ms['write'], clock = _since(clock)
        outcome.recorded_ns.append(frame.stamp_ns)
        outcome.streams.append(read.number)
        outcome.timing.add(read.at_s, times_ms, kept.machine)

    def skip(self, read: _Read, reason: str, message: str) -> None:
        """Note a frame, or its truth, that could not be used."""
        name, stamp_ns = read.stream.name, read.frame.stamp_ns
        self.outcome.skipped.append(Skip(stream=name, stamp_ns=stamp_ns, reason=reason, message=message))


def _since(clock: float) -> tuple[float, float]:
    """Milliseconds since a time, and the time now."""
    now = perf_counter()
    return (now - clock) * 1000, now
