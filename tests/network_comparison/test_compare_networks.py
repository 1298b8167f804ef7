"""``perception compare-networks`` from the command line: figures as elsewhere, what is refused, and what goes on."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import perception.backends
from perception.backends import EagerBackend
from perception.benchmark.cost import measure_cost
from perception.checkpoint import UNTRAINED, Checkpoint, load_checkpoint, save_checkpoint
from perception.cli import main
from perception.errors import ConfigError, MissingDependencyError
from perception.interfaces import LabelClass, LabelSpace
from perception.labels import BUILT_IN, load_label_space
from perception.network_comparison import accuracy, job, latency
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.replay.report import ReplayReport
from perception.replay.run import SCORE_THRESHOLD
from tests.conftest import build_tiny_network
from tests.training.data.drawn_layouts import draw_camvid
from training.data import build_dataset
from training.evaluation import evaluate_dataset

FRAMES = 4
DOCS = Path(__file__).parents[2] / 'docs' / 'replay.md'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    draw_camvid(root, 'test', FRAMES)
    return root


def save_tiny(path: Path, *, seed: int = 0, labels: LabelSpace | None = None) -> Path:
    """Weights that see objects everywhere."""
    network = build_tiny_network(seed) if labels is None else build_tiny_network(seed, labels=labels)
    with torch.no_grad():
        for head in network.detection_head.modules():
            if isinstance(head, torch.nn.Conv2d) and head.bias is not None:
                head.bias.zero_()
    save_checkpoint(path, network, {'data': 'none'})
    return path


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('runs')
    camvid = load_label_space(next(name for name in BUILT_IN if name.startswith('camvid')))
    yard = LabelSpace(
        name='yard',
        segmentation=(LabelClass(name='gravel', color_rgb=(1, 2, 3)),),
        detection=(LabelClass(name='crate', color_rgb=(3, 2, 1)),),
    )
    return {
        'first': save_tiny(folder / 'first' / 'best.safetensors'),
        'second': save_tiny(folder / 'second' / 'best.safetensors', seed=1),
        'camvid': save_tiny(folder / 'camvid.safetensors', labels=camvid),
        'yard': save_tiny(folder / 'yard.safetensors', labels=yard),
    }


@pytest.fixture(autouse=True)
def eager_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other backends take seconds to prepare a network, and are tested in their own room."""
    monkeypatch.setattr('perception.cli.compare_networks.BACKEND_NAMES', ('eager',))


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command into ``out``: exit code, what it wrote, what it said."""

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        command = ['compare-networks', *arguments, '--output', tmp_path / 'out', '--device', 'cpu', '--rounds', 2]
        code = main([str(word) for word in command])
        file = tmp_path / 'out' / 'comparison.json'
        said = capsys.readouterr()
        return code, json.loads(file.read_text()) if file.exists() else {}, said.out + said.err

    return run


def truth_in(data: Path) -> list[object]:
    return ['--data', data / 'test', '--truth', data, '--truth-split', 'test']


def test_accuracy_equals_that_of_replay_and_of_evaluate_to_the_last_digit(
    compare: Any, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    code, found, said = compare(models['first'], models['second'], *truth_in(data))
    assert code == 0, said
    assert found['complete']
    names = ['first_best.safetensors', 'second_best.safetensors']
    assert [network['name'] for network in found['networks']] == names
    for network, model in zip(found['networks'], (models['first'], models['second']), strict=True):
        accuracy = network['accuracy']
        output = tmp_path / 'replay' / network['digest']
        command = ['replay', data / 'test', '--truth', data, '--truth-split', 'test', '--model', model]
        assert main([str(word) for word in (*command, '--device', 'cpu', '--output', output)]) == 0
        replayed = ReplayReport.load(output).scores
        checkpoint = load_checkpoint(model)
        perceiver = Perceiver(checkpoint, device='cpu', config=PostprocessConfig(score_threshold=SCORE_THRESHOLD))
        evaluated = evaluate_dataset(perceiver, build_dataset('camvid', data, 'test'), show_progress=False).report()
        for report in (replayed, evaluated):
            assert accuracy['mean_iou'] == report.segmentation.mean_iou
            assert accuracy['mean_ap50'] == report.detection.mean_ap50
            assert accuracy['mean_ap'] == report.detection.mean_ap
            assert list(accuracy['iou'].values()) == list(report.segmentation.iou)
            assert list(accuracy['ap50'].values()) == list(report.detection.ap50)
        kept = ReplayReport.load(tmp_path / 'out' / accuracy['replay'])
        assert kept.scores == replayed
        assert (network['parameters'], network['macs']) == (
            (cost := measure_cost(checkpoint.network)).parameters,
            cost.macs,
        )
    assert found['remarks'] == []
    page = (tmp_path / 'out' / 'comparison.html').read_text()
    assert 'mIoU over latency' in page
    assert 'AP50 over latency' in page


def test_every_network_is_timed_in_every_way(compare: Any, models: dict[str, Path]) -> None:
    code, found, said = compare(models['first'], models['second'], '--precision', 'bf16', '--precision', 'fp32')
    assert code == 0, said
    for number, network in enumerate(found['networks']):
        assert [each['precision'] for each in network['latency']] == ['bf16', 'fp32']
        for each in network['latency']:
            rounds = each['rounds_ms']
            assert len(rounds['whole']) == len(rounds['network']) == 2
            assert each['whole_ms']['least'] <= each['whole_ms']['median'] <= each['whole_ms']['longest']
            assert 0 < each['network_ms']['median'] < each['whole_ms']['median']
            assert (each['ratio_to_first'] == 1) == (number == 0)
        assert network['accuracy'] is None
        assert network['why_no_accuracy'] == 'no --data'
    assert found['settings']['ways'][0] == {'backend': 'eager', 'precision': 'bf16'}
    assert 'over latency' not in said


def test_random_weights_have_no_accuracy_and_say_so(
    compare: Any, models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = Checkpoint(network=build_tiny_network(2), digest=UNTRAINED)
    monkeypatch.setattr('perception.checkpoint.untrained_checkpoint', lambda name: untrained)
    code, found, said = compare(models['first'], 'interdependent@untrained', *truth_in(data))
    assert code == 0, said
    trained, random = found['networks']
    assert trained['accuracy']['mean_iou'] is not None
    assert random['accuracy'] is None
    assert random['why_no_accuracy'] == 'random weights'
    assert random['latency']
    assert 'random weights' in said


def test_a_checkpoint_that_does_not_load_is_named_and_the_others_go_on(
    compare: Any, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    bad = tmp_path / 'bad.safetensors'
    bad.write_bytes(b'not a checkpoint')
    code, found, said = compare(bad, models['first'], *truth_in(data))
    assert code == 1
    assert [(each['checkpoint'], each['stage']) for each in found['failures']] == [('bad.safetensors', 'load')]
    assert 'FAILED bad.safetensors, load:' in said
    assert 'is no .safetensors file' in said
    assert not found['complete']
    (network,) = found['networks']
    assert network['accuracy']['mean_iou'] is not None
    assert network['latency'][0]['ratio_to_first'] == 1
    assert 'bad.safetensors' in (tmp_path / 'out' / 'comparison.html').read_text()


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['none.safetensors'], r'None of the 1 checkpoints can be loaded\. There is no checkpoint file none'),
        (['{first}', '{first}'], 'is given twice; each checkpoint counts once'),
        (['{first}', '--data', '{data}/test'], 'holds no truth to score networks on'),
        (['{first}', '--data', '{data}/none'], 'none'),
        (['{first}', '--data', '{data}/test', '--truth', '{data}', '--truth-split', 'val'], "no split 'val'"),
        (['{first}', '--precision', 'fp16'], 'fp16 needs a CUDA GPU'),
    ],
    ids=['no checkpoint', 'twice', 'no truth', 'no data', 'no split', 'no way'],
)
def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    arguments: list[str], says: str, compare: Any, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    code, found, said = compare(*(word.format(first=models['first'], data=data) for word in arguments))
    assert code == 1
    assert re.search(says, said), said
    assert found == {}
    assert not (tmp_path / 'out').exists()


def test_networks_of_other_classes_are_scored_on_those_that_all_have(
    compare: Any, models: dict[str, Path], data: Path
) -> None:
    code, found, said = compare(models['first'], models['camvid'], *truth_in(data))
    assert code == 0, said
    # Of the drawn truth: sky, road, car, pedestrian, bicyclist; the last two spaces name objects otherwise.
    assert found['classes'] == {'segmentation': ['road', 'pedestrian', 'sky'], 'detection': []}
    for network in found['networks']:
        accuracy = network['accuracy']
        wanted = sum(accuracy['iou'][name] for name in ('road', 'pedestrian', 'sky')) / 3
        assert accuracy['mean_iou'] == pytest.approx(wanted)
        assert accuracy['mean_ap50'] is None
        measured = [score for score in accuracy['iou'].values() if score is not None]
        assert len(measured) == 5
        assert accuracy['own_classes']['mean_iou'] == pytest.approx(sum(measured) / 5)
    assert 'The networks know other classes.' in said
    assert 'areas road, pedestrian, sky; objects none' in said


def test_truth_without_a_class_of_a_network_is_refused_with_its_classes(
    compare: Any, models: dict[str, Path], data: Path
) -> None:
    code, found, said = compare(models['first'], models['yard'], *truth_in(data))
    assert code == 1
    first, yard = found['networks']
    assert first['accuracy']['mean_iou'] is not None
    assert yard['accuracy'] is None
    assert yard['why_no_accuracy'] == 'failed'
    assert yard['latency'], 'what needs no truth is measured all the same'
    assert "label space 'yard' (areas gravel; objects crate)" in said


def test_a_table_that_gives_a_network_no_class_at_all_is_refused_with_both_lists(
    compare: Any, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    table = tmp_path / 'none.csv'
    table.write_text('id,name,segmentation,detection\n' + ''.join(f'{number},n{number},,\n' for number in range(256)))
    code, found, said = compare(models['first'], *truth_in(data), '--truth-classes', table)
    assert code == 1
    assert found['networks'][0]['accuracy'] is None
    assert 'The truth (camvid test by name' in said
    assert 'has none of the classes of label space' in said


def test_networks_without_a_common_class_are_refused_with_both_lists(
    compare: Any, models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr('perception.network_comparison.accuracy._find_fault', lambda *_: None)
    code, found, said = compare(models['first'], models['yard'], *truth_in(data))
    assert code == 1
    assert found == {}
    assert 'no class is in all of them' in said
    assert 'areas road, traffic sign' in said
    assert 'areas gravel' in said


def test_classes_that_only_pairs_have_in_common_are_not_enough() -> None:
    def named(name: str, *classes: str) -> Any:
        labels = tuple(LabelClass(name=each, color_rgb=(0, 0, 0)) for each in classes)
        return SimpleNamespace(name=name, labels=LabelSpace(name=name, segmentation=labels, detection=()))

    pairs = [named('a', 'x', 'y'), named('b', 'y', 'z'), named('c', 'z', 'x')]
    with pytest.raises(ConfigError, match=r'a has label space .* b has .* c has .* no class is in all of them'):
        accuracy._require_common_classes(pairs)
    accuracy._require_common_classes([*pairs[:2], named('d', 'y')])


def test_a_report_is_replaced_only_when_told(compare: Any, models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    assert compare(models['first'])[0] == 0
    before = (tmp_path / 'out' / 'comparison.json').read_bytes()
    code, _, said = compare(models['first'])
    assert code == 1
    assert f'{tmp_path / "out"} holds a report already; name another --output, or give --overwrite.' in said
    assert (tmp_path / 'out' / 'comparison.json').read_bytes() == before
    for _ in range(2):
        code, found, said = compare(models['first'], *truth_in(data), '--overwrite')
        assert code == 0, said
        assert found['networks'][0]['accuracy'] is not None
    assert list((tmp_path / 'out').glob('replays/*/report.json'))
    assert compare(models['first'], '--overwrite')[0] == 0
    assert not list((tmp_path / 'out').glob('replays/*/report.*')), 'they are of an earlier comparison'
    (tmp_path / 'out' / 'comparison.json').unlink()
    code, _, said = compare(models['first'])
    assert code == 1
    assert 'holds a comparison that was killed' in said


def test_a_stopped_comparison_leaves_what_it_had(
    compare: Any, models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay, replayed = job.replay_candidate, []

    def stop(candidate: Any, *arguments: Any, **options: Any) -> Any:
        if replayed:
            raise KeyboardInterrupt
        replayed.append(candidate.name)
        return replay(candidate, *arguments, **options)

    monkeypatch.setattr(job, 'replay_candidate', stop)
    code, found, said = compare(models['first'], models['second'], *truth_in(data))
    assert code == 130
    assert found['ended_by']
    first, second = found['networks']
    assert first['accuracy'] is not None
    assert first['latency']
    assert second['latency']
    assert second['why_no_accuracy'] == 'stopped before'
    assert 'ENDED EARLY BY a signal' in said


def test_a_signal_while_times_are_taken_ends_it(
    compare: Any, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = latency._look

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return look(*arguments)

    monkeypatch.setattr(latency, '_look', interrupted)
    code, found, _ = compare(models['first'])
    assert code == 130
    assert found['networks'][0]['latency'] == []


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend whose library is not installed."""

    def build(*_: object, **__: object) -> Any:
        raise MissingDependencyError('absent is not installed: pip install absent')

    monkeypatch.setitem(perception.backends.BACKENDS, 'absent', build)
    monkeypatch.setattr('perception.cli.compare_networks.BACKEND_NAMES', ('absent', 'eager'))


