"""`perception demo` as a newcomer runs it: a process of its own, the real node, real files."""

import fcntl
import json
import subprocess
from pathlib import Path

import cv2
import pytest

from perception.bag.frames import open_frames
from perception.errors import PerceptionError
from perception.ros.demo import UNFINISHED, DemoOptions, run_demo
from tests.ros.command_process import (
    MANY,
    command_process,
    interrupt_at_four_frames,
    kill_node,
    read_until,
    run_command,
)
from tests.ros.user_node import draw_image

pytestmark = pytest.mark.ros


def _run_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command('demo', *arguments)


def _draw_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f'{index}.png'), draw_image(seed=index))
    return folder


@pytest.fixture(scope='module')
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('many')
    cv2.imwrite(str(folder / '0.png'), draw_image())
    for index in range(1, MANY):
        (folder / f'{index}.png').hardlink_to(folder / '0.png')
    return folder


def _earlier_demo(output: Path) -> dict[str, bytes]:
    """What an earlier demo might have left in its folder."""
    output.mkdir()
    for name in ('overlay_000000.jpg', 'overlay_000059.jpg', 'overlay.mp4', 'node.log', 'summary.json'):
        (output / name).write_text(f'earlier {name}')
    return _content(output)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ('.lock', UNFINISHED)}


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
    earlier = _earlier_demo(tmp_path / 'out')
    result = _run_demo('--images', image, '--model', bad, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert 'is no .safetensors file' in result.stderr
    assert 'Traceback' not in result.stderr
    assert _content(tmp_path / 'out') == earlier
    log = tmp_path / 'out' / UNFINISHED / 'node.log'
    assert f'The end of {log}:' in result.stderr
    assert 'is no .safetensors file' in log.read_text()


def test_a_demo_without_frames_costs_no_earlier_one(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    image = _draw_images(tmp_path / 'images', 1) / '0.png'
    image.write_bytes(image.read_bytes()[:100])
    earlier = _earlier_demo(tmp_path / 'out')
    result = _run_demo('--images', image, '--model', tiny_checkpoint_path, '--output', tmp_path / 'out')
    assert result.returncode == 1
    assert f'No frame was answered; {tmp_path / "out" / UNFINISHED / "node.log"} may say why.' in result.stderr
    assert f'summary.json and node.log are in {tmp_path / "out" / UNFINISHED}/' in result.stdout
    assert _content(tmp_path / 'out') == earlier


def test_a_killed_demo_costs_no_earlier_one_and_a_finished_one_replaces_it(
    many_images: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / 'out'
    earlier = _earlier_demo(output)
    options = ['--images', many_images, '--model', tiny_checkpoint_path, '--output', output]
    with command_process('demo', *options, '--rate', 4) as process:
        read_until(process, f'4/{MANY}')
        process.kill()
    assert _content(output) == earlier
    result = _run_demo(*options, '--frames', 2, '--no-video')
    assert result.returncode == 0, result.stderr
    now = _content(output)
    assert set(now) == {'overlay_000000.jpg', 'overlay_000001.jpg', 'node.log', 'summary.json'}
    assert not any(now[name] == earlier.get(name) for name in now)
    assert not (output / UNFINISHED).exists()


def test_a_node_that_dies_leaves_what_had_come(many_images: Path, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out'
    _earlier_demo(output)
    # Without --rate frames are sent one by one, when the one before is answered.
    with command_process(
        'demo', '--images', many_images, '--model', tiny_checkpoint_path, '--output', output
    ) as process:
        read_until(process, f'3/{MANY}')
        kill_node(process)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'camera_node ended with exit code -9. The end of {output / "node.log"}:' in stderr
    summary = json.loads((output / 'summary.json').read_text())
    assert not summary['complete']
    assert str(output / 'node.log') in summary['interrupted_by']
    assert 'overlay_000059.jpg' not in _content(output)


@pytest.mark.parametrize('left', ['report.json', 'results.sqlite', 'drive/results.sqlite'])
def test_the_folder_of_a_replay_is_refused(left: str, tmp_path: Path) -> None:
    file = tmp_path / 'replay' / left
    file.parent.mkdir(parents=True)
    file.touch()
    source = open_frames(_draw_images(tmp_path / 'images', 1))
    with pytest.raises(PerceptionError, match=r'replay holds (a report already|an unfinished replay); name another'):
        run_demo(source, DemoOptions(output=tmp_path / 'replay'))
    assert {path.name for path in file.parent.iterdir()} - {'.lock'} == {file.name}


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


def test_a_stopped_demo_says_what_became_of_every_frame(
    many_images: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / 'out'
    options = ['--model', tiny_checkpoint_path, '--rate', '4', '--no-video', '--pictures', '0']
    stdout = interrupt_at_four_frames(output, 'demo', '--images', many_images, *options)
    assert f'summary.json and node.log are in {output}/' in stdout.splitlines()
