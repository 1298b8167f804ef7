"""What is replayed: recordings, their cameras and their truth, each found before the first frame is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception.bag.cameras import camera_namespace
from perception.bag.frames import is_bag, open_frames
from perception.bag.labelled import Classes, Match
from perception.bag.reader import BagFrames, camera_topics
from perception.bag.source import FrameSource, OnSkip
from perception.errors import DatasetError, ImageError, RecordingError
from perception.interfaces import LabelSpace
from perception.replay.truth import TruthSource, is_folder, open_truth


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What the command line says.

    Attributes:
        output: Folder of the report.
        topics: Camera topics; empty: every camera of each bag.
        truth: See ``open_truth``.
        truth_split, truth_match, truth_classes, mask_topic, detections_topic: As there.
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
    truth_classes: Classes = None
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


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A bag, folder or video.

    Attributes:
        path: Where it lies.
        name: No other recording of the run has it.
        folder: Where its predictions go.
    """

    path: Path
    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One camera of one recording; its name is the recording's with the topic's."""

    name: str
    source: FrameSource
    truth: TruthSource
    camera: str

    def frame_count(self, limit: int = 0) -> int | None:
        """Frames to be read, damaged ones included; None when the recording does not say."""
        count = self.source.frame_count
        return min(count, limit) if count is not None and limit else count


def name_recordings(paths: Sequence[Path], output: Path) -> list[Recording]:
    """Give recordings their names and folders: ``output`` for a single one, else a folder in it for each.

    Raises:
        RecordingError: If one is given twice, or as a part of another.
    """
    _refuse_doubles(paths)
    names = distinct_names(paths)
    folders = [output] if len(paths) == 1 else [output / name for name in names]
    return [
        Recording(path=path, name=name, folder=folder) for path, name, folder in zip(paths, names, folders, strict=True)
    ]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Names that tell paths apart, which are not the same: the last part of each, or as many as it takes."""
    whole = [Path(os.path.abspath(path)) for path in paths]  # '..' has no name of its own
    depth, names = 1, [path.name for path in whole]
    while len(set(names)) < len(names):
        # monday/drive and tuesday/drive
        depth += 1
        if depth > max(len(path.parts) for path in whole):  # a_b/drive and a/b/drive
            return [f'{name}_{place}' for place, name in enumerate(names, 1)]
        names = ['_'.join(path.parts[1:][-depth:]) for path in whole]
    return names


def _refuse_doubles(paths: Sequence[Path]) -> None:
    real = [path.resolve() for path in paths]
    for place, path in enumerate(paths):
        if real[place] in real[:place]:
            raise RecordingError(f'{path} is given twice; each recording counts once.')
        if path.is_file() and real[place].parent in real:
            whole = paths[real.index(real[place].parent)]
            raise RecordingError(f'{path} is a part of {whole}, which is given, too; each recording counts once.')


def open_streams(
    recording: Recording,
    labels: LabelSpace,
    options: ReplayOptions,
    on_skip: Callable[[str], OnSkip] | None = None,
    *,
    announce: bool = False,
) -> Iterator[Stream]:
    """Open the cameras of a recording with their truth.

    Args:
        on_skip: Given a stream's name, what to call for each of its frames that cannot be decoded.
        announce: Say what of the recording is left out.

    Raises:
        PerceptionError: If the recording, a topic or the truth is missing or does not fit.
    """
    path = recording.path
    wanted = options.topics or (camera_topics(path, announce=announce) if is_bag(path) else [None])
    sources = [open_frames(path, topic) for topic in wanted]
    topics = [source.topic if isinstance(source, BagFrames) else '' for source in sources]
    twice = [topic for place, topic in enumerate(topics) if topic in topics[:place]]
    if twice:
        raise RecordingError(f'{path}: --topic {twice[0]} is given twice; each topic counts once.')
    for topic, source, camera in zip(topics, sources, _cameras(topics), strict=True):
        name = f'{recording.name}{topic}'
        try:
            truth = open_truth(
                options.truth,
                source,
                labels,
                split=options.truth_split,
                match=options.truth_match,
                classes=options.truth_classes,
                mask_topic=options.mask_topic,
                detections_topic=options.detections_topic,
            )
        except DatasetError as error:
            if len(topics) == 1 or not is_folder(options.truth):
                raise
            raise DatasetError(
                f'{error} {path} has {len(topics)} cameras ({", ".join(topics)}): give --topic for the one that was '
                'annotated.'
            ) from error
        source.on_skip = _pass_over(truth, on_skip(name) if on_skip else None)
        yield Stream(name=name, source=source, truth=truth, camera=camera)


def _pass_over(truth: TruthSource, then: OnSkip | None) -> OnSkip:
    def note(stamp_ns: int, error: ImageError) -> None:
        truth.pass_over(stamp_ns)
        if then is not None:
            then(stamp_ns, error)

    return note


def _cameras(topics: Sequence[str]) -> list[str]:
    """The namespace that the predictions of each topic go to; of several topics of one camera, their own names."""
    namespaces = [camera_namespace(topic or '/camera') for topic in topics]
    return [
        topic if namespaces.count(namespace) > 1 else namespace
        for topic, namespace in zip(topics, namespaces, strict=True)
    ]


def refuse_shared_truth(streams: Sequence[Stream]) -> None:
    """Refuse a truth that would be taken for the pictures of two streams: an annotation is of one picture.

    Raises:
        DatasetError: Naming the annotation and the streams.
        RecordingError: If a recording turns out to be damaged.
    """
    owners: dict[str, Stream] = {}
    for stream in streams if len(streams) > 1 else ():
        for claim in stream.truth.claims():
            owner = owners.setdefault(claim, stream)
            if owner is not stream:
                raise DatasetError(
                    f'{claim} would be the truth of both {owner.name} and {stream.name}, and an annotation is of one '
                    'picture. Give --topic for the camera that was annotated; recordings with a truth of their own '
                    'are replayed one by one.'
                )
