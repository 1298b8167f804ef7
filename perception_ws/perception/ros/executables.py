"""What ``ros2 run perception`` finds. The node's libraries take seconds to load: Ctrl-C may come in between."""

import os
import signal
import sys

INTERRUPTED = 130

CAMERA_NODE_HELP = """usage: ros2 run perception camera_node [--ros-args [-p NAME:=VALUE] [-r FROM:=TO] ...]

One joint network looks at a camera's frames and publishes detections and a mask. It is a lifecycle node that becomes
active by itself (autostart). Often set: -p model_path:=FILE, -p score_threshold:=0.3, -r image:=/camera/image_raw.
Topics, services and parameters: docs/ros_interface.md, or of a running node `ros2 param describe /camera_node`."""


def camera_node() -> int:
    """Run camera_node; returns its exit code."""
    if {'-h', '--help'} & set(sys.argv[1:]):
        print(CAMERA_NODE_HELP)
        return 0
    # While NumPy is imported from C, a KeyboardInterrupt would be thrown away.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    from perception.ros.camera_node import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()
