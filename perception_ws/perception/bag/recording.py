"""Opening bags and reading their messages: MCAP, sqlite3 and ROS 1, by rosbags, without ROS.

Messages are decoded by the types that rosbags ships, and by our vision_msgs, not by the definitions in the bag. So a
bag stays readable that embeds none, spells types in the old way, or holds other topics that nobody can parse; the
unified reader of rosbags (AnyReader) refuses such bags as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from perception.bag.source import require_exists
from perception.bag.vision_messages import VISION_MESSAGES
from perception.errors import ImageError, RecordingError

Reader = rosbag1.Reader | rosbag2.Reader


@contextmanager
def open_recording(path: Path) -> Iterator[Reader]:
    """Open a bag: a folder with metadata.yaml, or a single .mcap, .db3 or (ROS 1) .bag file.

    Raises:
        RecordingError: If it is missing, cut short or damaged.
    """
    require_exists(path)
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise RecordingError(
            f'{path} has no metadata.yaml, so it is no bag or its recording was cut short. '
            'Run `ros2 bag reindex` on it, or name the .mcap or .db3 file inside.'
        )
    try:
        reader: Reader = rosbag1.Reader(path) if is_ros1(path) else rosbag2.Reader(path)
        reader.open()
    except Exception as error:  # on damaged bytes the file readers raise a dozen unrelated types
        raise damaged(path, error) from error
    try:
        yield reader
    finally:
        reader.close()


def read_messages(
    path: Path, reader: Reader, connections: Collection[Connection]
) -> Iterator[tuple[Connection, int, bytes]]:
    """Connection, time of receipt in ns and content of each message, in the order of recording.

    Raises:
        RecordingError: If the bag turns out to be damaged on the way.
    """
    try:
        yield from reader.messages(connections)
    except Exception as error:  # as above
        raise damaged(path, error) from error


def type_name(connection: Connection) -> str:
    """The message type; old bags write sensor_msgs/Image for sensor_msgs/msg/Image."""
    package, _, name = connection.msgtype.rpartition('/')
    return connection.msgtype if package.endswith('/msg') else f'{package}/msg/{name}'


def deserialize(path: Path, connection: Connection, data: bytes) -> Any:
    """The message, with its fields as attributes.

    Raises:
        ImageError: If the bytes are no such message.
    """
    name, ros1 = type_name(connection), is_ros1(path)
    store = _typestore(ros1)
    try:
        return (store.deserialize_ros1 if ros1 else store.deserialize_cdr)(data, name)
    except SerdeError as error:
        raise ImageError('undecodable', f'Message of {len(data)} bytes is no {name}: {error}') from error


def header_stamp_ns(message: Any) -> int:
    """The stamp in a message's header; 0 where none was set."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def is_ros1(path: Path) -> bool:
    """Whether the bag is a ROS 1 file."""
    return path.suffix == '.bag' and path.is_file()


def damaged(path: Path, error: Exception) -> RecordingError:
    """The error for a bag that cannot be read on, with what may save it."""
    tool = 'rosbag reindex' if is_ros1(path) else 'ros2 bag reindex` or `mcap recover'
    return RecordingError(
        f'Cannot read {path} as a bag, it may be cut short or damaged: {error or type(error).__name__} '
        f'`{tool}` can often save what is left.'
    )


@functools.cache
def _typestore(ros1: bool) -> Any:
    if ros1:
        return get_typestore(Stores.ROS1_NOETIC)
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION_MESSAGES.items():
        store.register(get_types_from_msg(text, name))
    return store
