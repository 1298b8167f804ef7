"""An MCAP file whose end is missing, as a power cut leaves it, as one that ends where its last whole record does.

The format is a row of records, each with its length, and an index behind them that readers begin with
(https://mcap.dev/spec). Without the index rosbags reads record by record, so all it lacks is an end.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b'\x89MCAP0\r\n'
_HEADER = struct.Struct('<BQ')
"""Of a record: what it is and the length of its content."""
_FOOTER, _DATA_END, _LAST_KNOWN = 0x02, 0x0F, 0x7F
_END = _HEADER.pack(_DATA_END, 4) + bytes(4) + _HEADER.pack(_FOOTER, 20) + bytes(20) + MAGIC
"""No checksum and no index."""


class CutShortMcap:
    """Stands for the path of an MCAP file, as far as rosbags asks; reading it, the end is there.

    Args:
        path: The file; all from the last whole record on is left out.
    """

    suffix = '.mcap'

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = _end_of_records(path)

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def is_dir(self) -> bool:
        return False

    def open(self, mode: str = 'rb') -> BinaryIO:
        return io.BufferedReader(_WithEnd(self.path, self.end), 1 << 16)


def is_cut_short(path: Path) -> bool:
    """Whether a file begins as MCAP and does not end as one."""
    with path.open('rb') as file:
        begin = file.read(len(MAGIC))
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        return begin == MAGIC and file.read() != MAGIC


def _end_of_records(path: Path) -> int:
    """Where the last whole record of the data ends, in bytes."""
    size, position = path.stat().st_size, len(MAGIC)
    with path.open('rb') as file:
        file.seek(position)
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                break
            kind, length = _HEADER.unpack(header)
            behind = position + _HEADER.size + length
            # Kind 0 is what blocks that never reached the disk are filled with.
            if kind in (0, _FOOTER, _DATA_END) or kind > _LAST_KNOWN or behind > size:
                break
            position = behind
            file.seek(position)
    return position


class _WithEnd(io.RawIOBase):
    """The first bytes of a file, then the end that it lacks."""

    def __init__(self, path: Path, end: int) -> None:
        self._file = path.open('rb', buffering=0)
        self._cut, self._size = end, end + len(_END)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position < self._cut:
            self._file.seek(self._position)
            content = self._file.read(min(len(buffer), self._cut - self._position))
        else:
            content = _END[self._position - self._cut :][: len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
