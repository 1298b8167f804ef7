"""Opening bags and reading their messages: MCAP, sqlite3 and ROS 1, by rosbags, without ROS.

Messages are decoded by the types that rosbags ships, and by our vision_msgs, not by the definitions in the bag. So a
bag stays readable that embeds none, spells types in the old way, or holds other topics that nobody can parse; the
unified reader of rosbags (AnyReader) refuses such bags as a whole.
"""

from __future__ import annotations

import functools
import logging
import re
import sqlite3
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection, ConnectionExtRosbag1
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from perception.bag.cut_short import MAGIC, CutShortMcap, is_cut_short
from perception.bag.source import counting_order, list_folder, require_exists
from perception.bag.vision_messages import VISION_MESSAGES
from perception.errors import ImageError, RecordingError

logger = logging.getLogger(__name__)

BAG_SUFFIXES = ('.mcap', '.db3', '.bag')
METADATA = 'metadata.yaml'
_SPLIT_NUMBER = re.compile(r'_?\d+$')
_BEGINNINGS = {'.mcap': MAGIC, '.db3': b'SQLite format 3\0', '.bag': b'#ROSBAG V2.0'}


class CutShortError(RecordingError):
    """All that is left of a recording was read, and its end is missing."""


class Reader(Protocol):
    """What is asked of a bag, or of one of its files."""

    @property
    def connections(self) -> list[Connection]: ...

    @property
    def start_time(self) -> int: ...

    @property
    def end_time(self) -> int: ...

    def close(self) -> None: ...

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]: ...


def storage_files(folder: Path) -> list[Path]:
    """The files of a bag in a folder, in the order of their numbers."""
    files = [file for file in list_folder(folder) if file.suffix in BAG_SUFFIXES] if folder.is_dir() else []
    return sorted(files, key=lambda file: counting_order(file.name))


@contextmanager
def open_recording(path: Path) -> Iterator[Reader]:
    """Open a bag: a folder, or a single .mcap, .db3 or (ROS 1) .bag file.

    Of an MCAP file that was cut short, what is left is read. So is a folder whose metadata.yaml is missing.

    Raises:
        RecordingError: If it is missing, cut short so that nothing can be read, or damaged.
    """
    require_exists(path)
    if path.is_file():
        _check_beginning(path)
    try:
        reader = _open(path)
    except RecordingError:
        raise
    except Exception as error:  # on damaged bytes the file readers raise a dozen unrelated types
        raise damaged(path, error) from error
    try:
        if getattr(reader, 'cut_short', False) and not any(connection.msgcount for connection in reader.connections):
            raise CutShortError(f'{path} was cut short before its first message was on the disk; nothing is left.')
        yield reader
    finally:
        reader.close()


def _open(path: Path) -> Reader:
    if not path.is_dir():
        return _open_file(path)
    files = storage_files(path)
    begun = [file for file in files if file.stat().st_size]
    cut_short = len(begun) < len(files) or any(file.suffix == '.mcap' and is_cut_short(file) for file in files)
    if (path / METADATA).exists() and not (begun and cut_short):
        return _opened(rosbag2.Reader(path))
    if not files:
        raise FileNotFoundError(f'there is neither {METADATA} nor a file of a bag')
    for file in begun or files:
        _check_beginning(file)
    if len({_SPLIT_NUMBER.sub('', file.stem) for file in files}) > 1:
        names = ', '.join(file.name for file in files[:5]) + (', ...' if len(files) > 5 else '')
        raise RecordingError(f'{path} holds several recordings; name them one by one: {names}.')
    if len(begun) < len(files):
        logger.warning('%s: nothing was recorded into %s.', path, files[-1].name)
    return _Files(begun)


def _open_file(path: Path) -> Reader:
    if _is_ros1_file(path):
        return _opened(rosbag1.Reader(path))
    if path.suffix == '.mcap' and is_cut_short(path):
        return _opened(_CutShort(cast(Any, CutShortMcap(path))))
    return _opened(rosbag2.Reader(path))


def _is_ros1_file(path: Path) -> bool:
    return path.suffix == '.bag' and path.is_file()


def _opened(reader: Any) -> Reader:
    reader.open()
    return cast(Reader, reader)


class _CutShort(rosbag2.Reader):
    """What is left of an MCAP file; reading ends with a CutShortError."""

    cut_short = True

    def messages(self, *arguments: Any, **options: Any) -> Any:
        yield from super().messages(*arguments, **options)
        raise CutShortError(
            f'{self.path} was cut short, as by a loss of power: all {self.message_count:,} messages that are whole '
            'were read, its end is missing.'
        )


