"""Reading bags of every storage, and every way in which a bag can be incomplete or damaged."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from perception.bag.frames import is_bag, list_images
from perception.bag.reader import BagFrames, camera_topics, read_frames
from perception.bag.source import require_exists
from perception.bag.storage.mcap_file import McapFile
from perception.errors import ImageError, RecordingError
from perception.interfaces import StampedImage
from tests.bag.drawn_bags import FIRST_NS, JPEG, RAW, DrawnBag, draw_frame
from tests.image_messages.drawn_pictures import draw_smooth, encode, mosaic_of

DrawBag = Callable[..., Path]


def assert_frame(frame, index: int, *, exact: bool) -> None:
    drawn = draw_frame(index)
    assert frame.image_rgb.shape == (30, 41, 3)
    assert frame.image_rgb.dtype == np.uint8
    assert frame.image_rgb.flags.c_contiguous
    assert frame.image_rgb.flags.writeable
    assert frame.stamp_ns == drawn.stamp_ns
    assert frame.frame_id == 'front'
    difference = np.abs(frame.image_rgb.astype(int) - drawn.image_rgb)
    assert difference.max() == 0 if exact else difference.mean() < 3


@pytest.mark.parametrize('msgtype', [RAW, JPEG])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_every_storage_raw_and_compressed(draw_bag: DrawBag, storage: str, msgtype: str) -> None:
    bag = draw_bag(storage, msgtype)
    frames = list(read_frames(bag))
    assert len(frames) == 4
    for index, frame in enumerate(frames):
        assert_frame(frame, index, exact=msgtype == RAW)
        assert frame.source == '/camera'
    source = BagFrames(bag, '/camera')
    assert source.frame_count == 4
    assert source.frame_rate_hz == pytest.approx(10)
    assert [f.stamp_ns for f in source] == [f.stamp_ns for f in source] == [f.stamp_ns for f in frames]


@pytest.mark.parametrize(('storage', 'suffix'), [('mcap', '.mcap'), ('sqlite3', '.db3')])
def test_single_file_of_a_bag(draw_bag: DrawBag, storage: str, suffix: str) -> None:
    file = draw_bag(storage) / f'drive{suffix}'
    assert [frame.stamp_ns for frame in read_frames(str(file))] == [FIRST_NS + i * 10**8 for i in range(4)]


def test_padded_rows(tmp_path: Path) -> None:
    drawn = draw_frame(0)
    padded = np.concatenate((drawn.image_rgb.reshape(30, -1), np.full((30, 5), 99, np.uint8)), axis=1)
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        bag.write('/camera', RAW, drawn, step=41 * 3 + 5, data=padded.tobytes())
    assert_frame(next(read_frames(tmp_path / 'bag')), 0, exact=True)


def test_unnamed_colors_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(3):
            bag.write('/camera', RAW, draw_frame(index), encoding='8UC3')
    with caplog.at_level(logging.WARNING):
        frames = list(read_frames(tmp_path / 'bag'))
    np.testing.assert_array_equal(frames[2].image_rgb, draw_frame(2).image_rgb[..., ::-1])
    assert sum('8UC3' in record.getMessage() for record in caplog.records) == 1


def test_two_topics(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(3):
            bag.write('/left', JPEG, draw_frame(index))
            bag.write('/right', RAW, draw_frame(index + 5))
        bag.add('/silent', RAW)
    with pytest.raises(RecordingError, match='2 camera topics') as caught:
        read_frames(tmp_path / 'bag')
    assert '/left (sensor_msgs/msg/CompressedImage, 3 messages)' in str(caught.value)
    assert '/right (sensor_msgs/msg/Image, 3 messages)' in str(caught.value)
    for topic in ('/right', 'right'):
        frames = list(read_frames(tmp_path / 'bag', topic))
        assert len(frames) == 3
        assert_frame(frames[0], 5, exact=True)
    with pytest.raises(RecordingError, match=r"no image topic '/rihgt'.*/left"):
        read_frames(tmp_path / 'bag', '/rihgt')
    with pytest.raises(RecordingError, match="no frames on topic '/silent'"):
        read_frames(tmp_path / 'bag', '/silent')


def test_depth_is_no_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(2):
            frame = draw_frame(index)
            bag.write('/color/image_raw', RAW, frame)
            bag.write('/color/image_raw/compressed', JPEG, frame)
            bag.write('/depth/image_rect_raw', RAW, frame, encoding='16UC1', step=82, data=bytes(82 * 30))
            bag.write('/depth/image_rect_raw/compressedDepth', JPEG, frame, format='16UC1; compressedDepth png')
    assert camera_topics(tmp_path / 'bag') == ['/color/image_raw']
    assert '/depth/image_rect_raw, /depth/image_rect_raw/compressedDepth: depth, so no camera' in caplog.text
    assert {frame.source for frame in read_frames(tmp_path / 'bag')} == {'/color/image_raw'}
    assert len(list(read_frames(tmp_path / 'bag', '/depth/image_rect_raw'))) == 2


def test_compressed_depth_images_are_no_camera_and_compressed_mosaics_are_one(tmp_path: Path) -> None:
    rgb = draw_smooth(20, 24)
    depth = encode('.png', np.full((20, 24), 1500, np.uint16))
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        frame = draw_frame(0)
        mosaic = encode('.png', mosaic_of(rgb, 'grbg'))
        bag.write('/color/compressed', JPEG, frame, format='bayer_grbg8; png compressed ', data=mosaic)
        bag.write('/depth/compressed', JPEG, frame, format='16UC1; png compressed ', data=depth)
    assert camera_topics(tmp_path / 'bag') == ['/color/compressed']
    (seen,) = read_frames(tmp_path / 'bag')
    assert np.abs(seen.image_rgb.astype(int) - rgb)[2:-2, 2:-2].max() <= 1
    skipped: list[ImageError] = []
    assert not list(read_frames(tmp_path / 'bag', '/depth/compressed', on_skip=lambda _, error: skipped.append(error)))
    assert len(skipped) == 1
    assert 'holds depth, which is no picture' in str(skipped[0])


def test_a_topic_without_messages_does_not_compete(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'sqlite3') as bag:
        bag.add('/silent', RAW)
        bag.write('/camera', JPEG, draw_frame(0))
    assert len(list(read_frames(tmp_path / 'bag'))) == 1


def test_header_stamp_wins_unless_it_is_zero(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        bag.write('/camera', JPEG, draw_frame(0), header_stamp_ns=5_000_000_007)
        bag.write('/camera', JPEG, draw_frame(1), header_stamp_ns=0)
    assert [frame.stamp_ns for frame in read_frames(tmp_path / 'bag')] == [5_000_000_007, FIRST_NS + 10**8]


def test_a_folder_of_ros1_bags_is_read(tmp_path: Path) -> None:
    (tmp_path / 'drive').mkdir()
    for part in range(2):
        with DrawnBag(tmp_path / 'drive' / f'drive_{part}.bag', 'ros1') as bag:
            for index in range(2 * part, 2 * part + 2):
                bag.write('/camera', JPEG, draw_frame(index))
    frames = list(read_frames(tmp_path / 'drive'))
    assert [frame.stamp_ns for frame in frames] == [draw_frame(index).stamp_ns for index in range(4)]


@pytest.mark.parametrize('storage', ['mcap', 'ros1'])
def test_a_stamp_before_1970_is_none(tmp_path: Path, storage: str) -> None:
    path = tmp_path / ('drive.bag' if storage == 'ros1' else 'drive')
    with DrawnBag(path, storage) as bag:
        bag.write('/camera', JPEG, draw_frame(0), header_stamp_ns=-3 * 10**9)
    assert [frame.stamp_ns for frame in read_frames(path)] == [draw_frame(0).stamp_ns]


@pytest.mark.parametrize('call', [require_exists, is_bag, list_images])
def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Path], object]
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, 'Permission denied', str(path))

    # The one who runs the tests may read everything.
    monkeypatch.setattr(Path, 'exists' if call is require_exists else 'iterdir', refuse)
    monkeypatch.setattr(Path, 'is_file', lambda path: False)
    if call is is_bag:
        monkeypatch.setattr(Path, 'exists', lambda path: False)
        monkeypatch.setattr(Path, 'is_dir', lambda path: True)
    with pytest.raises(RecordingError, match='Permission denied'):
        call(tmp_path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(draw_bag: DrawBag, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, 'Permission denied', 'drive_0.mcap')

    path = draw_bag('mcap')
    monkeypatch.setattr(McapFile, '__init__', refuse)
    with pytest.raises(RecordingError, match=r'Cannot read drive_0\.mcap: Permission denied'):
        list(read_frames(path))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_damaged_frames_are_skipped_and_reported(tmp_path: Path, storage: str, caplog) -> None:
    path = tmp_path / 'drive.bag'
    with DrawnBag(path, storage) as bag:
        bag.write('/camera', JPEG, draw_frame(0))
        bag.write('/camera', JPEG, draw_frame(1), data=b'junk')
        bag.write('/camera', JPEG, draw_frame(2), data=b'more junk')
        bag.write_bytes('/camera', JPEG, b'\x00\x01\x00\x00no message', draw_frame(3).stamp_ns)
        bag.write('/camera', JPEG, draw_frame(4))
        whole = bag.message(draw_frame(5), JPEG).data.tobytes()
        bag.write('/camera', JPEG, draw_frame(5), data=whole[:-50])
    reports: list[tuple[int, ImageError]] = []
    source = BagFrames(path, on_skip=lambda stamp_ns, error: reports.append((stamp_ns, error)))
    with caplog.at_level(logging.WARNING):
        frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [draw_frame(i).stamp_ns for i in (0, 4)]
    assert [stamp_ns for stamp_ns, _ in reports] == [draw_frame(i).stamp_ns for i in (1, 2, 3, 5)]
    assert [error.reason for _, error in reports] == ['undecodable'] * 3 + ['truncated']
    assert source.skipped == {'undecodable': 3, 'truncated': 1}
    assert len(caplog.records) == 2  # the first of each kind
    assert len(list(source)) == 2
    assert sum(source.skipped.values()) == 4


def test_damaged_message_bytes_raise_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        whole = bytes(bag.types.serialize_cdr(bag.message(draw_frame(0), JPEG), JPEG))
        for _ in range(150):
            data = bytearray(whole[: rng.integers(0, 80)] if rng.random() < 0.5 else whole)
            for position in rng.integers(0, 60, 3):
                data[position : position + 1] = rng.bytes(1)
            bag.write_bytes('/camera', JPEG, bytes(data), FIRST_NS)
    source = BagFrames(tmp_path / 'bag')
    read = len(list(source))
    assert read + sum(source.skipped.values()) == 150
    assert sum(source.skipped.values()) > 50


def test_split_bag(draw_bag: DrawBag, tmp_path: Path) -> None:
    whole = tmp_path / 'whole'
    whole.mkdir()
    for part in range(2):
        with DrawnBag(tmp_path / f'part_{part}', 'mcap') as bag:
            for index in range(3 * part, 3 * part + 3):
                bag.write('/camera', JPEG, draw_frame(index))
        (tmp_path / f'part_{part}' / f'part_{part}.mcap').rename(whole / f'part_{part}.mcap')
    metadata = yaml.safe_load((tmp_path / 'part_0' / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    information['relative_file_paths'] = ['part_0.mcap', 'part_1.mcap']
    information['message_count'] = information['topics_with_message_count'][0]['message_count'] = 6
    information['duration']['nanoseconds'] = 5 * 10**8
    (whole / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    source = BagFrames(whole)
    assert source.frame_count == 6
    assert source.frame_rate_hz == pytest.approx(10)
    frames = list(source)
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        assert_frame(frame, index, exact=False)
    (whole / 'part_1.mcap').unlink()
    with pytest.raises(RecordingError, match='missing'):
        read_frames(whole)


def test_old_type_names_and_topics_nobody_can_parse(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'sqlite3') as bag:
        bag.add('/camera', 'sensor_msgs/CompressedImage', msgdef='', rihs01='RIHS01_0')
        bag.add('/odd', 'odd_msgs/msg/Odd', msgdef='no definition ~ at all', rihs01='RIHS01_1')
        bag.write('/camera', JPEG, draw_frame(0))
        bag.write_bytes('/odd', '', b'\x00\x01\x00\x00', FIRST_NS)
    assert_frame(next(read_frames(tmp_path / 'bag')), 0, exact=False)


def test_missing_bag_names_the_nearest(draw_bag: DrawBag, tmp_path: Path) -> None:
    draw_bag()
    with pytest.raises(RecordingError, match=r'Did you mean .*drive\?'):
        read_frames(tmp_path / 'drvie')
    with pytest.raises(RecordingError, match='folder'):
        read_frames(tmp_path / 'nowhere' / 'drive')


def test_bag_without_image_topics(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        bag.add('/chatter', 'std_msgs/msg/String')
    with pytest.raises(RecordingError, match='/chatter'):
        read_frames(tmp_path / 'bag')
    with pytest.raises(RecordingError, match="no image topic '/chatter'"):
        read_frames(tmp_path / 'bag', '/chatter')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_empty_bag(draw_bag: DrawBag, storage: str) -> None:
    with pytest.raises(RecordingError, match='no camera images'):
        read_frames(draw_bag(storage, count=0))


def storage_file(path: Path) -> Path:
    return path if path.is_file() else next(entry for entry in path.iterdir() if entry.suffix != '.yaml')


def cut(path: Path, keep: float) -> Path:
    """Leave only the beginning of a bag's file."""
    file = storage_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    return file


