"""What a file of a bag is to its readers: topics, and their messages as bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from perception.errors import RecordingError

CDR, ROS1 = 'cdr', 'ros1'
"""The encodings of messages that can be decoded: those of ROS 2 and of ROS 1."""


class CutShortError(RecordingError):
    """All that is left of a recording was read, and its end is missing."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Messages of one name, type and encoding; a name may have several.

    Attributes:
        name: As ROS writes it, ``/front/image_raw``.
        type: ``package/msg/Name``, also where an old recorder wrote ``package/Name``; anything in foreign recordings.
        encoding: How its messages are written: CDR, ROS1 or one that nobody here reads, such as ``json``.
        count: Messages.
    """

    name: str
    type: str
    encoding: str = CDR
    count: int = field(default=0, compare=False)


class Message(NamedTuple):
    """One message as it was recorded."""

    topic: Topic
    received_ns: int
    data: bytes


class Storage(Protocol):
    """One open file.

    Attributes:
        topics: What it holds, also topics without messages.
        ended_by: Why it ends before its end; raised by ``messages`` behind the last one that can be read. None: it is
            whole, as far as is known.
    """

    topics: tuple[Topic, ...]
    ended_by: RecordingError | None

    def messages(self, topics: Collection[Topic]) -> Iterator[Message]:
        """The messages of some topics in the order in which they were received.

        Raises:
            RecordingError: Behind the last one, if the file ends early.
            Exception: What the libraries raise on damaged bytes.
        """
        ...

    def close(self) -> None: ...


def full_type_name(name: str) -> str:
    """The name of a message type; old recordings write sensor_msgs/Image for sensor_msgs/msg/Image."""
    package, _, last = name.rpartition('/')
    return f'{package}/msg/{last}' if package and not package.endswith('/msg') else name
