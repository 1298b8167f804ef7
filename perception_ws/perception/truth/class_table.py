"""Which class of a label space an id or a category of annotation files is: a table of rows, as CSV or YAML.

    id,name,segmentation,detection
    7,road,road,
    26,car,car/truck/bus,car/truck/bus

An empty cell means none. Masks go by ``id``, categories of COCO files by ``name``. Where a layout is usual for a label
space, its table is tables/<layout>/<label space>.csv; others are the user's.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from perception.errors import ConfigError, DatasetError, list_names, nearest
from perception.interfaces import UNLABELLED, LabelClass, LabelSpace
from perception.labels import describe
from perception.truth.index_maps import ImageSize, check_same_size, read_index_map
from perception.yaml_files import read_yaml

UNKNOWN_ID = 254
"""What ``IdClasses.segmentation`` gives for an id that the table does not list."""
_COLUMNS = ('id', 'name', 'segmentation', 'detection')
_CATEGORY_LAYOUTS = ('coco', 'driving_boxes')
_TABLES = Path(__file__).with_name('tables')


@dataclass(frozen=True)
class Row:
    """One line: the names of classes are empty where it has none.

    Attributes:
        place: File and line, for errors.
    """

    id: int | None
    name: str
    segmentation: str
    detection: str
    place: str


class CategoryClasses(NamedTuple):
    """What the objects of a category are: names of classes, empty where they have none."""

    segmentation: str
    detection: str


@dataclass(frozen=True)
class IdClasses:
    """A table as masks need it.

    Attributes:
        source: The file, for errors.
        segmentation: (256,) uint8 segmentation class by id; 255 unlabelled, UNKNOWN_ID for an id without a row.
        detection: Detection class by id.
    """

    source: str
    segmentation: np.ndarray
    detection: Mapping[int, int]

    def read_mask(
        self, path: Path, image: ImageSize, explain: Callable[[np.ndarray], str] = lambda ids: ''
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of an annotation picture, and the mask that they mean, both (H, W) uint8.

        Args:
            image: The image that it belongs to.
            explain: What the error may add, of the ids, where one is unknown.

        Raises:
            DatasetError: If it is missing, broken, of another size than the image, or holds an unknown id.
        """
        ids = read_index_map(path)
        check_same_size(path, ids.shape, image)
        mask = cv2.LUT(ids, self.segmentation)
        if (mask == UNKNOWN_ID).any():
            unknown = ids[mask == UNKNOWN_ID][0]
            raise DatasetError(f'{path} holds id {unknown}, which {self.source} does not list.{explain(ids)}')
        return ids, mask

    def settings(self) -> dict[str, Any]:
        """Its content as plain values, for fingerprints."""
        return {'segmentation': self.segmentation.tolist(), 'detection': sorted(self.detection.items())}


def usual_table(layout: str, labels: LabelSpace) -> Path | None:
    """The table that ships for a layout and a label space; None: there is none."""
    path = _TABLES / layout / f'{labels.name}.csv'
    return path if path.is_file() else None


def find_table(layout: str, labels: LabelSpace, table: str | Path | None) -> Path:
    """The user's table, else the usual one of a layout.

    Raises:
        ConfigError: If there is none for this label space; lists its classes and the label spaces that have one.
    """
    path = usual_table(layout, labels) if table is None else Path(table).expanduser()
    if path is None:
        known = ', '.join(sorted(file.stem for file in (_TABLES / layout).glob('*.csv')))
        raise ConfigError(
            f'The layout {layout!r} has usual tables for the label spaces {known}, and none for {describe(labels)}. '
            'Take a checkpoint or configuration of one of those; or say which id or name in the files is which class '
            'with the option classes (--truth-classes, or make-bag --classes): a CSV file with the columns '
            f'{",".join(_COLUMNS)}.'
        )
    return path


def read_table(path: Path) -> tuple[Row, ...]:
    """Read the rows of a table.

    Raises:
        ConfigError: If the file is missing or broken, has other columns, or an id or name stands there twice.
    """
    rows = tuple(_row(entry, f'{path}, {place}') for place, entry in _entries(path))
    if not rows:
        raise ConfigError(f'{path} holds no rows; expected {", ".join(_COLUMNS)}.')
    seen: set[object] = set()
    for row in rows:
        key = row.name if row.id is None else row.id
        if key in seen:
            raise ConfigError(f'{row.place}: {key!r} stands there twice; expected one row for each.')
        seen.add(key)
    return rows


