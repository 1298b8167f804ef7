"""camera_node in the process of a test, its callbacks served by a thread: for what a test replaces or looks into."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from perception.ros.camera_node import CameraNode


@contextmanager
def node_here(model: Path, *arguments: str, **parameters: str | int | float | bool) -> Iterator[CameraNode]:
    """The node in /camera, unconfigured. Arguments are ROS arguments."""
    node = CameraNode(
        namespace='/camera',
        parameter_overrides=[
            Parameter(name, value=value) for name, value in {'model_path': str(model), **parameters}.items()
        ],
        cli_args=['--ros-args', *arguments],
        arguments=['--ros-args', *arguments],
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = Thread(target=executor.spin)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()
