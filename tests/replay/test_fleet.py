"""``perception replay --ray``: two workers of a real local Ray give the report of one process, whatever dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from perception.bag.labelled import open_labelled
from perception.bag.make_bag import labelled_frames, write_frames_bag
from perception.cli import main
from perception.replay.report import ReplayReport
from perception.replay.run import RESULTS_FILE
from tests.training.data.drawn_layouts import draw_camvid

pytest.importorskip('ray', reason='the fleet extra is not installed')

FRAMES = (7, 3, 5)


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Drives of several lengths, two of them of the same name."""
    root = tmp_path_factory.mktemp('fleet')
    paths = []
    for count, place in zip(FRAMES, ('monday/drive', 'tuesday/drive', 'tuesday/return'), strict=True):
        folder = root / 'images' / place
        draw_camvid(folder, 'test', count)
        frames, truth = labelled_frames(open_labelled(folder), 10.0)
        write_frames_bag(frames, root / place, encoding='png', truth=truth, progress=False)
        paths.append(root / place)
    return paths


@pytest.fixture(scope='module')
def two_workers() -> Iterator[None]:
    """A Ray of this machine that has room for two, whatever cores there are; the command finds it running."""
    import ray

    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    ray.init('local', num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    yield
    ray.shutdown()


def replay(paths: list[Path], output: Path, checkpoint: Path, *options: object) -> int:
    arguments = ['replay', *paths, '--output', output, '--model', checkpoint, '--device', 'cpu', *options]
    return main([str(argument) for argument in arguments])


def contents(output: Path) -> dict[str, bytes]:
    """All that must be the same in every run."""
    files = [output / 'report.json', *output.rglob('predictions.mcap')]
    return {str(file.relative_to(output)): file.read_bytes() for file in files}


def writers_of(file: Path) -> list[int]:
    """Workers that have a file open: Ray names a process after its task."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if (folder / 'cmdline').read_bytes().startswith(b'ray::_replay_there') and any(
                open_file.resolve() == file.resolve() for open_file in (folder / 'fd').iterdir()
            ):
                found.append(int(folder.name))
    return found


@pytest.mark.timeout(180)
@pytest.mark.usefixtures('two_workers')
def test_the_merged_report_is_that_of_one_process(bags: list[Path], tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    assert replay(bags, tmp_path / 'alone', tiny_checkpoint_path) == 0
    assert replay(bags, tmp_path / 'fleet', tiny_checkpoint_path, '--ray', 'local') == 0
    alone, fleet = contents(tmp_path / 'alone'), contents(tmp_path / 'fleet')
    assert set(alone) == {
        'report.json',
        *(f'{name}/predictions.mcap' for name in ('monday_drive', 'tuesday_drive', 'tuesday_return')),
    }
    assert alone == fleet
    report = ReplayReport.load(tmp_path / 'fleet')
    assert report.streams == tuple(number for number, count in enumerate(FRAMES) for _ in range(count))
    assert report.with_truth == sum(FRAMES)
    pages = [(tmp_path / name / 'report.html').read_text() for name in ('alone', 'fleet')]
    pictures = [re.findall(r'data:image/jpeg;base64,([^"]+)', page) for page in pages]
    assert pictures[0] == pictures[1] != []


@pytest.mark.timeout(180)
@pytest.mark.usefixtures('two_workers')
def test_a_worker_that_is_killed_costs_a_retry(bags: list[Path], tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    draw_camvid(tmp_path / 'long', 'test', 150)
    paths = [*bags, tmp_path / 'long' / 'test']
    output, killed, over = tmp_path / 'fleet', [], Event()

    def kill_one() -> None:
        results = output / 'long_test' / RESULTS_FILE
        while not killed and not over.wait(0.02):
            wal = results.with_name(f'{RESULTS_FILE}-wal')
            with contextlib.suppress(OSError):  # a file or a process that is gone meanwhile
                if wal.stat().st_size > 50_000:  # some frames are on disk
                    for pid in writers_of(results):
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)

    killer = Thread(target=kill_one)
    killer.start()
    try:
        assert replay(paths, output, tiny_checkpoint_path, '--ray', 'local') == 0
    finally:
        over.set()
        killer.join()
    assert killed
    assert replay(paths, tmp_path / 'alone', tiny_checkpoint_path) == 0
    assert contents(output) == contents(tmp_path / 'alone')


@pytest.mark.timeout(120)
@pytest.mark.usefixtures('two_workers')
def test_a_recording_that_fails_costs_no_other(bags: list[Path], tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / 'fleet'
    (output / 'monday_drive').mkdir(parents=True)
    (output / 'monday_drive' / RESULTS_FILE).write_bytes(b'no database' * 100)
    assert replay(bags, output, tiny_checkpoint_path, '--ray', 'local', '--resume') == 1
    report = ReplayReport.load(output)
    assert 'monday_drive: Cannot keep results' in report.ended_by
    assert len(report.agreement) == sum(FRAMES[1:])


@pytest.mark.timeout(120)
def test_a_stopped_fleet_leaves_a_report_that_says_so(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    draw_camvid(tmp_path / 'long', 'test', 600)
    command = [sys.executable, '-m', 'perception.cli', 'replay', tmp_path / 'long' / 'test', '--output', tmp_path / 'a']
    process = subprocess.Popen(
        [*map(str, command), '--model', str(tiny_checkpoint_path), '--ray', 'local'],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        start_new_session=True,
    )
    assert process.stderr is not None
    shown = ''
    while not re.search(r' [1-9]\d*/600', shown):
        read = process.stderr.read(20)
        assert read, shown
        shown += read
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.stderr.read()
    assert process.wait(60) == 130
    report = ReplayReport.load(tmp_path / 'a')
    assert 'signal' in report.ended_by
    assert 0 < len(report.agreement) < 600


def test_a_gpu_by_number_is_refused(
    bags: list[Path], tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bags[:1], tmp_path / 'a', tiny_checkpoint_path, '--ray', 'local', '--device', 'cuda:1') == 1
    assert '--device cuda:1: a worker of a fleet sees only the GPU that Ray gives it' in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()


@pytest.mark.timeout(120)
def test_a_cluster_that_does_not_answer(bags: list[Path], tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'perception.cli', 'replay', bags[0], '--output', tmp_path / 'a']
    command += ['--model', tiny_checkpoint_path, '--ray', '127.0.0.1:1']
    finished = subprocess.run([*map(str, command)], stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == 1
    assert '--ray 127.0.0.1:1: no Ray cluster answers' in finished.stderr
    assert 'Traceback' not in finished.stderr
