"""sqlite3 files of ROS 2, by Python's own module: a table of topics and one of messages.

What SQLite had not yet put into the file when its recorder was killed lies beside it: a write-ahead log, or a journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from perception.bag.storage.interface import Message, Topic, full_type_name
from perception.bag.storage.unpacking import copy_together
from perception.errors import RecordingError

_LOG, _JOURNAL = '-wal', '-journal'


def companions(path: Path) -> list[Path]:
    """The files beside a database that hold a part of its content."""
    beside = [path.with_name(path.name + end) for end in (_LOG, _JOURNAL)]
    return [file for file in beside if file.is_file() and file.stat().st_size]


class Sqlite3File:
    """A .db3 file; it is never written to."""

    ended_by: RecordingError | None = None

    def __init__(self, path: Path) -> None:
        self._database = _connect(path)
        counts = dict(self._database.execute('SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'))
        rows = self._database.execute('SELECT id, name, type, serialization_format FROM topics ORDER BY id').fetchall()
        self._topics = {
            number: Topic(name=name, type=full_type_name(kind), encoding=encoding, count=counts.get(number, 0))
            for number, name, kind, encoding in rows
        }
        self.topics = tuple(self._topics.values())

    def messages(self, topics: Collection[Topic]) -> Iterator[Message]:
        wanted = [number for number, topic in self._topics.items() if topic in topics]
        rows = self._database.execute(
            f'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({", ".join("?" * len(wanted))}) '
            'ORDER BY timestamp, id',
            wanted,
        )
        for number, received_ns, data in rows:
            yield Message(self._topics[number], received_ns, data)

    def close(self) -> None:
        self._database.close()


def _connect(path: Path) -> sqlite3.Connection:
    beside = companions(path)
    if not beside:
        return _open(path, 'immutable=1')  # needs no lock, so it works on any disk
    if all(file.name.endswith(_LOG) for file in beside):
        try:
            return _open(path, 'mode=ro')
        except sqlite3.Error:
            pass  # a folder in which SQLite may not put the index of the log
    # A journal takes back half a transaction, which is written.
    return _open(copy_together((path, *beside)), 'mode=rw')


def _open(path: Path, how: str) -> sqlite3.Connection:
    # Frames are read ahead by another thread than the one that opens the file, never by two at once.
    database = sqlite3.connect(f'{path.absolute().as_uri()}?{how}', uri=True, check_same_thread=False)
    try:
        database.execute('SELECT 1 FROM topics, messages LIMIT 1').fetchall()
    except BaseException:
        database.close()
        raise
    return database
