"""Names and folders of several recordings, and scores that may not be added up."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception.errors import RecordingError
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from perception.metrics.pictures import PictureKeeper
from perception.replay.merge import merge_replays
from perception.replay.recordings import name_recordings
from perception.replay.run import RecordingReplay


def test_a_single_recording_fills_the_output_itself() -> None:
    (recording,) = name_recordings([Path('some/drive.mcap')], Path('out'))
    assert (recording.name, recording.folder) == ('drive.mcap', Path('out'))


def test_recordings_of_one_name_are_told_apart_by_their_folders() -> None:
    paths = [Path('/a/x/drive'), Path('/b/x/drive'), Path('/b/return')]
    found = name_recordings(paths, Path('out'))
    assert [recording.name for recording in found] == ['a_x_drive', 'b_x_drive', 'b_return']
    assert found[0].folder == Path('out/a_x_drive')


def test_recordings_whose_whole_paths_read_alike_are_numbered() -> None:
    paths = [Path('/a_b/drive'), Path('/a/b/drive'), Path('/c/b/drive')]
    names = [recording.name for recording in name_recordings(paths, Path('out'))]
    assert names == ['a_b_drive_1', 'a_b_drive_2', 'c_b_drive_3']


def test_a_recording_that_is_given_twice_is_refused() -> None:
    with pytest.raises(RecordingError, match='drive is given twice'):
        name_recordings([Path('drive'), Path('other'), Path('drive')], Path('out'))


def part(name: str, torch_version: str) -> RecordingReplay:
    return RecordingReplay(
        name=name,
        sha256='0',
        settings={'device': 'cpu', 'versions': {'torch': torch_version, 'numpy': '2'}},
        stream_names=(name,),
        truth=('none',),
        truth_sha256=('',),
        evaluator=Evaluator(CITYSCAPES_11_3),
        pictures=PictureKeeper(CITYSCAPES_11_3),
    )


def test_scores_of_machines_with_other_versions_are_not_added_up() -> None:
    with pytest.raises(RecordingError, match=r'b was not replayed like a.*versions torch \(2\.1, now 2\.2\)\. Let'):
        merge_replays([part('a', '2.1'), part('b', '2.2')], 1.0)


def test_what_could_not_be_done_is_said_once() -> None:
    parts = [part('a', '2.1'), part('b', '2.1')]
    parts[0].ended_by = parts[1].ended_by = 'the disk is full'
    report = merge_replays(parts, 1.0, ['c: gone']).report
    assert report.ended_by == 'the disk is full; c: gone'
    assert report.stream_names == ('a', 'b')


def test_a_folder_without_a_name_gets_that_of_the_folder_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'drive' / 'part').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'drive' / 'part')
    names = [recording.name for recording in name_recordings([Path('..'), Path('.')], Path('out'))]
    assert names == ['drive', 'part']
