"""Label spaces out of YAML files, checked, and out of the JSON that checkpoints and caches keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from perception.errors import ConfigError, nearest
from perception.interfaces import LabelClass, LabelSpace
from perception.yaml_files import read_yaml

BUILT_IN: tuple[str, ...] = tuple(
    sorted(
        entry.name.removesuffix('.yaml')
        for entry in resources.files('perception.labels').iterdir()
        if entry.name.endswith('.yaml')
    )
)
"""The names of the label spaces that ship."""
_MOST_AREAS = 254
"""Masks have 8 bits, of which 255 is unlabelled and 254 an id that nobody knows."""
_KEYS = ('name', 'segmentation', 'detection')


def load_label_space(name_or_file: str | Path) -> LabelSpace:
    """Read a label space.

    Args:
        name_or_file: One of BUILT_IN, or the path of a YAML file; ``~`` is the home folder.

    Raises:
        ConfigError: If there is no such name or file, or something is wrong in the file; names file and class.

    >>> [label.name for label in load_label_space('cityscapes_11_3').detection]
    ['car/truck/bus', 'person/rider', 'bicycle/motorcycle']
    """
    if name_or_file in BUILT_IN:
        with resources.as_file(resources.files('perception.labels') / f'{name_or_file}.yaml') as path:
            return _from_file(path)
    path = Path(name_or_file).expanduser()
    if not path.is_file():
        raise ConfigError(
            f'There is no label space {str(name_or_file)!r}, and no file of that name: '
            f'{nearest(str(name_or_file), list(BUILT_IN))} Or give the path of a YAML file.'
        )
    labels = _from_file(path)
    if labels.name in BUILT_IN and not _same_names(load_label_space(labels.name), labels):
        raise ConfigError(f'{path}: the name {labels.name!r} is that of a built-in label space with other classes.')
    return labels


def parse_label_space(values: Mapping[str, Any]) -> LabelSpace:
    """A label space out of plain values, as ``dataclasses.asdict`` gave them.

    Those that earlier versions wrote do not say what objects are made of: one that is built in still knows.

    Raises:
        KeyError, TypeError, ValueError: If they are none.
    """
    labels = LabelSpace(
        name=values['name'],
        segmentation=_parse_classes(values['segmentation']),
        detection=_parse_classes(values['detection']),
    )
    if labels.name in BUILT_IN and not any('areas' in entry for entry in values['detection']):
        known = load_label_space(labels.name)
        if _same_names(known, labels):
            areas = [replace(ours, areas=theirs.areas) for ours, theirs in _pairs(labels, known)]
            return replace(labels, detection=tuple(areas))
    return labels


def _parse_classes(entries: Sequence[Mapping[str, Any]]) -> tuple[LabelClass, ...]:
    return tuple(
        LabelClass(name=entry['name'], color_rgb=tuple(entry['color_rgb']), areas=tuple(entry.get('areas', ())))
        for entry in entries
    )


def _pairs(one: LabelSpace, other: LabelSpace) -> Sequence[tuple[LabelClass, LabelClass]]:
    return list(zip(one.detection, other.detection, strict=True))


def _same_names(one: LabelSpace, other: LabelSpace) -> bool:
    return all(
        [label.name for label in ours] == [label.name for label in theirs]
        for ours, theirs in ((one.segmentation, other.segmentation), (one.detection, other.detection))
    )


def _from_file(path: Path) -> LabelSpace:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f'{path} is no label space: expected the keys {", ".join(_KEYS)}, got {values!r}.')
    _check_keys(values, _KEYS, str(path))
    missing = [key for key in _KEYS if key not in values]
    if missing:
        raise ConfigError(f'{path} has no {missing[0]}; a label space has {", ".join(_KEYS)}.')
    segmentation = _read_classes(values['segmentation'], f'{path}, segmentation')
    detection = _read_classes(values['detection'], f'{path}, detection', [label.name for label in segmentation])
    if len(segmentation) > _MOST_AREAS:
        raise ConfigError(f'{path}: {len(segmentation)} segmentation classes; masks of 8 bit hold {_MOST_AREAS}.')
    return LabelSpace(name=_text(values['name'], f'{path}: name'), segmentation=segmentation, detection=detection)


def _read_classes(entries: Any, place: str, areas: Sequence[str] | None = None) -> tuple[LabelClass, ...]:
    """The classes of one list; with areas those of the list ``detection``."""
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f'{place}: expected a list of classes, at least one, got {entries!r}.')
    classes: list[LabelClass] = []
    for number, entry in enumerate(entries):
        found = _read_class(entry, f'{place}, class {number} (from 0)', areas)
        if found.name in [label.name for label in classes]:
            raise ConfigError(f'{place}: two classes are named {found.name!r}; expected each name once.')
        classes.append(found)
    return tuple(classes)


def _read_class(entry: Any, place: str, areas: Sequence[str] | None) -> LabelClass:
    if not isinstance(entry, dict):
        raise ConfigError(f'{place} is {entry!r}; expected for example {{name: road, color: [128, 64, 128]}}.')
    if 'name' not in entry:
        raise ConfigError(f'{place} has no name: {entry!r}.')
    name = _text(entry['name'], f'{place}: name')
    place = f'{place}, {name!r}'
    _check_keys(entry, ('name', 'color') if areas is None else ('name', 'color', 'areas'), place)
    color = entry.get('color')
    if (
        not isinstance(color, list)
        or len(color) != 3
        or not all(type(value) is int and 0 <= value <= 255 for value in color)
    ):
        raise ConfigError(f'{place} has color {color!r}; expected [red, green, blue], each an integer in 0..255.')
    made_of = entry.get('areas', [name] if name in (areas or ()) else [])
    if not isinstance(made_of, list):
        raise ConfigError(f'{place} has areas {made_of!r}; expected a list of names of segmentation classes.')
    unknown = [area for area in made_of if area not in (areas or ())]
    if unknown:
        known = nearest(str(unknown[0]), list(areas or ()))
        raise ConfigError(f'{place} is made of {unknown[0]!r}, which is no segmentation class: {known}')
    return LabelClass(name=name, color_rgb=(color[0], color[1], color[2]), areas=tuple(made_of))


def _text(value: Any, place: str) -> str:
    # YAML reads `yes` as a truth value and `1` as a number.
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f'{place} is {value!r}; expected text that is not empty, in quotes where YAML reads more.')
    return value


def _check_keys(values: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f'{place} has no key {key!r}: {nearest(str(key), list(known))}')
