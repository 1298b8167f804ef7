"""Frames of one image topic out of a bag: MCAP, sqlite3 and ROS 1, raw and compressed, read by rosbags without ROS.

Messages are decoded by the two image types that rosbags ships, which are the same in every ROS 2 release, not by the
definitions in the bag. So a bag stays readable that embeds none, spells types in the old way, or holds other topics
that nobody can parse; the unified reader of rosbags (AnyReader) refuses such bags as a whole.
"""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from perception.bag.source import FrameSource, OnSkip, require_exists
from perception.errors import ImageError, RecordingError
from perception.image_messages import DecodedImage, decode_compressed_image, decode_image
from perception.interfaces import StampedImage

logger = logging.getLogger(__name__)

DECODERS: dict[str, Callable[[Any], DecodedImage]] = {
    'sensor_msgs/msg/Image': decode_image,
    'sensor_msgs/msg/CompressedImage': decode_compressed_image,
}
"""Message types that hold a frame."""

Reader = rosbag1.Reader | rosbag2.Reader


def read_frames(bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> Iterator[StampedImage]:
    """Read the frames of one image topic of a bag.

    Args:
        bag: Folder with metadata.yaml, or a single .mcap, .db3 or (ROS 1) .bag file.
        topic: Name of the image topic; None takes the only one there is.
        on_skip: Called for each frame that cannot be decoded; without it the first of each kind is logged.

    Returns:
        Frames in the order of recording. Their stamp is the header's, or the time of receipt where that is zero.

    Raises:
        RecordingError: If the bag is missing or damaged (also while iterating), or does not hold such a topic.
    """
    return iter(BagFrames(bag, topic, on_skip=on_skip))


class BagFrames(FrameSource):
    """One image topic of a bag; ``read_frames`` says what the arguments mean."""

    def __init__(self, bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> None:
        super().__init__(Path(bag), on_skip)
        with _open_reader(self.path) as reader:
            self.topic = _choose_topic(self.path, reader.connections, topic)
            self.frame_count = sum(connection.msgcount for connection in self._connections(reader))
            duration_ns = reader.end_time - reader.start_time
        if self.frame_count > 1 and duration_ns > 1:
            self.frame_rate_hz = (self.frame_count - 1) * 1e9 / duration_ns

    def _connections(self, reader: Reader) -> list[Connection]:
        return [c for c in reader.connections if c.topic == self.topic and _type_name(c) in DECODERS]

    def _read(self) -> Iterator[StampedImage]:
        is_ros1, assumed, messages = _is_ros1(self.path), None, 0
        with _open_reader(self.path) as reader:
            for connection, stamp_ns, data in _read_messages(self.path, reader, self._connections(reader)):
                messages += 1
                try:
                    message = _deserialize(data, _type_name(connection), is_ros1)
                    stamp_ns = _header_stamp_ns(message) or stamp_ns
                    decoded = DECODERS[_type_name(connection)](message)
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
            raise _damaged(self.path, ValueError(f'none of the {self.frame_count} messages of {self.topic} was found.'))
        if messages != self.frame_count:
            # Only a warning: some recorders announce messages that they dropped later.
            logger.warning(
                '%s announces %d messages on %s and holds %d.', self.path, self.frame_count, self.topic, messages
            )


def _choose_topic(path: Path, connections: Collection[Connection], topic: str | None) -> str:
    types: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for connection in connections:
        counts[connection.topic] += connection.msgcount
        if types.get(connection.topic) not in DECODERS:
            types[connection.topic] = _type_name(connection)
    images = [name for name in sorted(types) if types[name] in DECODERS]
    if topic is None:
        filled = [name for name in images if counts[name]]
        if len(filled) == 1:
            return filled[0]
        problem = f'{len(filled)} image topics with messages; name the one to read'
    else:
        name = topic if topic in types else f'/{topic}'
        if name in images and counts[name]:
            return name
        problem = f'no frames on topic {topic!r}' if name in images else f'no image topic {topic!r}'
    listed = images or sorted(types)
    described = ', '.join(f'{name} ({types[name]}, {counts[name]} messages)' for name in listed)
    kind = 'Image topics' if images else 'No image topics; all topics'
    raise RecordingError(f'{path} has {problem}. {kind}: {described or "none"}.')


def _type_name(connection: Connection) -> str:
    """Old bags write sensor_msgs/Image for sensor_msgs/msg/Image."""
    package, _, name = connection.msgtype.rpartition('/')
    return connection.msgtype if package.endswith('/msg') else f'{package}/msg/{name}'


def _is_ros1(path: Path) -> bool:
    return path.suffix == '.bag' and path.is_file()


@functools.cache
def _typestore(ros1: bool) -> Any:
    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)


def _deserialize(data: bytes, type_name: str, is_ros1: bool) -> Any:
    store = _typestore(is_ros1)
    try:
        return (store.deserialize_ros1 if is_ros1 else store.deserialize_cdr)(data, type_name)
    except SerdeError as error:
        raise ImageError('undecodable', f'Message of {len(data)} bytes is no {type_name}: {error}') from error


def _header_stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


@contextmanager
def _open_reader(path: Path) -> Iterator[Reader]:
    require_exists(path)
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise RecordingError(
            f'{path} has no metadata.yaml, so it is no bag or its recording was cut short. '
            'Run `ros2 bag reindex` on it, or name the .mcap or .db3 file inside.'
        )
    try:
        reader: Reader = rosbag1.Reader(path) if _is_ros1(path) else rosbag2.Reader(path)
        reader.open()
    except Exception as error:  # on damaged bytes the file readers raise a dozen unrelated types
        raise _damaged(path, error) from error
    try:
        yield reader
    finally:
        reader.close()


def _read_messages(
    path: Path, reader: Reader, connections: Collection[Connection]
) -> Iterator[tuple[Connection, int, bytes]]:
    try:
        yield from reader.messages(connections)
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RecordingError:
    tool = 'rosbag reindex' if _is_ros1(path) else 'ros2 bag reindex` or `mcap recover'
    return RecordingError(
        f'Cannot read {path} as a bag, it may be cut short or damaged: {error or type(error).__name__} '
        f'`{tool}` can often save what is left.'
    )