@pytest.mark.usefixtures('absent')
def test_a_backend_that_is_not_installed_is_left_out_with_its_reason(compare: Any, models: dict[str, Path]) -> None:
    code, found, said = compare(models['first'])
    assert code == 0, said
    assert found['settings']['ways'] == [{'backend': 'eager', 'precision': 'fp32'}]
    assert [each['backend'] for each in found['unserved']] == ['absent']
    assert 'absent fp32 cannot be run here: absent is not installed: pip install absent' in said


@pytest.mark.usefixtures('absent')
def test_a_backend_that_was_asked_for_and_is_not_installed_is_a_failure(compare: Any, models: dict[str, Path]) -> None:
    code, found, said = compare(models['first'], '--backend', 'absent', '--backend', 'eager')
    assert code == 1
    assert found['unserved'] == []
    assert [(each['stage'], each['checkpoint']) for each in found['failures']] == [('latency', 'best.safetensors')]
    assert 'absent is not installed' in said
    assert found['networks'][0]['latency'][0]['backend'] == 'eager'


def test_a_precision_that_was_asked_for_and_nothing_serves_is_a_failure(compare: Any, models: dict[str, Path]) -> None:
    code, found, said = compare(models['first'], '--precision', 'fp32', '--precision', 'fp16')
    assert code == 1
    assert 'FAILED best.safetensors, latency: eager fp16: Precision fp16 needs a CUDA GPU' in said
    assert [each['precision'] for each in found['networks'][0]['latency']] == ['fp32']


