"""Which room may import which: the table of the architecture, held against every import in the tree.

Imports are read from the syntax tree, those inside functions too. A finding names file, line and import.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / 'perception_ws'
ROS_ROOM = SOURCES / 'perception' / 'ros'
TESTS = ROOT / 'tests'

TENSORS = {'interfaces', 'boxes'}
PERCEIVING = {*TENSORS, 'yaml_files', 'labels', 'image', 'networks', 'postprocess', 'checkpoint', 'backends'}
RUNTIME = {
    *PERCEIVING,
    *('pipeline', 'throughput', 'output_folder', 'metrics', 'benchmark', 'drawing', 'video', 'resources'),
    *('image_messages', 'truth', 'bag', 'replay', 'comparison', 'network_comparison', 'ros'),
}

MAY_IMPORT: dict[str, set[str]] = {
    'interfaces': set(),
    'errors': set(),
    'boxes': set(),
    'resources': set(),
    'video': set(),
    'throughput': set(),
    'output_folder': set(),
    'yaml_files': set(),
    'labels': {'interfaces', 'yaml_files'},
    'image': {'interfaces'},
    'drawing': {'interfaces'},
    'image_messages': {'interfaces', 'image'},
    'networks': TENSORS,
    'postprocess': {*TENSORS, 'image'},
    'checkpoint': {'interfaces', 'labels', 'networks'},
    'backends': {'interfaces', 'networks'},
    'pipeline': PERCEIVING,
    'truth': {'interfaces', 'yaml_files', 'labels', 'image_messages'},
    'metrics': {*TENSORS, 'labels', 'drawing'},
    'benchmark': {*PERCEIVING, 'pipeline'},
    'bag': {'interfaces', 'labels', 'image_messages', 'truth'},
    'replay': {*PERCEIVING, 'output_folder', 'pipeline', 'throughput', 'metrics', 'drawing', 'video', 'truth', 'bag'},
    'comparison': {'metrics', 'replay'},
    'network_comparison': {
        *PERCEIVING,
        'output_folder',
        'pipeline',
        'metrics',
        'benchmark',
        'bag',
        'replay',
        'resources',
    },
    'ros': RUNTIME - {'ros', 'comparison', 'network_comparison'},
    'cli': RUNTIME,
}
"""Rooms of ``perception`` and the rooms they may import; besides, all may import ``errors`` and the bare package."""

TRAINING_MAY_IMPORT = RUNTIME - {'bag', 'replay', 'comparison', 'network_comparison', 'ros'}

ROS_PACKAGES = {
    *('rclpy', 'launch', 'launch_ros', 'ament_index_python', 'tf2_ros', 'message_filters'),
    *('builtin_interfaces', 'rcl_interfaces', 'std_srvs'),  # and all that end with _msgs
}
OPTIONAL_LIBRARIES = {
    *('torchmetrics', 'faster_coco_eval', 'pycocotools', 'lightning', 'pytorch_lightning', 'tensorboard'),
    *('onnx', 'onnxruntime', 'openvino', 'tensorrt', 'cv_bridge', 'ray', 'timm'),
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module, with all its parents' names; ``deferred`` where loading the file does not run it."""

    file: Path
    line: int
    module: str
    deferred: bool

    @property
    def package(self) -> str:
        return self.module.partition('.')[0]

    def room(self, package: str) -> str | None:
        """The room, if it is in that package; '' for the bare package."""
        parts = self.module.split('.')
        return None if parts[0] != package else (parts[1] if len(parts) > 1 else '')

    def __str__(self) -> str:
        return f'{self.file}:{self.line} imports {self.module}'


