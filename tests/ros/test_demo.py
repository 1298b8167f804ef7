"""`perception demo` as a newcomer runs it: a process of its own, the real node, real files."""

import fcntl
import json
import subprocess
from pathlib import Path

import cv2
import pytest

from tests.ros.command_process import interrupt_at_four_frames, run_command
from tests.ros.user_node import draw_image

pytestmark = pytest.mark.ros


def _run_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command('demo', *arguments)


def test_every_frame_of_a_folder_is_answered(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    for index in range(8):
        cv2.imwrite(str(images / f'{index}.png'), draw_image(97, 141, seed=index))
    (images / '3.png').write_bytes((images / '3.png').read_bytes()[:100])
    output = tmp_path / 'out'
    result = _run_demo('--images', images, '--model', tiny_checkpoint_path, '--output', output, '--pictures', 3)
    assert result.returncode == 0, result.stderr

    summary = json.loads((output / 'summary.json').read_text())
    assert summary['complete']
    assert summary['trained']
    frames = summary['frames']
    assert (frames['sent'], frames['answered'], frames['received'], frames['published']) == (7, 7, 7, 7)
    assert frames['dropped'] == {}
    assert frames['unexpected'] == []
    assert frames['unreadable_in_source'] == {'truncated': 1}
    assert summary['outputs'] == {'detections': 7, 'mask': 7, 'overlay': 7}
    assert summary['latency_ms']['mask']['max'] >= summary['latency_ms']['mask']['median'] > 0
    assert set(summary['stages_ms']) >= {'decode', 'preprocess', 'inference', 'postprocess', 'publish'}
    assert len(summary['pictures']) == 3
    for name in summary['pictures']:
        assert cv2.imread(str(output / name)).shape == (97, 141, 3)
    film = cv2.VideoCapture(str(output / 'overlay.mp4'))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    assert 'UNTRAINED' not in result.stdout


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), draw_image())
    bad = tmp_path / 'bad.safetensors'
    bad.write_bytes(b'not a checkpoint')
    result = _run_demo('--images', image, '--model', bad, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'is not a readable safetensors file' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_demo_does_not_clear_what_it_plays(tmp_path: Path) -> None:
    picture = tmp_path / 'overlay_000001.jpg'
    cv2.imwrite(str(picture), draw_image())
    for source, said in (
        (tmp_path, 'which is to be read; name a folder outside of it'),
        (picture, 'is to be read, and would be replaced in --output'),
    ):
        result = _run_demo('--images', source, '--output', tmp_path)
        assert result.returncode == 1
        assert said in result.stderr
        assert list(tmp_path.iterdir()) == [picture]


def test_a_second_demo_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), draw_image())
    (tmp_path / 'out').mkdir()
    with (tmp_path / 'out' / '.lock').open('w') as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        result = _run_demo('--images', image, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'Another run is writing' in result.stderr


def test_a_stopped_demo_says_what_became_of_every_frame(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    for index in range(6):
        cv2.imwrite(str(images / f'{index}.png'), draw_image(seed=index))
    output = tmp_path / 'out'
    options = ['--model', tiny_checkpoint_path, '--rate', '4', '--no-video', '--pictures', '0']
    stdout = interrupt_at_four_frames(output, 'demo', '--images', images, *options)
    assert f'summary.json and node.log are in {output}/' in stdout.splitlines()
