"""Ground truth that lies in a bag beside the images: a mask and boxes for each frame, paired by their stamps.

    <camera>/truth/mask, or .../compressed    sensor_msgs/Image mono8, or a PNG: class ids, 255 unlabelled
    <camera>/truth/detections                 vision_msgs/Detection2DArray; class_id ``ignore``, or no result: a region
    <camera>/truth/mask/label_info, <camera>/truth/detections/label_info    vision_msgs/LabelInfo, latched: the ids

Where a LabelInfo lies in the bag, ids are read by the names in it; without one they count in our own label space.

Shape letters: H W rows and columns, N boxes, M ignored regions.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Connection

from perception.bag.recording import (
    CutShortError,
    deserialize,
    is_ros1,
    open_recording,
    read_messages,
    serialized_stamp_ns,
    type_name,
)
from perception.errors import DatasetError, ImageError, RecordingError
from perception.image_messages import decode_compressed_image, decode_image
from perception.image_messages.decoded import view_bytes
from perception.interfaces import UNLABELLED, GroundTruth, LabelClass, LabelSpace

logger = logging.getLogger(__name__)

IGNORED_CLASS = 'ignore'
"""class_id of a region in which detections are neither right nor wrong."""
MASK_TOPIC, DETECTIONS_TOPIC, LABEL_INFO = 'truth/mask', 'truth/detections', 'label_info'
_IMAGE_NAMES = ('compressed', 'image', 'image_raw', 'image_rect', 'image_color', 'image_rect_color', 'image_mono')
_DETECTIONS_TYPE, _LABELS_TYPE = 'vision_msgs/msg/Detection2DArray', 'vision_msgs/msg/LabelInfo'
_MOST_KEPT_BYTES = 64 << 20
_PNG_BEGIN, _GREY_8_BIT, _GREY_8_BIT_AT = b'\x89PNG\r\n\x1a\n', b'\x08\x00', 24  # of its header, IHDR
_UNKNOWN = 254


def camera_namespace(image_topic: str) -> str:
    """The namespace of a camera: its image topic without the usual last names, ``/front`` for /front/image_raw."""
    parts = image_topic.strip('/').split('/')
    while parts and parts[-1] in _IMAGE_NAMES:
        parts.pop()
    return ''.join(f'/{part}' for part in parts)


@dataclass(frozen=True, kw_only=True)
class TruthTopics:
    """Where the truth of one camera lies; None: not there."""

    mask: str | None = None
    detections: str | None = None


def find_truth_topics(
    bag: Path, image_topic: str, *, mask: str | None = None, detections: str | None = None
) -> TruthTopics | None:
    """Find the truth of a camera in a bag; None where there is none.

    Args:
        mask, detections: Topics to use in place of the usual ones.

    Raises:
        RecordingError: If a topic that was named is not there or holds something else, or boxes lie in a ROS 1 bag.
    """
    with open_recording(bag) as reader:
        filled = {connection.topic: connection for connection in reader.connections if connection.msgcount}
    types = {topic: type_name(connection) for topic, connection in filled.items()}
    base = camera_namespace(image_topic)
    usual_masks = [f'{base}/{MASK_TOPIC}', f'{base}/{MASK_TOPIC}/compressed']
    found = TruthTopics(
        mask=_choose(bag, types, mask, usual_masks, _MASK_TYPES),
        detections=_choose(bag, types, detections, [f'{base}/{DETECTIONS_TOPIC}'], (_DETECTIONS_TYPE,)),
    )
    if found.detections and is_ros1(filled[found.detections]):
        raise RecordingError(
            f'{bag} holds {_DETECTIONS_TYPE} of ROS 1 on {found.detections!r}; boxes are read from bags of ROS 2 only. '
            'Convert the bag, or give the truth as a folder or none.'
        )
    return found if found.mask or found.detections else None


def _choose(
    bag: Path, types: dict[str, str], named: str | None, usual: Sequence[str], wanted: Collection[str]
) -> str | None:
    if named is None:
        return next((topic for topic in usual if types.get(topic) in wanted), None)
    if types.get(named) not in wanted:
        fitting = [topic for topic, kind in sorted(types.items()) if kind in wanted]
        raise RecordingError(
            f'{bag} holds {types.get(named, "nothing")} on {named!r}; expected {" or ".join(wanted)}. '
            f'Topics of that type: {", ".join(fitting) or "none"}.'
        )
    return named


class _StampedMessages:
    """The messages of one topic, each found by its stamp, in whatever order they were recorded.

    One pass notes where each of them is. From then on they are read on from the last one that was asked for, as truth
    mostly comes in the order of its frames. What is passed over is kept, up to _MOST_KEPT_BYTES; what is kept no longer
    is read from the beginning again, so no order costs more than time.
    """

    def __init__(self, bag: Path, topic: str) -> None:
        self._bag, self._topic = bag, topic
        self._passes = self._open()
        self._messages: Iterator[tuple[Connection, int, bytes]] = iter(())
        self._next = 0
        self._places: dict[int, int] | None = None
        self._damage: RecordingError | None = None
        self._last_stamp_ns = 0
        self._kept: OrderedDict[int, tuple[Connection, bytes]] = OrderedDict()
        self._kept_bytes = 0

    def at(self, stamp_ns: int) -> tuple[Connection, bytes] | None:
        """The message with exactly this stamp, the last one if there are several; None if there is none.

        Raises:
            RecordingError: If it is later than all that can be read of a damaged bag, so it may lie behind the damage.
        """
        if self._places is None:  # not before: some truth is only looked for, and on another machine than reads it
            self._places = self._note_places()
            self._rewind()
        place = self._places.get(stamp_ns)
        if place is None:
            if self._damage is not None and stamp_ns > self._last_stamp_ns:
                raise self._damage
            return None
        if place not in self._kept:
            if place < self._next:
                self._rewind()
            while self._next <= place:
                self._keep(next(self._messages))
        self._kept.move_to_end(place, last=False)  # of all that is kept, nobody is likely to ask for it again
        return self._kept[place]

    def _open(self) -> Iterator[Iterator[tuple[Connection, int, bytes]]]:
        """Each item reads the topic anew, in a bag that is opened once: where its end is missing, that takes a pass."""
        with open_recording(self._bag) as reader:
            connections = [connection for connection in reader.connections if connection.topic == self._topic]
            while True:
                yield read_messages(self._bag, reader, connections)

    def _rewind(self) -> None:
        self._messages, self._next = next(self._passes), 0

    def _keep(self, message: tuple[Connection, int, bytes]) -> None:
        connection, _, data = message
        if self._next not in self._kept:
            self._kept[self._next] = connection, data
            self._kept_bytes += len(data)
        self._next += 1
        while self._kept_bytes > _MOST_KEPT_BYTES and len(self._kept) > 1:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)

    def _note_places(self) -> dict[int, int]:
        """The place of each stamp among the messages of the topic."""
        places = {}
        try:
            for place, (connection, received_ns, data) in enumerate(next(self._passes)):
                stamp_ns = 0
                try:
                    stamp_ns = serialized_stamp_ns(connection, data)
                except ImageError as error:
                    logger.warning('%s, %s, received at %d ns: %s', self._bag, self._topic, received_ns, error)
                places[stamp_ns or received_ns] = place
        except CutShortError:
            pass  # whoever reads the frames says so, when it has them all
        except RecordingError as error:
            logger.warning('%s, %s: truth behind the damage is lost. %s', self._bag, self._topic, error)
            self._damage, self._last_stamp_ns = error, max(places, default=0)
        return places


class BagTruth:
    """The truth of one camera of a bag, asked for by stamp.

    Args:
        bag: The recording.
        topics: Where it lies.
        labels: The label space to read it in.

    Raises:
        DatasetError: If the bag's classes have none of the label space's names, or cannot be read.
        RecordingError: If the bag holds names of classes in a type that is not known.
    """

    def __init__(self, bag: Path, topics: TruthTopics, labels: LabelSpace) -> None:
        self.path, self.topics, self.labels = bag, topics, labels
        mask_names, box_names = self._read_label_names()
        self._mask_table = _mask_table(mask_names, labels.segmentation)
        self._box_classes = _box_classes(box_names, labels.detection)
        # Apart, since a tool may have recorded all the masks and then all the boxes.
        self._messages = [_StampedMessages(bag, topic) for topic in (topics.mask, topics.detections) if topic]

    def at(self, stamp_ns: int) -> GroundTruth | None:
        """The truth with exactly this stamp; None if the bag has none.

        Raises:
            DatasetError: If it is broken, or holds a class that is not in the label space.
            RecordingError: If the bag turns out to be damaged.
        """
        truth = None
        for messages in self._messages:
            found = messages.at(stamp_ns)
            if found is not None:
                truth = self._add(truth or GroundTruth(), stamp_ns, *found)
        return truth

    def _add(self, truth: GroundTruth, stamp_ns: int, connection: Connection, data: bytes) -> GroundTruth:
        try:
            message = deserialize(self.path, connection, data)
            if type_name(connection) != _DETECTIONS_TYPE:
                return replace(truth, mask=self._decode_mask(connection, message))
            boxes, labels, ignored = self._decode_boxes(message)
        except (DatasetError, ImageError) as error:
            raise DatasetError(f'{self.path}, {connection.topic} at {stamp_ns} ns: {error}') from error
        return replace(truth, boxes_xyxy=boxes, labels=labels, ignore_boxes_xyxy=ignored)

    def _decode_mask(self, connection: Connection, message: Any) -> np.ndarray:
        ids = _MASK_TYPES[type_name(connection)](message)
        mask = cv2.LUT(np.ascontiguousarray(ids), self._mask_table)
        if (mask == _UNKNOWN).any():
            raise DatasetError(f'Mask id {ids[mask == _UNKNOWN][0]} is none of the label space {self.labels.name!r}.')
        return mask

    def _decode_boxes(self, message: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4), labels (N,) and ignored regions (M, 4)."""
        boxes, labels, ignored = [], [], []
        for detection in message.detections:
            centre, size_x, size_y = detection.bbox.center.position, detection.bbox.size_x, detection.bbox.size_y
            if not (np.isfinite([centre.x, centre.y, size_x, size_y]).all() and size_x > 0 and size_y > 0):
                raise DatasetError(
                    f'A box of size {size_x} x {size_y} around ({centre.x}, {centre.y}) came; expected finite numbers, '
                    'sizes above 0.'
                )
            if detection.bbox.center.theta:
                raise DatasetError(
                    f'A box turned by {detection.bbox.center.theta} came; expected upright ones, theta 0.'
                )
            box = (centre.x - size_x / 2, centre.y - size_y / 2, centre.x + size_x / 2, centre.y + size_y / 2)
            class_id = detection.results[0].hypothesis.class_id if detection.results else IGNORED_CLASS
            if class_id == IGNORED_CLASS:
                ignored.append(box)
            elif class_id in self._box_classes:
                label = self._box_classes[class_id]
                if label is not None:
                    boxes.append(box)
                    labels.append(label)
            else:
                raise DatasetError(
                    f'Box class {class_id!r} is none of the label space {self.labels.name!r}; '
                    f'known: {", ".join(self._box_classes)} and {IGNORED_CLASS}.'
                )
        return (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(ignored, np.float32).reshape(-1, 4),
        )

    def _read_label_names(self) -> tuple[dict[int, str] | None, dict[int, str] | None]:
        """The classes of masks and of boxes by their id, where the bag says them."""
        topics = [
            topic and f'{topic.removesuffix("/compressed")}/{LABEL_INFO}'
            for topic in (self.topics.mask, self.topics.detections)
        ]
        names: dict[str, dict[int, str]] = {}
        with open_recording(self.path) as reader:
            connections = [c for c in reader.connections if c.topic in topics and type_name(c) == _LABELS_TYPE]
            messages = read_messages(self.path, reader, connections) if connections else ()
            with suppress(CutShortError):
                for connection, _, data in messages:
                    try:
                        class_map = deserialize(self.path, connection, data).class_map
                    except ImageError as error:
                        raise DatasetError(f'{self.path}, {connection.topic}: {error}') from error
                    names[connection.topic] = {int(entry.class_id): str(entry.class_name) for entry in class_map}
                    if len(names) == len({connection.topic for connection in connections}):
                        break
        mask_names, box_names = (names.get(topic) if topic else None for topic in topics)
        return mask_names, box_names


