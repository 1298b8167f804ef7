"""The Makefile, with a stand-in for what downloads."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / 'Makefile'

pytestmark = pytest.mark.skipif(shutil.which('make') is None, reason='needs make')


def test_setup_says_what_is_next_when_it_has_installed_something(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / 'perception_ws' / 'vision_msgs').mkdir(parents=True)
    (tmp_path / 'requirements').mkdir()
    for name in ('runtime', 'ros', 'message_build', 'test', 'training', 'fleet', 'constraints'):
        (tmp_path / 'requirements' / f'{name}.txt').touch()
    environment = tmp_path / '.venv'
    (environment / 'bin').mkdir(parents=True)
    uv = environment / 'bin' / 'uv'
    uv.write_text('#!/bin/sh\n')
    uv.chmod(0o755)
    for name in ('setup.py', 'pyproject.toml', '.venv/.requirements', '.venv/.messages'):
        (tmp_path / name).touch()

    # These tests may themselves be run by a make, whose children say which folder they enter and leave.
    environ = {name: value for name, value in os.environ.items() if 'MAKE' not in name and name != 'MFLAGS'}

    def setup() -> str:
        command = ['make', 'setup']
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout

    assert setup().splitlines()[-1].startswith('Ready. make demo plays the sample drive')
    assert 'Ready' not in setup()
