"""``perception compare``: is the second model better than the first, and where."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = 'hold two replays of the same recording against each other'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('first', type=Path, help='output folder of a replay: the model there is')
    parser.add_argument('second', type=Path, help='output folder of a replay: the model that might replace it')
    parser.add_argument('--output', type=Path, help='write comparison.html into this folder')


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from perception.comparison.compare import compare
    from perception.comparison.page import format_comparison, write_comparison_page
    from perception.errors import ConfigError

    if options.output is not None:
        _check_output(options.output)
    comparison = compare(options.first, options.second)
    if options.output is not None:
        try:
            options.output.mkdir(parents=True, exist_ok=True)
            write_comparison_page(options.output / 'comparison.html', comparison)
        except OSError as error:
            raise ConfigError(f'Cannot write to --output {options.output}: {error}') from error
    print(format_comparison(comparison))
    if options.output is not None:
        print(f'Page: {options.output / "comparison.html"}')
    return 0


def _check_output(folder: Path) -> None:
    """Before anything is computed; the folder is made when there is something to write."""
    from perception.errors import ConfigError

    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise ConfigError(f'Cannot write to --output {folder}: {error}') from error
    if not there.is_dir():
        raise ConfigError(f'--output {folder}: {there} is a file, not a folder; name another.')
