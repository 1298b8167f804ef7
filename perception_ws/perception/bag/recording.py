"""A bag as a whole: a file, or a folder of files, with the topics and the messages of all of them.

metadata.yaml says in which order the files were written. What they hold, they say themselves: where the two do not
agree, as after another tool has rewritten a file, the files are right.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rosbags import rosbag1

from perception.bag.source import counting_order, list_folder, require_exists
from perception.bag.storage import (
    STORAGES,
    CutShortError,
    Message,
    Storage,
    Topic,
    is_storage,
    open_storage,
    storage_content,
    storage_suffix,
)
from perception.bag.storage.unpacking import PACKED_SUFFIX, unpack_message
from perception.errors import RecordingError

logger = logging.getLogger(__name__)

METADATA = 'metadata.yaml'
_SPLIT_NUMBER = re.compile(r'_?\d+$')


def storage_files(folder: Path) -> list[Path]:
    """The files of a bag in a folder, in the order of their numbers; of one that is packed beside itself, the whole."""
    files = [file for file in list_folder(folder) if is_storage(file)] if folder.is_dir() else []
    whole = [file for file in files if file.suffix != PACKED_SUFFIX or file.with_suffix('') not in files]
    return sorted(whole, key=lambda file: counting_order(file.name))


def content_files(path: Path) -> list[Path]:
    """All files that the messages of a bag come from."""
    if not path.is_dir():
        return storage_content(path)
    metadata = [path / METADATA] if (path / METADATA).exists() else []
    return metadata + [content for file in storage_files(path) for content in storage_content(file)]


class Recording:
    """An open bag.

    Attributes:
        path: The folder or file.
        topics: Names, types and numbers of messages over all files.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self._storages: list[Storage] = []
        try:
            for file in files:
                self._storages.append(open_storage(file))
        except BaseException:
            self.close()
            raise
        counts: Counter[Topic] = Counter()
        for storage in self._storages:
            for topic in storage.topics:
                counts[topic] += topic.count
        self.topics = tuple(replace(topic, count=count) for topic, count in counts.items())

    @property
    def ended_by(self) -> RecordingError | None:
        """Why the bag ends before its end; None if it does not."""
        return next((storage.ended_by for storage in self._storages if storage.ended_by), None)

    def messages(self, topics: Collection[Topic]) -> Iterator[Message]:
        """The messages of some topics, file by file, in the order in which they were received.

        Raises:
            CutShortError: At the end, if the bag was cut short.
            RecordingError: If it turns out to be damaged on the way.
        """
        cut_short = None
        for storage in self._storages if topics else ():
            try:
                for message in storage.messages(topics):
                    yield message._replace(data=unpack_message(message.data))
            except CutShortError as error:
                cut_short = error
            except RecordingError as error:
                raise damaged(self.path, error) from error
            except Exception as error:  # on damaged bytes the libraries raise a dozen unrelated types
                raise damaged(self.path, error) from error
        if cut_short:
            raise cut_short

    def close(self) -> None:
        """Close all files."""
        for storage in self._storages:
            storage.close()


@contextmanager
def open_recording(path: Path) -> Iterator[Recording]:
    """Open a bag: a folder, or a single .mcap, .db3 or (ROS 1) .bag file, packed as a whole or not.

    Of an MCAP file that was cut short, what is left is read. So is a folder whose metadata.yaml is missing.

    Raises:
        RecordingError: If it is missing, cut short so that nothing can be read, or damaged.
    """
    require_exists(path)
    try:
        recording = Recording(path, _choose_files(path))
    except RecordingError:
        raise
    except Exception as error:  # as above
        raise damaged(path, error) from error
    try:
        if isinstance(recording.ended_by, CutShortError) and not any(topic.count for topic in recording.topics):
            raise CutShortError(f'{path} was cut short before its first message was on the disk; nothing is left.')
        yield recording
    finally:
        recording.close()


def _choose_files(path: Path) -> list[Path]:
    """The files of a bag in the order in which they were written."""
    if not path.is_dir():
        return [path]
    found = storage_files(path)
    begun = [file for file in found if file.stat().st_size]
    if (path / METADATA).exists() and (path / METADATA).stat().st_size:
        listed = _listed_files(path)
        missing = [file.name for file in listed if file not in found]
        if missing and any(file in found for file in listed):
            raise RecordingError(
                f'{path / METADATA} lists {missing[0]}, which is missing ({len(missing)} of {len(listed)} files are). '
                'Copy it here, or name the files that are left one by one.'
            )
        if missing:
            logger.warning('%s lists other files than those that lie there; these are read.', path / METADATA)
        else:
            # What is not listed was begun and never finished, as by a loss of power.
            found = listed + [file for file in found if file not in listed and _is_of_one_bag([file, *listed])]
            begun = [file for file in found if file.stat().st_size]
    if not found:
        raise RecordingError(f'Cannot read {path} as a bag: there is no file of one in it ({", ".join(STORAGES)}).')
    if not _is_of_one_bag(found):
        names = ', '.join(file.name for file in found[:5]) + (', ...' if len(found) > 5 else '')
        raise RecordingError(f'{path} holds several recordings; name them one by one: {names}.')
    if len(begun) < len(found):
        logger.warning('%s: nothing was recorded into %s.', path, found[-1].name)
    return begun or found


def _is_of_one_bag(files: Sequence[Path]) -> bool:
    return len({_SPLIT_NUMBER.sub('', Path(file.name.removesuffix(PACKED_SUFFIX)).stem) for file in files}) == 1


def _listed_files(folder: Path) -> list[Path]:
    """The files that metadata.yaml names, in its order; those that were unpacked since by their present names."""
    try:
        content: Any = yaml.safe_load((folder / METADATA).read_text(encoding='utf-8'))
        names = content['rosbag2_bagfile_information']['relative_file_paths']
        # In old recordings with the name of the folder that they were recorded into.
        files = [folder / Path(name).name for name in names]
    except OSError as error:
        raise damaged(folder, error) from error
    except Exception as error:
        raise RecordingError(
            f'{folder / METADATA} is no metadata of a bag; expected rosbag2_bagfile_information with '
            f'relative_file_paths ({type(error).__name__}: {error}). `ros2 bag reindex` writes it anew; the bag is '
            'read without it, too.'
        ) from error
    whole = [file.with_name(file.name.removesuffix(PACKED_SUFFIX)) for file in files]
    return [unpacked if unpacked.exists() else file for file, unpacked in zip(files, whole, strict=True)]


def damaged(path: Path, error: Exception) -> RecordingError:
    """The error for a bag that cannot be read on, with what may save it."""
    if isinstance(error, PermissionError):
        return RecordingError(
            f'Cannot read {error.filename or path}: {error.strerror}. Whoever recorded it must let you read it.'
        )
    known = isinstance(error, (rosbag1.ReaderError, RecordingError, sqlite3.Error, OSError))
    cause = str(error).rstrip('.') if known else ''
    # On bytes that make no sense the libraries stumble over one thing or another, which tells nobody anything.
    cause = cause or f'its content makes no sense ({type(error).__name__})'
    files = [path] if path.is_file() else storage_files(path) if path.is_dir() else []
    tools = STORAGES[storage_suffix(files[0])].repair if files else STORAGES['.mcap'].repair
    return RecordingError(
        f'Cannot read {path} as a bag, it may be cut short or damaged: {cause}. {tools} can often save what is left.'
    )
