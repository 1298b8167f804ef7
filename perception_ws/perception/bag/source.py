"""What every recording is to its reader: an iterable of StampedImage that counts what it had to skip."""

from __future__ import annotations

import difflib
import logging
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from perception.errors import ImageError, RecordingError
from perception.interfaces import StampedImage

logger = logging.getLogger(__name__)

OnSkip = Callable[[int, ImageError], None]
"""Called with the stamp in ns and the error of each frame that cannot be decoded."""


class FrameSource(ABC):
    """A recording. Each ``iter()`` reads it anew from the beginning, one frame in memory at a time.

    A frame that cannot be decoded never ends the iteration: it is counted, reported and skipped.

    Attributes:
        path: Where the recording lies.
        frame_count: How many frames it says to hold, damaged ones included; None when it does not say.
        frame_rate_hz: Frames per second, averaged over the recording; None when unknown.
        on_skip: Called for each frame that cannot be decoded.
        skipped: Frames that the latest iteration skipped, by reason.
    """

    frame_rate_hz: float | None = None

    def __init__(self, path: Path, on_skip: OnSkip | None = None) -> None:
        self.path = path
        self.frame_count: int | None = None
        self.skipped: Counter[str] = Counter()
        self.on_skip = on_skip

    def __iter__(self) -> Iterator[StampedImage]:
        """Read the frames in the order of the recording.

        Raises:
            RecordingError: If the recording itself, not just one frame, turns out to be damaged.
        """
        self.skipped.clear()
        return self._read()

    @abstractmethod
    def _read(self) -> Iterator[StampedImage]: ...

    def _skip(self, stamp_ns: int, error: ImageError) -> None:
        if not self.skipped[error.reason]:
            logger.warning(
                '%s: skipped %s frame at %d ns (of its kind, only the first is logged): %s',
                self.path,
                error.reason,
                stamp_ns,
                error,
            )
        self.skipped[error.reason] += 1
        if self.on_skip is not None:
            self.on_skip(stamp_ns, error)


def counting_order(name: str) -> list[tuple[int, str]]:
    """Sorts names as a person counts: frame_2 before frame_10."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', name)]


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, in no order.

    Raises:
        RecordingError: If it may not be read.
    """
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise RecordingError(f'Cannot read the folder {folder}: {error.strerror}.') from error


def require_exists(path: Path) -> None:
    """Refuse a path where nothing is.

    Raises:
        RecordingError: Naming the whole path, and the nearest name that does exist beside it.
    """
    try:
        if path.exists():
            return
    except OSError as error:  # a folder on the way that may not be entered
        raise RecordingError(f'Cannot look for {path}: {error.strerror}.') from error
    path = path.absolute()
    if not path.parent.is_dir():
        raise RecordingError(f'There is no {path}: its folder {path.parent} does not exist either.')
    close = difflib.get_close_matches(path.name, [entry.name for entry in list_folder(path.parent)], n=1)
    hint = f' Did you mean {path.parent / close[0]}?' if close else f' {path.parent} holds nothing of a similar name.'
    raise RecordingError(f'There is no {path}.{hint}')
