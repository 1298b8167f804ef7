"""Stopping on request: what is in hand is finished, whoever has no patience is heard."""

import os
import signal
import time

import pytest

from perception.output_folder import SAME_S, StopRequest


def test_signals_that_come_together_are_one_and_a_later_one_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        later = time.monotonic() + 2 * SAME_S
        monkeypatch.setattr(time, 'monotonic', lambda: later)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_afterwards_signals_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