def read_ids(layout: str, labels: LabelSpace, table: str | Path | None = None) -> IdClasses:
    """The classes of the ids in masks.

    Args:
        layout: Whose usual table is taken.
        labels: The label space that the classes are of.
        table: The user's own, in place of it.

    Raises:
        ConfigError: If there is none for this label space, or it does not fit; names the file and the class.
    """
    path = find_table(layout, labels, table)
    segmentation, detection = np.full(256, UNKNOWN_ID, np.uint8), {}
    areas, objects = ([label.name for label in classes] for classes in (labels.segmentation, labels.detection))
    rows = read_table(path)
    _check_classes(rows, labels)
    for row in rows:
        if row.id is None or not 0 <= row.id < 256:
            raise ConfigError(f'{row.place} has id {row.id}; masks have ids of 0 to 255.')
        segmentation[row.id] = areas.index(row.segmentation) if row.segmentation else UNLABELLED
        if row.detection:
            detection[row.id] = objects.index(row.detection)
    return IdClasses(str(path) if table is not None else path.name, segmentation, detection)


def read_categories(path: Path, labels: LabelSpace) -> dict[str, CategoryClasses]:
    """What each category is, by its name.

    Raises:
        ConfigError: If the table is broken, a row has no name, or a class is none of the label space.
    """
    categories = {}
    rows = read_table(path)
    _check_classes(rows, labels)
    for row in rows:
        if not row.name:
            raise ConfigError(f'{row.place} has no name; categories go by their names.')
        if row.name in categories:
            raise ConfigError(f'{row.place}: {row.name!r} stands there twice; expected one row for each name.')
        categories[row.name] = CategoryClasses(row.segmentation, row.detection)
    return categories


def usual_categories(labels: LabelSpace) -> dict[str, CategoryClasses]:
    """What a category is by its name: by the usual tables of layouts with categories, and the names of the classes."""
    tables = [table for layout in _CATEGORY_LAYOUTS if (table := usual_table(layout, labels)) is not None]
    known = {name: category for table in tables for name, category in read_categories(table, labels).items()}
    return {**known, **{label.name: category_of(label) for label in labels.detection}}


def category_of(label: LabelClass) -> CategoryClasses:
    """What objects of a detection class are; their area is known where the label space names one alone."""
    return CategoryClasses(label.areas[0] if len(label.areas) == 1 else '', label.name)


def _entries(path: Path) -> list[tuple[str, dict[Any, Any]]]:
    """The rows of a file with their places in it."""
    if path.suffix.lower() in ('.yaml', '.yml'):
        content = read_yaml(path)
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise ConfigError(f'{path}: expected a list of rows such as {{id: 7, segmentation: road}}.')
        return [(f'row {number} (from 0)', entry) for number, entry in enumerate(content)]
    try:
        with path.open(newline='', encoding='utf-8-sig') as lines:
            reader = csv.DictReader(lines)
            return [(f'line {reader.line_num}', row) for row in reader]
    except OSError as error:
        raise ConfigError(f'Cannot read the table of classes {path}: {error.strerror}.') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f'{path} is no CSV in UTF-8 ({error}); save it as such.') from error


def _row(entry: Mapping[Any, Any], place: str) -> Row:
    unknown = [key for key in entry if key not in _COLUMNS]
    if unknown:
        raise ConfigError(f'{place} has a column {unknown[0]!r}: {nearest(str(unknown[0]), list(_COLUMNS))}')
    cells = {column: '' if entry.get(column) is None else str(entry[column]).strip() for column in _COLUMNS}
    if cells['id'] and not cells['id'].isdecimal():
        raise ConfigError(f'{place} has id {cells["id"]!r}; expected an integer from 0.')
    if not cells['id'] and not cells['name']:
        raise ConfigError(f'{place} has neither id nor name.')
    return Row(
        id=int(cells['id']) if cells['id'] else None,
        name=cells['name'],
        segmentation=cells['segmentation'],
        detection=cells['detection'],
        place=place,
    )


def _check_classes(rows: tuple[Row, ...], labels: LabelSpace) -> None:
    """Check that the label space has all classes of a table."""
    for column, classes in (('segmentation', labels.segmentation), ('detection', labels.detection)):
        names = [label.name for label in classes]
        said = {getattr(row, column): row for row in reversed(rows) if getattr(row, column)}
        for name, row in reversed(said.items()):
            if name not in names:
                raise ConfigError(
                    f'{row.place}: {name!r} is no {column} class of label space {labels.name!r}: '
                    f'{nearest(name, names)} The table has {list_names(list(reversed(said)))}.'
                )
