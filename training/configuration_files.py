"""Configuration files that stand on others: a file names its base, and says what is otherwise.

    base: common.yaml       # beside this file

A command line's library takes several files and lets the last one hold, so a base is one more in front of its file.
Groups of fields are joined; a list, and a mapping of options, is replaced whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from perception.errors import ConfigError
from perception.yaml_files import UniqueKeyLoader

BASE = 'base'


def read_values(path: Path) -> dict[Any, Any]:
    """What a file says; nothing where it cannot be read or is no mapping, which the command line's library tells well.

    Raises:
        ConfigError: If it is no YAML, or says two things by one name.
    """
    try:
        values = yaml.load(path.read_text(), UniqueKeyLoader)
    except (OSError, UnicodeDecodeError):
        return {}
    except yaml.YAMLError as error:
        raise ConfigError(f'{path} is no valid YAML: {error}') from error
    return values if isinstance(values, dict) else {}


def with_bases(path: Path, above: Sequence[Path] = ()) -> list[Path]:
    """A file behind all that it stands on, the most general first.

    Args:
        path: The file.
        above: Those that stand on it, of which none may be its base.

    Raises:
        ConfigError: If a base is missing, or files stand on each other.
    """
    base = read_values(path).get(BASE)
    if base is None:
        return [path]
    if not isinstance(base, str) or not (path.parent / base).is_file():
        raise ConfigError(f'{path}: {BASE} is {base!r}; expected a file, its path counted from {path.parent}.')
    below = path.parent / base
    if below.resolve() in [each.resolve() for each in (path, *above)]:
        raise ConfigError(f'{path}: {BASE} is {base!r}, which stands on this file itself.')
    return [*with_bases(below, (path, *above)), path]


def files_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments, configuration files in front: a file would take back in silence what stands before it.

    What a file stands on is one more in front of it.
    """
    files: list[str] = []
    options: list[str] = []
    words = iter(arguments)
    for word in words:
        option, joined, value = word.partition('=')
        if option != '--config':
            options.append(word)
            continue
        named = [value] if joined else list(islice(words, 1))
        files += [f'--config={path}' for name in named for path in with_bases(Path(name))] if named else [word]
    return [*files, *options]
