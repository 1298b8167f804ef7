"""Ground truth that lies in a bag beside the images: a mask and boxes for each frame, paired by their stamps.

    <camera>/truth/mask, or .../compressed    sensor_msgs/Image mono8, or a PNG: class ids, 255 unlabelled
    <camera>/truth/detections                 vision_msgs/Detection2DArray; class_id ``ignore``, or no result: a region
    <camera>/truth/mask/label_info, <camera>/truth/detections/label_info    vision_msgs/LabelInfo, latched: the ids

Where a LabelInfo lies in the bag, ids are read by the names in it; without one they count in our own label space.

Shape letters: H W rows and columns, N boxes, M ignored regions.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perception.bag.cameras import camera_namespace, is_image, is_rectified
from perception.bag.messages import deserialize, is_ros1
from perception.bag.recording import Recording, open_recording
from perception.bag.stamped_messages import StampedMessages
from perception.bag.storage import CutShortError, Message
from perception.bag.truth_classes import TruthClasses
from perception.errors import DatasetError, ImageError, RecordingError
from perception.image_messages import decode_ids, decode_image
from perception.image_messages.decoded import view_bytes
from perception.interfaces import ANY_CLASS, GroundTruth, LabelSpace
from perception.truth.clipping import clip_truth

logger = logging.getLogger(__name__)

IGNORED_CLASS = 'ignore'
"""class_id of a region in which detections are neither right nor wrong; a second result says of which class alone."""
MASK_TOPIC, DETECTIONS_TOPIC, LABEL_INFO = 'truth/mask', 'truth/detections', 'label_info'
_DETECTIONS_TYPE, _LABELS_TYPE = 'vision_msgs/msg/Detection2DArray', 'vision_msgs/msg/LabelInfo'


@dataclass(frozen=True, kw_only=True)
class TruthTopics:
    """Where the truth of one camera lies; None: not there."""

    mask: str | None = None
    detections: str | None = None


def find_truth_topics(
    bag: Path, image_topic: str, *, mask: str | None = None, detections: str | None = None, asked: bool = False
) -> TruthTopics | None:
    """Find the truth of a camera in a bag; None where there is none.

    Truth is drawn on the picture as it came. A rectified one beside it shows things elsewhere, so the same truth is
    taken for it only where somebody asks for that.

    Args:
        mask, detections: Topics to use in place of the usual ones.
        asked: Whether to take the usual ones for a rectified picture, too.

    Raises:
        RecordingError: If a topic that was named is not there or holds something else, or boxes lie in a ROS 1 bag.
    """
    with open_recording(bag) as recording:
        filled = {topic.name: topic for topic in recording.topics if topic.count}
        other = None if asked else _unrectified(recording, image_topic)
    types = {name: topic.type for name, topic in filled.items()}
    base = camera_namespace(image_topic)
    usual_masks = [f'{base}/{MASK_TOPIC}', f'{base}/{MASK_TOPIC}/compressed']
    found = TruthTopics(
        mask=_choose(bag, types, mask, usual_masks, _MASK_TYPES),
        detections=_choose(bag, types, detections, [f'{base}/{DETECTIONS_TOPIC}'], (_DETECTIONS_TYPE,)),
    )
    if not (found.mask or found.detections):
        return None
    if other is not None and mask is None and detections is None:
        logger.warning(
            '%s: the truth beside %s is taken for that of %s, and rectified pixels lie elsewhere, so %s is not scored. '
            'If it was drawn on the rectified picture, give --truth topics.', bag, image_topic, other, image_topic,
        )  # fmt: skip
        return None
    if found.detections and is_ros1(filled[found.detections]):
        raise RecordingError(
            f'{bag} holds {_DETECTIONS_TYPE} of ROS 1 on {found.detections!r}; boxes are read from bags of ROS 2 only. '
            'Convert the bag, or give the truth as a folder or none.'
        )
    return found


def _unrectified(recording: Recording, image_topic: str) -> str | None:
    """The topic of the same camera's picture as it came, if this one is rectified and that one is there."""
    if not is_rectified(image_topic):
        return None
    namespace = camera_namespace(image_topic)
    names = [topic.name for topic in recording.topics if topic.count and is_image(topic)]
    return next((n for n in sorted(names) if camera_namespace(n) == namespace and not is_rectified(n)), None)


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


