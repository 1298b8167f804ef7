"""What is replayed: recordings, their cameras and their truth, each found before the first frame is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception.bag.frames import is_bag, open_frames
from perception.bag.labelled import Match
from perception.bag.reader import BagFrames, camera_topics
from perception.bag.source import FrameSource, OnSkip
from perception.bag.truth_topics import camera_namespace
from perception.errors import RecordingError
from perception.interfaces import LabelSpace
from perception.replay.truth import TruthSource, open_truth


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
        RecordingError: If one is given twice.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]  # '..' has no name of its own
    twice = [path for place, path in enumerate(paths) if whole[place] in whole[:place]]
    if twice:
        raise RecordingError(f'{twice[0]} is given twice; each recording counts once.')
    depth, names = 1, [path.name for path in whole]
    while len(set(names)) < len(names):
        # monday/drive and tuesday/drive
        depth += 1
        names = ['_'.join(path.parts[1:][-depth:]) for path in whole]
    folders = [output] if len(paths) == 1 else [output / name for name in names]
    return [
        Recording(path=path, name=name, folder=folder) for path, name, folder in zip(paths, names, folders, strict=True)
    ]


def open_streams(
    recording: Recording,
    labels: LabelSpace,
    options: ReplayOptions,
    on_skip: Callable[[str], OnSkip] | None = None,
) -> Iterator[Stream]:
    """Open the cameras of a recording with their truth.

    Args:
        on_skip: Given a stream's name, what to call for each of its frames that cannot be decoded.

    Raises:
        PerceptionError: If the recording, a topic or the truth is missing or does not fit.
    """
    path = recording.path
    for topic in options.topics or _cameras(path):
        source = open_frames(path, topic)
        if isinstance(source, BagFrames):
            topic = source.topic  # whoever names it may leave out the first slash
        name = f'{recording.name}{topic or ""}'
        source.on_skip = on_skip and on_skip(name)
        truth = open_truth(
            options.truth,
            source,
            labels,
            split=options.truth_split,
            match=options.truth_match,
            mask_topic=options.mask_topic,
            detections_topic=options.detections_topic,
        )
        yield Stream(name=name, source=source, truth=truth, camera=camera_namespace(topic or '/camera'))


def _cameras(path: Path) -> Sequence[str | None]:
    return camera_topics(path) if is_bag(path) else [None]
