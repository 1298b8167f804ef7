"""Every module of ROS tests gets a middleware domain of its own, checked message fields, and one user's node."""

import os
import random
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: `make setup` installs it from wheels')

# Before rclpy and the message packages are imported anywhere; child processes inherit it.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'

import rclpy

from perception.ros.node_process import isolate_middleware
from tests.ros.user_node import UserNode


@pytest.fixture(scope='module')
def user() -> Iterator[UserNode]:
    """A user's node in the namespace of the camera under test."""
    os.environ['ROS_DOMAIN_ID'] = str(random.SystemRandom().randint(1, 101))
    isolate_middleware(os.environ)  # type: ignore[arg-type]
    rclpy.init()
    node = UserNode('/camera')
    yield node
    node.close()
    rclpy.shutdown()