@dataclass(frozen=True, kw_only=True)
class TruthBalance:
    """What of a truth was not used, once all frames have asked for theirs.

    Attributes:
        unmatched: Annotations that belong to no frame.
        remarks: For people.
    """

    unmatched: int = 0
    remarks: tuple[str, ...] = ()


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
        self._areas = TruthClasses(mask_names, labels.segmentation, labels.name)
        self._objects = TruthClasses(box_names, labels.detection, labels.name)
        # Apart, since a tool may have recorded all the masks and then all the boxes.
        self._messages = [StampedMessages(bag, topic) for topic in (topics.mask, topics.detections) if topic]
        self._asked: Counter[int] = Counter()

    def at(self, stamp_ns: int, turn: int = 0, image_hw: tuple[int, int] | None = None) -> GroundTruth | None:
        """The truth with exactly this stamp; None if the bag has none.

        Args:
            turn: How many frames of the same stamp came before: truths of one stamp belong to its frames in turn.
            image_hw: Height and width of the frame, to which boxes are clipped.

        Raises:
            DatasetError: If it is broken, holds a class that is not in the label space, or a box that is not in the
                picture.
            RecordingError: If the bag turns out to be damaged.
        """
        self._asked[stamp_ns] = max(self._asked[stamp_ns], turn + 1)
        truth = None
        for messages in self._messages:
            found = messages.at(stamp_ns, turn)
            if found is not None:
                truth = self._add(truth or GroundTruth(), stamp_ns, found, image_hw)
        return truth

    def pass_over(self, stamp_ns: int) -> None:
        """A frame of this stamp could not be decoded; its truth belongs to it all the same."""
        self._asked[stamp_ns] += 1

    def balance(self, *, whole: bool = True) -> TruthBalance:
        """What of it was not used.

        Args:
            whole: All frames were asked for; else truth behind the last one may belong to others.
        """
        last_ns = max(self._asked, default=0)
        remarks, unmatched = [], 0
        for messages in self._messages:
            counts = {stamp: count for stamp, count in messages.counts().items() if whole or stamp <= last_ns}
            left = {stamp: count - self._asked[stamp] for stamp, count in counts.items() if count > self._asked[stamp]}
            if left and self._asked:
                unmatched += sum(left.values())
                remarks.append(
                    f'{sum(left.values()):,} of {sum(counts.values()):,} messages on {messages.topic} belong to no '
                    f'frame: their stamps are none of a frame, the nearest is {_nearest_ns(left, self._asked):,} ns '
                    'beside one. Write the stamp of its frame into the header of each.'
                )
        lost = (self._areas.remark('pixels'), self._objects.remark('boxes'))
        return TruthBalance(unmatched=unmatched, remarks=(*remarks, *filter(None, lost)))

    def _add(
        self, truth: GroundTruth, stamp_ns: int, message: Message, image_hw: tuple[int, int] | None
    ) -> GroundTruth:
        try:
            content = deserialize(self.path, message)
            if message.topic.type != _DETECTIONS_TYPE:
                return replace(truth, mask=self._areas.mask(_MASK_TYPES[message.topic.type](content)))
            truth = self._add_boxes(truth, content)
            return truth if image_hw is None else clip_truth(truth, image_hw)
        except (DatasetError, ImageError) as error:
            raise DatasetError(f'{self.path}, {message.topic.name} at {stamp_ns} ns: {error}') from error

    def _add_boxes(self, truth: GroundTruth, message: Any) -> GroundTruth:
        boxes, labels, ignored, ignored_labels = [], [], [], []
        for detection in message.detections:
            box = _box_xyxy(detection.bbox)
            class_id, *more = [guess.hypothesis.class_id for guess in detection.results] or [IGNORED_CLASS]
            if class_id == IGNORED_CLASS:
                label = self._objects.ignored_label(more[0]) if more else ANY_CLASS
                if label is not None:
                    ignored.append(box)
                    ignored_labels.append(label)
            elif (label := self._objects.label(class_id)) is not None:
                boxes.append(box)
                labels.append(label)
        return replace(
            truth,
            boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array(labels, np.int64),
            ignore_boxes_xyxy=np.array(ignored, np.float32).reshape(-1, 4),
            ignore_labels=np.array(ignored_labels, np.int64),
        )

    def _read_label_names(self) -> tuple[dict[int, str] | None, dict[int, str] | None]:
        """The classes of masks and of boxes by their id, where the bag says them."""
        topics = [
            topic and f'{topic.removesuffix("/compressed")}/{LABEL_INFO}'
            for topic in (self.topics.mask, self.topics.detections)
        ]
        names: dict[str, dict[int, str]] = {}
        with open_recording(self.path) as recording:
            infos = [topic for topic in recording.topics if topic.name in topics and topic.type == _LABELS_TYPE]
            with suppress(CutShortError):
                for message in recording.messages(infos):
                    try:
                        class_map = deserialize(self.path, message).class_map
                    except ImageError as error:
                        raise DatasetError(f'{self.path}, {message.topic.name}: {error}') from error
                    names[message.topic.name] = {int(entry.class_id): str(entry.class_name) for entry in class_map}
                    if len(names) == len(infos):
                        break
        mask_names, box_names = (names.get(topic) if topic else None for topic in topics)
        return mask_names, box_names


def _box_xyxy(bbox: Any) -> tuple[float, float, float, float]:
    centre, size_x, size_y = bbox.center.position, bbox.size_x, bbox.size_y
    if not (np.isfinite([centre.x, centre.y, size_x, size_y]).all() and size_x > 0 and size_y > 0):
        raise DatasetError(
            f'A box of size {size_x} x {size_y} around ({centre.x}, {centre.y}) came; expected finite numbers, sizes '
            'above 0.'
        )
    if bbox.center.theta:
        raise DatasetError(f'A box turned by {bbox.center.theta} came; expected upright ones, theta 0.')
    return centre.x - size_x / 2, centre.y - size_y / 2, centre.x + size_x / 2, centre.y + size_y / 2


def _nearest_ns(stamps_ns: Collection[int], frames_ns: Collection[int]) -> int:
    """The smallest distance between a stamp and a frame."""
    frames = sorted(frames_ns)
    distances = []
    for stamp_ns in stamps_ns:
        behind = bisect_left(frames, stamp_ns)
        distances += [abs(stamp_ns - frame_ns) for frame_ns in frames[max(behind - 1, 0) : behind + 1]]
    return min(distances)


def _read_ids(message: Any) -> np.ndarray:
    """(H, W) uint8 of an uncompressed mask. Of deeper ones decoding keeps the high byte, which is no id."""
    if message.encoding not in ('mono8', '8UC1'):
        raise DatasetError(f'A mask of encoding {message.encoding!r} came; expected mono8, a class id for each pixel.')
    return decode_image(message).pixels


def _read_compressed_ids(message: Any) -> np.ndarray:
    """The same of a compressed one: a grey PNG, or the indices of one with a palette."""
    return decode_ids(view_bytes(message.data).tobytes(), str(message.format))


_MASK_TYPES = {'sensor_msgs/msg/Image': _read_ids, 'sensor_msgs/msg/CompressedImage': _read_compressed_ids}
