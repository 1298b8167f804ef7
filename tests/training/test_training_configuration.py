"""Options beat the configuration file wherever they stand, and what has no effect is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

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


def test_a_file_may_stand_on_another(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / 'runs').mkdir()
    middle, top = tmp_path / 'middle.yaml', tmp_path / 'runs' / 'top.yaml'
    middle.write_text('base: config.yaml\nseed: 3\ncriterion: {w_seg: 2.0, w_det: 4.0}\nbatch_size: 6\n')
    top.write_text('base: ../middle.yaml\ncriterion: {w_det: 5.0}\nbatch_size: 4\n')
    plain, _ = parse_arguments(['--config', str(config_file)])
    for words in (['--config', str(top)], [f'--config={top}']):
        config, _ = parse_arguments([*words, '--save_every', '7'])
        assert (config.seed, config.batch_size, config.save_every) == (3, 4, 7)
        assert (config.criterion.w_seg, config.criterion.w_det) == (2.0, 5.0)
        assert (config.data, config.phases) == (plain.data, plain.phases)


@pytest.mark.parametrize(
    ('middle', 'said'),
    [
        ('base: nowhere.yaml', "middle.yaml: base is 'nowhere.yaml'; expected a file"),
        ('base: [config.yaml]', 'middle.yaml: base is .*; expected a file'),
        ('base: top.yaml', "middle.yaml: base is 'top.yaml', which stands on this file itself"),
        ('base: middle.yaml', "middle.yaml: base is 'middle.yaml', which stands on this file itself"),
        ('bas: config.yaml', "middle.yaml: there is no field 'bas'"),
        ('sed: 3', "middle.yaml: there is no field 'sed'"),
        ('seed: 3\nseed: 4', 'middle.yaml is no valid YAML'),
    ],
)
def test_a_base_that_cannot_be_is_named(tmp_path: Path, middle: str, said: str) -> None:
    (tmp_path / 'middle.yaml').write_text(middle)
    (tmp_path / 'top.yaml').write_text('base: middle.yaml\n')
    with pytest.raises(ConfigError, match=said):
        parse_arguments(['--config', str(tmp_path / 'top.yaml')])


@pytest.mark.parametrize(
    ('words', 'said'), [(['--config'], '--config: expected one argument'), (['--batch_siz', '4'], '--batch_siz')]
)
def test_halves_of_options_are_refused(words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('words', [['--base', 'other.yaml'], ['--base=other.yaml']])
def test_a_base_is_named_by_files_alone(config_file: Path, words: list[str]) -> None:
    with pytest.raises(ConfigError, match='--base says nothing here'):
        parse_arguments(['--config', str(config_file), *words])


def test_anchors_are_given_or_found(config_file: Path) -> None:
    given = ['--network_config.anchors_wh', '[[5, 5], [9, 9], [20, 20]]', '--config', str(config_file)]
    with pytest.raises(ConfigError, match='anchors: cluster would replace the anchors_wh of network_config'):
        parse_arguments(given)
    parse_arguments([*given, '--anchors', 'preset'])
    parse_arguments([*given, '--start_from', 'weights.safetensors'])  # whose anchors are held against these


@pytest.mark.parametrize(
    ('before', 'after', 'said'),
    [
        ('batch_size:', 'batchsize:', ": there is no field 'batchsize': did you mean 'batch_size'?"),
        ('iterations: 4', 'iters: 4', r", phases\[2\]: there is no field 'iters': did you mean 'iterations'?"),
        ('split: val', 'splitt: val', r", validation\[0\]: there is no field 'splitt': did you mean 'split'?"),
        ('seed:', 'transform.flip: 0\nseed:', ", transform: there is no field 'flip'"),
        ('seed:', 'criterion: {segmentation: {hard: 1}}\nseed:', ", criterion, segmentation: .*'hard'"),
    ],
)
def test_a_key_that_means_nothing_is_told_with_its_place(config_file: Path, before: str, after: str, said: str) -> None:
    text = 'seed: 0\n' + config_file.read_text()
    assert before in text
    config_file.write_text(text.replace(before, after, 1))
    for words in (['--config', str(config_file)], [f'--config={config_file}']):
        with pytest.raises(ConfigError, match=f'{config_file}{said}'):
            parse_arguments(words)


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('phases', '[{"name": "x", "detect": false}]', r"phases\[0\]: .*'detect': .*detection_head is among trains"),
        ('phases', '[{"name": "x", "segment": true}]', "'segment': .*mask_head is among trains"),
        ('transform', '{"image_hw": [96, 192]}', "transform: .*'image_hw': the size is image_hw of the run"),
        ('transform.image_hw', '[96, 192]', "transform: .*'image_hw': the size is image_hw of the run"),
        ('transform.hue', '0.1', "'hue': no run used it"),
        ('criterion', '{"segmentation": {"dice_weight": 0.5}}', "segmentation: .*'dice_weight': no run used it"),
    ],
)
def test_a_key_of_earlier_versions_is_told_with_what_became_of_it(
    config_file: Path, option: str, value: str, said: str
) -> None:
    for words in ([f'--{option}', value], [f'--{option}={value}']):
        with pytest.raises(ConfigError, match=f'command line.*{said}'):
            parse_arguments(['--config', str(config_file), *words])
    values = yaml.safe_load(config_file.read_text()) | {option: json.loads(value)}
    config_file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=f'{config_file}.*{said}'):
        parse_arguments(['--config', str(config_file)])


def test_a_file_may_name_fields_in_dots(config_file: Path) -> None:
    config_file.write_text('transform.flip_probability: 0.125\n' + config_file.read_text())
    config, _ = parse_arguments(['--config', str(config_file)])
    assert config.transform.flip_probability == 0.125


def test_a_run_names_its_data() -> None:
    with pytest.raises(ConfigError, match=r'at least one data set .* Name a file by --config'):
        parse_arguments([])


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('\nseed: 1\nseed: 2\n', r"the key 'seed' stands there twice; leave one out"),
        ('\ntransform:\n  scale: [1, 1]\n  scale: [1, 2]\n', r"the key 'scale' stands there twice"),
        ('\nseed: [\n', 'is no valid YAML'),
    ],
    ids=['twice', 'twice within', 'broken'],
)
def test_a_file_that_says_two_things_or_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / 'run.yaml'
    file.write_text('output: out\n' + text)
    with pytest.raises(ConfigError, match=rf'{file}.*\n?(.*\n)*.*{said}|{file} {said}'):
        parse_arguments(['--config', str(file)])
