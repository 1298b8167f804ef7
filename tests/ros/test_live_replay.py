"""``perception replay-live``: a bag with truth through the real node, in processes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from perception.bag.labelled import open_labelled
from perception.bag.make_bag import labelled_frames, write_frames_bag
from perception.bag.writer import BagWriter
from perception.cli import main
from perception.interfaces import LabelSpace, StampedImage
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator, Report
from perception.ros import live_replay
from perception.ros.live_gate import Thresholds, find_faults, find_missed
from perception.ros.live_replay import LiveOptions
from perception.ros.node_process import NodeProcess, isolate_middleware
from perception.ros.player import RUNNING_NODE_TIMEOUT_S, START_TIMEOUT_S
from tests.ros.command_process import (
    MANY,
    command_process,
    interrupt_at_four_frames,
    kill_node,
    read_until,
    run_command,
)
from tests.training.data.drawn_layouts import draw_camvid

pytestmark = pytest.mark.ros

FRAMES = 6


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('live')
    draw_camvid(root / 'data', 'test', FRAMES)
    frames, truth = labelled_frames(open_labelled(root / 'data'), 10.0)
    write_frames_bag(frames, root / 'drive', encoding='png', truth=truth, progress=False)
    return root / 'drive'


def _write_drive(folder: Path, stamps_s: Iterable[float]) -> Path:
    """A bag of small black frames with these stamps."""
    image_rgb = np.zeros((64, 96, 3), np.uint8)
    with BagWriter(folder) as writer:
        for stamp_s in stamps_s:
            writer.write_image('/camera/image', StampedImage(image_rgb=image_rgb, stamp_ns=round(stamp_s * 1e9)))
    return folder


@pytest.fixture(scope='module')
def long_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_drive(tmp_path_factory.mktemp('long') / 'drive', (1 + 0.25 * index for index in range(MANY)))


def _replay(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command('replay-live', *arguments, **environment)


def test_every_frame_is_judged_and_thresholds_decide(bag: Path, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out'
    # Slow enough for every frame to be answered on a busy machine.
    options = ['--model', tiny_checkpoint_path, '--output', output, '--speed', 0.04]
    result = _replay(bag, *options, '--max-lost-share', 0, '--max-latency-p95-ms', 60_000, '--min-mean-iou', 0.99)
    assert result.returncode == 3, result.stderr
    summary = json.loads((output / 'summary.json').read_text())
    frames = summary['frames']
    assert (frames['sent'], frames['answered'], frames['unexpected']) == (FRAMES, FRAMES, [])
    assert summary['scored'] == FRAMES
    assert summary['faults'] == []
    assert summary['pace']['interval_ms'] == pytest.approx(2500)
    assert summary['pace']['late_ms']['max'] >= 0
    (missed,) = summary['missed']
    assert missed.startswith('mean IoU is 0.')
    assert f'MISSED: {missed}' in result.stdout
    assert f'report.html, report.json, summary.json and node.log are in {output}/' in result.stdout
    assert {path.name for path in output.iterdir()} == {
        *('report.html', 'report.json', 'summary.json', 'node.log', '.lock')
    }
    report = Report.load(output / 'report.json')
    assert report.segmentation.images == report.detection.images == FRAMES
    assert '<h2>Live</h2>' in (output / 'report.html').read_text()


def test_a_gate_on_latency_needs_no_scoring_library(bag: Path, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    for library in ('torchmetrics', 'faster_coco_eval', 'pycocotools', 'cityscapesscripts'):
        (tmp_path / f'{library}.py').write_text('raise ImportError("a robot has none")')
    path = os.pathsep.join([str(tmp_path), *sys.path])
    options = ['--model', tiny_checkpoint_path, '--frames', 2, '--speed', 0.1, '--max-latency-p95-ms', 60_000]
    result = _replay(bag, *options, '--truth', 'none', '--output', tmp_path / 'out', PYTHONPATH=path)
    assert result.returncode == 0, result.stderr


def test_a_node_that_cannot_start_says_why(bag: Path, tmp_path: Path) -> None:
    bad = tmp_path / 'bad.safetensors'
    bad.write_bytes(b'not a checkpoint')
    result = _replay(bag, '--model', bad, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'is no .safetensors file' in result.stderr


def test_a_recording_that_is_missing_starts_nothing(tmp_path: Path) -> None:
    result = _replay(tmp_path / 'nowhere', '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'There is no' in result.stderr
    assert not (tmp_path / 'out').exists()


def test_a_stopped_run_says_what_became_of_every_frame(
    long_drive: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    # Four frames within a second: the node's report of that moment is older than the last ones.
    options = [long_drive, '--model', tiny_checkpoint_path]
    stdout = interrupt_at_four_frames(tmp_path / 'out', 'replay-live', *options)
    assert 'STOPPED EARLY' in stdout


def test_of_a_recording_that_was_cut_short_all_that_is_left_is_judged(
    tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    image_rgb = np.zeros((200, 300, 3), np.uint8)
    with BagWriter(tmp_path / 'cut') as writer:
        for index in range(20):
            writer.write_image('/camera/image', StampedImage(image_rgb=image_rgb, stamp_ns=(index + 1) * 10**8))
    file = tmp_path / 'cut' / 'cut.mcap'
    file.write_bytes(file.read_bytes()[:-1_000_000])
    result = _replay(tmp_path / 'cut', '--model', tiny_checkpoint_path, '--output', tmp_path / 'out', '--speed', 0.3)
    assert result.returncode == 1, result.stderr
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert 'was cut short' in summary['interrupted_by']
    assert 5 < summary['frames']['sent'] < 20
    assert summary['frames']['answered']  # on a busy machine not all


def test_stamps_that_jump_do_not_hang_a_gate(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    since_boot_s, of_day_s = 12.0, 1.7e9
    stamps_s = (start_s + 0.2 * index for start_s in (since_boot_s, of_day_s) for index in range(3))
    drive = _write_drive(tmp_path / 'drive', stamps_s)
    options = ['--model', tiny_checkpoint_path, '--output', tmp_path / 'out', '--truth', 'none']
    result = _replay(drive, *options, '--max-lost-share', 1)
    assert result.returncode == 0, result.stderr
    pace = json.loads((tmp_path / 'out' / 'summary.json').read_text())['pace']
    assert pace['interval_ms'] == pytest.approx(200)
    assert {direction: jump['count'] for direction, jump in pace['jumps'].items()} == {'forward': 1, 'back': 0}
    assert 'PACE STARTED ANEW: the recorded stamps jump 1 time forward (by up to 1,699,999,987.6 s)' in result.stdout
    assert 'PACE STARTED ANEW' in (tmp_path / 'out' / 'report.html').read_text()


def test_a_node_that_dies_leaves_what_had_come(long_drive: Path, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    options = ['--model', tiny_checkpoint_path, '--output', tmp_path / 'out']
    with command_process('replay-live', long_drive, *options) as process:
        read_until(process, f'3/{MANY}')
        kill_node(process)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    said = f'camera_node ended with exit code -9. The end of {tmp_path / "out" / "node.log"}:'
    assert said in stderr
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['interrupted_by'].startswith(said)
    assert summary['frames']['sent'] >= 3
    assert 'report.html, report.json, summary.json and node.log are in' in stdout


def test_signals_while_the_report_is_written_cost_nothing(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = live_replay._write

    def signalled(*arguments: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        write(*arguments)

    monkeypatch.setattr(live_replay, '_write', signalled)
    monkeypatch.setattr(live_replay, '_meet_node', lambda *_: (1.0, ''))
    assert main(['replay-live', str(bag), '--node', '/nobody', '--output', str(tmp_path / 'out')]) == 1  # no frames
    assert {path.name for path in (tmp_path / 'out').iterdir()} >= {'report.html', 'report.json', 'summary.json'}


def test_a_node_that_runs_is_judged_on_the_frames_of_this_run_alone(
    bag: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    environment = {'ROS_DOMAIN_ID': str(random.SystemRandom().randint(1, 101))}
    isolate_middleware(environment)
    options = ['--node', '/front', '--start-timeout', 100, '--output', tmp_path / 'out', '--overwrite']
    options += ['--frames', 3, '--speed', 0.04]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # All that such a node may be set to.
        parameters = {'image_transport': 'compressed', 'output_qos': 'best_effort', 'class_id_format': 'name'}
        parameters['model_path'] = str(tiny_checkpoint_path)
        node = NodeProcess(namespace='/front', parameters=parameters, log=tmp_path / 'node.log')
    with node:
        for _ in range(2):
            result = _replay(bag, *options, **environment)
            assert result.returncode == 0, result.stderr
            assert 'report.html, report.json and summary.json are in' in result.stdout
            summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
            frames = summary['frames']
            assert (frames['sent'], frames['received'], frames['published'], frames['dropped']) == (3, 3, 3, {})
            assert (summary['scored'], frames['unexpected']) == (3, [])


def test_a_node_that_is_not_there_is_not_waited_for_in_silence(bag: Path, tmp_path: Path) -> None:
    assert RUNNING_NODE_TIMEOUT_S < START_TIMEOUT_S / 5
    with command_process('replay-live', bag, '--node', '/nobody', '--output', tmp_path / 'out') as process:
        said = read_until(process, f'waiting for camera_node in /nobody (up to {RUNNING_NODE_TIMEOUT_S:g} s) ...')
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, said
    result = _replay(bag, '--node', '/nobody', '--output', tmp_path / 'out', '--start-timeout', 0.5, ROS_DOMAIN_ID='77')
    assert result.returncode == 1
    assert 'No camera_node was active in /nobody within 0.5 s, with ROS_DOMAIN_ID 77. There is ' in result.stderr


def test_a_report_is_replaced_only_on_demand(bag: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out'
    output.mkdir()
    (output / 'report.json').write_text('precious')
    result = _replay(bag, '--output', output)
    assert result.returncode == 1
    assert f'{output} holds a report already; name another --output, or give --overwrite.' in result.stderr
    assert (output / 'report.json').read_text() == 'precious'
    # On demand it is gone at once, so that a run that fails leaves none that looks like its own.
    result = _replay(bag, '--output', output, '--overwrite', '--node', '/nobody', '--start-timeout', 0.1)
    assert result.returncode == 1
    assert not (output / 'report.json').exists()


@pytest.mark.parametrize('inside', ['.', 'out/live'])
def test_a_recording_is_not_written_into(bag: Path, inside: str) -> None:
    before = sorted(bag.iterdir())
    result = _replay(bag, '--output', bag / inside)
    assert result.returncode == 1
    assert f'lies in {bag}, which is to be read; name a folder outside of it' in result.stderr
    assert sorted(bag.iterdir()) == before


def test_unanswered_frames_are_what_a_share_is_of() -> None:
    summary = {'frames': {'sent': 2, 'answered': 1, 'unanswered': 1, 'lost_on_the_way': 0}, 'latency_ms': {}}
    report = Evaluator(CITYSCAPES_11_3).report({})
    missed = find_missed(summary, report, Thresholds(max_lost_share=0.25))
    assert missed == ['share of frames without an answer is 0.5 (1 of 2); at most 0.25 is wanted']
    assert find_missed(summary, report, Thresholds(max_lost_share=0.5)) == []


def test_truth_that_fits_no_frame_is_a_fault_though_nobody_asked_for_it() -> None:
    summary = {'frames': {'sent': 5, 'answered': 4}, 'scored': 0, 'truth': 'topics', 'unmatched_truth': 5}
    assert find_faults(summary, truth_wanted=False) == ['None of the 4 frames that were answered has a truth (topics).']
    assert find_faults({**summary, 'scored': 1}, truth_wanted=False) == []


@pytest.mark.parametrize(
    ('counts', 'wanted', 'said'),
    [
        ((0, 0, 0), False, ['No frame could be used.']),
        ((5, 0, 0), False, ['None of the 5 frames was answered in full.']),
        ((5, 4, 0), True, ['None of the 4 frames that were answered has a truth (topics).']),
        ((5, 4, 0), False, []),
        ((5, 4, 1), True, []),
    ],
)
def test_a_run_that_is_of_no_use_is_not_done(
    counts: tuple[int, int, int],
    wanted: bool,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    sent, answered, scored = counts
    summary = {'frames': {'sent': sent, 'answered': answered}, 'scored': scored, 'truth': 'topics'}
    assert find_faults(summary, truth_wanted=wanted) == said

    def run(source: object, truth: object, options: LiveOptions, labels: LabelSpace) -> dict[str, Any]:
        assert labels == CITYSCAPES_11_3  # of the weights that ship
        assert options.truth_wanted == wanted
        assert options.parameters == {'model_path': '', 'score_threshold': 0.5}
        return summary | {'complete': True, 'missed': ['much'], 'faults': said}

    monkeypatch.setattr(live_replay, 'run_live_replay', run)
    monkeypatch.setattr('perception.replay.truth.open_truth', lambda *_, **__: None)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 6, 3), np.uint8))
    options = ['--score-threshold', '0.5', *(['--truth', 'topics'] if wanted else [])]
    assert main(['replay-live', str(tmp_path), *options]) == (1 if said else 3)
    assert capsys.readouterr().err.splitlines() == [f'perception replay-live: {fault}' for fault in said]
