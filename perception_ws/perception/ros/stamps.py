"""Stamps of images: what is one, and how old it is."""

from rclpy.clock import Clock
from std_msgs.msg import Header

_NS_PER_S = 1_000_000_000


def stamp_ns(header: Header) -> int | None:
    """The stamp in ns; None where there is none: all zero, before 1970, or with more nanoseconds than a second has."""
    sec, nanosec = header.stamp.sec, header.stamp.nanosec
    if sec < 0 or not 0 <= nanosec < _NS_PER_S or not (sec or nanosec):
        return None
    return sec * _NS_PER_S + nanosec


def image_age_ms(clock: Clock, header: Header) -> float | None:
    """Time since the image's stamp, negative for one in the future; None without stamp, or before the first /clock."""
    stamp, now = stamp_ns(header), clock.now().nanoseconds
    if stamp is None or now == 0:
        return None
    return (now - stamp) / 1e6