def _read_ids(message: Any) -> np.ndarray:
    """(H, W) uint8 of an uncompressed mask. Of deeper ones decoding keeps the high byte, which is no id."""
    if message.encoding not in ('mono8', '8UC1'):
        raise DatasetError(f'A mask of encoding {message.encoding!r} came; expected mono8, a class id for each pixel.')
    return decode_image(message).pixels


def _read_compressed_ids(message: Any) -> np.ndarray:
    """The same of a compressed one."""
    data = view_bytes(message.data)
    if data[: len(_PNG_BEGIN)].tobytes() != _PNG_BEGIN:
        raise DatasetError(f'A mask of format {message.format!r} came; expected PNG: others change the ids.')
    if data[_GREY_8_BIT_AT : _GREY_8_BIT_AT + 2].tobytes() != _GREY_8_BIT:
        raise DatasetError('A mask came as a PNG with colours or of another depth; expected one channel of 8 bits.')
    return decode_compressed_image(message).pixels


_MASK_TYPES = {'sensor_msgs/msg/Image': _read_ids, 'sensor_msgs/msg/CompressedImage': _read_compressed_ids}


def _mask_table(names: dict[int, str] | None, classes: tuple[LabelClass, ...]) -> np.ndarray:
    """(256,) uint8 from the bag's ids to ours: UNLABELLED for classes we do not know, 254 for ids nobody named."""
    table = np.full(256, _UNKNOWN, np.uint8)
    table[UNLABELLED] = UNLABELLED
    if names is None:
        table[: len(classes)] = np.arange(len(classes))
        return table
    ours = _match_names(names, classes)
    for number, index in ours.items():
        table[number] = UNLABELLED if index is None else index
    return table


def _box_classes(names: dict[int, str] | None, classes: tuple[LabelClass, ...]) -> dict[str, int | None]:
    """From a class_id, a number or a name, to our class; None for one that we do not know."""
    own = {label.name: index for index, label in enumerate(classes)}
    if names is None:
        return {**{str(index): index for index in own.values()}, **own}
    ours = _match_names(names, classes)
    return {**{str(number): index for number, index in ours.items()}, **{names[n]: i for n, i in ours.items()}, **own}


def _match_names(names: dict[int, str], classes: tuple[LabelClass, ...]) -> dict[int, int | None]:
    ours = [label.name for label in classes]
    matched = {number: ours.index(name) if name in ours else None for number, name in names.items() if number < 256}
    if all(index is None for index in matched.values()):
        raise DatasetError(
            f'The truth in the bag has the classes {", ".join(names.values())}, and the network {", ".join(ours)}: '
            'none agree. Use a network of that label space, or rename the classes in the LabelInfo.'
        )
    return matched
