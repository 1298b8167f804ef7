"""The command line: exit codes, messages, what reaches the demo, and a bag made end to end."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

import perception
from perception import resources
from perception.backends import BACKENDS
from perception.bag.frames import open_frames
from perception.bag.writer import BagWriter
from perception.cli import main, replay_evaluation, replay_evaluator
from perception.cli.arguments import BACKEND_NAMES
from perception.errors import PerceptionError
from perception.interfaces import StampedImage
from perception.resources import SAMPLE_BAG, config_file

Demo = Callable[..., dict[str, Any]]


@dataclass
class DemoOptions:
    """Stands in for that of perception.ros.demo: accepts these names and no others."""

    output: Path
    model: str
    backend: str
    device: str
    precision: str
    score_threshold: float
    rate_hz: float
    transport: str
    pictures: int
    max_frames: int
    video: bool


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, DemoOptions]]:
    """What the demo was called with; it needs no ROS and is complete at once."""
    calls: list[tuple[Path, DemoOptions]] = []

    def run_demo(source: Any, options: DemoOptions) -> dict[str, Any]:
        calls.append((source.path, options))
        return {'complete': True}

    pretend_demo(monkeypatch, run_demo)
    return calls


def pretend_demo(monkeypatch: pytest.MonkeyPatch, run_demo: Demo) -> None:
    module = ModuleType('perception.ros.demo')
    vars(module).update(DemoOptions=DemoOptions, run_demo=run_demo)
    monkeypatch.setitem(sys.modules, 'perception.ros.demo', module)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of twelve images, each brighter than the last, and a note that is none."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(12):
        cv2.imwrite(str(folder / f'frame_{index}.png'), np.full((30, 41, 3), 10 + 20 * index, np.uint8))
    (folder / 'notes.txt').write_text('a walk through the drawn city')
    return folder


def run(*arguments: object) -> int:
    """The exit code, also where argparse leaves by SystemExit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run('--version') == 0
    assert capsys.readouterr().out.strip() == perception.__version__


def test_help_names_every_command() -> None:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    command = [sys.executable, '-m', 'perception.cli', '--help']
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert 'demo' in shown.stdout
    assert 'make-bag' in shown.stdout
    assert shown.stderr == ''


def test_whoever_has_seen_enough_gets_no_traceback(images: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'perception.cli', 'make-bag', str(images), str(tmp_path / 'bag')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        shown = process.stderr.read()
        assert process.wait(60) == 1
    assert 'Traceback' not in shown
    assert 'BrokenPipe' not in shown
    assert (tmp_path / 'bag').is_dir()


@pytest.mark.parametrize('command', ['demo', 'make-bag'])
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, '--help') == 0
    assert f'perception {command}' in capsys.readouterr().out


