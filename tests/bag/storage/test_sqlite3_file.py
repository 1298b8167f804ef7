"""sqlite3 files: what their recorder had not put into the file, and names that mean something in addresses."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from perception.bag.reader import BagFrames, read_frames
from perception.bag.storage import sqlite3_file, storage_content
from perception.replay.provenance import hash_recording
from tests.bag.drawn_bags import JPEG, DrawnBag, draw_frame

KEPT, LATE = 2, 4


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A recording of six frames in one file."""
    with DrawnBag(tmp_path / 'drawn', 'sqlite3') as bag:
        for index in range(KEPT + LATE):
            bag.write('/camera', JPEG, draw_frame(index))
    return tmp_path / 'drawn' / 'drawn.db3'


RECORDER = """
    import os, sqlite3, sys
    path, mode, kept = sys.argv[1], sys.argv[2], int(sys.argv[3])
    database = sqlite3.connect(path, isolation_level=None)
    rows = database.execute('SELECT * FROM messages ORDER BY id').fetchall()
    database.execute('DELETE FROM messages WHERE id > ?', (rows[kept - 1][0],))
    database.execute('VACUUM')
    database.execute(f'PRAGMA journal_mode = {mode}')
    database.execute('PRAGMA cache_size = 1')
    if mode == 'wal':
        database.execute('PRAGMA wal_autocheckpoint = 0')
    database.execute('BEGIN')
    database.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows[kept:])
    if mode == 'wal':
        database.execute('COMMIT')
    os.kill(os.getpid(), 9)
"""


def kill_recorder(drive: Path, mode: str) -> None:
    """Leave the file as a recorder that is killed does: its last rows are in the log, or a journal takes them back."""
    subprocess.run([sys.executable, '-c', textwrap.dedent(RECORDER), str(drive), mode, str(KEPT)], check=False)


def stamps(path: Path) -> list[int]:
    return [frame.stamp_ns for frame in read_frames(path)]


@pytest.mark.parametrize('writable', [True, False], ids=['in place', 'beside'])
def test_what_lies_in_the_log_is_read_and_hashed(
    drive: Path, writable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = hash_recording(drive)
    kill_recorder(drive, 'wal')
    log = drive.with_name('drawn.db3-wal')
    assert log.stat().st_size
    if not writable:  # whoever runs the tests may write everywhere
        original = sqlite3_file._open

        def refuse(path: Path, how: str) -> sqlite3.Connection:
            if how == 'mode=ro' and path == drive:
                raise sqlite3.OperationalError('unable to open database file')
            return original(path, how)

        monkeypatch.setattr(sqlite3_file, '_open', refuse)
    before = drive.read_bytes(), log.read_bytes()
    assert stamps(drive) == [draw_frame(index).stamp_ns for index in range(KEPT + LATE)]
    assert BagFrames(drive).frame_count == KEPT + LATE
    assert (drive.read_bytes(), log.read_bytes()) == before
    assert storage_content(drive) == [drive, log]
    hashed = hash_recording(drive)
    assert hashed != without
    log.write_bytes(log.read_bytes()[:-1] + b'x')
    assert hash_recording(drive) != hashed


def test_half_a_transaction_is_taken_back(drive: Path) -> None:
    kill_recorder(drive, 'delete')
    journal = drive.with_name('drawn.db3-journal')
    assert journal.stat().st_size
    before = drive.read_bytes(), journal.read_bytes()
    assert stamps(drive) == [draw_frame(index).stamp_ns for index in range(KEPT)]
    assert (drive.read_bytes(), journal.read_bytes()) == before


@pytest.mark.parametrize('name', ['run #3', 'why?', 'a%20b', 'file:x', 'mode=rw&x', 'ä ö'])
def test_names_that_mean_something_in_an_address(drive: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(drive, folder / f'{name}.db3')
    assert len(stamps(folder / f'{name}.db3')) == KEPT + LATE
    assert len(stamps(folder)) == KEPT + LATE
    assert os.listdir(folder) == [f'{name}.db3']
