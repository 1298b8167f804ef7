"""Network configurations as plain values: out to JSON for checkpoints, in from YAML or JSON with every key checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from perception.errors import ConfigError, nearest

Config = TypeVar('Config')


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain JSON values; ``override_config`` with the result gives an equal one."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def override_config(base: Config, overrides: Mapping[str, Any]) -> Config:
    """A copy of base with some fields replaced by values read from YAML or JSON; lists become tuples.

    A class may name, in ``removed``, fields that it had, each with the one value that is left of its choices; files
    that hold this value still say what they said.

    Raises:
        ConfigError: If a key is unknown, a value has another type than the field, or the dataclass refuses it.
    """
    known: list[str] = [field.name for field in fields(base)]  # type: ignore[arg-type]
    removed: Mapping[str, object] = getattr(base, 'removed', {})
    for key, value in overrides.items():
        if key in removed and value != removed[key]:
            raise ConfigError(
                f'{type(base).__name__} no longer has the choice {key!r}: {removed[key]!r} is all that is left of it, '
                f'got {value!r}. Take the version that the file was written with.'
            )
        if key not in known and key not in removed:
            raise ConfigError(f'{type(base).__name__} has no field {key!r}; {nearest(str(key), known)}')
    typed = {key: _like(getattr(base, key), value, key) for key, value in overrides.items() if key not in removed}
    return replace(base, **typed)  # type: ignore[type-var]


def check_counts(config: Any, *, zero: Collection[str] = ()) -> None:
    """Check that the whole numbers of a configuration, such as widths, units and strides, are 1 or more.

    Args:
        config: A configuration dataclass.
        zero: Names of fields that may be 0.

    Raises:
        ConfigError: If one is not.
    """
    for field in fields(config):
        value, least = getattr(config, field.name), 0 if field.name in zero else 1
        if any(type(leaf) is int and leaf < least for leaf in _leaves(value)):
            raise ConfigError(f'{field.name}: expected {least} or more, got {value}.')


def check_choices(config: Any, choices: Mapping[str, Collection[object]]) -> None:
    """Check that fields have one of the values that there are for them.

    Raises:
        ConfigError: If one has not.
    """
    for key, allowed in choices.items():
        if getattr(config, key) not in allowed:
            raise ConfigError(f'{key}: expected one of {tuple(allowed)}, got {getattr(config, key)!r}.')


def check_multiples(config: Any, of: int, keys: Collection[str]) -> None:
    """Check that fields are multiples of a number.

    Raises:
        ConfigError: If one is not.
    """
    for key in keys:
        if getattr(config, key) % of:
            raise ConfigError(f'{key}: expected a multiple of {of}, got {getattr(config, key)}.')


def _leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, tuple) else [value]


def takes_anchors(config: Any) -> bool:
    """Whether training may find ``anchors_wh`` for a network in its data; prior boxes are the network's own."""
    return any(field.name == 'anchors_wh' for field in fields(config))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _like(model: Any, value: Any, key: str) -> Any:
    """Value in the type of model, which the field has now; the first item of a tuple stands for all its items."""
    if isinstance(model, tuple) and isinstance(value, list | tuple):
        return tuple(_like(model[0], item, key) for item in value)
    # bool is an int to isinstance, and YAML reads `yes` as True: neither may pass for a number.
    if isinstance(model, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(model) is type(value):
        return value
    expected = 'list' if isinstance(model, tuple) else type(model).__name__
    raise ConfigError(f'{key}: expected {expected}, got {type(value).__name__} {value!r}.')
