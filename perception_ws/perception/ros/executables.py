"""What ``ros2 run perception`` finds. The node's libraries take seconds to load: Ctrl-C may come in between."""

import os
import signal

INTERRUPTED = 130


def camera_node() -> int:
    """Run camera_node; returns its exit code."""
    # While NumPy is imported from C, a KeyboardInterrupt would be thrown away.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    from perception.ros.camera_node import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()
