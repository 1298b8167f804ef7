"""What waits for something that may never come, such as the answer to a frame that was dropped on the way."""

from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Awaited(Generic[Item]):
    """Items by key, until they are taken; those that nobody takes in time are forgotten.

    Args:
        timeout_s: How long an item is worth keeping.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._items: OrderedDict[Hashable, tuple[float, Item]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, item: Item) -> None:
        now = monotonic()
        while self._items and now - next(iter(self._items.values()))[0] > self._timeout_s:
            self._items.popitem(last=False)
        self._items[key] = now, item

    def take(self, key: Hashable) -> Item | None:
        """Take an item out; None if there is none, or none any more."""
        _, item = self._items.pop(key, (0.0, None))
        return item
