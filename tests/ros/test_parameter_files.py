"""Parameters that are written for other nodes: the rule is rcl's own, and what is not taken is said."""

from pathlib import Path

import pytest
from rclpy.node import Node

from perception.ros.parameter_files import foreign_sections, sections, shared_parameters
from tests.ros.user_node import UserNode

pytestmark = pytest.mark.ros


def parameter_file(folder: Path, *names: str) -> Path:
    """A file with parameters for each of these node names."""
    path = folder / 'parameters.yaml'
    path.write_text(''.join(f'"{name}":\n  ros__parameters:\n    score_threshold: 0.5\n' for name in names))
    return path


@pytest.mark.parametrize('namespace', ['/', '/camera'])
def test_a_section_is_for_the_nodes_that_rcl_gives_it_to(user: UserNode, tmp_path: Path, namespace: str) -> None:
    names = (
        *('camera_node', '/camera_node', '/camera/camera_node', 'camera/camera_node', '/camera_node_2', '/camer'),
        *(
            '/**',
            '/*',
            '/*/camera_node',
            '/**/camera_node',
            '**',
            '*',
            '/camera/*',
            '/camera/**',
            '/camera/*/x',
            '/x/**',
        ),
    )
    for name in names:
        arguments = ['--ros-args', '--params-file', str(parameter_file(tmp_path, name))]
        node = Node('camera_node', namespace=namespace, cli_args=arguments)
        (section,) = sections(arguments)
        assert section.is_for(node.get_fully_qualified_name()) == bool(node._parameter_overrides), name
        node.destroy_node()


def test_a_file_for_another_name_is_said_and_one_that_fits_is_not(tmp_path: Path) -> None:
    arguments = [
        'node',
        '--ros-args',
        '--params-file',
        str(parameter_file(tmp_path, 'camera_node', 'other')),
        '-r',
        'a:=b',
    ]
    (warning,) = foreign_sections(sections(arguments), '/camera/camera_node')
    assert warning.startswith(
        f'{tmp_path}/parameters.yaml holds parameters for camera_node, other; this node is /camera/'
    )
    assert 'takes none of them. Name it /camera/camera_node there' in warning
    assert foreign_sections(sections(arguments), '/camera_node') == []
    shared = ['--ros-args', '--params-file', str(parameter_file(tmp_path, 'other', '/**'))]
    assert foreign_sections(sections(shared), '/camera/camera_node') == []
    assert shared_parameters(sections(shared), '/camera/camera_node') == {'score_threshold'}
    assert shared_parameters(sections(shared[:-1]), '/camera/camera_node') == set()


def test_arguments_for_another_name_are_said() -> None:
    arguments = ['--ros-args', '-p', 'other:score_threshold:=0.5', '-p', 'device:=cuda:0', '--', '-p', 'x:y:=1']
    (warning,) = foreign_sections(sections(arguments), '/camera_node')
    assert warning.startswith('-p other:score_threshold:=0.5 holds parameters for other;')
    assert foreign_sections(sections(arguments), '/other') == []


def test_nested_names_and_parameters(tmp_path: Path) -> None:
    path = tmp_path / 'nested.yaml'
    path.write_text(
        'camera:\n  "*":\n    ros__parameters:\n      diagnostics:\n        timeout_ms: 1.0\n      device: cpu\n'
    )
    (section,) = sections(['--ros-args', '--params-file', str(path)])
    assert section.node_name == 'camera/*'
    assert section.parameters == {'diagnostics.timeout_ms', 'device'}


@pytest.mark.parametrize('content', ['', '[1, 2]', 'a: {', '\x00', 'camera_node:\n  ros__parameters:\n'])
def test_what_is_no_parameter_file_is_left_to_rclpy(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'odd.yaml'
    path.write_text(content)
    assert all(not section.parameters for section in sections(['--ros-args', '--params-file', str(path)]))
    assert sections(['--ros-args', '--params-file', str(tmp_path / 'missing.yaml')]) == []
