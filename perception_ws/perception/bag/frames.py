"""One door for all recordings: a bag, a folder of images, one image or a video, each as a FrameSource."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from perception.bag.reader import BagFrames
from perception.bag.recording import METADATA, storage_files
from perception.bag.source import FrameSource, OnSkip, counting_order, list_folder, require_exists
from perception.bag.storage import STORAGES, is_storage
from perception.errors import ConfigError, ImageError, RecordingError
from perception.image_messages import decode_picture
from perception.interfaces import StampedImage

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.m4v', '.webm', '.mpg', '.mpeg')


def open_frames(
    source: Path | str, topic: str | None = None, *, rate_hz: float = 10.0, on_skip: OnSkip | None = None
) -> FrameSource:
    """Open a recording of any kind, told by its name.

    Args:
        source: Bag (folder, or .mcap, .db3, .bag), folder of images, image file or video file.
        topic: Image topic of a bag; None takes the only one there is.
        rate_hz: Frame rate for images in a folder, which carry no time, and for videos that do not say theirs.
        on_skip: Called for each frame that cannot be decoded.

    Raises:
        RecordingError: If the path is missing, of no known kind, or holds no frames.
        ConfigError: If a topic is given for something without topics, or the rate is not above zero.
    """
    path = Path(source)
    require_exists(path)
    if rate_hz <= 0:
        raise ConfigError(f'The frame rate is {rate_hz} Hz; it must be above zero.')
    if is_bag(path):
        beside = _images(path) if path.is_dir() else []
        if beside:
            logger.warning(
                '%s is read as a bag; %d images beside it, such as %s, are not.', path, len(beside), beside[0].name
            )
        return BagFrames(path, topic, on_skip=on_skip)
    if topic is not None:
        raise ConfigError(f'{path} is no bag, so it has no topic {topic!r}. Leave the topic out.')
    if path.is_dir():
        return ImageFrames(path, list_images(path), rate_hz, on_skip)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFrames(path, [path], rate_hz, on_skip)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFrames(path, rate_hz, on_skip)
    raise RecordingError(f'{path} is of no known kind. {_KNOWN_KINDS}')


def is_bag(path: Path) -> bool:
    """Whether a path is a bag: a file of one, or a folder with metadata.yaml or such files, whatever else it holds."""
    if path.is_file():
        return is_storage(path)
    return (path / METADATA).exists() or bool(storage_files(path))


_KNOWN_KINDS = (
    f'Expected a bag (folder, {", ".join(STORAGES)}), a folder of images, '
    f'an image ({", ".join(IMAGE_SUFFIXES)}) or a video ({", ".join(VIDEO_SUFFIXES)}).'
)


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, in the order a person counts: frame_2 before frame_10.

    Raises:
        RecordingError: If there are none.
    """
    images = sorted(_images(folder), key=lambda image: counting_order(image.name))
    if images:
        return images
    entries = sorted(list_folder(folder))
    below = [entry.name for entry in entries if entry.is_dir() and _images(entry)]
    if below:
        raise RecordingError(
            f'{folder} holds no images itself, but {len(below)} folders in it do, such as {below[0]}: give these one '
            'by one.'
        )
    found = ', '.join(entry.name for entry in entries[:5]) + (', ...' if len(entries) > 5 else '')
    raise RecordingError(f'{folder} holds no images, only: {found or "nothing"}. {_KNOWN_KINDS}')


def _images(folder: Path) -> list[Path]:
    return [entry for entry in list_folder(folder) if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]


class ImageFrames(FrameSource):
    """Image files as frames at a fixed rate, the first at 0 ns. A skipped file leaves a gap."""

    def __init__(self, path: Path, files: Sequence[Path], rate_hz: float = 10.0, on_skip: OnSkip | None = None) -> None:
        super().__init__(path, on_skip)
        self.files = tuple(files)
        self.frame_count = len(self.files)
        self.frame_rate_hz = rate_hz
        self._period_ns = 1e9 / rate_hz

    def _read(self) -> Iterator[StampedImage]:
        for index, file in enumerate(self.files):
            stamp_ns = round(index * self._period_ns)
            try:
                image_rgb = decode_picture(_read_bytes(file), file.name, 'file').to_rgb()
            except ImageError as error:
                self._skip(stamp_ns, error)
                continue
            yield StampedImage(image_rgb=image_rgb, stamp_ns=stamp_ns, source=str(file))


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageError('unreadable', f'Cannot read {file}: {error.strerror}.') from error


class VideoFrames(FrameSource):
    """A video file, decoded by OpenCV. Stamps are the times in the video, the first at 0 ns.

    Raises:
        RecordingError: If OpenCV cannot open it or it holds no frame.
    """

    def __init__(self, path: Path, rate_hz: float = 10.0, on_skip: OnSkip | None = None) -> None:
        super().__init__(path, on_skip)
        capture = cv2.VideoCapture(str(path))
        try:
            if not (capture.isOpened() and capture.grab()):
                raise RecordingError(f'OpenCV finds no frames in {path}: it is damaged, or its codec is not built in.')
            frame_rate_hz, frame_count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        finally:
            capture.release()
        self.frame_rate_hz = frame_rate_hz if frame_rate_hz > 0 else rate_hz
        self.frame_count = int(frame_count) if frame_count > 0 else None

    def _read(self) -> Iterator[StampedImage]:
        capture = cv2.VideoCapture(str(self.path))
        frames, stamp_ns = 0, 0
        try:
            while (frame := capture.read())[0]:
                previous_ns, stamp_ns = stamp_ns, round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if frames and stamp_ns <= previous_ns:  # containers without times say 0 for every frame
                    stamp_ns = previous_ns + round(1e9 / (self.frame_rate_hz or 1))
                frames += 1
                image_rgb = cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB)
                yield StampedImage(image_rgb=image_rgb, stamp_ns=stamp_ns, source=str(self.path))
        finally:
            capture.release()
        if self.frame_count is not None and frames < self.frame_count:
            # Only a warning: containers often estimate their count.
            logger.warning('%s announces %d frames; %d could be decoded.', self.path, self.frame_count, frames)
