"""Parameters on the command line that are written for nodes by name: which of them are this node's.

ROS passes over a section for another name in silence, and ``camera_node`` is another name than ``/camera/camera_node``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class Section:
    """Parameters for the nodes of one name.

    Attributes:
        source: The file, or the argument, for people.
        node_name: As it is written, with ``*`` for one part of a name and ``**`` for any number of them.
        parameters: Their names.
    """

    source: str
    node_name: str
    parameters: frozenset[str]

    def is_for(self, fully_qualified_name: str) -> bool:
        """Whether a node takes it; by the rule of rcl."""
        pattern = re.escape('/' + self.node_name.removeprefix('/'))
        pattern = pattern.replace(r'/\*\*', r'(/\w+)*').replace(r'/\*', r'/\w+')
        return re.fullmatch(pattern, fully_qualified_name) is not None

    @property
    def is_shared(self) -> bool:
        """Whether it may be for several nodes."""
        return '*' in self.node_name


def sections(arguments: Sequence[str]) -> list[Section]:
    """All that the ROS arguments of a command line say by node name; unreadable files are rclpy's to refuse."""
    found: list[Section] = []
    arguments = _ros_arguments(arguments)
    for flag, value in pairwise(arguments):
        if flag == '--params-file':
            found += _of_file(value)
        elif flag in ('-p', '--param'):
            node_name, colon, parameter = value.partition(':=')[0].rpartition(':')
            if colon:
                found.append(Section(source=f'-p {value}', node_name=node_name, parameters=frozenset({parameter})))
    return found


def foreign_sections(found: Sequence[Section], fully_qualified_name: str) -> list[str]:
    """Warnings about files and arguments of which this node takes nothing."""
    return [
        f'{source} holds parameters for {", ".join(section.node_name for section in group)}; this node is '
        f'{fully_qualified_name} and takes none of them. Name it {fully_qualified_name} there, or /** for every node.'
        for source, group in ((source, list(group)) for source, group in groupby(found, lambda each: each.source))
        if not any(section.is_for(fully_qualified_name) for section in group)
    ]


def shared_parameters(found: Sequence[Section], fully_qualified_name: str) -> set[str]:
    """Names of the parameters that this node is given along with others."""
    return {
        name
        for section in found
        if section.is_shared and section.is_for(fully_qualified_name)
        for name in section.parameters
    }


def _ros_arguments(arguments: Sequence[str]) -> list[str]:
    """What stands between each --ros-args and the next --, or the end."""
    inside, taken = False, []
    for argument in arguments:
        if argument in ('--ros-args', '--'):
            inside = argument == '--ros-args'
        elif inside:
            taken.append(argument)
    return taken


def _of_file(path: str) -> list[Section]:
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [
        Section(source=path, node_name=name, parameters=frozenset(_flat_names(parameters)))
        for name, parameters in _nodes(content, '')
    ]


def _nodes(content: Any, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Node names, which may be nested by namespace, with their parameters."""
    for name, value in content.items() if isinstance(content, dict) else ():
        if name == 'ros__parameters':
            yield prefix, value if isinstance(value, dict) else {}
        else:
            yield from _nodes(value, f'{prefix}/{str(name).strip("/")}' if prefix else str(name))


def _flat_names(parameters: dict[str, Any], prefix: str = '') -> Iterator[str]:
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat_names(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}'
