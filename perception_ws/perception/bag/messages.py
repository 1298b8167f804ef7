"""Messages out of bags as objects, by the types that rosbags ships and by our vision_msgs.

Never by the definitions in a bag: it stays readable where they are missing, wrong or of a kind that nobody can parse.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from perception.bag.storage import Message, Topic
from perception.bag.storage.interface import CDR, ROS1
from perception.bag.vision_messages import VISION_MESSAGES
from perception.errors import ImageError, RecordingError


def can_decode(topic: Topic) -> bool:
    """Whether messages of a topic can be decoded: its encoding and its type are known."""
    return topic.encoding in (CDR, ROS1) and topic.type in _typestore(is_ros1(topic)).types


def is_ros1(topic: Topic) -> bool:
    """Whether the messages are those of ROS 1."""
    return topic.encoding == ROS1


def deserialize(path: Path, message: Message) -> Any:
    """The message, with its fields as attributes.

    Args:
        path: Of the bag, for errors.

    Raises:
        ImageError: If the bytes are no such message.
        RecordingError: If nobody knows that type, as with vision_msgs in a ROS 1 bag.
    """
    topic, data = message.topic, message.data
    if not can_decode(topic):
        raise RecordingError(
            f'{path} holds {topic.type} on {topic.name!r}, encoded as {topic.encoding or "nothing known"}, which '
            f'nobody knows in a ROS {1 if is_ros1(topic) else 2} bag. Leave the topic out of the bag or name another.'
        )
    store = _typestore(is_ros1(topic))
    try:
        return (store.deserialize_ros1 if is_ros1(topic) else store.deserialize_cdr)(data, topic.type)
    except SerdeError as error:
        raise ImageError('undecodable', f'Message of {len(data)} bytes is no {topic.type}: {error}') from error


def header_stamp_ns(message: Any) -> int:
    """The stamp in a message's header; 0 where none was set, or one from before 1970 or behind 2038."""
    return _stamp_ns(message.header.stamp.sec, message.header.stamp.nanosec)


def serialized_stamp_ns(message: Message) -> int:
    """The same of a message that begins with a header, without reading on: what is broken behind it does not matter.

    Raises:
        ImageError: If the bytes end before the stamp does.
    """
    # In front are 4 bytes: in ROS 1 the sequence number, in CDR the encapsulation, whose second byte is the byte order.
    form = '<II' if is_ros1(message.topic) else '<iI' if message.data[1:2] == b'\1' else '>iI'
    try:
        seconds, nanoseconds = struct.unpack_from(form, message.data, 4)
    except struct.error as error:
        raise ImageError(
            'undecodable', f'A message of {len(message.data)} bytes ends before its stamp does.'
        ) from error
    return _stamp_ns(seconds, nanoseconds)


def _stamp_ns(seconds: int, nanoseconds: int) -> int:
    # Behind that no message of ROS 2 can hold it.
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if 0 <= seconds < 1 << 31 else 0


@functools.cache
def _typestore(ros1: bool) -> Any:
    if ros1:
        return get_typestore(Stores.ROS1_NOETIC)
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION_MESSAGES.items():
        store.register(get_types_from_msg(text, name))
    return store
