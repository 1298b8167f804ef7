"""Bags that the package writes: read back, and held against what rosbag2 expects to find."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer

from perception.bag.frames import open_frames
from perception.bag.make_bag import Encoding, write_frames_bag
from perception.bag.reader import BagFrames, read_frames
from perception.bag.writer import BagWriter
from perception.errors import RecordingError
from tests.bag.drawn_bags import FIRST_NS, JPEG, RAW, draw_frame

# The type hashes that ros-jazzy-sensor-msgs 5.3 installs.
HASHES = {
    RAW: 'RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47',
    JPEG: 'RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a',
}


@pytest.mark.parametrize('encoding', ['raw', 'png', 'jpeg'])
def test_frames_round_trip(tmp_path: Path, encoding: Encoding) -> None:
    drawn = [draw_frame(index) for index in range(5)]
    summary = write_frames_bag(
        iter(drawn), tmp_path / 'bag', '/cam/image', encoding=encoding, jpeg_quality=95, progress=False
    )
    assert (summary.path, summary.topic, summary.frames) == (tmp_path / 'bag', '/cam/image', 5)
    assert (summary.start_ns, summary.end_ns) == (drawn[0].stamp_ns, drawn[-1].stamp_ns)
    assert summary.size_bytes == sum(file.stat().st_size for file in (tmp_path / 'bag').iterdir())
    assert str(summary).endswith(f'bag: 5 frames on /cam/image, 0.4 s, {summary.size_bytes / 1e6:.1f} MB')
    source = BagFrames(tmp_path / 'bag')
    assert source.topic == '/cam/image'
    frames = list(source)
    assert [(f.stamp_ns, f.frame_id) for f in frames] == [(f.stamp_ns, f.frame_id) for f in drawn]
    for frame, original in zip(frames, drawn, strict=True):
        difference = np.abs(frame.image_rgb.astype(int) - original.image_rgb)
        assert difference.mean() < 3 if encoding == 'jpeg' else difference.max() == 0


def test_metadata_is_what_rosbag2_plays(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_jpeg('/a', draw_frame(0))
        writer.write_image('/b', draw_frame(1))
        writer.write_image('/b', draw_frame(2))
    assert {entry.name for entry in (tmp_path / 'bag').iterdir()} == {'metadata.yaml', 'bag.mcap'}
    information = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert information['version'] == 9
    assert information['storage_identifier'] == 'mcap'
    assert information['relative_file_paths'] == ['bag.mcap']
    assert information['message_count'] == 3
    assert information['starting_time']['nanoseconds_since_epoch'] == FIRST_NS
    assert information['duration']['nanoseconds'] == 200_000_000
    topics = {entry['topic_metadata']['name']: entry for entry in information['topics_with_message_count']}
    assert {name: entry['message_count'] for name, entry in topics.items()} == {'/a': 1, '/b': 2}
    for name, msgtype in (('/a', JPEG), ('/b', RAW)):
        topic = topics[name]['topic_metadata']
        assert topic['type'] == msgtype
        assert topic['serialization_format'] == 'cdr'
        assert topic['type_description_hash'] == HASHES[msgtype]
        (qos,) = topic['offered_qos_profiles']
        assert (qos['reliability'], qos['durability'], qos['history']) == ('reliable', 'volatile', 'keep_last')


def test_definitions_in_the_bag_suffice_to_read_it(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_jpeg('/a', draw_frame(0))
    with AnyReader([tmp_path / 'bag']) as reader:  # without a default typestore: only what the bag embeds
        ((connection, stamp_ns, data),) = reader.messages()
        message = reader.deserialize(data, connection.msgtype)
    assert stamp_ns == FIRST_NS
    assert message.format == 'rgb8; jpeg compressed bgr8'


def test_other_topics_and_registered_types(tmp_path: Path) -> None:
    definition = 'std_msgs/Header header\nfloat32 threshold\nstring[] names\n'
    with BagWriter(tmp_path / 'bag', definitions={'scene_msgs/msg/Summary': definition}) as writer:
        header = writer.create_header(FIRST_NS + 7, 'front')
        message = writer.create('scene_msgs/msg/Summary', header=header, threshold=0.5, names=['car', 'person'])
        writer.add_topic('/summary', 'scene_msgs/msg/Summary', latched=True)
        writer.write('/summary', 'scene_msgs/msg/Summary', message, FIRST_NS)
        writer.write_jpeg('/camera', draw_frame(0))
    with AnyReader([tmp_path / 'bag']) as reader:
        connections = [connection for connection in reader.connections if connection.topic == '/summary']
        ((_, stamp_ns, data),) = reader.messages(connections)
        read = reader.deserialize(data, 'scene_msgs/msg/Summary')
    assert stamp_ns == FIRST_NS
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1_700_000_000, 7)
    assert (read.header.frame_id, read.threshold, read.names) == ('front', 0.5, ['car', 'person'])
    information = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    durabilities = {
        entry['topic_metadata']['name']: entry['topic_metadata']['offered_qos_profiles'][0]['durability']
        for entry in information['topics_with_message_count']
    }
    assert durabilities == {'/summary': 'transient_local', '/camera': 'volatile'}
    assert len(list(read_frames(tmp_path / 'bag'))) == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_frames_bag([draw_frame(0)], tmp_path / 'bag', progress=False)
    before = (tmp_path / 'bag' / 'bag.mcap').read_bytes()
    with pytest.raises(RecordingError, match='exists'):
        write_frames_bag([draw_frame(1)], tmp_path / 'bag', progress=False)
    assert (tmp_path / 'bag' / 'bag.mcap').read_bytes() == before
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingError, match='exists'):
        write_frames_bag([draw_frame(1)], tmp_path / 'file', progress=False)


def test_a_bag_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing():
        yield draw_frame(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_frames_bag(failing(), tmp_path / 'bag', progress=False)
    assert not (tmp_path / 'bag').exists()
    with pytest.raises(RecordingError, match='no frames'):
        write_frames_bag([], tmp_path / 'bag', progress=False)
    assert not (tmp_path / 'bag').exists()

    def full(self: Writer) -> None:
        raise OSError('No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(Writer, 'close', full)
        with pytest.raises(RecordingError, match=r'Cannot write the bag .*No space left'):
            write_frames_bag([draw_frame(0)], tmp_path / 'bag', progress=False)
    assert not (tmp_path / 'bag').exists()
    assert write_frames_bag([draw_frame(0)], tmp_path / 'bag', progress=False).frames == 1


def test_mistakes_of_the_caller(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / 'bag')
    with pytest.raises(RecordingError, match='not open'):
        writer.write_jpeg('/a', draw_frame(0))
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_jpeg('/a', draw_frame(0))
        with pytest.raises(RecordingError, match='holds sensor_msgs/msg/CompressedImage'):
            writer.write_image('/a', draw_frame(0))
        with pytest.raises(RecordingError, match="pass its definition; did you mean 'sensor_msgs/msg/CameraInfo'"):
            writer.create('sensor_msgs/msg/CamraInfo')


def test_a_folder_becomes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'images').mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), draw_frame(index).image_rgb[..., ::-1])
    summary = write_frames_bag(open_frames(tmp_path / 'images'), tmp_path / 'bag')
    assert summary.frames == 3
    assert '3/3' in capsys.readouterr().err
    assert [frame.stamp_ns for frame in read_frames(tmp_path / 'bag')] == [0, 100_000_000, 200_000_000]


@pytest.mark.parametrize('topic', ['camera/image', '/camera//image', '/1st', '/camera/image/', '', '/front camera'])
def test_a_name_that_ros_would_not_take_is_refused(tmp_path: Path, topic: str) -> None:
    with pytest.raises(RecordingError, match='no topic name'), BagWriter(tmp_path / 'bag') as writer:
        writer.add_topic(topic, 'sensor_msgs/msg/Image')
    assert not (tmp_path / 'bag').exists()
