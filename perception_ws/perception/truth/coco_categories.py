"""What the categories of a COCO file are: by the usual names, a mapping or a table of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from perception.errors import ConfigError, DatasetError, list_names, nearest
from perception.interfaces import UNLABELLED, LabelSpace
from perception.truth.class_table import CategoryClasses, category_of, read_categories, usual_categories
from perception.truth.coco_entries import Entry, to_integer, to_text


def read_category_names(categories: Sequence[Entry]) -> dict[int, str]:
    """The name of each category by its id.

    Raises:
        DatasetError: If an entry is none, or one id has two names.
    """
    names: dict[int, str] = {}
    for entry in categories:
        category_id, name = entry.read('id', to_integer, 'an integer'), entry.read('name', to_text, 'text')
        if names.setdefault(category_id, name) != name:
            raise entry.error(f'is {name!r}, and {names[category_id]!r} before; expected one name for each id.')
    return names


def choose_categories(
    path: Path, present: list[str], classes: Mapping[str, str] | str | Path | None, labels: LabelSpace
) -> dict[str, CategoryClasses]:
    """What each category of a file is that is used, by its name.

    Args:
        path: The file, for errors.
        present: The names of its categories.
        classes: As ``CocoAnnotations`` takes them.
        labels: The label space that the classes are of.

    Raises:
        ConfigError: If the table names an unknown class or a category that the file lacks.
        DatasetError: If no category of the file has a detection class, or a table does not list one.
    """
    ours = {label.name: label for label in labels.detection}
    option = (
        'Say with classes (of a data set or teacher, --truth-classes, make-bag --classes) which are which of our '
        f'classes, for example {{"{present[0] if present else "van"}": "{next(iter(ours))}"}}; ours are '
        f'{", ".join(ours)}.'
    )
    if classes is None:
        known = usual_categories(labels)
        usual = {name: known[name] for name in present if name in known}
        if not any(category.detection for category in usual.values()):
            raise DatasetError(
                f'{path} has the categories {list_names(present)}, and no usual one among them. {option}'
            )
        return usual
    if isinstance(classes, str | Path):
        return _categories_of_table(path, present, Path(classes).expanduser(), labels)
    for category, label in classes.items():
        if label not in ours:
            raise ConfigError(f'Class {label!r} for category {category!r} is unknown: {nearest(label, list(ours))}')
        if category not in present:
            raise ConfigError(f'{path} has no category {category!r}: {nearest(category, present)} {option}')
    return {category: category_of(ours[label]) for category, label in classes.items()}


def _categories_of_table(path: Path, present: list[str], table: Path, labels: LabelSpace) -> dict[str, CategoryClasses]:
    listed = read_categories(table, labels)
    unknown = [name for name in present if name not in listed]
    if unknown:
        raise DatasetError(
            f'{path} has a category {unknown[0]!r}, which {table} does not list. Give it a row; with an empty cell for '
            'detection it is left out.'
        )
    categories = {name: listed[name] for name in present}
    if not any(category.detection for category in categories.values()):
        raise DatasetError(f'{path} has the categories {list_names(present)}, and {table} gives none of them a class.')
    return categories


def segmentation_classes(path: Path, categories: Mapping[str, CategoryClasses], labels: LabelSpace) -> dict[str, int]:
    """The segmentation class of each category that is used; UNLABELLED where nothing is said of it.

    Raises:
        ConfigError: If nothing is said of any.
    """
    names = [label.name for label in labels.segmentation]
    if not any(category.segmentation for category in categories.values()):
        raise ConfigError(
            f'{path}: nothing says which segmentation classes its categories {list_names(list(categories))} are. Give '
            'them in a table (option classes), or leave out the option masks.'
        )
    return {
        name: names.index(category.segmentation) if category.segmentation else UNLABELLED
        for name, category in categories.items()
    }
