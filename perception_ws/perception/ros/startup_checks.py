"""What a node should be told when it starts: mistakes that ROS passes over in silence."""

import os

import rclpy
from rclpy.node import Node

from perception.errors import nearest
from perception.ros.parameters import PARAMETERS

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS finds its profile: the name up to Jazzy, and the one since."""


def startup_warnings(node: Node) -> list[str]:
    """Warnings about a node that has declared its parameters."""
    return [*_unknown_parameters(node), *_small_segments()]


def _unknown_parameters(node: Node) -> list[str]:
    """ROS ignores misspelt parameters. (They are no error here either: parameter files are shared between nodes.)"""
    known = [spec.name for spec in PARAMETERS]
    return [
        f'Parameter {name!r} is unknown and ignored: {nearest(name, known)}'
        for name in getattr(node, '_parameter_overrides', {})
        if not node.has_parameter(name) and not name.startswith(('qos_overrides.', 'use_sim_time'))
    ]


def _small_segments() -> list[str]:
    if 'fastrtps' not in rclpy.get_rmw_implementation_identifier() or any(
        name in os.environ for name in PROFILE_VARIABLES
    ):
        return []
    return [
        f"{PROFILE_VARIABLES[0]} is not set: by Fast DDS's defaults images over half a megabyte get lost. Point it at "
        "this package's config/fastdds_large_images.xml, here and for the camera driver."
    ]
