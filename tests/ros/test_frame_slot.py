"""The newest frame wins, and whoever waits is woken."""

from threading import Thread

from perception.ros.frame_slot import FrameSlot


def test_newest_frame_wins() -> None:
    slot: FrameSlot[int] = FrameSlot()
    assert [slot.put(frame) for frame in (1, 2, 3)] == [False, True, True]
    assert slot.take() == 3
    assert not slot.put(4)


def test_clear_forgets_a_waiting_frame() -> None:
    slot: FrameSlot[int] = FrameSlot()
    assert not slot.clear()
    slot.put(1)
    assert slot.clear()
    slot.put(2)
    assert slot.take() == 2


def test_take_waits_and_close_wakes_it() -> None:
    slot: FrameSlot[int] = FrameSlot()
    taken: list[int | None] = []

    def take_until_closed() -> None:
        while True:
            taken.append(slot.take())
            if taken[-1] is None:
                return
            handed_over.put(1)

    handed_over: FrameSlot[int] = FrameSlot()
    thread = Thread(target=take_until_closed)
    thread.start()
    for frame in (5, 6):
        slot.put(frame)
        handed_over.take()
    slot.close()
    thread.join(timeout=10)
    assert taken == [5, 6, None]
    slot.put(7)
    assert slot.take() is None