def module_name(file: Path, sources: Path) -> str:
    parts = file.relative_to(sources).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def read_imports(file: Path, sources: Path) -> list[Import]:
    """All imports of one file. ``sources`` is the folder that its package lies in."""
    name = module_name(file, sources)
    package = name if file.name == '__init__.py' else name.rpartition('.')[0]

    def modules(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join([*parents, base] if base else parents)
            # What is imported from a package may be a module of it: `from perception import ros`.
            return [f'{base}.{alias.name}' for alias in node.names] if is_package(base) else [base]
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
            if called in ('import_module', '__import__') and isinstance(node.args[0].value, str):
                return [node.args[0].value]
        return []

    def is_package(base: str) -> bool:
        return any((folder / base.replace('.', '/')).is_dir() for folder in (sources, SOURCES))

    def walk(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for module in modules(child):
                yield Import(file=file, line=child.lineno, module=module, deferred=deferred)  # type: ignore[attr-defined]
            is_typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith('TYPE_CHECKING')
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, deferred or is_typing or is_function)

    return list(walk(ast.parse(file.read_text(encoding='utf-8'), str(file)), False))


def python_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob('*.py') if '__pycache__' not in file.parts)


def room_files(sources: Path) -> dict[str, list[Path]]:
    """The files of each room of ``perception``; '' holds its __init__.py."""
    rooms: dict[str, list[Path]] = {}
    for file in python_files(sources / 'perception'):
        parts = module_name(file, sources).split('.')
        rooms.setdefault(parts[1] if len(parts) > 1 else '', []).append(file)
    return rooms


def forbidden_rooms(room: str, files: list[Path], sources: Path) -> list[str]:
    """Imports of one room that the table does not allow."""
    allowed = MAY_IMPORT.get(room, set()) | {room, 'errors', '', '__version__'}
    return [
        f'{found}, which {room or "perception"} may not'
        for file in files
        for found in read_imports(file, sources)
        if (target := found.room('perception')) is not None and target not in allowed
    ]


def forbidden_in_training(imports: list[Import]) -> list[Import]:
    allowed = TRAINING_MAY_IMPORT | {'errors', '', '__version__', None}
    return [
        found
        for found in imports
        if found.room('perception') not in allowed or is_ros(found) or found.package == 'tests'
    ]


def is_ros(found: Import) -> bool:
    return found.package in ROS_PACKAGES or found.package.endswith('_msgs')


@pytest.fixture(scope='module')
def runtime_imports() -> list[Import]:
    return [found for file in python_files(SOURCES / 'perception') for found in read_imports(file, SOURCES)]


@pytest.fixture(scope='module')
def training_imports() -> list[Import]:
    return [found for file in python_files(ROOT / 'training') for found in read_imports(file, ROOT)]


def lines(findings: list[Import]) -> str:
    return '\n'.join(str(found) for found in findings)


def test_table_has_no_circles() -> None:
    assert set(TopologicalSorter(MAY_IMPORT).static_order()) == MAY_IMPORT.keys()


def test_every_room_is_in_the_table() -> None:
    unknown = room_files(SOURCES).keys() - MAY_IMPORT.keys() - {''}
    assert not unknown, f'New rooms {sorted(unknown)}: add them to MAY_IMPORT, and to the architecture.'


@pytest.mark.parametrize('room', ['', *MAY_IMPORT])
def test_room_imports_what_it_may(room: str) -> None:
    findings = forbidden_rooms(room, room_files(SOURCES).get(room, []), SOURCES)
    assert not findings, '\n'.join(findings)


def test_runtime_does_not_import_training(runtime_imports: list[Import]) -> None:
    findings = [found for found in runtime_imports if found.package in ('training', 'tests')]
    assert not findings, lines(findings)


def test_training_imports_what_it_may(training_imports: list[Import]) -> None:
    findings = forbidden_in_training(training_imports)
    assert not findings, lines(findings)


def test_ros_stays_in_its_room(runtime_imports: list[Import]) -> None:
    findings = [found for found in runtime_imports if is_ros(found) and ROS_ROOM not in found.file.parents]
    assert not findings, lines(findings)
    assert any(is_ros(found) for found in runtime_imports)


def test_only_the_command_line_imports_ros_and_only_when_it_runs(runtime_imports: list[Import]) -> None:
    findings = [
        found
        for found in runtime_imports
        if found.room('perception') == 'ros'
        and ROS_ROOM not in found.file.parents
        and not ('cli' in found.file.parts and found.deferred)
    ]
    assert not findings, lines(findings)


def test_optional_libraries_are_imported_where_they_are_needed(runtime_imports: list[Import]) -> None:
    findings = [found for found in runtime_imports if found.package in OPTIONAL_LIBRARIES and not found.deferred]
    assert not findings, lines(findings)


