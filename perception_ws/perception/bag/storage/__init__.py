"""Files that bags are stored in, each kind behind the same door: its topics, and messages of some of them by time.

A file of its own for each kind, and a line in STORAGES.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from perception.bag.storage.interface import CutShortError, Message, Storage, Topic
from perception.bag.storage.mcap_file import MAGIC, McapFile
from perception.bag.storage.ros1_file import Ros1File
from perception.bag.storage.sqlite3_file import Sqlite3File, companions
from perception.bag.storage.unpacking import PACKED_SUFFIX, unpack
from perception.errors import RecordingError

__all__ = ['STORAGES', 'CutShortError', 'Message', 'Storage', 'Topic', 'is_storage', 'open_storage', 'storage_content']


class _Kind(NamedTuple):
    begin: bytes
    open: Callable[[Path], Storage]
    repair: str
    """Tools that can often save what is left of a damaged one."""


_ROS2_TOOLS = '`ros2 bag reindex` or `mcap recover`'
STORAGES: dict[str, _Kind] = {
    '.mcap': _Kind(MAGIC, McapFile, _ROS2_TOOLS),
    '.db3': _Kind(b'SQLite format 3\0', Sqlite3File, _ROS2_TOOLS),
    '.bag': _Kind(b'#ROSBAG V2.0', Ros1File, '`rosbag reindex`'),
}
"""Kinds of files by their suffix; rosbag2 may pack one as a whole, which appends .zstd."""


def is_storage(path: Path) -> bool:
    """Whether a path has the name of a file of a bag."""
    return storage_suffix(path) in STORAGES


def storage_suffix(path: Path) -> str:
    """The suffix that tells the kind of file."""
    return Path(path.name.removesuffix(PACKED_SUFFIX)).suffix


def storage_content(path: Path) -> list[Path]:
    """A file of a bag with those beside it that hold a part of its messages."""
    return [path, *companions(path)]


def open_storage(path: Path) -> Storage:
    """Open one file of a bag.

    Raises:
        RecordingError: If it is empty, or nothing of what its name says.
        Exception: What the libraries raise on damaged bytes: a dozen unrelated types.
    """
    kind, whole = STORAGES[storage_suffix(path)], unpack(path)
    with whole.open('rb') as content:
        begin = content.read(len(kind.begin))
    if begin != kind.begin:
        found = f'begins with {begin!r}' if begin else 'is empty'
        raise RecordingError(f'{path} {found}; a file of a bag that ends in {whole.suffix} begins with {kind.begin!r}.')
    return kind.open(whole)
