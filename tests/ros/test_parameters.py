"""The table of parameters: documented, and every default passes its own checks."""

from dataclasses import replace
from pathlib import Path

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from perception.interfaces import Suppression
from perception.ros.parameters import PARAMETERS, declare_parameters, parameter_table, postprocess_config, refusal
from tests.ros.user_node import UserNode

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


def test_a_node_suppresses_as_its_network_does_until_it_is_told_otherwise(user: UserNode) -> None:
    own = Suppression(nms_threshold=0.45, max_detections=50, max_detections_per_class=5)
    node = Node('suppressing')
    declare_parameters(node)
    try:
        assert postprocess_config(node).suppression(own) == own
        told = [Parameter('nms_threshold', value=0.0), Parameter('max_detections', value=7)]
        assert all(answer.successful for answer in node.set_parameters(told))
        assert postprocess_config(node).suppression(own) == replace(own, nms_threshold=0.0, max_detections=7)
    finally:
        node.destroy_node()


def test_choices_are_kept() -> None:
    said = refusal([Parameter('image_transport', value='pigeon')])
    assert said == "image_transport must be one of raw, compressed; got 'pigeon'."
