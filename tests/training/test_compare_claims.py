"""The paper's claims as one command: every variant trains, is scored over its seeds, and is not trained twice."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from perception.checkpoint import load_checkpoint, save_checkpoint
from perception.networks import build_network, resolve_config
from perception.networks.ivanet import IvaNet
from tests.conftest import build_tiny_network
from tests.small_networks import SMALLEST
from training.compare_claims import CLAIMS, main, score_variant
from training.configuration import parse_arguments
from training.phases import freeze_all_but

VARIANTS = CLAIMS['interdependent']


def test_every_variant_is_trained_and_tabulated(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'claims'
    command = ['--config', str(config_file), '--seeds', '2', '--claims-output', str(output)]
    assert main(command) == 0
    table = (output / 'table.md').read_text()
    assert capsys.readouterr().out == table
    assert [row.split('|')[1].strip() for row in table.splitlines()[2:]] == list(VARIANTS)
    assert table.count('+-') >= 2 * len(VARIANTS)
    for name in VARIANTS:
        checkpoint = load_checkpoint(output / f'{name.replace(" ", "_")}_seed1' / 'last.safetensors')
        assert checkpoint.provenance['step'] == checkpoint.provenance['of'] == 13
        assert checkpoint.provenance['training']['seed'] == 1
    scores = json.loads((output / 'scores.json').read_text())
    assert scores['published'][0] != scores['published'][1]

    marker = output / 'single_branch_seed0' / 'result.json'
    result = json.loads(marker.read_text())
    marker.write_text(json.dumps({**result, 'scores': {'mean_iou': 0.125, 'sum': 0.125}}))
    again = [*command, '--variants', 'single branch']
    assert main(again) == 0
    assert json.loads((output / 'scores.json').read_text())['single branch'][0]['mean_iou'] == 0.125

    assert main([*again, '--batch_size', '4']) == 1
    assert 'was started with other values of batch_size' in capsys.readouterr().err
    training_data = json.dumps(asdict(parse_arguments(['--config', str(config_file)])[0].data[0]))
    assert main([*again, '--validation', f'[{training_data}]']) == 0
    assert json.loads((output / 'scores.json').read_text())['single branch'][0]['mean_iou'] != 0.125


def test_without_validation_data_there_is_nothing_to_compare(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['--config', str(config_file), '--validation', '[]']) == 1
    assert 'names no validation data' in capsys.readouterr().err


def test_variants_train_from_scratch_and_in_one_process(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--config', str(config_file), '--start_from', 'weights.safetensors']) == 1
    assert 'trains from scratch; leave start_from' in capsys.readouterr().err
    assert main(['--config', str(config_file), '--devices', '2']) == 1
    assert 'train in one process' in capsys.readouterr().err


def test_all_at_once_trains_on_the_images_of_the_phases(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases = json.dumps([{'name': 'joint', 'iterations': 1, 'learning_rate': 1e-3, 'crop_hw': [64, 96]}])
    assert main(['--config', str(config_file), '--phases', phases]) == 1
    assert 'phases joint have shares, crop_hw or freeze_batch_norm of their own' in capsys.readouterr().err


def test_seeds_count_from_the_configuration_s_and_nothing_is_ignored(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, str]] = []
    monkeypatch.setattr(
        'training.compare_claims.score_variant',
        lambda name, config, folder: runs.append((config.seed, folder.name)) or {'mean_iou': 0.5},
    )
    command = ['--config', str(config_file), '--variants', 'published', '--claims-output', str(tmp_path)]
    assert main([*command, '--seeds', '2', '--seed', '5']) == 0
    assert runs == [(5, 'published_seed5'), (6, 'published_seed6')]
    for refused in (['--output', 'elsewhere'], ['--output=elsewhere'], ['--resume']):
        assert main([*command, *refused]) == 1
        assert f'{refused[0].partition("=")[0]} has no effect here' in capsys.readouterr().err


def test_scores_are_taken_where_the_run_trains(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    monkeypatch.setattr('training.compare_claims.train', lambda *_, **__: None)
    monkeypatch.setattr('training.compare_claims.validate', lambda *given: devices.append(given[2]) or {})
    save_checkpoint(tmp_path / 'last.safetensors', build_tiny_network())
    config, _ = parse_arguments(['--config', str(config_file), '--accelerator', 'cpu'])
    score_variant('published', config, tmp_path)
    assert devices == ['cpu']


def test_the_help_and_an_error_name_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['--help'])
    assert '--config FILE' in capsys.readouterr().out
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith('compare_claims: --config FILE is missing')
    assert error.count('\n') == 1


def test_variants_are_those_of_the_network_s_paper(
    config_file: Path, multi_box_options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('training.compare_claims.score_variant', None)  # nothing is trained first
    assert main(['--config', str(config_file), *multi_box_options]) == 1
    assert "No claims are known of network 'drawn'" in capsys.readouterr().err
    assert main(['--config', str(config_file), '--variants', 'singel branch']) == 1
    assert "no variant 'singel branch' of interdependent; did you mean 'single branch'?" in capsys.readouterr().err
    assert main(['--config', str(config_file), '--network', 'interdependant']) == 1
    assert "did you mean 'interdependent'" in capsys.readouterr().err


BLITZNET = [
    *('--network', 'blitznet300_small', '--network_config', json.dumps(SMALLEST['blitznet'])),
    *('--phases', json.dumps([{'name': 'joint', 'iterations': 2, 'learning_rate': 1e-3, 'w_seg': 2.0, 'w_det': 3.0}])),
]


def test_blitznets_claims_are_blocks_and_tasks(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'claims'
    assert main(['--config', str(config_file), *BLITZNET, '--seeds', '1', '--claims-output', str(output)]) == 0
    rows = [[cell.strip() for cell in row.split('|')[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == list(CLAIMS['blitznet'])
    # What a task did not learn is no figure of its.
    told = {name: ['n/a' not in figure for figure in figures] for name, *figures in rows}
    assert told.pop('detection alone') == [False, True, True]
    assert told.pop('segmentation alone') == [True, False, False]
    assert set(map(tuple, told.values())) == {(True, True, True)}
    networks = {
        name: load_checkpoint(output / f'{name.replace(" ", "_")}_seed0' / 'last.safetensors').network for name in told
    }
    assert [network.config.fusion for network in networks.values()] == [
        'resskip', 'resskip_without_residual', 'hourglass', 'refine',
    ]  # fmt: skip


def test_a_task_alone_is_the_same_run_without_the_other_head(config_file: Path) -> None:
    config, _ = parse_arguments(['--config', str(config_file), *BLITZNET])
    (detection,) = CLAIMS['blitznet']['detection alone'](config).phases
    (segmentation,) = CLAIMS['blitznet']['segmentation alone'](config).phases
    assert detection.trains == ('encoder', 'bottleneck', 'decoder', 'detection_head')
    assert segmentation.trains == ('encoder', 'bottleneck', 'decoder', 'mask_head')
    assert (detection.w_seg, detection.w_det) == (None, 3.0)
    assert (segmentation.w_seg, segmentation.w_det) == (2.0, None)
    assert detection.iterations == segmentation.iterations == 2


def test_ivanets_claims_are_its_modules_and_tasks(config_file: Path) -> None:
    network = ['--network', 'ivanet300_small', '--network_config', json.dumps(SMALLEST['ivanet'])]
    phases = ['--phases', json.dumps([{'name': 'joint', 'iterations': 2, 'learning_rate': 1e-3}])]
    config, _ = parse_arguments(['--config', str(config_file), *network, *phases])
    runs = {name: variant(config) for name, variant in CLAIMS['ivanet'].items()}
    assert {name: (run.phases[0].segment, run.phases[0].detect) for name, run in runs.items()} == {
        'published': (True, True),
        'no local top-down': (True, True),
        'detection alone': (False, True),
        'segmentation alone': (True, False),
    }
    for name, run in runs.items():
        built = build_network(run.network, run.label_space, run.network_config)
        assert isinstance(built, IvaNet)
        assert len(built.decoder.top_down) == (0 if name == 'no local top-down' else built.config.levels - 1)
        freeze_all_but(built, run.phases[0].trains)  # knows all parts


TRIPLENET = [
    *('--network', 'triplenet300_small', '--network_config', json.dumps(SMALLEST['triplenet'])),
    *('--phases', json.dumps([{'name': 'joint', 'iterations': 1, 'learning_rate': 1e-3}])),
]
ROWS = [
    # Segmentation, detection; levels with masks; fused masks, inner connection, class-agnostic, attention; specific.
    ('detection alone', False, True, 'all', '', False),
    ('segmentation alone, finest level', True, False, 'finest', '', False),
    ('segmentation alone', True, False, 'all', '', False),
    ('pairnet', True, True, 'all', '', False),
    ('fused masks', True, True, 'all', 'fused_masks', False),
    ('and inner connection', True, True, 'all', 'fused_masks inner_connected', False),
    ('and class-agnostic', True, True, 'all', 'fused_masks inner_connected class_agnostic', False),
    ('triplenet', True, True, 'all', 'fused_masks inner_connected class_agnostic attention', False),
    ('triplenet, scale-specific', True, True, 'all', 'fused_masks inner_connected class_agnostic attention', True),
]


def test_a_task_alone_needs_phases_of_both(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ['--config', str(config_file), *TRIPLENET[:4], '--variants', 'detection alone']
    assert main(command) == 1
    assert "Phase 'segmentation' trains one task as it is" in capsys.readouterr().err


@pytest.mark.parametrize('network', ['pairnet300_small', 'triplenet300_small'])
def test_triplenets_claims_are_the_rows_of_its_tables(config_file: Path, network: str) -> None:
    config, _ = parse_arguments(['--config', str(config_file), *TRIPLENET, '--network', network])
    assert list(CLAIMS['triplenet']) == [row[0] for row in ROWS]
    for name, segment, detect, levels, modules, specific in ROWS:
        variant = CLAIMS['triplenet'][name](config)
        found = resolve_config(network, variant.network_config)
        switches = ('fused_masks', 'inner_connected', 'class_agnostic', 'attention')
        assert [switch for switch in switches if getattr(found, switch)] == modules.split()
        assert (found.mask_levels, found.scale_specific) == (levels, specific)
        assert {(phase.segment, phase.detect) for phase in variant.phases} == {(segment, detect)}


def test_triplenets_claims_are_trained_and_tabulated(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ['detection alone', 'segmentation alone, finest level', 'triplenet, scale-specific']
    options = ['--variants', *names, '--seeds', '1', '--claims-output', str(tmp_path / 'claims')]
    assert main(['--config', str(config_file), *TRIPLENET, *options]) == 0
    rows = [[cell.strip() for cell in row.split('|')[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    told = {name: ['n/a' not in figure for figure in figures] for name, *figures in rows}
    expected = [[False, True, True], [True, False, False], [True, True, True]]
    assert told == dict(zip(names, expected, strict=True))
    assert (tmp_path / 'claims' / 'triplenet_scale-specific_seed0').is_dir()


def test_the_documented_overrides_are_those_of_the_claims(config_file: Path) -> None:
    page = (Path(__file__).parents[2] / 'docs' / 'training.md').read_text()
    rows = re.findall(r'^\| \S+ \| ([\w ,-]+) \| (\w+) \| (?:`(.+)` )?\|$', page, flags=re.MULTILINE)
    assert [row[0] for row in rows] == list(CLAIMS['triplenet'])
    options = [*TRIPLENET, '--network', 'pairnet300', '--network_config', '{}']
    config, _ = parse_arguments(['--config', str(config_file), *options])
    for name, network, overrides in rows:
        variant = CLAIMS['triplenet'][name](config)
        assert resolve_config(network, yaml.safe_load(overrides or '{}')) == resolve_config(
            'pairnet300', variant.network_config
        )
