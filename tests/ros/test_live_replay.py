"""``perception replay-live``: a bag with truth through the real node, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perception.bag.labelled import open_labelled
from perception.bag.make_bag import labelled_frames, write_frames_bag
from perception.metrics import Report
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


def _replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'perception.cli', 'replay-live', *map(str, arguments)]
    environment = {**os.environ, 'ROS_PYTHON_CHECK_FIELDS': '1'}
    environment.pop('ROS_DOMAIN_ID', None)
    return subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)


def test_every_frame_is_judged_and_thresholds_decide(bag: Path, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out'
    # Slow enough for every frame to be answered on a busy machine.
    options = ['--model', tiny_checkpoint_path, '--output', output, '--speed', 0.1]
    result = _replay(bag, *options, '--max-lost-share', 0, '--max-latency-p95-ms', 60_000, '--min-mean-iou', 0.99)
    assert result.returncode == 3, result.stderr
    summary = json.loads((output / 'summary.json').read_text())
    frames = summary['frames']
    assert (frames['sent'], frames['answered'], frames['unexpected']) == (FRAMES, FRAMES, [])
    assert summary['scored'] == FRAMES
    (missed,) = summary['missed']
    assert missed.startswith('mean IoU is 0.')
    assert f'MISSED: {missed}' in result.stdout
    report = Report.load(output / 'report.json')
    assert report.segmentation.images == report.detection.images == FRAMES
    assert '<h2>Live</h2>' in (output / 'report.html').read_text()


def test_a_node_that_cannot_start_says_why(bag: Path, tmp_path: Path) -> None:
    bad = tmp_path / 'bad.safetensors'
    bad.write_bytes(b'not a checkpoint')
    result = _replay(bag, '--model', bad, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'is not a readable safetensors file' in result.stderr


def test_a_recording_that_is_missing_starts_nothing(tmp_path: Path) -> None:
    result = _replay(tmp_path / 'nowhere', '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'There is no' in result.stderr
    assert not (tmp_path / 'out').exists()
