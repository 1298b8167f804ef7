"""The table of parameters: documented, and every default passes its own checks."""

from pathlib import Path

import pytest
from rclpy.parameter import Parameter

from perception.ros.parameters import PARAMETERS, parameter_table, refusal

pytestmark = pytest.mark.ros


def test_documentation_shows_this_very_table() -> None:
    """`python -m perception.ros.parameters` prints the table for docs/ros_interface.md."""
    assert parameter_table() in Path('docs/ros_interface.md').read_text()


def test_defaults_are_accepted() -> None:
    assert refusal([Parameter(spec.name, value=spec.default) for spec in PARAMETERS]) == ''
    for spec in PARAMETERS:
        assert spec.description
        if spec.value_range:
            assert spec.value_range[0] <= spec.default <= spec.value_range[1]


def test_choices_are_kept() -> None:
    said = refusal([Parameter('image_transport', value='pigeon')])
    assert said == "image_transport must be one of raw, compressed; got 'pigeon'."