def test_help_of_the_demo_names_the_sample_and_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run('demo', '--help') == 0
    shown = ' '.join(capsys.readouterr().out.split())
    assert 'the sample drive that ships (drawn streets)' in shown
    assert str(SAMPLE_BAG.parent) not in shown
    assert 'arithmetic of the network' in shown


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        ([], 'COMMAND'),
        (['fly'], "invalid choice: 'fly'"),
        (['demo', '--bag', 'a', '--images', 'b'], 'not allowed with argument --bag'),
        (['demo', '--precison', 'bf16'], "no option --precison: did you mean '--precision'?"),
        (['demo', '--precison=bf16'], "no option --precison: did you mean '--precision'?"),
        (['demo', '--image', 'a'], "no option --image: did you mean '--images'?"),
        (['demo', '--xyz'], 'no option --xyz: '),
        (['demo', 'a'], 'unrecognized arguments: a'),
        (['replay', 'a', '--output', 'b', '--over'], 'no option --over'),
        (['replay-live', 'a', '--min-ap', '0.5'], "no option --min-ap: did you mean '--min-ap50'?"),
        (['compare', 'a', 'b', '--out', 'c'], "no option --out: did you mean '--output'?"),
        (['compare-networks', 'a', '--output', 'b', '--rounds', '0'], '--rounds: must be a whole number from 1, got 0'),
        (['compare-networks', '--output', 'b'], 'CHECKPOINT'),
        (['compare-networks', 'a', '--output', 'b', '--backends', 'eager'], "did you mean '--backend'?"),
        (['make-bag', 'a', 'b', '--labeled'], "no option --labeled: did you mean '--labelled'?"),
        (['--frobnicate', 'demo'], 'no option --frobnicate: '),
        (['demo', '--rate', '-1'], '--rate: must be a number from 0, got -1'),
        (['demo', '--rate', 'nan'], '--rate: must be a number from 0'),
        (['demo', '--rate', 'inf'], '--rate: must be a number from 0'),
        (['demo', '--rate', 'fast'], '--rate: must be a number from 0, got fast'),
        (['demo', '--score-threshold', '2'], '--score-threshold: must lie in 0..1, got 2'),
        (['demo', '--score-threshold', '-0.1'], '--score-threshold: must be a number from 0'),
        (['demo', '--precision', 'fp8'], "--precision: invalid choice: 'fp8'"),
        (['demo', '--transport', 'pigeon'], "--transport: invalid choice: 'pigeon'"),
        (['demo', '--frames', '-1'], '--frames: must be a whole number from 0, got -1'),
        (['demo', '--frames', 'all'], '--frames: must be a whole number from 0, got all'),
        (['make-bag', 'a'], 'output'),
        (['make-bag', 'a', 'b', '--rate', '0'], '--rate: must be a number above 0, got 0'),
        (['make-bag', 'a', 'b', '--rate', '-2'], '--rate: must be a number above 0, got -2'),
        (['make-bag', 'a', 'b', '--rate', 'fast'], '--rate: must be a number above 0, got fast'),
        (['make-bag', 'a', 'b', '--classes', 'van'], '--classes: is no JSON'),
        (['make-bag', 'a', 'b', '--classes', '["van"]'], '--classes: must be a JSON object of names, got ["van"]'),
        (['replay', 'a', '--output', 'b', '--truth-classes', '{"van": 1}'], '--truth-classes: must be a JSON object'),
        (['make-bag', 'a', 'b', '--jpeg-quality', '0'], '--jpeg-quality: must lie in 1..100, got 0'),
        (['make-bag', 'a', 'b', '--jpeg-quality', '101'], '--jpeg-quality: must lie in 1..100, got 101'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_wrong_usage(arguments: list[str], says: str, demo: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ''
    assert demo == []


def spoil_nothing(folder: Path) -> Path:
    return folder / 'none'


def spoil_kind(folder: Path) -> Path:
    (folder / 'a.txt').write_text('no recording')
    return folder / 'a.txt'


def spoil_folder(folder: Path) -> Path:
    (folder / 'empty').mkdir()
    return folder / 'empty'


@pytest.mark.parametrize('spoil', [spoil_nothing, spoil_kind, spoil_folder], ids=['missing', 'other kind', 'empty'])
@pytest.mark.parametrize('command', ['demo', 'make-bag'])
def test_unreadable_source(
    command: str,
    spoil: Callable[[Path], Path],
    demo: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = spoil(tmp_path)
    arguments = ['make-bag', source, tmp_path / 'bag'] if command == 'make-bag' else ['demo', '--images', source]
    assert run(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ''
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith(f'perception {command}: ')
    assert str(source) in shown.err
    assert 'Traceback' not in shown.err
    assert not (tmp_path / 'bag').exists()
    assert demo == []


def test_bag_is_made_of_a_folder(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / 'bag'
    assert run('make-bag', images, bag, '--rate', 4, '--topic', '/front/image/compressed', '--jpeg-quality', 95) == 0
    shown = capsys.readouterr().out
    assert f'{bag}: 12 frames on /front/image/compressed' in shown

    frames = list(open_frames(bag, '/front/image/compressed'))
    assert [frame.stamp_ns - frames[0].stamp_ns for frame in frames] == [250_000_000 * index for index in range(12)]
    for index, frame in enumerate(frames):
        assert frame.image_rgb.shape == (30, 41, 3)
        assert abs(frame.image_rgb.mean() - (10 + 20 * index)) < 2


def test_bag_is_made_of_a_bag(images: Path, tmp_path: Path) -> None:
    assert run('make-bag', images, tmp_path / 'first') == 0
    assert run('make-bag', tmp_path / 'first', tmp_path / 'second') == 0
    assert len(list(open_frames(tmp_path / 'second'))) == 12


def test_a_bag_that_was_cut_short_is_made_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = StampedImage(image_rgb=np.full((100, 100, 3), 9, np.uint8), stamp_ns=10**9)
    with BagWriter(tmp_path / 'cut') as writer:
        for _ in range(200):
            writer.write_image('/camera/image', frame)
    file = tmp_path / 'cut' / 'cut.mcap'
    file.write_bytes(file.read_bytes()[:-1_000_000])
    assert run('make-bag', tmp_path / 'cut', tmp_path / 'whole') == 0
    assert 'was cut short' in caplog.text
    assert 100 < len(list(open_frames(tmp_path / 'whole'))) < 190


@pytest.fixture
def two_cameras(tmp_path: Path) -> Path:
    """A bag of one dark frame in front and one bright frame behind."""
    with BagWriter(tmp_path / 'pair') as writer:
        for topic, level in (('/front/image', 20), ('/rear/image', 220)):
            writer.write_image(topic, StampedImage(image_rgb=np.full((8, 12, 3), level, np.uint8), stamp_ns=10**9))
    return tmp_path / 'pair'


def test_bag_is_made_of_one_of_two_cameras(two_cameras: Path, tmp_path: Path) -> None:
    assert run('make-bag', two_cameras, tmp_path / 'bag', '--from-topic', '/rear/image', '--topic', '/x/image') == 0
    (frame,) = open_frames(tmp_path / 'bag', '/x/image')
    assert abs(frame.image_rgb.mean() - 220) < 2


def test_the_option_that_names_a_camera_is_named(
    two_cameras: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # --topic is that of the new bag.
    assert run('make-bag', two_cameras, tmp_path / 'bag', '--topic', '/rear/image') == 1
    assert 'name the one to read with --from-topic. Image topics: /front/image' in capsys.readouterr().err
    assert run('make-bag', images, tmp_path / 'bag', '--labelled', '--from-topic', '/rear/image') == 1
    assert '--from-topic names a topic of a bag' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_a_missing_source_is_named_in_full(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run('make-bag', 'image', 'bag') == 1
    assert f'There is no {tmp_path / "image"}. Did you mean {images}?' in capsys.readouterr().err


def test_bag_is_never_written_over(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'precious').touch()
    assert run('make-bag', images, tmp_path / 'bag') == 1
    assert 'Choose another name or delete it first' in capsys.readouterr().err
    assert [file.name for file in (tmp_path / 'bag').iterdir()] == ['precious']


def test_options_reach_the_demo(demo: list[tuple[Path, DemoOptions]], images: Path, tmp_path: Path) -> None:
    arguments = ['--rate', 5, '--score-threshold', 0.5, '--frames', 7, '--pictures', 3, '--transport', 'compressed']
    arguments += ['--model', 'interdependent', '--device', 'cpu', '--precision', 'bf16', '--no-video']
    assert run('demo', '--images', images, '--output', tmp_path / 'out', *arguments) == 0
    expected = DemoOptions(
        output=tmp_path / 'out',
        model='interdependent',
        backend='eager',
        device='cpu',
        precision='bf16',
        score_threshold=0.5,
        rate_hz=5.0,
        transport='compressed',
        pictures=3,
        max_frames=7,
        video=False,
    )
    assert demo == [(images, expected)]


def test_defaults_of_the_demo(demo: list[tuple[Path, DemoOptions]], images: Path) -> None:
    assert run('demo', '--images', images) == 0
    options = demo[0][1]
    assert (options.model, options.backend, options.device, options.precision) == ('', 'eager', 'auto', 'fp32')
    assert (options.rate_hz, options.max_frames, options.video) == (0.0, 0, True)
    assert options.score_threshold == 0.3


def test_model_file_is_made_absolute(
    demo: list[tuple[Path, DemoOptions]], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'best.safetensors').touch()
    assert run('demo', '--images', images, '--model', 'best.safetensors') == 0
    assert demo[0][1].model == str(tmp_path / 'best.safetensors')


@pytest.mark.parametrize(
    ('model', 'says'),
    [
        ('', 'interdependent_lite, the weights that ship'),
        ('interdependent_lite', 'interdependent_lite, the weights that ship'),
        ('interdependent_lite@untrained', 'interdependent_lite@untrained, random weights'),
        ('interdependent', 'interdependent, random weights'),
    ],
    ids=['none', 'ships', 'at random', 'no file'],
)
def test_the_demo_says_which_weights_it_runs(
    model: str, says: str, demo: list[tuple[Path, DemoOptions]], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run('demo', '--images', images, '--model', model) == 0
    assert f'Model: {says}\n' in capsys.readouterr().out
    assert demo[0][1].model == model


def test_topic_is_for_bags(demo: list[Any], images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run('demo', '--images', images, '--topic', '/camera') == 1
    assert "has no topic '/camera'" in capsys.readouterr().err
    assert demo == []


def test_exit_code_tells_how_the_demo_ended(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    def failed(*_: object) -> dict[str, Any]:
        raise PerceptionError('the node died')

    endings: list[tuple[Demo, int, str]] = [
        (lambda *_: {'complete': True}, 0, ''),
        (lambda *_: {'complete': False}, 130, ''),
        (interrupted, 130, 'stopped\n'),
        (failed, 1, 'perception demo: the node died\n'),
    ]
    for run_demo, code, says in endings:
        pretend_demo(monkeypatch, run_demo)
        assert run('demo', '--images', images) == code
        assert capsys.readouterr().err == says


def test_demo_without_ros_says_what_to_install(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'perception.ros.demo', None)  # its import fails, as without rclpy
    assert run('demo', '--images', images) == 1
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert 'Source a ROS 2 setup file' in shown


def test_bugs_are_not_hidden(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> dict[str, Any]:
        raise ZeroDivisionError

    pretend_demo(monkeypatch, buggy)
    with pytest.raises(ZeroDivisionError):
        run('demo', '--images', images)


def test_config_files_are_found() -> None:
    found = config_file('camera_pipeline.yaml')
    assert found.is_file()
    assert found.parent.name == 'config'
    with pytest.raises(PerceptionError, match=r'config/none\.yaml is not installed'):
        config_file('none.yaml')


def test_installed_config_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As colcon installs it: <prefix>/lib/python3.X/site-packages/perception beside <prefix>/share/perception.
    package = tmp_path / 'install' / 'lib' / 'python3.12' / 'site-packages' / 'perception'
    share = tmp_path / 'install' / 'share' / 'perception' / 'config'
    package.mkdir(parents=True)
    share.mkdir(parents=True)
    (share / 'drawn.yaml').touch()
    monkeypatch.setattr(resources, '__file__', str(package / 'resources.py'))
    assert config_file('drawn.yaml') == share / 'drawn.yaml'


def test_sample_is_played_when_nothing_is_named(
    demo: list[tuple[Path, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert SAMPLE_BAG.parents[1] == Path(perception.__file__).parent
    if SAMPLE_BAG.exists():
        assert run('demo') == 0
        assert demo[0][0] == SAMPLE_BAG
    else:
        assert run('demo') == 1
        assert str(SAMPLE_BAG) in capsys.readouterr().err


def test_the_backends_offered_are_those_there_are() -> None:
    assert set(BACKEND_NAMES) == set(BACKENDS)


@pytest.mark.parametrize('arguments', [('--device', 'gpu'), ('--device', 'cuda:x'), ('--backend', 'tensorflow')])
def test_a_mistyped_device_or_backend_is_refused_before_the_node_starts(
    demo: list[tuple[Path, DemoOptions]], arguments: tuple[str, str]
) -> None:
    assert run('demo', *arguments) == 2
    assert not demo


@pytest.mark.parametrize(
    'given',
    [
        ('--model', 'interdependent'),
        ('--backend', 'eager'),
        ('--device', 'auto'),
        ('--precision', 'fp32'),
        ('--score-threshold', '0.3'),
    ],
)
def test_a_node_that_runs_keeps_its_own_settings(given: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    # Also what would be the default: the node may run with something else.
    assert run('replay-live', SAMPLE_BAG, '--node', '/front', *given) == 2
    assert f'{given[0]}: not with --node' in capsys.readouterr().err


def test_arguments_of_ros_are_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, 'argv', ['replay_evaluator', '/there/is/none', '--ros-args', '-r', '__node:=x'])
    for executable in (replay_evaluator, replay_evaluation):
        with pytest.raises(SystemExit) if executable is replay_evaluation else contextlib.nullcontext():
            assert executable() == 1
    assert 'There is no /there/is/none' in capsys.readouterr().err
