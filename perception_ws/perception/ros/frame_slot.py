"""The place between the executor and the inference thread: it holds the newest frame, never a queue.

A queue would let latency grow when frames come faster than the network runs; here the newest frame wins.
"""

from threading import Condition
from typing import Generic, TypeVar

Frame = TypeVar('Frame')


class FrameSlot(Generic[Frame]):
    """Hands the newest frame from one thread to another."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._frame: Frame | None = None
        self._closed = False

    def put(self, frame: Frame) -> bool:
        """Offer a frame. Returns whether it took the place of one that nobody had looked at."""
        with self._changed:
            superseded = self._frame is not None
            self._frame = frame
            self._changed.notify()
            return superseded

    def take(self) -> Frame | None:
        """Wait for a frame and take it out; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frame is not None)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def clear(self) -> bool:
        """Throw away a waiting frame. Returns whether there was one."""
        with self._changed:
            waiting, self._frame = self._frame is not None, None
            return waiting

    def close(self) -> None:
        """Wake whoever waits in take, and let every later take return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
