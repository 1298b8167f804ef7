"""Frames of one image topic out of a bag: MCAP, sqlite3 and ROS 1, raw and compressed, read by rosbags without ROS."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection

from perception.bag.recording import (
    Reader,
    damaged,
    deserialize,
    header_stamp_ns,
    open_recording,
    read_messages,
    type_name,
)
from perception.bag.source import FrameSource, OnSkip
from perception.errors import ImageError, RecordingError
from perception.image_messages import DecodedImage, decode_compressed_image, decode_image
from perception.interfaces import StampedImage

logger = logging.getLogger(__name__)

DECODERS: dict[str, Callable[[Any], DecodedImage]] = {
    'sensor_msgs/msg/Image': decode_image,
    'sensor_msgs/msg/CompressedImage': decode_compressed_image,
}
"""Message types that hold a frame."""
_DEPTH_ENCODINGS = ('16UC1', '32FC1')


def read_frames(bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> Iterator[StampedImage]:
    """Read the frames of one image topic of a bag.

    Args:
        bag: Folder, or a single .mcap, .db3 or (ROS 1) .bag file.
        topic: Name of the image topic; None takes the only one there is.
        on_skip: Called for each frame that cannot be decoded; without it the first of each kind is logged.

    Returns:
        Frames in the order of recording. Their stamp is the header's, or the time of receipt where that is zero.

    Raises:
        RecordingError: If the bag is missing or damaged (also while iterating: a cut is told behind the frames that are
            left), or does not hold such a topic.
    """
    return iter(BagFrames(bag, topic, on_skip=on_skip))


class BagFrames(FrameSource):
    """One image topic of a bag; ``read_frames`` says what the arguments mean."""

    def __init__(self, bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> None:
        super().__init__(Path(bag), on_skip)
        with open_recording(self.path) as reader:
            self.topic = _choose_topic(self.path, reader, topic)
            self.frame_count = sum(connection.msgcount for connection in self._connections(reader))
            duration_ns = reader.end_time - reader.start_time
        if self.frame_count > 1 and duration_ns > 1:
            self.frame_rate_hz = (self.frame_count - 1) * 1e9 / duration_ns

    def _connections(self, reader: Reader) -> list[Connection]:
        return [c for c in reader.connections if c.topic == self.topic and type_name(c) in DECODERS]

    def _read(self) -> Iterator[StampedImage]:
        assumed, messages = None, 0
        with open_recording(self.path) as reader:
            for connection, stamp_ns, data in read_messages(self.path, reader, self._connections(reader)):
                messages += 1
                try:
                    message = deserialize(self.path, connection, data)
                    stamp_ns = header_stamp_ns(message) or stamp_ns
                    decoded = DECODERS[type_name(connection)](message)
                except ImageError as error:
                    self._skip(stamp_ns, error)
                    continue
                if decoded.assumed and not assumed:
                    assumed = decoded.assumed
                    logger.warning('%s, topic %s: %s.', self.path, self.topic, assumed)
                # A view on the file's bytes is read-only, which torch warns about with every frame.
                image_rgb = np.require(decoded.to_rgb(), requirements='W')
                yield StampedImage(
                    image_rgb=image_rgb, stamp_ns=stamp_ns, frame_id=message.header.frame_id, source=self.topic
                )
        if messages == 0:
            raise damaged(
                self.path, RecordingError(f'none of the {self.frame_count} messages of {self.topic} was found')
            )
        if messages != self.frame_count:
            # Only a warning: some recorders announce messages that they dropped later.
            logger.warning(
                '%s announces %d messages on %s and holds %d.', self.path, self.frame_count, self.topic, messages
            )


def camera_topics(bag: Path | str) -> list[str]:
    """The topics of a bag on which cameras publish, one for each camera: raw images rather than compressed ones.

    Masks and overlays, predicted or true, and depth are images too, but no camera's.

    Raises:
        RecordingError: If the bag is missing or damaged, or holds no camera's images.
    """
    path = Path(bag)
    with open_recording(path) as reader:
        filled = [connection for connection in reader.connections if connection.msgcount]
        cameras = _camera_topics(path, reader)
    if not cameras:
        described = ', '.join(sorted({f'{connection.topic} ({type_name(connection)})' for connection in filled}))
        raise RecordingError(f'{path} holds no images of a camera. Topics with messages: {described or "none"}.')
    return cameras


def _camera_topics(path: Path, reader: Reader) -> list[str]:
    connections = {
        connection.topic: connection
        for connection in reader.connections
        if connection.msgcount and type_name(connection) in DECODERS and not _is_result(connection.topic)
    }
    cameras = [
        topic
        for topic in sorted(connections)
        if not (topic.endswith('/compressed') and topic.removesuffix('/compressed') in connections)
    ]
    depth = [topic for topic in cameras if _holds_depth(path, reader, connections[topic])]
    if depth:
        logger.warning('%s: %s: depth, so no camera; name the topic to read it as one.', path, ', '.join(depth))
    return [topic for topic in cameras if topic not in depth]


def _holds_depth(path: Path, reader: Reader, connection: Connection) -> bool:
    """Told by the first message: names tell less."""
    try:
        for _, _, data in read_messages(path, reader, [connection]):
            message = deserialize(path, connection, data)
            return 'compressedDepth' in str(getattr(message, 'format', '')) or (
                getattr(message, 'encoding', '') in _DEPTH_ENCODINGS
            )
    except (ImageError, RecordingError):
        pass  # whoever reads the frames says so
    return False


def _is_result(topic: str) -> bool:
    return not {'truth', 'segmentation', 'overlay'}.isdisjoint(topic.split('/'))


def _choose_topic(path: Path, reader: Reader, topic: str | None) -> str:
    types: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for connection in reader.connections:
        counts[connection.topic] += connection.msgcount
        if types.get(connection.topic) not in DECODERS:
            types[connection.topic] = type_name(connection)
    images = [name for name in sorted(types) if types[name] in DECODERS]
    if topic is None:
        cameras = _camera_topics(path, reader)
        if len(cameras) == 1:
            return cameras[0]
        problem = f'{len(cameras)} camera topics with messages; name the one to read' if cameras else 'no camera images'
    else:
        name = topic if topic in types else f'/{topic}'
        if name in images and counts[name]:
            return name
        problem = f'no frames on topic {topic!r}' if name in images else f'no image topic {topic!r}'
    listed = images or sorted(types)
    described = ', '.join(f'{name} ({types[name]}, {counts[name]} messages)' for name in listed)
    kind = 'Image topics' if images else 'No image topics; all topics'
    raise RecordingError(f'{path} has {problem}. {kind}: {described or "none"}.')
