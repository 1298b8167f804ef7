"""One stream for each camera, and a word for everything that is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap.writer import Writer
from rosbags.typesys import Stores, get_typestore

from perception.bag.cameras import camera_namespace, is_rectified
from perception.bag.reader import BagFrames, camera_topics, read_frames
from perception.errors import RecordingError
from tests.bag.drawn_bags import JPEG, RAW, DrawnBag, draw_frame


def draw_topics(path: Path, *topics: str, **changes: object) -> Path:
    with DrawnBag(path, 'mcap') as bag:
        for topic in topics:
            for index in range(2):
                bag.write(topic, JPEG if topic.endswith('/compressed') else RAW, draw_frame(index), **changes)
    return path


@pytest.mark.parametrize(
    ('topic', 'namespace'),
    [
        ('/front/image_raw/compressed', '/front'),
        ('/front/image_rect_color', '/front'),
        ('/infra1/image_rect_raw', '/infra1'),
        ('/zed/left/image_rect_gray', '/zed/left'),
        ('/image', ''),
        ('/camera/image_left', '/camera/image_left'),
        ('/camera/images', '/camera/images'),
        ('/camera', '/camera'),
    ],
)
def test_the_namespace_of_a_camera(topic: str, namespace: str) -> None:
    assert camera_namespace(topic) == namespace


@pytest.mark.parametrize(
    ('topic', 'wanted'),
    [
        ('/a/image_rect', True),
        ('/rect/image', True),
        ('/a/image_rect_color/compressed', True),
        ('/direct/image', False),
    ],
)
def test_what_is_called_rectified(topic: str, wanted: bool) -> None:
    assert is_rectified(topic) == wanted


@pytest.mark.parametrize(
    ('topics', 'chosen', 'others'),
    [
        (['/cam/image_mono', '/cam/image_raw', '/cam/image_rect_color'], '/cam/image_raw', 2),
        (['/cam/image_rect', '/cam/image_rect_color', '/cam/image_color'], '/cam/image_color', 2),
        (['/cam/image_rect', '/cam/image_mono'], '/cam/image_mono', 1),
        (['/cam/image_raw/compressed', '/cam/image_rect'], '/cam/image_raw/compressed', 1),
        (['/cam/image_raw/compressed', '/cam/image_raw'], '/cam/image_raw', 0),
        (['/cam/image_rect'], '/cam/image_rect', 0),
    ],
)
def test_pictures_of_one_camera_are_one_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, topics: list[str], chosen: str, others: int
) -> None:
    bag = draw_topics(tmp_path / 'bag', *topics)
    assert camera_topics(bag) == [chosen]
    assert BagFrames(bag).topic == chosen
    left_out = [topic for topic in topics if topic != chosen and chosen + '/compressed' != topic]
    assert len(left_out) == others
    lines = [record.getMessage() for record in caplog.records]
    assert all(topic in lines[0] for topic in left_out)
    assert len(lines) == 2 * bool(others)  # one for each of the two calls
    for topic in topics:
        assert BagFrames(bag, topic).topic == topic


def test_two_cameras_are_two_streams(tmp_path: Path) -> None:
    bag = draw_topics(tmp_path / 'bag', '/left/image_raw', '/left/image_rect', '/right/image_raw', '/image')
    assert camera_topics(bag) == ['/image', '/left/image_raw', '/right/image_raw']


def test_what_holds_pictures_and_is_not_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / 'drive.mcap'
    types = get_typestore(Stores.ROS2_JAZZY)
    with DrawnBag(tmp_path / 'drawn', 'mcap') as drawn, path.open('wb') as file:
        writer = Writer(file)
        writer.start()
        contents = {
            ('/front/image_raw', RAW, 'cdr'): types.serialize_cdr(drawn.message(draw_frame(0), RAW), RAW),
            ('/rear/image/h264', JPEG, 'cdr'): types.serialize_cdr(
                drawn.message(draw_frame(0), JPEG, format='h264'), JPEG
            ),
            ('/left', 'foxglove.CompressedVideo', 'protobuf'): b'x',
            ('/right', 'theora_image_transport/msg/Packet', 'cdr'): b'x',
            ('/roof', 'sensor_msgs/msg/Image', 'json'): b'{}',
            ('/hidden/_action/status', 'my_msgs/msg/Status', 'cdr'): b'x',
        }
        for (topic, kind, encoding), data in contents.items():
            schema = writer.register_schema(kind, 'unknown', b'')
            writer.add_message(writer.register_channel(topic, encoding, schema), 0, bytes(data), 0)
        writer.finish()
    assert camera_topics(path) == ['/front/image_raw']
    pictures, foreign = (record.getMessage() for record in caplog.records)
    if 'type or encoding' in pictures:
        pictures, foreign = foreign, pictures
    for topic, why in (('/rear/image/h264', 'h264'), ('/left', 'protobuf'), ('/right', 'cdr'), ('/roof', 'json')):
        assert topic in pictures
        assert why in pictures
    assert '/hidden/_action/status (my_msgs/msg/Status, cdr)' in foreign
    with pytest.raises(RecordingError, match="no image topic '/roof'"):
        read_frames(path, '/roof')


def test_a_rate_is_that_of_the_stamps_not_of_the_receipt(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(5):
            frame = draw_frame(index)
            data = bag.types.serialize_cdr(bag.message(frame, JPEG), JPEG)
            bag.write_bytes('/camera', JPEG, data, 1000 + index)  # all at once, as a converter writes them
    assert BagFrames(tmp_path / 'bag').frame_rate_hz == pytest.approx(10)
