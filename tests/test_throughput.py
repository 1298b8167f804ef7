"""Working on several items at once: order, bounds, errors, and what is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from perception.throughput import DEPTH, map_in_order, read_ahead


def test_results_come_in_order_however_long_each_takes() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    with map_in_order(work, range(20), 'cpu', 4) as results:
        assert list(results) == [(number, number * number) for number in range(20)]


def test_several_items_are_in_hand_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    with map_in_order(lambda _: together.wait(), range(6), 'cpu', 3) as results:
        assert len(list(results)) == 6


def test_a_cpu_gives_each_item_one_thread_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    with map_in_order(lambda _: torch.get_num_threads(), range(4), 'cpu', 2) as results:
        assert [threads for _, threads in results] == [1] * 4
    with map_in_order(lambda _: torch.get_num_threads(), range(2), 'cpu', 1) as results:
        assert [threads for _, threads in results] == [before] * 2
    assert torch.get_num_threads() == before


def test_an_error_reaches_the_caller_after_the_results_before_it() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number

    seen = []
    with map_in_order(work, range(10), 'cpu', 2) as results, pytest.raises(ZeroDivisionError):
        seen.extend(number for number, _ in results)
    assert seen == [0, 1, 2]


def test_reading_ahead_is_bounded_and_stops_with_its_context() -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            read.append(number)
            yield number
            number += 1

    with read_ahead(endless()) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 3 + DEPTH + 2
    assert not [thread for thread in threading.enumerate() if thread.name == 'read_ahead']


def test_an_error_of_the_reader_comes_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError('cut short')

    with read_ahead(broken()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match='cut short'):
            next(items)


def test_an_error_of_the_items_comes_behind_all_results_before_it() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise OSError('cut short')

    seen = []
    with map_in_order(lambda number: number, broken(), 'cpu', 3) as results, pytest.raises(OSError, match='cut short'):
        seen.extend(number for number, _ in results)
    assert seen == list(range(5))
