"""What a node should be told when it starts: mistakes that ROS passes over in silence."""

from collections.abc import Sequence

from rclpy.node import Node

from perception.errors import nearest
from perception.ros.parameter_files import foreign_sections, sections, shared_parameters
from perception.ros.parameters import PARAMETERS
from perception.ros.qos import check_qos_overrides


def startup_warnings(node: Node, image_topic: str, arguments: Sequence[str]) -> list[str]:
    """Warnings about a node that has declared its parameters.

    Args:
        image_topic: Full name of the topic that it will subscribe to.
        arguments: The command line.

    Raises:
        InvalidParameterValueException: If qos_overrides says what cannot be.
    """
    found, name = sections(arguments), node.get_fully_qualified_name()
    return [
        *foreign_sections(found, name),
        *_unknown_parameters(node),
        *check_qos_overrides(node, image_topic, shared_parameters(found, name)),
    ]


def _unknown_parameters(node: Node) -> list[str]:
    """ROS ignores misspelt parameters. (They are no error here either: parameter files are shared between nodes.)"""
    known = [spec.name for spec in PARAMETERS]
    return [
        f'Parameter {name!r} is unknown and ignored: {nearest(name, known)}'
        for name in getattr(node, '_parameter_overrides', {})
        if not node.has_parameter(name) and not name.startswith(('qos_overrides.', 'use_sim_time'))
    ]