class _Files:
    """The files of a bag whose metadata.yaml is missing, or older than the cut; one after the other."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._readers: list[Reader] = []
        try:
            for file in files:
                self._readers.append(_open_file(file))
        except BaseException:
            self.close()
            raise

    @property
    def cut_short(self) -> bool:
        return any(getattr(reader, 'cut_short', False) for reader in self._readers)

    @property
    def connections(self) -> list[Connection]:
        return [connection for reader in self._readers for connection in reader.connections]

    @property
    def start_time(self) -> int:
        return min(reader.start_time for reader in self._readers)

    @property
    def end_time(self) -> int:
        return max(reader.end_time for reader in self._readers)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        cut_short = None
        for reader in self._readers:
            wanted = [connection for connection in reader.connections if connection in connections]
            try:
                # None would mean all of them.
                yield from reader.messages(wanted) if wanted else ()
            except CutShortError as error:
                cut_short = error
        if cut_short:
            raise cut_short


def read_messages(
    path: Path, reader: Reader, connections: Collection[Connection]
) -> Iterator[tuple[Connection, int, bytes]]:
    """Connection, time of receipt in ns and content of each message, in the order of recording.

    Raises:
        CutShortError: At the end, if the bag was cut short there.
        RecordingError: If the bag turns out to be damaged on the way.
    """
    try:
        yield from reader.messages(connections)
    except CutShortError:
        raise
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
        RecordingError: If nobody knows that type, as with vision_msgs in a ROS 1 bag.
    """
    name, ros1 = type_name(connection), is_ros1(connection)
    store = _typestore(ros1)
    if name not in store.types:
        raise RecordingError(
            f'{path} holds {name} on {connection.topic!r}, which nobody knows in a ROS {2 - ros1} bag. Leave the topic '
            'out of the bag, or name another one.'
        )
    try:
        return (store.deserialize_ros1 if ros1 else store.deserialize_cdr)(data, name)
    except SerdeError as error:
        raise ImageError('undecodable', f'Message of {len(data)} bytes is no {name}: {error}') from error


def header_stamp_ns(message: Any) -> int:
    """The stamp in a message's header; 0 where none was set, or one from before 1970 or behind 2038."""
    return _stamp_ns(message.header.stamp.sec, message.header.stamp.nanosec)


def _stamp_ns(seconds: int, nanoseconds: int) -> int:
    # Behind that no message of ROS 2 can hold it.
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if 0 <= seconds < 1 << 31 else 0


def serialized_stamp_ns(connection: Connection, data: bytes) -> int:
    """The same of a message that begins with a header, without reading on: what is broken behind it does not matter.

    Raises:
        ImageError: If the bytes end before the stamp does.
    """
    # In front are 4 bytes: in ROS 1 the sequence number, in CDR the encapsulation, whose second byte is the byte order.
    form = '<II' if is_ros1(connection) else '<iI' if data[1:2] == b'\1' else '>iI'
    try:
        seconds, nanoseconds = struct.unpack_from(form, data, 4)
    except struct.error as error:
        raise ImageError('undecodable', f'A message of {len(data)} bytes ends before its stamp does.') from error
    return _stamp_ns(seconds, nanoseconds)


def is_ros1(connection: Connection) -> bool:
    """Whether the messages are those of ROS 1."""
    return isinstance(connection.ext, ConnectionExtRosbag1)


def damaged(path: Path, error: Exception) -> RecordingError:
    """The error for a bag that cannot be read on, with what may save it."""
    if isinstance(error, PermissionError):
        return RecordingError(
            f'Cannot read {error.filename or path}: {error.strerror}. Whoever recorded it must let you read it.'
        )
    known = isinstance(error, (rosbag1.ReaderError, rosbag2.ReaderError, RecordingError, sqlite3.Error, OSError))
    cause = str(error).rstrip('.') if known else ''
    # On bytes that make no sense the file readers stumble over one thing or another, which tells nobody anything.
    cause = cause or f'its content makes no sense ({type(error).__name__})'
    tool = (
        'rosbag reindex'
        if any(map(_is_ros1_file, (path, *path.glob('*.bag'))))
        else 'ros2 bag reindex` or `mcap recover'
    )
    return RecordingError(
        f'Cannot read {path} as a bag, it may be cut short or damaged: {cause}. `{tool}` can often save what is left.'
    )


def _check_beginning(file: Path) -> None:
    """Refuse a file that is nothing of what its name says."""
    wanted = _BEGINNINGS.get(file.suffix, b'')
    try:
        with file.open('rb') as content:
            begin = content.read(len(wanted))
    except OSError as error:
        raise RecordingError(f'Cannot read {file}: {error.strerror}.') from error
    if begin != wanted:
        found = f'begins with {begin!r}' if begin else 'is empty'
        raise RecordingError(f'{file} {found}; a file of a bag that ends in {file.suffix} begins with {wanted!r}.')


@functools.cache
def _typestore(ros1: bool) -> Any:
    if ros1:
        return get_typestore(Stores.ROS1_NOETIC)
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION_MESSAGES.items():
        store.register(get_types_from_msg(text, name))
    return store
