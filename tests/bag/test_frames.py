"""One door for bags, folders, images and videos."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.bag.frames import ImageFrames, VideoFrames, open_frames
from perception.bag.reader import BagFrames
from perception.errors import ConfigError, RecordingError
from tests.bag.drawn_bags import draw_frame


def write_image(path: Path, index: int) -> None:
    assert cv2.imwrite(str(path), draw_frame(index).image_rgb[..., ::-1])


def write_video(path: Path, count: int = 10, rate_hz: float = 20.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate_hz, (64, 48))
    assert writer.isOpened()
    for index in range(count):
        writer.write(np.full((48, 64, 3), (20 * index, 0, 255 - 20 * index), np.uint8))
    writer.release()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_bag(draw_bag: Callable[..., Path], storage: str) -> None:
    path = draw_bag(storage)
    files = [path] if path.is_file() else [path, *(entry for entry in path.iterdir() if entry.suffix != '.yaml')]
    for source in files:
        frames = open_frames(source, '/camera')
        assert isinstance(frames, BagFrames)
        assert frames.frame_count == len(list(frames)) == 4


def test_folder_in_counting_order_with_gaps_for_unreadable_files(tmp_path: Path) -> None:
    for index in (2, 10, 1):
        write_image(tmp_path / f'frame_{index}.png', index)
    write_image(tmp_path / 'frame_11.JPG', 11)
    (tmp_path / 'frame_3.jpg').write_bytes(b'junk')
    (tmp_path / 'frame_4.png').write_bytes((tmp_path / 'frame_1.png').read_bytes()[:-20])
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'folder.png').mkdir()
    reports = []
    source = open_frames(tmp_path, rate_hz=4, on_skip=lambda stamp_ns, error: reports.append((stamp_ns, error)))
    assert isinstance(source, ImageFrames)
    assert source.frame_count == 6
    assert source.frame_rate_hz == 4
    for _ in range(2):
        frames = list(source)
        assert [Path(frame.source).name for frame in frames] == [
            'frame_1.png', 'frame_2.png', 'frame_10.png', 'frame_11.JPG'
        ]  # fmt: skip
        assert [frame.stamp_ns for frame in frames] == [0, 250_000_000, 1_000_000_000, 1_250_000_000]
        assert source.skipped == {'undecodable': 1, 'truncated': 1}
    found = [(stamp_ns, error.reason) for stamp_ns, error in reports]
    assert found == [(500_000_000, 'undecodable'), (750_000_000, 'truncated')] * 2
    assert "A picture of 4 bytes (file 'frame_3.jpg') begins with" in str(reports[0][1])
    np.testing.assert_array_equal(frames[1].image_rgb, draw_frame(2).image_rgb)
    assert frames[1].image_rgb.shape == (30, 41, 3)
    assert frames[1].image_rgb.flags.c_contiguous


def test_file_that_vanishes_is_skipped(tmp_path: Path) -> None:
    write_image(tmp_path / '1.png', 1)
    write_image(tmp_path / '2.png', 2)
    source = open_frames(tmp_path)
    (tmp_path / '1.png').unlink()
    assert len(list(source)) == 1
    assert source.skipped == {'unreadable': 1}


def test_gray_images_become_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'gray.png'), np.full((4, 6), 77, np.uint8))
    (frame,) = open_frames(tmp_path)
    np.testing.assert_array_equal(frame.image_rgb, np.full((4, 6, 3), 77))


def test_a_picture_beside_a_bag_does_not_hide_it(
    draw_bag: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bag = draw_bag('mcap')
    (bag / 'metadata.yaml').unlink()
    assert open_frames(bag).frame_count == 4
    assert not caplog.text
    cv2.imwrite(str(bag / 'preview.jpg'), np.zeros((8, 8, 3), np.uint8))
    assert open_frames(bag).frame_count == 4
    assert 'is read as a bag; 1 images beside it, such as preview.jpg, are not' in caplog.text


def test_single_image(tmp_path: Path) -> None:
    write_image(tmp_path / 'one.png', 1)
    source = open_frames(str(tmp_path / 'one.png'))
    (frame,) = source
    assert source.frame_count == 1
    assert frame.stamp_ns == 0
    np.testing.assert_array_equal(frame.image_rgb, draw_frame(1).image_rgb)


def test_video(tmp_path: Path) -> None:
    write_video(tmp_path / 'drive.avi')
    source = open_frames(tmp_path / 'drive.avi')
    assert isinstance(source, VideoFrames)
    assert source.frame_count == 10
    assert source.frame_rate_hz == pytest.approx(20)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [index * 50_000_000 for index in range(10)]
    for index, frame in enumerate(frames):
        assert frame.image_rgb.shape == (48, 64, 3)
        np.testing.assert_allclose(frame.image_rgb[20, 30], (255 - 20 * index, 0, 20 * index), atol=6)
    assert len(list(source)) == 10


def test_video_cut_short_gives_what_it_has_and_says_so(tmp_path: Path, caplog) -> None:
    path = tmp_path / 'drive.avi'
    write_video(path, count=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    source = open_frames(path)
    with caplog.at_level(logging.WARNING):
        read = len(list(source))
    assert 0 < read < 40
    if source.frame_count is not None and source.frame_count > read:
        assert 'announces' in caplog.text


@pytest.mark.parametrize('content', [b'', b'junk' * 1000])
def test_video_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'drive.mp4').write_bytes(content)
    with pytest.raises(RecordingError, match='no frames'):
        open_frames(tmp_path / 'drive.mp4')


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match='nothing'):
        open_frames(tmp_path)
    write_image_in = tmp_path / 'cities' / 'a'
    write_image_in.mkdir(parents=True)
    write_image(write_image_in / '1.png', 1)
    with pytest.raises(RecordingError, match='no images itself, but 1 folders in it do, such as a: give these one by'):
        open_frames(tmp_path / 'cities')
    shutil.rmtree(tmp_path / 'cities')
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.raises(RecordingError, match=r'only: notes\.txt'):
        open_frames(tmp_path)
    with pytest.raises(RecordingError, match=r'no known kind.*\.mcap.*\.jpg.*\.mp4'):
        open_frames(tmp_path / 'notes.txt')
    with pytest.raises(RecordingError, match=r'Did you mean .*notes\.txt'):
        open_frames(tmp_path / 'note.txt')
    (tmp_path / 'drive_0.mcap').write_bytes(b'')
    with pytest.raises(RecordingError, match='is empty'):
        open_frames(tmp_path)


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    write_image(tmp_path / '1.png', 1)
    with pytest.raises(ConfigError, match='topic'):
        open_frames(tmp_path, '/camera')
    with pytest.raises(ConfigError, match='rate'):
        open_frames(tmp_path, rate_hz=0)