def test_only_their_room_names_a_label_space() -> None:
    """All others follow the checkpoint, the data or the configuration."""
    room = SOURCES / 'perception' / 'labels'
    names = {file.stem for file in room.glob('*.yaml')}
    assert names
    files = [file for file in (*python_files(SOURCES / 'perception'), *python_files(ROOT / 'training'))]
    findings = [
        f'{file}:{node.lineno} names {name}'
        for file in files
        if room not in file.parents
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'), str(file)))
        for name in _said(node)
        if name.lower() in names
    ]
    assert not findings, '\n'.join(findings)


def _said(node: ast.AST) -> list[str]:
    """Names and texts of one node of the syntax tree."""
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_values_and_launch_files_are_no_packages() -> None:
    for folder in ('config', 'launch'):
        # With one, `import launch` from the root finds ours in place of ROS's.
        assert not (ROOT / folder / '__init__.py').exists()


def test_test_folders_mirror_rooms() -> None:
    folders = {file.parent.relative_to(TESTS) for file in python_files(TESTS)} - {Path()}
    for folder in sorted(folders):
        home = ROOT if folder.parts[0] == 'training' else SOURCES / 'perception'
        room = home / folder
        assert room.is_dir() or room.with_suffix('.py').is_file(), f'tests/{folder} mirrors nothing: there is no {room}'


@pytest.mark.parametrize('package', [SOURCES / 'perception', ROOT / 'training'], ids=lambda package: package.name)
def test_every_module_says_what_it_is(package: Path) -> None:
    files = python_files(package)
    assert files
    silent = [str(file) for file in files if not ast.get_docstring(ast.parse(file.read_text(encoding='utf-8')))]
    assert not silent, f'Modules without a docstring: {", ".join(silent)}'


CULPRIT = '''"""A network that reaches where it may not."""
import math, perception.pipeline
from perception import errors, checkpoint as saved
from .layers import conv
from ..ros import conversions
if TYPE_CHECKING:
    import torchmetrics
def build():
    from perception.bag.frames import open_frames
    return importlib.import_module('perception.cli')
class Network:
    import onnx
'''


def test_every_kind_of_import_is_seen(tmp_path: Path) -> None:
    for name in ('networks', 'ros', 'bag'):
        (tmp_path / 'perception' / name).mkdir(parents=True)
    file = tmp_path / 'perception' / 'networks' / 'culprit.py'
    file.write_text(CULPRIT)
    found = {(each.line, each.module): each.deferred for each in read_imports(file, tmp_path)}
    assert found == {
        (2, 'math'): False,
        (2, 'perception.pipeline'): False,
        (3, 'perception.errors'): False,
        (3, 'perception.checkpoint'): False,
        (4, 'perception.networks.layers'): False,
        (5, 'perception.ros.conversions'): False,
        (7, 'torchmetrics'): True,
        (9, 'perception.bag.frames'): True,
        (10, 'perception.cli'): True,
        (12, 'onnx'): False,
    }
    findings = forbidden_rooms('networks', room_files(tmp_path)['networks'], tmp_path)
    assert findings == [
        f'{file}:{line} imports perception.{module}, which networks may not'
        for line, module in ((2, 'pipeline'), (3, 'checkpoint'), (5, 'ros.conversions'), (9, 'bag.frames'), (10, 'cli'))
    ]


def test_training_is_told_off(tmp_path: Path) -> None:
    (tmp_path / 'training').mkdir()
    file = tmp_path / 'training' / 'culprit.py'
    file.write_text(
        'from perception import image, ros, __version__\n'
        'import perception.cli\n'
        'from training import data\n'
        'from sensor_msgs.msg import Image\n'
        'def read():\n'
        '    from perception.bag import reader\n'
    )
    findings = forbidden_in_training(read_imports(file, tmp_path))
    assert [(found.line, found.module) for found in findings] == [
        (1, 'perception.ros'),
        (2, 'perception.cli'),
        (4, 'sensor_msgs.msg'),
        (6, 'perception.bag.reader'),
    ]
