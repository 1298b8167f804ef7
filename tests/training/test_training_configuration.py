"""Options beat the configuration file wherever they stand, and what has no effect is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perception.errors import ConfigError
from training.configuration import parse_arguments


@pytest.mark.parametrize('place', [0, 2, 4])
@pytest.mark.parametrize('joined', [False, True])
def test_options_override_the_file_wherever_they_stand(config_file: Path, place: int, joined: bool) -> None:
    options = ['--batch_size', '6', '--output=out/mine', '--resume']
    file = [f'--config={config_file}'] if joined else ['--config', str(config_file)]
    config, resume = parse_arguments([*options[:place], *file, *options[place:]])
    assert (config.batch_size, config.output, resume) == (6, 'out/mine', True)
    assert config.save_every == 2, "what is not overridden is the file's"


def test_of_several_files_the_last_one_holds(config_file: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other.yaml'
    other.write_text('batch_size: 4\nseed: 3\n')
    config, _ = parse_arguments(['--seed', '5', '--config', str(config_file), '--config', str(other)])
    assert (config.batch_size, config.seed) == (4, 5)


@pytest.mark.parametrize(
    ('words', 'said'), [(['--config'], '--config: expected one argument'), (['--batch_siz', '4'], '--batch_siz')]
)
def test_halves_of_options_are_refused(words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(words)
    assert said in capsys.readouterr().err


def test_anchors_are_given_or_found(config_file: Path) -> None:
    given = ['--network_config.anchors_wh', '[[5, 5], [9, 9], [20, 20]]', '--config', str(config_file)]
    with pytest.raises(ConfigError, match='anchors: cluster would replace the anchors_wh of network_config'):
        parse_arguments(given)
    parse_arguments([*given, '--anchors', 'preset'])
    parse_arguments([*given, '--start_from', 'weights.safetensors'])  # whose anchors are held against these
