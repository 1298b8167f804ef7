"""Recordings that rosbag2 packed, as whole files or message by message, with and without their metadata."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
import zstandard

from perception.bag.frames import open_frames
from perception.bag.reader import read_frames
from perception.bag.recording import content_files
from perception.bag.storage.unpacking import unpack_message
from perception.errors import RecordingError
from tests.bag.drawn_bags import JPEG, DrawnBag, draw_frame

FRAMES = 3


def stamps(path: Path) -> list[int]:
    return [frame.stamp_ns for frame in open_frames(path)]


DRAWN = [draw_frame(index).stamp_ns for index in range(FRAMES)]


@pytest.mark.parametrize('metadata', [True, False])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_messages_that_were_packed_one_by_one(tmp_path: Path, storage: str, metadata: bool) -> None:
    path = tmp_path / 'drive'
    with DrawnBag(path, storage) as bag:
        for index in range(FRAMES):
            data = bytes(bag.types.serialize_cdr(bag.message(draw_frame(index), JPEG), JPEG))
            bag.write_bytes('/camera', JPEG, zstandard.compress(data), draw_frame(index).stamp_ns)
    if metadata:
        document = yaml.safe_load((path / 'metadata.yaml').read_text())
        document['rosbag2_bagfile_information'] |= {'compression_format': 'zstd', 'compression_mode': 'MESSAGE'}
        (path / 'metadata.yaml').write_text(yaml.safe_dump(document))
    else:
        (path / 'metadata.yaml').unlink()
    assert stamps(path) == DRAWN


def test_a_packed_message_that_is_damaged_costs_itself(tmp_path: Path) -> None:
    with DrawnBag(tmp_path / 'drive', 'mcap') as bag:
        bag.write('/camera', JPEG, draw_frame(0))
        bag.write_bytes('/camera', JPEG, zstandard.compress(bytes(99))[:9], draw_frame(1).stamp_ns)
        bag.write('/camera', JPEG, draw_frame(2))
    source = open_frames(tmp_path / 'drive')
    assert [frame.stamp_ns for frame in source] == [DRAWN[0], DRAWN[2]]
    assert source.skipped == {'undecodable': 1}


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_files_that_were_packed_as_a_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / 'drive'
    with DrawnBag(path, 'mcap' if suffix == '.mcap' else 'sqlite3') as bag:
        for index in range(FRAMES):
            bag.write('/camera', JPEG, draw_frame(index))
    whole, packed = path / f'drive{suffix}', path / f'drive{suffix}.zstd'
    with whole.open('rb') as source, packed.open('wb') as target:
        zstandard.ZstdCompressor().copy_stream(source, target)
    kept = shutil.copy(whole, tmp_path / whole.name)
    metadata = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').write_text(metadata.replace(whole.name, packed.name))
    assert stamps(path) == DRAWN  # both lie there: once
    assert content_files(path) == [path / 'metadata.yaml', whole]
    whole.unlink()
    assert stamps(path) == stamps(packed) == DRAWN
    (path / 'metadata.yaml').unlink()
    assert stamps(path) == DRAWN
    packed.unlink()
    shutil.copy(kept, whole)
    (path / 'metadata.yaml').write_text(metadata.replace(whole.name, packed.name))
    assert stamps(path) == DRAWN  # unpacked since
    packed.write_bytes(zstandard.compress(kept.read_bytes())[:-20])
    with pytest.raises(RecordingError, match='was cut short'):
        read_frames(packed)
    packed.write_bytes(b'\x28\xb5\x2f\xfd' + bytes(range(20)))
    with pytest.raises(RecordingError, match='cut short or damaged'):
        read_frames(packed)


def test_other_messages_stay_as_they_are() -> None:
    assert unpack_message(b'\0\1\0\0abc') == b'\0\1\0\0abc'
    assert unpack_message(zstandard.compress(b'\0\1\0\0abc')) == b'\0\1\0\0abc'
