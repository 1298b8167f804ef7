"""Making a bag of frames: images, their camera_info and, where annotations are at hand, the truth.

<camera>/image, or <camera>/image/compressed    the frames
<camera>/camera_info                            size only: a K of zeros is how ROS says uncalibrated
<camera>/truth/...                              see truth_topics
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from perception.bag.frames import ImageFrames
from perception.bag.labelled import LabelledFolder
from perception.bag.recording import CutShortError
from perception.bag.scene_messages import write_label_info, write_true_boxes
from perception.bag.source import FrameSource
from perception.bag.truth_topics import DETECTIONS_TOPIC, LABEL_INFO, MASK_TOPIC, camera_namespace
from perception.bag.writer import BagWriter
from perception.errors import DatasetError, RecordingError
from perception.image_messages import encode_png_fields
from perception.interfaces import GroundTruth, LabelSpace, StampedImage
from perception.labels import DEFAULT_LABELS
from perception.truth.index_maps import ImageSize

logger = logging.getLogger(__name__)

Encoding = Literal['jpeg', 'png', 'raw']
Truth = Callable[[StampedImage], GroundTruth | None]
"""What is true in a frame; None: nobody knows."""


@dataclass(frozen=True, kw_only=True)
class BagSummary:
    """What ``write_frames_bag`` wrote."""

    path: Path
    topic: str
    frames: int
    annotated: int
    """Frames with a truth."""
    start_ns: int
    end_ns: int
    size_bytes: int
    skipped: int = 0
    """Frames that could not be decoded."""

    def __str__(self) -> str:
        seconds, megabytes = (self.end_ns - self.start_ns) / 1e9, self.size_bytes / 1e6
        truth = f' ({self.annotated} with truth)' if self.annotated else ''
        lost = f'; {self.skipped} DAMAGED ONES ARE LEFT OUT' if self.skipped else ''
        return f'{self.path}: {self.frames} frames{truth} on {self.topic}, {seconds:.1f} s, {megabytes:.1f} MB{lost}'


def write_frames_bag(
    frames: Iterable[StampedImage],
    output: Path | str,
    topic: str = '',
    *,
    encoding: Encoding = 'jpeg',
    jpeg_quality: int = 90,
    truth: Truth | None = None,
    labels: LabelSpace = DEFAULT_LABELS,
    progress: bool = True,
) -> BagSummary:
    """Write frames into a new bag.

    Args:
        frames: What to write; a FrameSource also gives the progress bar its length.
        output: The folder to create.
        topic: Topic of the frames; empty: /camera/image, with /compressed behind it unless they are raw.
        encoding: ``png`` and ``raw`` (rgb8) lose nothing.
        jpeg_quality: 1 to 100.
        truth: Gives the annotation of each frame.
        labels: The label space that it counts in.
        progress: Show a progress bar.

    Raises:
        RecordingError: If the bag exists already, the disk is full, or there were no frames (then no bag is left
            behind).
        DatasetError: If an annotation is broken.
    """
    topic = topic or ('/camera/image' if encoding == 'raw' else '/camera/image/compressed')
    count = annotated = 0
    stamps_ns = 0, 0
    total = getattr(frames, 'frame_count', None)
    with (
        _writing(output),
        BagWriter(output) as writer,
        tqdm(_until_the_cut(frames), total=total, unit='frame', disable=not progress, desc=topic) as bar,
    ):
        for frame in bar:
            _write_image(writer, topic, frame, encoding, jpeg_quality)
            _write_camera_info(writer, f'{camera_namespace(topic)}/camera_info', frame)
            known = truth(frame) if truth is not None else None
            if known is not None:
                _write_truth(writer, camera_namespace(topic), frame, known, labels, first=annotated == 0)
                annotated += 1
            first_ns, last_ns = stamps_ns if count else (frame.stamp_ns, frame.stamp_ns)
            stamps_ns = min(first_ns, frame.stamp_ns), max(last_ns, frame.stamp_ns)
            count += 1
        if not count:
            raise RecordingError(f'There are no frames to write into {output}.')
    return BagSummary(
        path=writer.path,
        topic=topic,
        frames=count,
        annotated=annotated,
        start_ns=stamps_ns[0],
        end_ns=stamps_ns[1],
        size_bytes=sum(file.stat().st_size for file in writer.path.iterdir()),
        skipped=frames.skipped.total() if isinstance(frames, FrameSource) else 0,
    )


@contextmanager
def _writing(output: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordingError(f'Cannot write the bag {output}: {error}. Free some space and make it anew.') from error


def _until_the_cut(frames: Iterable[StampedImage]) -> Iterator[StampedImage]:
    """What is left of a recording that was cut short makes a whole one."""
    try:
        yield from frames
    except CutShortError as error:
        logger.warning('%s', error)


def labelled_frames(folder: LabelledFolder, rate_hz: float) -> tuple[FrameSource, Truth]:
    """The images of an annotated folder as frames at a fixed rate, and the truth of each.

    Raises:
        DatasetError: If an annotation has no image beside it, or several.
    """
    alone = [file for file in folder.files if not file.images]
    if alone:
        raise DatasetError(f'{alone[0]} has no image beside it ({len(alone)} of {len(folder.files)} have none).')
    unclear = next((file for file in folder.files if file.image is None), None)
    if unclear is not None:
        images = ' and '.join(str(image) for image in unclear.images)
        raise DatasetError(f'{images} have one annotation, {unclear}; remove the one that it is not of.')
    files = {str(file.image): file for file in folder.files}

    def truth(frame: StampedImage) -> GroundTruth:
        size = ImageSize(frame.source, (frame.image_rgb.shape[0], frame.image_rgb.shape[1]))
        return files[frame.source].read(size)

    return ImageFrames(folder.path, [Path(name) for name in files], rate_hz), truth


def _write_image(writer: BagWriter, topic: str, frame: StampedImage, encoding: Encoding, jpeg_quality: int) -> None:
    if encoding == 'raw':
        writer.write_image(topic, frame)
    elif encoding == 'png':
        writer.write_png(topic, frame)
    else:
        writer.write_jpeg(topic, frame, jpeg_quality)


def _write_camera_info(writer: BagWriter, topic: str, frame: StampedImage) -> None:
    height, width = frame.image_rgb.shape[:2]
    region = writer.create(
        'sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    message = writer.create(
        'sensor_msgs/msg/CameraInfo',
        header=writer.create_header(frame.stamp_ns, frame.frame_id),
        height=height,
        width=width,
        distortion_model='',
        d=np.zeros(0),
        k=np.zeros(9),
        r=np.zeros(9),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
    writer.write(topic, 'sensor_msgs/msg/CameraInfo', message, frame.stamp_ns)


def _write_truth(
    writer: BagWriter, camera: str, frame: StampedImage, truth: GroundTruth, labels: LabelSpace, *, first: bool
) -> None:
    stamp_ns = frame.stamp_ns
    for name, classes in ((MASK_TOPIC, labels.segmentation), (DETECTIONS_TOPIC, labels.detection)):
        if first:
            topic = f'{camera}/{name}/{LABEL_INFO}'
            write_label_info(writer, topic, classes, stamp_ns, threshold=0.0, masks=name == MASK_TOPIC)
    if truth.mask is not None:
        png = encode_png_fields(truth.mask)['data'].tobytes()
        writer.write_mask(f'{camera}/{MASK_TOPIC}/compressed', png, stamp_ns, frame.frame_id)
    if truth.boxes_xyxy is not None:
        write_true_boxes(writer, f'{camera}/{DETECTIONS_TOPIC}', truth, stamp_ns, frame.frame_id)
