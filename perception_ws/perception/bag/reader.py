"""Frames of one image topic out of a bag: MCAP, sqlite3 and ROS 1, raw and compressed, without ROS."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from perception.bag.cameras import COMPRESSED, RAW, Cameras, find_cameras, is_image
from perception.bag.messages import deserialize, header_stamp_ns, serialized_stamp_ns
from perception.bag.recording import Recording, open_recording
from perception.bag.source import FrameSource, OnSkip
from perception.bag.storage import Message, Topic
from perception.errors import ImageError, RecordingError
from perception.image_messages import DecodedImage, decode_compressed_image, decode_image
from perception.interfaces import StampedImage

logger = logging.getLogger(__name__)

DECODERS: dict[str, Callable[[Any], DecodedImage]] = {RAW: decode_image, COMPRESSED: decode_compressed_image}
"""Message types that hold a frame."""
_RATE_MESSAGES = 100


def read_frames(bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> Iterator[StampedImage]:
    """Read the frames of one image topic of a bag.

    Args:
        bag: Folder, or a single .mcap, .db3 or (ROS 1) .bag file.
        topic: Name of the image topic; None takes the only camera there is.
        on_skip: Called for each frame that cannot be decoded; without it the first of each kind is logged.

    Returns:
        Frames in the order of recording. Their stamp is the header's, or the time of receipt where that is zero.

    Raises:
        RecordingError: If the bag is missing or damaged (also while iterating: a cut is told behind the frames that are
            left), or does not hold such a topic.
    """
    return iter(BagFrames(bag, topic, on_skip=on_skip))


class BagFrames(FrameSource):
    """One image topic of a bag; ``read_frames`` says what the arguments mean."""

    def __init__(self, bag: Path | str, topic: str | None = None, *, on_skip: OnSkip | None = None) -> None:
        super().__init__(Path(bag), on_skip)
        with open_recording(self.path) as recording:
            self.topic = _choose_topic(recording, topic)
            self.frame_count = sum(topic.count for topic in self._topics(recording))

    def _topics(self, recording: Recording) -> list[Topic]:
        return [topic for topic in recording.topics if topic.name == self.topic and is_image(topic)]

    def _messages(self) -> Iterator[Message]:
        with open_recording(self.path) as recording:
            yield from recording.messages(self._topics(recording))

    @cached_property
    def frame_rate_hz(self) -> float | None:  # type: ignore[override]
        """Frames per second by the stamps of the first frames: those of receipt come in bursts, or all at once."""
        stamps_ns = []
        try:
            for message in islice(self._messages(), _RATE_MESSAGES):
                stamps_ns.append(_stamp_ns(message))
        except RecordingError:
            pass  # whoever reads the frames says so
        steps_ns = [later - earlier for earlier, later in pairwise(stamps_ns) if later > earlier]
        return 1e9 / median(steps_ns) if steps_ns else None

    def stamps_ns(self) -> Iterator[int]:
        """The stamp of each frame, damaged ones included, without decoding any.

        Raises:
            RecordingError: As reading the frames does.
        """
        return map(_stamp_ns, self._messages())

    def _read(self) -> Iterator[StampedImage]:
        assumed, messages = None, 0
        turns: Counter[int] = Counter()
        for message in self._messages():
            messages += 1
            stamp_ns = message.received_ns
            try:
                image = deserialize(self.path, message)
                stamp_ns = header_stamp_ns(image) or stamp_ns
                turn = turns[stamp_ns]
                turns[stamp_ns] += 1
                decoded = DECODERS[message.topic.type](image)
            except ImageError as error:
                self._skip(stamp_ns, error)
                continue
            if decoded.assumed and not assumed:
                assumed = decoded.assumed
                logger.warning('%s, topic %s: %s.', self.path, self.topic, assumed)
            yield StampedImage(
                # A view on the file's bytes is read-only, which torch warns about with every frame.
                image_rgb=np.require(decoded.to_rgb(), requirements='W'),
                stamp_ns=stamp_ns,
                frame_id=image.header.frame_id,
                source=self.topic,
                turn=turn,
            )
        if messages != self.frame_count:
            # Only a warning: some recorders announce messages that they dropped later.
            logger.warning(
                '%s announces %d messages on %s and holds %d.', self.path, self.frame_count, self.topic, messages
            )


def _stamp_ns(message: Message) -> int:
    try:
        return serialized_stamp_ns(message) or message.received_ns
    except ImageError:  # whoever decodes it says so
        return message.received_ns


def camera_topics(bag: Path | str, *, announce: bool = True) -> list[str]:
    """The topics of a bag on which cameras publish, one for each camera: see ``perception.bag.cameras``.

    Args:
        announce: Say what is left out.

    Raises:
        RecordingError: If the bag is missing or damaged, or holds no camera's images.
    """
    path = Path(bag)
    with open_recording(path) as recording:
        cameras = find_cameras(recording)
        filled = sorted({f'{topic.name} ({topic.type})' for topic in recording.topics if topic.count})
    if announce:
        cameras.log(path)
    if not cameras.chosen:
        raise RecordingError(
            f'{path} holds no images of a camera. Topics with messages: {", ".join(filled) or "none"}.'
        )
    return [topic.name for topic in cameras.chosen]


def _choose_topic(recording: Recording, wanted: str | None) -> str:
    images = [topic for topic in recording.topics if is_image(topic)]
    if wanted is None:
        cameras = find_cameras(recording)
        cameras.log(recording.path)
        if len(cameras.chosen) == 1:
            return cameras.chosen[0].name
        problem = _not_one(cameras)
    else:
        names = {topic.name for topic in recording.topics}
        name = wanted if wanted in names else f'/{wanted}'
        if any(topic.name == name and topic.count for topic in images):
            return name
        empty = any(topic.name == name for topic in images)
        problem = f'no frames on topic {wanted!r}' if empty else f'no image topic {wanted!r}'
    listed = sorted(images or recording.topics, key=lambda topic: topic.name)
    described = ', '.join(f'{topic.name} ({topic.type}, {topic.count} messages)' for topic in listed)
    kind = 'Image topics' if images else 'No image topics; all topics'
    raise RecordingError(f'{recording.path} has {problem}. {kind}: {described or "none"}.')


def _not_one(cameras: Cameras) -> str:
    if not cameras.chosen:
        return 'no camera images'
    return f'{len(cameras.chosen)} camera topics with messages; name the one to read'
