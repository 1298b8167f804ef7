"""The messages of one topic, each found by its stamp, in whatever order they were recorded."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from perception.bag.messages import serialized_stamp_ns
from perception.bag.recording import open_recording
from perception.bag.storage import CutShortError, Message
from perception.errors import ImageError, RecordingError

logger = logging.getLogger(__name__)

_MOST_KEPT_BYTES = 64 << 20


class StampedMessages:
    """The messages of one topic by their stamps.

    One pass notes where each of them is. From then on they are read on from the last one that was asked for, as truth
    mostly comes in the order of its frames. What is passed over is kept, up to _MOST_KEPT_BYTES; what is kept no longer
    is read from the beginning again, so no order costs more than time.
    """

    def __init__(self, bag: Path, topic: str) -> None:
        self.topic = topic
        self._bag = bag
        self._passes = self._open()
        self._messages: Iterator[Message] = iter(())
        self._next = 0
        self._noted: dict[int, list[int]] | None = None
        self._damage: RecordingError | None = None
        self._last_stamp_ns = 0
        self._kept: OrderedDict[int, Message] = OrderedDict()
        self._kept_bytes = 0

    def at(self, stamp_ns: int, turn: int = 0) -> Message | None:
        """The message with exactly this stamp; None if there is none.

        Args:
            turn: Which of several, in the order of recording: those of one stamp belong to its frames in turn.

        Raises:
            RecordingError: If it is later than all that can be read of a damaged bag, so it may lie behind the damage.
        """
        places = self._places.get(stamp_ns, [])
        if turn >= len(places):
            if self._damage is not None and stamp_ns > self._last_stamp_ns:
                raise self._damage
            return None
        place = places[turn]
        if place not in self._kept:
            if place < self._next:
                self._rewind()
            while self._next <= place:
                self._keep(next(self._messages))
        self._kept.move_to_end(place, last=False)  # of all that is kept, nobody is likely to ask for it again
        return self._kept[place]

    def counts(self) -> dict[int, int]:
        """How many messages there are of each stamp, in what can be read."""
        return {stamp_ns: len(places) for stamp_ns, places in self._places.items()}

    @property
    def _places(self) -> dict[int, list[int]]:
        """The places of each stamp among the messages of the topic."""
        if self._noted is None:  # not before: some truth is only looked for, and on another machine than reads it
            self._noted = self._note_places()
            self._rewind()
        return self._noted

    def _open(self) -> Iterator[Iterator[Message]]:
        """Each item reads the topic anew, in a bag that is opened once: where its end is missing, that takes a pass."""
        with open_recording(self._bag) as recording:
            topics = [topic for topic in recording.topics if topic.name == self.topic]
            while True:
                yield recording.messages(topics)

    def _rewind(self) -> None:
        self._messages, self._next = next(self._passes), 0

    def _keep(self, message: Message) -> None:
        if self._next not in self._kept:
            self._kept[self._next] = message
            self._kept_bytes += len(message.data)
        self._next += 1
        while self._kept_bytes > _MOST_KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.data)

    def _note_places(self) -> dict[int, list[int]]:
        places: dict[int, list[int]] = {}
        try:
            for place, message in enumerate(next(self._passes)):
                stamp_ns = 0
                try:
                    stamp_ns = serialized_stamp_ns(message)
                except ImageError as error:
                    logger.warning('%s, %s, received at %d ns: %s', self._bag, self.topic, message.received_ns, error)
                places.setdefault(stamp_ns or message.received_ns, []).append(place)
        except CutShortError:
            pass  # whoever reads the frames says so, when it has them all
        except RecordingError as error:
            logger.warning('%s, %s: truth behind the damage is lost. %s', self._bag, self.topic, error)
            self._damage, self._last_stamp_ns = error, max(places, default=0)
        return places
