"""Configurations as plain values."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from perception.errors import ConfigError
from perception.networks.configuration import config_to_dict, override_config


@dataclass(frozen=True, kw_only=True)
class Example:
    width: int = 4
    ratio: float = 0.1
    shared: bool = False
    kind: str = 'plain'
    dilations: tuple[tuple[int, ...], ...] = ((1,), (1, 2))
    sizes: tuple[tuple[float, float], ...] = ((1.5, 1 / 3),)
    removed: ClassVar[dict[str, object]] = {'depth': 3}


def test_a_removed_field_may_say_what_is_left_of_it() -> None:
    assert override_config(Example(), {'depth': 3, 'width': 8}) == Example(width=8)
    with pytest.raises(ConfigError, match=r"no longer has the choice 'depth': 3 is all that is left of it, got 4\."):
        override_config(Example(), {'depth': 4})
    assert 'depth' not in config_to_dict(Example())


def test_round_trip_through_json_is_exact() -> None:
    config = Example(ratio=0.1 + 0.2, dilations=((3,), (1, 2, 3)), sizes=((1e-7, 2.5), (1 / 7, 3.0)))
    values = config_to_dict(config)
    read = json.loads(json.dumps(values))
    assert read == values
    assert override_config(Example(), read) == config


def test_lists_become_tuples_and_integers_floats() -> None:
    config = override_config(Example(), {'sizes': [[2, 3], [4, 5.5]], 'ratio': 1})
    assert config.sizes == ((2.0, 3.0), (4.0, 5.5))
    assert isinstance(config.sizes[0][0], float)
    assert isinstance(config.ratio, float)
    assert config.width == 4


@pytest.mark.parametrize(
    'overrides',
    [
        {'width': 1.5},
        {'width': True},
        {'ratio': '0.5'},
        {'shared': 1},
        {'kind': None},
        {'dilations': 3},
        {'sizes': [1]},
    ],
)
def test_values_of_another_type_are_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f'{next(iter(overrides))}: expected'):
        override_config(Example(), overrides)


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Example has no field 'widht'; did you mean 'width'"):
        override_config(Example(), {'widht': 3})
