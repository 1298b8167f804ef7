"""Truth in a bag is found by its stamp, wherever it was recorded, and what is broken costs its own frame."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from perception.bag import stamped_messages
from perception.bag.recording import Recording
from perception.bag.scene_messages import write_true_boxes
from perception.bag.storage.mcap_file import McapFile
from perception.bag.truth_topics import BagTruth, TruthTopics, find_truth_topics
from perception.bag.vision_messages import VISION_MESSAGES
from perception.bag.writer import BagWriter
from perception.errors import DatasetError, RecordingError
from perception.interfaces import GroundTruth
from perception.labels import CITYSCAPES_11_3
from tests.bag.drawn_bags import FIRST_NS, JPEG, RAW, DrawnBag, draw_frame
from tests.image_messages.drawn_pictures import add_exif, exif_block, grey_png, palette_png

MASKS, BOXES = '/truth/mask/compressed', '/truth/detections'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'
FRAMES = 12
FAR = 10**9


class InOrder(BagWriter):
    """Records messages one behind the other, whatever their stamps say."""

    received_ns = 0

    def write(self, topic: str, msgtype: str, message: Any, stamp_ns: int) -> None:
        self.received_ns += 1
        super().write(topic, msgtype, message, self.received_ns)


def stamp_ns(index: int) -> int:
    return FIRST_NS + index * 100_000_000


def write_truth(path: Path, *order: tuple[str, int]) -> BagTruth:
    """A mask ('m') or boxes ('b') of each frame; what they hold tells its index."""
    with InOrder(path) as writer:
        for kind, index in order:
            if kind == 'm':
                png = cv2.imencode('.png', np.full((2, 2), index % 11, np.uint8))[1].tobytes()
                writer.write_mask(MASKS, png, stamp_ns(index))
            else:
                truth = GroundTruth(boxes_xyxy=np.float32([[0, 0, 1, index + 1]]), labels=np.array([0]))
                write_true_boxes(writer, BOXES, truth, stamp_ns(index))
    return BagTruth(path, TruthTopics(mask=MASKS, detections=BOXES), CITYSCAPES_11_3)


def assert_found(truth: BagTruth, frames: Sequence[int]) -> None:
    """Each frame that is asked for has its mask and its boxes."""
    for index in frames:
        found = truth.at(stamp_ns(index))
        assert found is not None, index
        assert found.mask is not None, index
        assert found.boxes_xyxy is not None, index
        assert (found.mask == index % 11).all()
        assert found.boxes_xyxy.tolist() == [[0, 0, 1, index + 1]]


EACH = [pair for index in range(FRAMES) for pair in (('m', index), ('b', index))]
SHUFFLED = random.Random(3).sample(EACH, len(EACH))


@pytest.mark.parametrize('kept_bytes', [0, 1 << 20], ids=['nothing kept', 'all kept'])
@pytest.mark.parametrize(
    ('order', 'frames'),
    [
        ([*EACH[:2], ('m', FAR), ('b', FAR), *EACH[2:]], range(FRAMES)),
        ([('m', 0), ('m', 1), *((k, i) for n in range(FRAMES) for k, i in (('m', n + 2), ('b', n)))], range(FRAMES)),
        ([*(('m', n) for n in range(FRAMES)), *(('b', n) for n in range(FRAMES))], range(FRAMES)),
        (EACH, [*range(6, FRAMES), *range(6)]),
        (EACH, [0, *range(FRAMES)]),
        (SHUFFLED, range(FRAMES)),
    ],
    ids=['one stamp far ahead', 'boxes two frames behind', 'masks, then boxes', 'clock set back', 'twice', 'shuffled'],
)
def test_every_frame_finds_its_truth(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: list[tuple[str, int]],
    frames: Sequence[int],
    kept_bytes: int,
) -> None:
    monkeypatch.setattr(stamped_messages, '_MOST_KEPT_BYTES', kept_bytes)
    truth = write_truth(tmp_path / 'bag', *order)
    assert_found(truth, frames)
    assert truth.at(stamp_ns(FRAMES + 5)) is None
    assert_found(truth, frames[:1])


def test_a_frame_far_ahead_costs_no_other_its_truth(tmp_path: Path) -> None:
    count = 300
    truth = write_truth(tmp_path / 'bag', *((kind, index) for index in range(count) for kind in 'mb'))
    assert truth.at(stamp_ns(FAR)) is None
    assert_found(truth, range(count))


@pytest.mark.parametrize('limit', [1000, 2000, 4000])
def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(stamped_messages, '_MOST_KEPT_BYTES', limit)
    truth = write_truth(tmp_path / 'bag', *SHUFFLED)
    assert_found(truth, range(FRAMES))
    for messages in truth._messages:
        kept = sum(len(message.data) for message in messages._kept.values())
        assert kept == messages._kept_bytes <= limit


def test_truth_in_order_is_read_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[str] = []
    read = Recording.messages

    def count(recording: Recording, topics: Any) -> Any:
        passes.append(topics[0].name)
        return read(recording, topics)

    truth = write_truth(tmp_path / 'bag', *EACH)
    monkeypatch.setattr(Recording, 'messages', count)
    monkeypatch.setattr(stamped_messages, '_MOST_KEPT_BYTES', 0)
    assert_found(truth, range(FRAMES))
    assert sorted(passes) == [BOXES, BOXES, MASKS, MASKS]


@pytest.mark.parametrize('left', [3, 8, 40], ids=['no header', 'half a stamp', 'no boxes'])
def test_a_message_that_is_cut_off_costs_its_own_frame(
    tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Cutting(InOrder):
        def _open_writer(self) -> Any:
            writer = super()._open_writer()
            broken = self.received_ns == 2 and self._connections.get(BOXES)
            return _Cut(writer, left) if broken else writer

    with Cutting(tmp_path / 'bag') as writer:
        for index in range(4):
            # Where no stamp is left, that of receipt counts.
            stamp = index + 1 if left < 12 else stamp_ns(index)
            boxes = GroundTruth(boxes_xyxy=np.float32([[0, 0, 1, index + 1]]), labels=np.array([0]))
            write_true_boxes(writer, BOXES, boxes, stamp)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(detections=BOXES), CITYSCAPES_11_3)
    with caplog.at_level(logging.WARNING):
        for index in range(4):
            stamp = index + 1 if left < 12 else stamp_ns(index)
            if index == 1:
                with pytest.raises(DatasetError, match=rf'{BOXES} at {stamp} ns: Message of {left} bytes is no'):
                    truth.at(stamp)
            else:
                found = truth.at(stamp)
                assert found is not None
                assert found.boxes_xyxy is not None
                assert found.boxes_xyxy[0, 3] == index + 1
    assert ('ends before its stamp does' in caplog.text) == (left < 12)


class _Cut:
    """Writes only the beginning of a message."""

    def __init__(self, writer: Any, left: int) -> None:
        self._writer, self._left = writer, left

    def write(self, connection: Any, received_ns: int, data: bytes) -> None:
        self._writer.write(connection, received_ns, data[: self._left])


def test_truth_in_front_of_damage_is_found_and_behind_it_the_damage_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = McapFile.messages

    def cut(self: Any, *arguments: Any, **options: Any) -> Any:
        for count, message in enumerate(original(self, *arguments, **options)):
            if count == 4:
                raise OSError('unexpected end of file')
            yield message

    truth = write_truth(tmp_path / 'bag', *EACH)
    monkeypatch.setattr(McapFile, 'messages', cut)
    assert_found(truth, range(4))
    for _ in range(2):
        with pytest.raises(RecordingError, match='unexpected end of file'):
            truth.at(stamp_ns(4))


def test_damage_behind_sparse_truth_costs_no_frame_in_front_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = McapFile.messages

    def cut(self: Any, *arguments: Any, **options: Any) -> Any:
        yield from list(original(self, *arguments, **options))[:2]
        raise OSError('unexpected end of file')

    truth = write_truth(tmp_path / 'bag', ('m', 0), ('m', 4), ('m', 8), ('b', 0))
    monkeypatch.setattr(McapFile, 'messages', cut)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(mask=MASKS), CITYSCAPES_11_3)
    assert [truth.at(stamp_ns(index)) is not None for index in range(5)] == [True, False, False, False, True]
    with pytest.raises(RecordingError, match='unexpected end of file'):
        truth.at(stamp_ns(5))
    assert 'truth behind the damage is lost' in caplog.text


@pytest.mark.parametrize(
    ('mask', 'said'),
    [
        pytest.param(np.full((2, 2), 3, np.uint16), 'of another depth', id='16 bits'),
        pytest.param(np.full((2, 2, 3), 3, np.uint8), 'with colours', id='colours'),
        pytest.param(None, 'expected PNG', id='jpeg'),
    ],
)
def test_a_picture_that_holds_no_ids_is_no_mask(tmp_path: Path, mask: np.ndarray | None, said: str) -> None:
    kind, content = ('.jpg', np.full((16, 16), 3, np.uint8)) if mask is None else ('.png', mask)
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_mask(MASKS, cv2.imencode(kind, content)[1].tobytes(), FIRST_NS)
    with pytest.raises(DatasetError, match=said):
        BagTruth(tmp_path / 'bag', TruthTopics(mask=MASKS), CITYSCAPES_11_3).at(FIRST_NS)


@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('write', [palette_png, grey_png])
def test_a_mask_may_have_a_palette_or_few_bits(tmp_path: Path, write: Callable[..., bytes], bits: int) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4) % min(2**bits, 11)
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_mask(MASKS, write(ids, bits), FIRST_NS)
        writer.write_mask(MASKS, add_exif(write(ids, bits), exif_block(6)), FIRST_NS + 1)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(mask=MASKS), CITYSCAPES_11_3)
    for stamp, wanted in ((FIRST_NS, ids), (FIRST_NS + 1, np.rot90(ids, -1))):
        found = truth.at(stamp)
        assert found is not None
        np.testing.assert_array_equal(found.mask, wanted)


@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'rgb8'])
def test_an_image_that_holds_no_ids_is_no_mask(tmp_path: Path, encoding: str) -> None:
    frame = draw_frame(0)
    bytes_per_pixel = 3 if encoding == 'rgb8' else 2
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        content = bytes(30 * 41 * bytes_per_pixel)
        bag.write('/truth/mask', RAW, frame, encoding=encoding, step=41 * bytes_per_pixel, data=content)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(mask='/truth/mask'), CITYSCAPES_11_3)
    with pytest.raises(DatasetError, match=f'mask of encoding {encoding!r} came; expected mono8'):
        truth.at(frame.stamp_ns)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'size_x': np.nan}, 'expected finite numbers'),
        ({'size_y': np.inf}, 'expected finite numbers'),
        ({'size_x': 0.0}, 'sizes above 0'),
        ({'size_y': -3.0}, 'sizes above 0'),
        ({'theta': 1.57}, r'turned by 1\.57'),
    ],
    ids=str,
)
def test_a_box_that_is_none_costs_its_own_frame(tmp_path: Path, change: dict[str, float], said: str) -> None:
    class Breaking(BagWriter):
        def create(self, msgtype: str, **fields: Any) -> Any:
            return super().create(msgtype, **{**fields, **{name: change[name] for name in fields.keys() & change}})

    truth = GroundTruth(boxes_xyxy=np.float32([[0, 0, 4, 4]]), labels=np.array([0]))
    with Breaking(tmp_path / 'bag') as writer:
        write_true_boxes(writer, BOXES, truth, FIRST_NS)
    with pytest.raises(DatasetError, match=said):
        BagTruth(tmp_path / 'bag', TruthTopics(detections=BOXES), CITYSCAPES_11_3).at(FIRST_NS)


def test_class_names_that_are_cut_off_are_said(tmp_path: Path) -> None:
    topic = f'{BOXES}/label_info'
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        types = get_typestore(Stores.ROS2_JAZZY)
        for name, text in VISION_MESSAGES.items():
            types.register(get_types_from_msg(text, name))
        bag.add(topic, 'vision_msgs/msg/LabelInfo', typestore=types)
        bag.write_bytes(topic, 'vision_msgs/msg/LabelInfo', b'\0\1\0\0\5', FIRST_NS)
    with pytest.raises(DatasetError, match=rf'bag, {topic}: Message of 5 bytes is no'):
        BagTruth(tmp_path / 'bag', TruthTopics(detections=BOXES), CITYSCAPES_11_3)


def test_masks_of_a_ros1_bag_are_read_and_its_boxes_refused(tmp_path: Path) -> None:
    path = tmp_path / 'drive.bag'
    with DrawnBag(path, 'ros1') as bag:
        frame = draw_frame(0)
        bag.write('/camera/image_raw', RAW, frame)
        mask = np.full((30, 41), 2, np.uint8)
        bag.write('/camera/truth/mask', RAW, frame, encoding='mono8', step=41, data=mask.tobytes())
    topics = find_truth_topics(path, '/camera/image_raw')
    assert topics == TruthTopics(mask='/camera/truth/mask')
    found = BagTruth(path, topics, CITYSCAPES_11_3).at(frame.stamp_ns)
    assert found is not None
    np.testing.assert_array_equal(found.mask, mask)

    with_boxes = tmp_path / 'boxes.bag'
    with DrawnBag(with_boxes, 'ros1') as bag:
        bag.write('/camera/image_raw', JPEG, frame)
        how = {'msgdef': 'std_msgs/Header header\n', 'md5sum': '0' * 32}
        for topic, kind in (('detections', DETECTIONS), ('mask/label_info', 'vision_msgs/msg/LabelInfo')):
            bag.add(f'/camera/truth/{topic}', kind, **how)
            bag.write_bytes(f'/camera/truth/{topic}', kind, bytes(16), frame.stamp_ns)
    with pytest.raises(RecordingError, match=r"ROS 1 on '/camera/truth/detections'; boxes are read from bags of ROS 2"):
        find_truth_topics(with_boxes, '/camera/image_raw')
    with pytest.raises(RecordingError, match=r'LabelInfo.*which nobody knows in a ROS 1 bag'):
        BagTruth(with_boxes, TruthTopics(mask='/camera/truth/mask'), CITYSCAPES_11_3)
