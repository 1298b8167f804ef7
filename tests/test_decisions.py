"""docs/decisions.md against the code: every place that it names is there, with the figure that it states."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'decisions.md').read_text(encoding='utf-8')
ROWS = [line for line in PAGE.splitlines() if line.startswith('|') and not line.startswith(('|---', '| open |'))]
PLACES = re.findall(r'`([\w/]+)\.py::([\w.]+)(?: = ([^`]+))?`', PAGE)
HOMES = {ROOT / 'perception_ws' / 'perception': 'perception.', ROOT: ''}


def resolve(module: str, name: str) -> Any:
    """What a place of the page names, imported."""
    home = next((home for home in HOMES if (home / f'{module}.py').is_file()), None)
    assert home is not None, f'docs/decisions.md names {module}.py, which is not there.'
    found = import_module(HOMES[home] + module.replace('/', '.'))
    for part in name.split('.'):
        assert hasattr(found, part), f'docs/decisions.md names {module}.py::{name}, which has no {part}.'
        found = getattr(found, part)
    return found


def texts() -> Iterator[tuple[Path, str]]:
    """The files that may speak of decisions, each with its text."""
    folders = ('perception_ws/perception', 'training', 'config', 'launch', 'docs', 'tests')
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob('*'))]
    for file in (*files, ROOT / 'README.md', ROOT / 'CONTRIBUTING.md'):
        if file.suffix in ('.py', '.yaml', '.md') and file != Path(__file__):
            yield file.relative_to(ROOT), file.read_text(encoding='utf-8')


@pytest.mark.parametrize(('module', 'name', 'value'), PLACES)
def test_every_place_is_there_with_its_figure(module: str, name: str, value: str) -> None:
    found = resolve(module, name)
    if value:
        stated = ast.literal_eval(value)
        assert found == stated, f'docs/decisions.md states {module}.py::{name} = {value}; it is {found!r}.'
        assert type(found) is type(stated)


def test_every_row_is_whole() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip('|').split(' | ')]
        assert len(cells) == 4, row
        assert all(cells), row
        assert '.py::' in cells[3], row


def test_what_points_to_the_page_finds_its_section() -> None:
    titles = re.findall(r'^## (.+)$', PAGE, flags=re.MULTILINE)
    sections = {title.lower().replace(' ', '-') for title in titles}
    found = [(file, section) for file, text in texts() for section in re.findall(r'decisions\.md#([\w-]+)', text)]
    assert {section for _, section in found} <= sections, found
    pointing = {file.parts[0] for file, _ in found}
    assert pointing >= {'training', 'perception_ws'}


def test_nothing_points_to_what_a_reader_does_not_have() -> None:
    hidden = [
        f'{file}: {word}'
        for file, text in texts()
        for word in re.findall(r'fact sheets?|design notes?', ' '.join(text.split()), flags=re.IGNORECASE)
    ]
    assert not hidden, f'Write the choice into docs/decisions.md, and point there: {hidden}'
