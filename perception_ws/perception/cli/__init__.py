"""The ``perception`` command. Each sub-command is a thin door to the room that does the work."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import perception
from perception.cli import compare, compare_networks, demo, make_bag, replay, replay_live
from perception.errors import PerceptionError, nearest

COMMANDS = {
    'demo': demo,
    'replay': replay,
    'replay-live': replay_live,
    'compare': compare,
    'compare-networks': compare_networks,
    'make-bag': make_bag,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command. Returns the exit code: 0 done, 1 it could not be done, 2 wrong usage, 130 Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s')
    options = _parser().parse_args(arguments)
    try:
        code = int(COMMANDS[options.command].run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read it (head, less) has seen enough. Else Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PerceptionError as error:
        print(f'perception {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130


def replay_evaluation() -> int:
    """``perception replay`` under the name that ``ros2 run`` finds; returns its exit code."""
    return main(['replay', *_without_ros(sys.argv[1:])])


def replay_evaluator() -> int:
    """``perception replay-live`` under the name that launch files start; returns its exit code."""
    # Launch sends one SIGINT. While NumPy is imported from C, a KeyboardInterrupt would be thrown away.
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    try:
        return main(['replay-live', *_without_ros(sys.argv[1:])])
    finally:
        signal.signal(signal.SIGINT, before)


def _without_ros(arguments: list[str]) -> list[str]:
    """Launch files append arguments of ROS, which these commands have no use for."""
    return arguments[: arguments.index('--ros-args')] if '--ros-args' in arguments else arguments


class _Parser(argparse.ArgumentParser):
    """Takes whole names only, and says which one a mistyped option may be. Its sub-commands are parsed by the same."""

    def __init__(self, **settings: Any) -> None:
        # What an abbreviation means would change with every option that is added.
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        mistyped = [word.partition('=')[0] for word in unknown if word.startswith('--')]
        if mistyped:
            known = re.findall(r'--[\w-]+', self.format_usage())
            self.error(f'There is no option {mistyped[0]}: {nearest(mistyped[0], known)}')
        return options, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='perception', description='One network that detects and segments.')
    parser.add_argument('--version', action='version', version=perception.__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, module in COMMANDS.items():
        module.add_options(
            commands.add_parser(name, help=module.HELP, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        )
    return parser
