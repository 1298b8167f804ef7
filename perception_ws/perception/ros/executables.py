"""What ``ros2 run perception`` finds. The node's libraries take seconds to load: Ctrl-C may come in between."""


def camera_node() -> int:
    """Run camera_node; returns its exit code."""
    try:
        from perception.ros.camera_node import main

        return main()
    except KeyboardInterrupt:
        return 130
