"""What stands in a COCO file, entry by entry: read rightly whatever tool wrote it, or refused with file and entry.

Numbers may be text, as spreadsheets and scripts leave them; a fraction is no id, and truth values are no numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, TypeVar

from perception.errors import DatasetError, list_names

_T = TypeVar('_T')
_CROWD = {'0': False, 'false': False, '1': True, 'true': True}


@dataclass(frozen=True)
class Entry:
    """An object in one of the file's lists, and what errors call it by."""

    file: Path
    kind: str
    position: int
    values: Mapping[str, Any]

    def read(self, key: str, convert: Callable[[Any], _T], expected: str) -> _T:
        """The value of a key, converted.

        Raises:
            DatasetError: If there is none, or the conversion refuses it.
        """
        if key not in self.values:
            raise self.error(f'has no {key}; expected {expected}.')
        try:
            return convert(self.values[key])
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise self.error(f'has {key} {self.values[key]!r}; expected {expected}.') from error

    def read_reference(self, kind: str, known: Collection[int]) -> int:
        """The id of an image or a category.

        Raises:
            DatasetError: If there is none, or it is not a known one.
        """
        found = self.read(f'{kind}_id', to_integer, 'an integer')
        if found not in known:
            ids = list_names([str(known_id) for known_id in sorted(known)])
            raise self.error(f'names {kind} {found}, which the file does not list; expected one of {ids}.')
        return found

    def read_crowd(self) -> bool:
        """Whether the annotation is of a crowd; not where nothing is said.

        Raises:
            DatasetError: If something else than yes or no is said.
        """
        if self.values.get('iscrowd') is None:
            return False
        return self.read('iscrowd', _to_crowd, '0 or 1')

    def error(self, what: str) -> DatasetError:
        """The error that something is wrong with this entry."""
        name = self.values.get('id', f'at position {self.position} (from 0)')
        return DatasetError(f'{self.file}: {self.kind} {name} {what}')


def parse_json(text: bytes, path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: If it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise DatasetError(f'{path} is not valid JSON: {error}. Copy or download it again.') from error


def list_entries(content: Any, key: str, kind: str, file: Path) -> list[Entry]:
    """The entries of one of the file's lists.

    Raises:
        DatasetError: If there is no such list, or something else than objects in it.
    """
    values = content.get(key) if isinstance(content, dict) else None
    if not isinstance(values, list):
        raise DatasetError(
            f'{file} is not COCO detection JSON: it has no list {key}; '
            'expected an object with the lists images, categories and annotations.'
        )
    for position, value in enumerate(values):
        if not isinstance(value, dict):
            raise DatasetError(f'{file}: {kind} at position {position} (from 0) is {value!r}; expected an object.')
    return [Entry(file, kind, position, value) for position, value in enumerate(values)]


def to_text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def to_file_name(value: Any) -> str:
    """A text that ends with the name of a file; folders as on Windows become ours."""
    name = PureWindowsPath(to_text(value)).as_posix() if '\\' in value else value
    if not PurePath(name).name:
        raise ValueError(value)
    return name


def to_integer(value: Any) -> int:
    """An integer, or a text or float that is one."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def to_score(value: Any) -> float:
    """A number, or a text that is one, in 0..1."""
    score = float(value)
    if isinstance(value, bool) or not 0 <= score <= 1:
        raise ValueError(value)
    return score


def to_size(value: Any) -> int:
    """An integer above 0."""
    size = to_integer(value)
    if size < 1:
        raise ValueError(value)
    return size


def to_corners(bbox: Any) -> tuple[float, float, float, float]:
    """COCO's [left, top, width, height] as xyxy."""
    if not isinstance(bbox, list) or any(isinstance(number, bool) for number in bbox):
        raise TypeError(bbox)
    left, top, width, height = (float(number) for number in bbox)
    right, bottom = left + width, top + height
    if not all(map(math.isfinite, (left, top, right, bottom))) or width < 0 or height < 0:
        raise ValueError(bbox)
    return left, top, right, bottom


def _to_crowd(value: Any) -> bool:
    if isinstance(value, str):
        return _CROWD[value.strip().lower()]
    if value not in (0, 1):
        raise ValueError(value)
    return bool(value)
