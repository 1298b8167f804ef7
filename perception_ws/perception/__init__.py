"""One network that detects and segments, in a ROS 2 node. The README's tree says which room holds what."""

__version__ = '0.1.0'