@pytest.mark.usefixtures('absent')
def test_a_precision_that_one_backend_serves_is_served(compare: Any, models: dict[str, Path]) -> None:
    code, found, _ = compare(models['first'], '--precision', 'bf16')
    assert code == 0
    assert [(each['backend'], each['device']) for each in found['networks'][0]['latency']] == [('eager', 'cpu')]


def test_what_one_backend_does_to_a_network_changes_no_other(
    compare: Any, models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(network: Any, **options: Any) -> Any:
        for parameter in network.parameters():
            parameter.data.fill_(float('nan'))
        return EagerBackend(network, **options)

    monkeypatch.setitem(perception.backends.BACKENDS, 'spoiling', spoil)
    monkeypatch.setattr('perception.cli.compare_networks.BACKEND_NAMES', ('eager', 'spoiling'))
    code, found, said = compare(models['first'], *truth_in(data))
    assert code == 1
    assert 'spoiling fp32: ' in said
    (network,) = found['networks']
    assert [each['backend'] for each in network['latency']] == ['eager']
    assert network['accuracy']['mean_iou'] is not None


def test_copies_of_one_file_are_told(compare: Any, models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / 'copy.safetensors'
    copy.write_bytes(models['first'].read_bytes())
    _, found, _ = compare(models['first'], copy)
    assert found['remarks'] == ['copy.safetensors and best.safetensors are the same file, byte for byte.']


def test_the_document_is_described(compare: Any, models: dict[str, Path], data: Path) -> None:
    _, found, _ = compare(models['first'], *truth_in(data))
    section = DOCS.read_text(encoding='utf-8').partition('## Comparing networks')[2]
    network = found['networks'][0]
    for document in (found, found['settings'], network, network['latency'][0], network['accuracy']):
        for key in document:
            assert f'`{key}`' in section, key
