"""Where the truth of a recording's frames comes from: topics of the bag, a folder of annotations, or nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from perception.bag.frames import ImageFrames
from perception.bag.labelled import Classes, LabelledFile, LabelledFolder, Match, open_labelled
from perception.bag.reader import BagFrames
from perception.bag.source import FrameSource
from perception.bag.truth_topics import BagTruth, TruthBalance, find_truth_topics
from perception.errors import ConfigError, DatasetError
from perception.interfaces import GroundTruth, LabelSpace, StampedImage
from perception.metrics.libraries import require_scoring
from perception.replay.image_match import match_images, split_of_images
from perception.replay.provenance import hash_files
from perception.truth.index_maps import ImageSize

TOPICS, NOWHERE = 'topics', 'none'


def is_wanted(truth: str) -> bool:
    """Whether a ``truth`` for ``open_truth`` asks for one, rather than takes what there is."""
    return truth not in ('', NOWHERE)


def is_folder(truth: str) -> bool:
    """Whether a ``truth`` for ``open_truth`` names a folder, or a file, of annotations."""
    return truth not in ('', TOPICS, NOWHERE)


class TruthSource(Protocol):
    """Gives the truth of each frame of one recording.

    Attributes:
        description: For people and for the report's provenance.
        sha256: Of the annotations, where they are no part of the recording; else empty.
    """

    description: str

    @property
    def sha256(self) -> str: ...

    def of(self, position: int, frame: StampedImage) -> GroundTruth | None:
        """The truth of a frame; None if there is none for it.

        Args:
            position: Of the frame in the recording, damaged ones counted.

        Raises:
            DatasetError: If it is broken, or does not fit the frame.
            RecordingError: If the bag that it lies in turns out to be damaged.
        """
        ...

    def pass_over(self, stamp_ns: int) -> None:
        """A frame could not be decoded; its truth belongs to it all the same."""
        ...

    def claims(self) -> Iterable[str]:
        """The annotations that will be used, by names of their own: each is of one picture, so of one stream.

        Raises:
            RecordingError: If the recording turns out to be damaged.
        """
        ...

    def balance(self, *, whole: bool) -> TruthBalance:
        """What of it was not used, once every frame has asked.

        Args:
            whole: The recording was read to its end.
        """
        ...


class NoTruth:
    """Nothing is known."""

    description = NOWHERE
    sha256 = ''

    def of(self, position: int, frame: StampedImage) -> GroundTruth | None:
        return None

    def pass_over(self, stamp_ns: int) -> None:
        pass

    def claims(self) -> Iterable[str]:
        return ()

    def balance(self, *, whole: bool) -> TruthBalance:
        return TruthBalance()


class TopicTruth:
    """Topics of the bag, by stamp."""

    sha256 = ''

    def __init__(self, truth: BagTruth) -> None:
        self._truth = truth
        topics = [topic for topic in (truth.topics.mask, truth.topics.detections) if topic]
        self.description = f'topics {" and ".join(topics)}'

    def of(self, position: int, frame: StampedImage) -> GroundTruth | None:
        truth = self._truth.at(frame.stamp_ns, frame.turn, (frame.image_rgb.shape[0], frame.image_rgb.shape[1]))
        if truth is not None and truth.mask is not None and truth.mask.shape != frame.image_rgb.shape[:2]:
            raise DatasetError(
                f'The true mask is {truth.mask.shape[0]}x{truth.mask.shape[1]} (height x width), the frame '
                f'{frame.image_rgb.shape[0]}x{frame.image_rgb.shape[1]}; both must have the same size.'
            )
        return truth

    def pass_over(self, stamp_ns: int) -> None:
        self._truth.pass_over(stamp_ns)

    def claims(self) -> Iterable[str]:
        topics = (self._truth.topics.mask, self._truth.topics.detections)
        return [f'{self._truth.path}, {topic}' for topic in topics if topic]

    def balance(self, *, whole: bool) -> TruthBalance:
        return self._truth.balance(whole=whole)


class FolderTruth:
    """A folder of annotations, by the names of images, by the stamps in their own names, or by order.

    Raises:
        DatasetError: If, by order, there are not as many annotations as frames, by stamp, an annotation has none or two
            have one, or by name, the frames have no names or it is not clear which is whose.
    """

    def __init__(self, folder: LabelledFolder, source: FrameSource, match: Match) -> None:
        self.description = f'{folder.layout} {folder.split} by {match}{folder.remark and f", {folder.remark}"}'
        self._folder, self._files = folder, folder.files
        unstamped = [file.stem for file in folder.files if file.stamp_ns is None]
        if match == 'stamp' and unstamped:
            raise DatasetError(
                f'{folder.path}, split {folder.split}: annotations are to be matched by stamp, but {len(unstamped)} of '
                f'{len(folder.files)} names, such as {unstamped[0]}, do not end with a time in ns of 12 to 19 digits. '
                'Rename them, or match by order.'
            )
        if match == 'name' and not isinstance(source, ImageFrames):
            raise DatasetError(f'{source.path} is no folder of images, so its frames have no names; match by order.')
        self._match, self._source = match, source
        self._used: set[LabelledFile | None] = set()
        self._by_stamp = _by_stamp(folder) if match == 'stamp' else {}
        self._by_image = (
            match_images(folder, source.files) if isinstance(source, ImageFrames) and match == 'name' else {}
        )
        if match == 'order' and source.frame_count not in (None, len(folder.files)):
            raise DatasetError(
                f'{folder.path}, split {folder.split}, holds {len(folder.files)} annotations, and {source.path} '
                f'{source.frame_count} frames; matched by order there must be one for each. Name annotations like '
                'their images or, for a bag, by the stamp of their frame in ns, or name another split.'
            )

    @cached_property
    def sha256(self) -> str:
        return hash_files(self._folder.contents, progress=False)

    def of(self, position: int, frame: StampedImage) -> GroundTruth | None:
        if self._match == 'name':
            file = self._by_image.get(frame.source)
        elif self._match == 'stamp':
            file = self._by_stamp.get(frame.stamp_ns)
        else:
            file = self._files[position] if position < len(self._files) else None
        name = frame.source if isinstance(self._source, ImageFrames) else f'the frame at {frame.stamp_ns} ns'
        size = ImageSize(name, (frame.image_rgb.shape[0], frame.image_rgb.shape[1]))
        self._used.add(file)
        return None if file is None else file.read(size)

    def pass_over(self, stamp_ns: int) -> None:
        self._used.add(self._by_stamp.get(stamp_ns))

    def claims(self) -> Iterable[str]:
        files: Iterable[LabelledFile] = self._files
        if self._match == 'name':
            files = self._by_image.values()
        elif self._match == 'stamp' and isinstance(self._source, BagFrames):
            stamps = set(self._source.stamps_ns())
            files = [file for stamp_ns, file in self._by_stamp.items() if stamp_ns in stamps]
        return [str(file) for file in files]

    def balance(self, *, whole: bool) -> TruthBalance:
        # Other cities of the split are other recordings.
        folders = {file.name.parent for file in self._by_image.values()}
        files = [file for file in self._files if not folders or file.name.parent in folders]
        # That of an image that could not be decoded is not asked for, and belongs to it all the same.
        used = self._used | set(self._by_image.values())
        left = [file for file in files if file not in used]
        if not whole or not left or self._match == 'order':
            return TruthBalance()
        remark = (
            f'{len(left):,} of {len(files):,} annotations, such as {left[0].name}, belong to no frame by {self._match}.'
        )
        return TruthBalance(unmatched=len(left), remarks=(remark,))


def _by_stamp(folder: LabelledFolder) -> dict[int | None, LabelledFile]:
    found: dict[int | None, LabelledFile] = {}
    for file in folder.files:
        first = found.setdefault(file.stamp_ns, file)
        if first is not file:
            raise DatasetError(
                f'{first} and {file} end with one stamp, {file.stamp_ns} ns; expected one annotation for each frame. '
                'Give the annotations of one camera.'
            )
    return found


def open_truth(
    truth: str,
    source: FrameSource,
    labels: LabelSpace,
    *,
    split: str = '',
    match: Match | None = None,
    classes: Classes = None,
    mask_topic: str | None = None,
    detections_topic: str | None = None,
) -> TruthSource:
    """Find the truth of a recording.

    Args:
        truth: Empty: topics of the bag if it has some, else none. ``topics``, ``none``, a folder in the layout of
            CamVid, Cityscapes or COCO, or a COCO file.
        source: The recording.
        labels: The label space that is scored.
        split: Of the folder; empty: the only one there is.
        match: How annotations of the folder belong to frames; None: for images by name if one has the name of an
            annotation, for a bag by stamp if the names of all annotations end with one, else by order.
        classes: A CSV or YAML file that says which id or category is which class; of a COCO file also category name to
            the name of a detection class. None: what is usual for the labels.
        mask_topic, detections_topic: Topics of the bag, in place of the usual names.

    Raises:
        ConfigError: If split, match or classes are given without a folder, or a topic beside a folder or ``none``.
        DatasetError: If the truth does not fit the recording or the labels.
        RecordingError: If a topic is missing.
        MissingDependencyError: If there is a truth, and the scoring libraries are not installed.
    """
    named = mask_topic is not None or detections_topic is not None
    if (split or match or classes) and not is_folder(truth):
        raise ConfigError(
            '--truth-split, --truth-match and --truth-classes are about a folder of annotations, and --truth is '
            f'{truth or "not given"}. Give --truth FOLDER, or leave them out.'
        )
    if named and (is_folder(truth) or truth == NOWHERE):
        raise ConfigError(
            f'--truth-mask-topic and --truth-detections-topic name topics of the bag, and --truth is {truth}. '
            'Give --truth topics, or leave them out.'
        )
    if truth == NOWHERE:
        return NoTruth()
    if not is_folder(truth):
        topics = None
        if isinstance(source, BagFrames):
            asked = truth == TOPICS
            topics = find_truth_topics(
                source.path, source.topic, mask=mask_topic, detections=detections_topic, asked=asked
            )
        if topics is not None:
            require_scoring()
            return TopicTruth(BagTruth(source.path, topics, labels))
        if truth == TOPICS or named:
            raise DatasetError(
                f'{source.path} has no truth topics beside its images. Name them, give a folder of annotations, or '
                'replay with --truth none.'
            )
        return NoTruth()
    folder = open_labelled(Path(truth), split, classes, labels)
    require_scoring()
    return FolderTruth(folder, source, match or _choose_match(folder, source))


def _choose_match(folder: LabelledFolder, source: FrameSource) -> Match:
    if not isinstance(source, ImageFrames):
        return 'stamp' if folder.stamped and isinstance(source, BagFrames) else 'order'
    # By order, or by names that splits share, either would be scored on annotations of other images.
    other = split_of_images(folder, source.files)
    if other:
        raise DatasetError(
            f'{source.path} holds images of split {other!r}, and the annotations are those of {folder.split!r}. Give '
            f'--truth-split {other}, or say with --truth-match how they belong together.'
        )
    if match_images(folder, source.files):
        return 'name'
    if folder.layout == 'coco':
        raise DatasetError(
            f'{folder.path} names none of the images in {source.path}: those there are like {source.files[0].name}, '
            f'those in the file like {folder.files[0].name}. Give the file of these images, or --truth-match order.'
        )
    return 'order'