@pytest.mark.parametrize(('keep', 'says'), [(0.0, 'is empty'), (0.01, 'cut short'), (0.5, 'cut short')])
@pytest.mark.parametrize('storage', ['sqlite3', 'ros1'])
def test_a_bag_that_is_cut_short_is_refused(draw_bag: DrawBag, storage: str, keep: float, says: str) -> None:
    path = draw_bag(storage, RAW, count=20)
    cut(path, keep)
    if path.is_dir():
        says = 'cut short' if keep else 'cut short|is empty'
    with pytest.raises(RecordingError, match=says):
        list(read_frames(path))


def read_until_the_cut(path: Path) -> list[int]:
    """Numbers of the frames that come before the error."""
    frames: list[StampedImage] = []
    with pytest.raises(RecordingError, match=r'was cut short.* are whole were read') as caught:
        frames.extend(read_frames(path))
    numbers = [(frame.stamp_ns - FIRST_NS) // 10**8 for frame in frames]
    for number, frame in zip(numbers, frames, strict=True):
        assert_frame(frame, number, exact=True)
    assert str(storage_file(path)) in str(caught.value)
    return numbers


@pytest.mark.parametrize('tail', [b'', bytes(5000)], ids=['cut', 'cut and filled with zeros'])
@pytest.mark.parametrize('metadata', [True, False])
def test_of_an_mcap_that_is_cut_short_all_that_is_left_is_read(draw_bag: DrawBag, metadata: bool, tail: bytes) -> None:
    path = draw_bag('mcap', RAW, count=1000)
    file = cut(path, 0.6)
    file.write_bytes(file.read_bytes() + tail)
    if not metadata:
        (path / 'metadata.yaml').unlink()
    numbers = read_until_the_cut(path)
    assert numbers == list(range(len(numbers)))
    # What is lost is the chunk in hand, a megabyte.
    assert 250 < len(numbers) < 600
    assert read_until_the_cut(file) == numbers
    assert BagFrames(path).frame_count == len(numbers)


@pytest.mark.parametrize('keep', [0.0, 0.0001])
def test_an_mcap_of_which_nothing_is_left_is_refused(draw_bag: DrawBag, keep: float) -> None:
    with pytest.raises(RecordingError, match=r'is empty|cut short'):
        list(read_frames(cut(draw_bag('mcap', RAW, count=1000), keep)))


def test_a_bag_without_metadata_is_read_file_by_file(draw_bag: DrawBag, tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    bag.mkdir()
    for part in (0, 1, 10, 2):
        storage_file(draw_bag('mcap', name=f'part_{part}')).rename(bag / f'drive_{part}.mcap')
    assert [frame.stamp_ns for frame in read_frames(bag)] == [FIRST_NS + i * 10**8 for i in range(4)] * 4
    (bag / 'drive_11.mcap').touch()
    assert len(list(read_frames(bag))) == 16
    (bag / 'drive_1.mcap').rename(bag / 'other_1.mcap')
    with pytest.raises(RecordingError, match=r'several recordings; name them one by one: drive_0\.mcap, drive_2\.mcap'):
        read_frames(bag)


@pytest.mark.parametrize('suffix', ['.mcap', '.db3', '.bag'])
@pytest.mark.parametrize(('content', 'says'), [(b'', 'is empty'), (b'a text', "begins with b'a text'")])
def test_a_file_that_is_no_bag(tmp_path: Path, suffix: str, content: bytes, says: str) -> None:
    (tmp_path / f'drive{suffix}').write_bytes(content)
    with pytest.raises(RecordingError, match=says):
        read_frames(tmp_path / f'drive{suffix}')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_damage_anywhere_raises_only_recording_error(draw_bag: DrawBag, storage: str) -> None:
    rng = np.random.default_rng(2)
    path = draw_bag(storage)
    file = storage_file(path)
    content = file.read_bytes()
    refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        for position in rng.integers(0, len(damaged), 30):
            damaged[position] = rng.integers(0, 256)
        file.write_bytes(damaged)
        try:
            list(read_frames(file, '/camera'))
        except RecordingError:
            refused += 1
    assert refused > 0


def test_metadata_that_is_no_metadata(draw_bag: DrawBag) -> None:
    path = draw_bag()
    (path / 'metadata.yaml').write_text('just: words')
    with pytest.raises(RecordingError, match='rosbag2_bagfile_information'):
        read_frames(path)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(
    ('listed', 'in_its_place'),
    [
        ('name: /camera', 'name: /other'),
        ('message_count: 4', 'message_count: 9'),
        ('message_count: 4', 'message_count: 0'),
        ('type: sensor_msgs/msg/', 'type: sensor_msgs/'),
        ('reliability: reliable', 'reliability: best_effort'),
        ('serialization_format: cdr', 'serialization_format: json'),
    ],
)
def test_where_metadata_and_file_do_not_agree_the_file_is_right(
    draw_bag: DrawBag, storage: str, listed: str, in_its_place: str
) -> None:
    path = draw_bag(storage)
    metadata = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').write_text(metadata.replace(listed, in_its_place))
    assert BagFrames(path).frame_count == 4
    assert len(list(read_frames(path))) == 4


def test_a_file_that_was_renamed_is_read(draw_bag: DrawBag, caplog: pytest.LogCaptureFixture) -> None:
    path = draw_bag('mcap')
    storage_file(path).rename(path / 'rewritten.mcap')
    assert len(list(read_frames(path))) == 4
    assert 'lists other files than those that lie there' in caplog.text


def test_fewer_messages_than_announced_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(4):
            bag.write('/camera', JPEG, draw_frame(index))
    source = BagFrames(tmp_path / 'bag')
    source.frame_count = 9
    assert len(list(source)) == 4
    assert 'announces 9 messages on /camera and holds 4' in caplog.text


def test_errors_of_the_consumer_stay_its_own(draw_bag: DrawBag) -> None:
    def consume() -> None:
        for _ in read_frames(draw_bag()):
            raise ValueError('mine')

    with pytest.raises(ValueError, match='mine'):
        consume()


def test_memory_stays_flat(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'bag', 'mcap') as bag:
        for index in range(60):
            bag.write('/camera', RAW, draw_frame(index, 240, 320))
    tracemalloc.start()
    count = sum(1 for _ in read_frames(tmp_path / 'bag'))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60
    assert peak < 6_000_000  # the bag holds 14 MB; one chunk of it is 1.2 MB
