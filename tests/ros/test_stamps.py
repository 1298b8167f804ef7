"""What is a stamp, and the age of an image."""

import pytest
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from perception.ros.stamps import image_age_ms, stamp_ns

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ('sec', 'nanosec', 'expected'),
    [
        (0, 0, None),
        (-1, 0, None),
        (-(2**31), 999_999_999, None),
        (5, 1_000_000_000, None),
        (5, 2**32 - 1, None),
        (0, 1, 1),
        (5, 999_999_999, 5_999_999_999),
        (2**31 - 1, 0, (2**31 - 1) * 10**9),
    ],
)
def test_stamp(sec: int, nanosec: int, expected: int | None) -> None:
    header = Header(stamp=Time(sec=sec, nanosec=nanosec))
    assert stamp_ns(header) == expected
    age_ms = image_age_ms(Clock(clock_type=ClockType.SYSTEM_TIME), header)
    assert (age_ms is None) == (expected is None)


def test_age_is_negative_for_a_stamp_in_the_future() -> None:
    clock = Clock(clock_type=ClockType.SYSTEM_TIME)
    now = clock.now().nanoseconds
    ahead = Header(stamp=Time(sec=now // 10**9 + 3600))
    assert -3600e3 - 1000 < (image_age_ms(clock, ahead) or 0) < -3500e3
