"""Looking at many images as fast as a machine can, in order: reading ahead, and working on several at once.

Both are bounded, so memory does not grow when one side is slower, and both hand on the first error.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

DEPTH = 4
"""Items that are read ahead."""
_MOST_WORKERS = 16

Item = TypeVar('Item')
Result = TypeVar('Result')


@contextmanager
def read_ahead(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """Iterate in a thread of its own; leaving the context stops it, read to the end or not."""
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(DEPTH)
    stopped = threading.Event()

    def offer(item: Item | None, error: BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not offer(item, None):
                    return
        except Exception as error:  # handed on to the main thread
            offer(None, error)
        else:
            offer(None, StopIteration())

    def take() -> Iterator[Item]:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=read, name='read_ahead', daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()


@contextmanager
def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], device: str, workers: int = 0
) -> Iterator[Iterator[tuple[Item, Result]]]:
    """Work on the next few items at once; gives each with its result, in the order of the items.

    On a CPU each item has one thread. That wastes no time waiting for other threads, and the last bits of a result,
    which depend on how many threads share a sum, are the same however many cores there are.

    Args:
        work: Runs in one of the workers' threads.
        device: Where the network runs. A GPU serves one item while the CPU prepares the next.
        workers: Items at once; 0: as is fastest. One on a CPU gets all the cores, as on a vehicle.
    """
    on_cpu = device.startswith('cpu')
    cores = len(os.sched_getaffinity(0))
    threads = 1 if on_cpu and workers != 1 else torch.get_num_threads()
    count = workers or (min(cores, _MOST_WORKERS) if on_cpu else 2)

    def take() -> Iterator[tuple[Item, Result]]:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        source, failure = iter(items), None
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:  # raised behind the results of the items before it
                failure = error
                break
            waiting.append((item, pool.submit(work, item)))
            # One more than there are workers: so none is idle while the caller has a result in hand.
            if len(waiting) > count:
                oldest, future = waiting.popleft()
                yield oldest, future.result()
        while waiting:
            oldest, future = waiting.popleft()
            yield oldest, future.result()
        if failure is not None:
            raise failure

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        count, thread_name_prefix='map_in_order', initializer=lambda: torch.set_num_threads(threads)
    )
    try:
        yield take()
    finally:
        pool.shutdown(cancel_futures=True)
        # The number is of a thread, but also what new threads start with.
        torch.set_num_threads(before)
