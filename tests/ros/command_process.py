"""The ``perception`` command as a process of its own, in a middleware domain that nobody has named."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 110
MANY = 400
"""Frames of a recording that does not end before a test is done with it, on a busy machine neither."""


@contextmanager
def command_process(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The process while it runs; what is left of it at the end is killed."""
    command = [sys.executable, '-m', 'perception.cli', *map(str, arguments)]
    inherited = {**os.environ, 'ROS_PYTHON_CHECK_FIELDS': '1'}
    inherited.pop('ROS_DOMAIN_ID', None)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=inherited | environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with command_process(*arguments, **environment) as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """Read its stderr, in which a progress bar has no lines, until the text stands there; what was read.

    Raises:
        AssertionError: If it ends without having said so.
    """
    assert process.stderr is not None
    said = ''
    while wanted not in said:
        character = process.stderr.read(1)
        assert character, f'ended without {wanted!r}; it said: {said}'
        said += character
    return said


def kill_node(process: subprocess.Popen[str]) -> None:
    """Kill the node that it has started, its only child."""
    (node,) = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    os.kill(int(node), signal.SIGKILL)


def interrupt_at_four_frames(output: Path, *arguments: object) -> str:
    """Ctrl-C after four of MANY frames: its summary must account for every frame. Returns what it said on stdout."""
    with command_process(*arguments, '--output', output) as process:
        read_until(process, f'4/{MANY}')
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stderr
    summary = json.loads((output / 'summary.json').read_text())
    frames = summary['frames']
    assert not summary['complete']
    assert frames['received'] + frames['lost_on_the_way'] == frames['sent'] >= 4
    assert frames['lost_on_the_way'] <= frames['unanswered'] == frames['sent'] - frames['answered']
    return stdout
