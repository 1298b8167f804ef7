"""What cannot be read where it lies: packed files and messages, and databases that want to be mended first."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from perception.errors import RecordingError

PACKED_SUFFIX = '.zstd'
_PART_BYTES = 1 << 20
_PACKED_BEGIN = b'\x28\xb5\x2f\xfd'


def unpack(path: Path) -> Path:
    """The whole file where rosbag2 packed it, else the file itself."""
    if path.suffix != PACKED_SUFFIX:
        return path
    return Path(_copies(_states((path,))).name, path.name.removesuffix(PACKED_SUFFIX))


def copy_together(files: Sequence[Path]) -> Path:
    """A copy of the first file, with the others beside it."""
    return Path(_copies(_states(files)).name, files[0].name)


def unpack_message(data: bytes) -> bytes:
    """The content of a message that rosbag2 packed by itself; others as they are.

    Its first bytes tell, so metadata.yaml need not: no message of ROS 2 begins like that.
    """
    if not data.startswith(_PACKED_BEGIN):
        return data
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return data  # whoever decodes it says that it is no message


_State = tuple[Path, int, int]
"""A file with its size and its time, so that a changed one is copied anew."""


def _states(files: Sequence[Path]) -> tuple[_State, ...]:
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@functools.lru_cache(maxsize=4)  # a recording is opened several times
def _copies(files: tuple[_State, ...]) -> TemporaryDirectory[str]:
    """A folder with the files, unpacked; removed when nobody remembers it, at the latest with the process."""
    folder = TemporaryDirectory(prefix='perception-bag-')
    for file, _, _ in files:
        copy = Path(folder.name, file.name.removesuffix(PACKED_SUFFIX))
        if copy.name == file.name:
            shutil.copyfile(file, copy)
            continue
        with file.open('rb') as packed, copy.open('wb') as whole:
            unpacker = zstandard.ZstdDecompressor().decompressobj()
            while not unpacker.eof and (part := packed.read(_PART_BYTES)):
                whole.write(unpacker.decompress(part))
        if not unpacker.eof:
            raise RecordingError(f'{file} was cut short before it was packed to its end; copy it again.')
    return folder
