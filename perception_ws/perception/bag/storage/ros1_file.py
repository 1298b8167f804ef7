"""Bags of ROS 1 (version 2.0), by rosbags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags import rosbag1

from perception.bag.storage.interface import ROS1, Message, Topic, full_type_name
from perception.errors import RecordingError


class Ros1File:
    """A .bag file."""

    ended_by: RecordingError | None = None

    def __init__(self, path: Path) -> None:
        self._reader = rosbag1.Reader(path)
        self._reader.open()
        counts: Counter[tuple[str, str]] = Counter()
        for connection in self._reader.connections:  # one for each publisher
            counts[connection.topic, full_type_name(connection.msgtype)] += connection.msgcount
        self.topics = tuple(
            Topic(name=name, type=kind, encoding=ROS1, count=count) for (name, kind), count in counts.items()
        )

    def messages(self, topics: Collection[Topic]) -> Iterator[Message]:
        named = {(topic.name, topic.type): topic for topic in topics}
        wanted = {
            connection: named[key]
            for connection in self._reader.connections
            if (key := (connection.topic, full_type_name(connection.msgtype))) in named
        }
        if wanted:  # none would mean all of them
            for connection, received_ns, data in self._reader.messages(wanted):
                yield Message(wanted[connection], received_ns, data)

    def close(self) -> None:
        self._reader.close()
