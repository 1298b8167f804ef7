"""Which topics of a bag are cameras': one stream for each camera, and what is left out is said.

A camera publishes the same picture on several topics: raw and compressed, as it came and rectified, grey and coloured.
They count once. The one that is read is the first of PREFERENCE that is there, raw rather than compressed: it is what
the camera saw, and what truth is mostly drawn on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import NamedTuple

from perception.bag.messages import can_decode, deserialize
from perception.bag.recording import Recording
from perception.bag.storage import Topic
from perception.errors import ImageError, RecordingError
from perception.image_messages import holds_depth

logger = logging.getLogger(__name__)

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
PREFERENCE = ('image_raw', 'image', 'image_color')
"""Last words of topics with a camera's picture as it came; behind them all others in the order of the alphabet."""
_IMAGE_NAME = re.compile(r'image(_(raw|rect|rectified|colou?r|mono|gr[ae]y))*')
_RECTIFIED = re.compile(r'(^|_)rect(_|$|ified)')
_RESULTS = {'truth', 'segmentation', 'overlay'}
_PICTURE_TYPE = re.compile(r'(^|[./])(Compressed|Raw)?(Image|Video)$|ffmpeg|theora', re.IGNORECASE)
_VIDEO_FORMAT = re.compile(r'h\.?26[45]|hevc|av1|vp[89]|theora', re.IGNORECASE)
_MOST_NAMED = 8


def camera_namespace(image_topic: str) -> str:
    """The namespace of a camera: its image topic without the usual last names, ``/front`` for /front/image_raw."""
    parts = image_topic.strip('/').split('/')
    while parts and (parts[-1] == 'compressed' or _IMAGE_NAME.fullmatch(parts[-1])):
        parts.pop()
    return ''.join(f'/{part}' for part in parts)


def is_rectified(image_topic: str) -> bool:
    """Whether a topic's name says that its picture is rectified, so that its pixels lie elsewhere than the camera's."""
    return any(_RECTIFIED.search(part) for part in image_topic.split('/'))


class Cameras(NamedTuple):
    """The image topics of a bag, each in one of the lists.

    Attributes:
        chosen: One for each camera, in the order of the alphabet.
        others: Further pictures of the same cameras.
        depth: Depth, which is no picture.
        unreadable: Pictures in a form that is not read, such as video packets, with why.
        foreign: What is no picture, and nobody here could read either; that is said, in case somebody misses it.
    """

    chosen: list[Topic]
    others: list[Topic]
    depth: list[Topic]
    unreadable: list[tuple[Topic, str]]
    foreign: list[Topic]

    def log(self, path: object) -> None:
        """Say what is left out, one line for each reason."""
        if self.others:
            chosen = ', '.join(topic.name for topic in self.chosen)
            logger.warning(
                '%s: %s read; other pictures of the same cameras, read by --topic: %s.',
                path,
                f'{chosen} {"is" if len(self.chosen) == 1 else "are"}',
                name_some(topic.name for topic in self.others),
            )
        if self.foreign:
            described = name_some(f'{topic.name} ({topic.type}, {topic.encoding})' for topic in self.foreign)
            logger.warning('%s: not read, as their type or encoding is not known here: %s.', path, described)
        if self.depth:
            logger.warning('%s: %s: depth, so no camera.', path, name_some(topic.name for topic in self.depth))
        if self.unreadable:
            described = name_some(f'{topic.name} ({why})' for topic, why in self.unreadable)
            logger.warning('%s: not read, though it may hold pictures: %s.', path, described)


def name_some(names: Iterable[str]) -> str:
    """Names for a line, and how many there are beyond those that fit."""
    names = list(names)
    more = f' and {len(names) - _MOST_NAMED} more' if len(names) > _MOST_NAMED else ''
    return ', '.join(names[:_MOST_NAMED]) + more


def is_image(topic: Topic) -> bool:
    """Whether a topic holds messages that may be pictures."""
    return topic.type in (RAW, COMPRESSED) and can_decode(topic)


def find_cameras(recording: Recording) -> Cameras:
    """Sort the image topics of a bag.

    Masks and overlays, predicted or true, and depth are images too, but no camera's.
    """
    filled = [topic for topic in recording.topics if topic.count and _RESULTS.isdisjoint(topic.name.split('/'))]
    unreadable = [(topic, why) for topic in filled if (why := _why_unreadable(topic))]
    depth: list[Topic] = []
    cameras: dict[str, list[Topic]] = {}
    for topic in sorted((topic for topic in filled if is_image(topic)), key=_preference):
        kind = _kind_of_picture(recording, topic)
        if kind == 'depth':
            depth.append(topic)
        elif kind:
            unreadable.append((topic, kind))
        else:
            cameras.setdefault(camera_namespace(topic.name), []).append(topic)
    chosen = sorted((topics[0] for topics in cameras.values()), key=lambda topic: topic.name)
    others = [topic for topics in cameras.values() for topic in topics[1:]]
    # Of a raw topic, the compressed one beside it is the same picture.
    named = {topic.name for topic in (*chosen, *others)}
    others = [topic for topic in others if topic.name.removesuffix('/compressed') not in named - {topic.name}]
    named_unreadable = [topic for topic, _ in unreadable]
    foreign = [topic for topic in filled if not can_decode(topic) and topic not in named_unreadable]
    return Cameras(chosen, others, depth, unreadable, foreign)


def _preference(topic: Topic) -> tuple[int, bool, str]:
    last = topic.name.removesuffix('/compressed').rsplit('/', 1)[-1]
    rank = PREFERENCE.index(last) if last in PREFERENCE else len(PREFERENCE)
    return rank + is_rectified(topic.name) * len(PREFERENCE), topic.type != RAW, topic.name


def _why_unreadable(topic: Topic) -> str:
    """Why a topic whose type speaks of pictures is not read; empty: it is, or it holds none."""
    if is_image(topic) or not _PICTURE_TYPE.search(topic.type):
        return ''
    return f'{topic.type}, {topic.encoding or "unknown encoding"}'


def _kind_of_picture(recording: Recording, topic: Topic) -> str:
    """``depth``, the format of a video, or nothing: pictures; told by the first message, since names tell less."""
    try:
        for message in recording.messages([topic]):
            picture = deserialize(recording.path, message)
            if holds_depth(picture):
                return 'depth'
            compression = str(getattr(picture, 'format', ''))
            return compression if _VIDEO_FORMAT.search(compression) else ''
    except (ImageError, RecordingError):
        pass  # whoever reads the frames says so
    return ''
