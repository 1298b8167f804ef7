"""Two replays against each other: figures as in the reports, intervals that hold what is known, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.cli import main
from perception.comparison.compare import Comparison, Difference, compare
from perception.comparison.intervals import (
    MIN_BLOCKS,
    difference_interval,
    mean_figure,
    mean_of,
    number_blocks,
    precision_figures,
)
from perception.errors import ConfigError
from perception.interfaces import Detections, GroundTruth, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from perception.replay.agreement import AgreementMeter
from perception.replay.report import REPORT_FILE, TIMING_FILE, ReplayReport
from perception.replay.timing import STAGES, Timing

FRAMES = 120
FRAMES_PER_S = 5
SETTINGS = {
    'device': 'cpu',
    'backend': 'eager',
    'precision': 'fp32',
    'threads a frame': 'all',
    'score threshold of pictures and agreement': 0.3,
}


def write_replay(
    folder: Path,
    *,
    wrong: float,
    slow_ms: float = 0.0,
    frames: int = FRAMES,
    seed: int = 0,
    truth: Sequence[str] = ('masks', 'boxes'),
    annotated: range = range(FRAMES),
    machines: Sequence[str] = ('EPYC, 2 cores',),
    imagined: int = 0,
    **settings: object,
) -> Path:
    """A replay whose masks are wrong in a share of their pixels, and whose only box is found where they are right."""
    rng, truth_rng = np.random.default_rng(seed), np.random.default_rng(0)
    evaluator, meter, timing = Evaluator(CITYSCAPES_11_3), AgreementMeter(CITYSCAPES_11_3, 0.3), Timing(seconds=1.0)
    agreement = []
    for index in range(frames):
        areas = truth_rng.integers(0, 3, (16, 20)).astype(np.uint8)
        box = np.array([[2, 2, 12, 12]], np.float32)
        mask = np.where(rng.random((16, 20)) < wrong, (areas + 1) % 3, areas).astype(np.uint8)
        moved = box + (40 if rng.random() < wrong else 0)
        result = SceneResult(
            detections=Detections(
                boxes_xyxy=np.concatenate((moved, np.repeat(box + 60, imagined, axis=0))),
                scores=np.float32([rng.uniform(0.5, 1), *[0.95] * imagined]),
                labels=np.zeros(1 + imagined, int),
            ),
            mask=mask,
        )
        known: dict[str, Any] = {'mask': areas} if 'masks' in truth else {}
        known |= {'boxes_xyxy': box, 'labels': np.array([0])} if 'boxes' in truth else {}
        evaluator.add(result, GroundTruth(**(known if index in annotated else {})), f'drive/front@{index}')
        agreement.append(meter.measure(result))
        times_ms = {stage: 10 + slow_ms + rng.random() for stage in STAGES}
        timing.add(index / 10, times_ms, machines[index % len(machines)])
    provenance = {'network': f'net@{wrong}', **SETTINGS, 'recordings': [{'name': 'drive', 'sha256': 'd1'}]}
    report = ReplayReport(
        scores=evaluator.report(provenance | settings),
        agreement=tuple(agreement),
        recorded_ns=tuple(index * 10**9 // FRAMES_PER_S for index in range(frames)),
        streams=(0,) * frames,
        stream_names=('drive/front',),
        truth=('topics',),
        with_truth=len(annotated) if truth else 0,
    )
    folder.mkdir()
    (folder / REPORT_FILE).write_text(report.to_json())
    timing.save(folder / TIMING_FILE, {'at': 'noon'})
    return folder


def rewrite(folder: Path, *, recordings: dict[str, str] | None = None, **changes: Any) -> Path:
    """Change entries of a report; recordings are names with their hashes."""
    report = replace(ReplayReport.load(folder), **changes)
    if recordings is not None:
        listed = [{'name': name, 'sha256': digest} for name, digest in recordings.items()]
        provenance = {**report.scores.provenance, 'recordings': listed}
        report = replace(report, scores=replace(report.scores, provenance=provenance))
    (folder / REPORT_FILE).write_text(report.to_json())
    return folder


def groups(comparison: Comparison) -> set[str]:
    return {item.group for item in comparison.differences}


def by_name(differences: tuple[Difference, ...]) -> dict[str, Difference]:
    return {item.name: item for item in differences}


def test_a_report_goes_through_its_file_without_loss(tmp_path: Path) -> None:
    folder = write_replay(tmp_path / 'a', wrong=0.3, frames=5)
    report = ReplayReport.load(folder)
    assert ReplayReport.load(folder / REPORT_FILE) == report
    assert report.to_json() == (folder / REPORT_FILE).read_text()
    ended = replace(report, ended_by='a signal')
    (folder / REPORT_FILE).write_text(ended.to_json())
    assert not ReplayReport.load(folder).complete


def test_a_better_and_slower_model_is_told(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.6)
    second = write_replay(tmp_path / 'b', wrong=0.1, slow_ms=5.0, seed=1)
    comparison = compare(first, second)
    found = by_name(comparison.differences)
    reports = ReplayReport.load(first), ReplayReport.load(second)
    assert found['mIoU'].first == pytest.approx(reports[0].scores.segmentation.mean_iou)
    assert found['mIoU'].second == pytest.approx(reports[1].scores.segmentation.mean_iou)
    assert found['road'].first == pytest.approx(reports[0].scores.segmentation.iou[0])
    assert found['AP50'].second == pytest.approx(reports[1].scores.detection.mean_ap50, abs=0.01)
    verdicts = {name: item.verdict for name, item in found.items()}
    assert verdicts['mIoU'] == verdicts['road'] == verdicts['AP50'] == verdicts['AP50 car/truck/bus'] == 'better'
    assert verdicts['inference ms'] == verdicts['latency ms'] == 'worse'
    assert verdicts['AP50:95'] is None  # of a whole run there is just one
    assert found['sky'].first is None
    assert found['latency ms'].difference == pytest.approx(15, abs=1)
    assert comparison.same_recording
    assert comparison.frames == FRAMES
    assert not comparison.notes


def test_intervals_hold_no_difference_nineteen_times_of_twenty(tmp_path: Path) -> None:
    same = 0
    for seed in range(20):
        first = write_replay(tmp_path / f'a{seed}', wrong=0.3, seed=2 * seed, truth=['masks'])
        second = write_replay(tmp_path / f'b{seed}', wrong=0.3, seed=2 * seed + 1, truth=['masks'])
        same += by_name(compare(first, second).differences)['mIoU'].verdict == 'no difference'
    assert same >= 15  # of 20; fewer come by chance once in four hundred times


@pytest.mark.parametrize('resemblance', [0.0, 0.5, 0.8, 0.9])
@pytest.mark.parametrize('cameras', [1, 4])
def test_frames_that_resemble_each_other_are_no_evidence(resemblance: float, cameras: int) -> None:
    """Half a minute at 10 Hz in which nothing differs but by chance, which lasts, and which all cameras see."""
    rng = np.random.default_rng(5)
    rounds, frames = 400, 300
    scene = np.zeros((rounds, frames))
    scene[:, 0] = rng.standard_normal(rounds)
    for index in range(1, frames):
        step = np.sqrt(1 - resemblance**2) * rng.standard_normal(rounds)
        scene[:, index] = resemblance * scene[:, index - 1] + step
    own = 0.3 * rng.standard_normal((rounds, cameras, frames))
    blocks = number_blocks(['drive'] * frames * cameras, [index * 10**8 for index in range(frames)] * cameras)
    zero = mean_figure(np.zeros(frames * cameras), blocks)
    intervals = [
        difference_interval(zero, mean_figure((scene[index] + own[index]).ravel(), blocks)) for index in range(rounds)
    ]
    found = [interval for interval in intervals if interval is not None and not interval[0] <= 0 <= interval[1]]
    # Of 400, 20 are meant; at 0.9 it is some 30.
    assert 5 <= len(found) <= 44


def test_a_small_difference_that_lasts_is_found() -> None:
    rng = np.random.default_rng(5)
    blocks = number_blocks(['drive'] * 300, [index * 10**8 for index in range(300)])
    values = rng.standard_normal(300)
    found = [mean_figure(values + shift + 0.1 * rng.standard_normal(300), blocks) for shift in (0.0, 0.1)]
    interval = difference_interval(*found)
    assert interval is not None
    assert 0 < interval[0] < 0.1 < interval[1] < 0.2


def test_blocks_are_seconds_of_a_recording_with_all_its_cameras() -> None:
    stamps_ms = [2_100, 2_900, 0, 2_100, 400, 3_000]
    recordings = ['a', 'a', 'b', 'b', 'a', 'a']
    assert number_blocks(recordings, [stamp * 10**6 for stamp in stamps_ms]).tolist() == [1, 1, 3, 4, 0, 2]


def test_ap50_is_that_of_the_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    evaluator = Evaluator(CITYSCAPES_11_3)
    for index in range(60):
        true = rng.uniform(0, 80, (rng.integers(0, 5), 2))
        near = np.concatenate((true + rng.normal(0, 3, true.shape), rng.uniform(0, 80, (rng.integers(0, 6), 2))))
        scores = rng.permutation(np.arange(1, 1000))[: len(near)] / 1000 + 0.0005
        truth = GroundTruth(
            boxes_xyxy=np.concatenate((true, true + 20), axis=1).astype(np.float32),
            labels=rng.integers(0, 2, len(true)),
            ignore_boxes_xyxy=np.array([[0, 0, 30, 30]], np.float32) if index % 3 == 0 else None,
        )
        found = Detections(
            boxes_xyxy=np.concatenate((near, near + 20), axis=1).astype(np.float32),
            scores=scores.astype(np.float32),
            labels=np.concatenate((truth.labels, rng.integers(0, 3, len(near) - len(true)))),
        )
        evaluator.add(SceneResult(detections=found, mask=np.zeros((100, 100), np.uint8)), truth)
    report = evaluator.report()
    figures = precision_figures(report.frames, np.ones(60, bool), np.arange(60) // 5, 3)
    # Detections of one score in different images come in an order of their own.
    assert [figure.value for figure in figures[:2]] == pytest.approx(report.detection.ap50[:2], abs=0.01)
    assert np.isnan(figures[2].value)
    assert mean_of(figures).value == pytest.approx(report.detection.mean_ap50, abs=0.01)


def test_boxes_where_nothing_is_make_a_model_worse(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.2)
    second = write_replay(tmp_path / 'b', wrong=0.2, imagined=10)
    found = by_name(compare(first, second).differences)
    assert found['AP50'].verdict == 'worse'
    assert found['AP50 car/truck/bus'].verdict == 'worse'


def test_a_model_that_sees_nothing_where_it_is_hard_is_not_better_for_it(tmp_path: Path) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.3)
    report = ReplayReport.load(second)
    hard = sorted(range(FRAMES), key=lambda index: report.agreement[index].supported or 0)[: FRAMES // 2]
    blind = [
        replace(frame, supported=None, boxes=0) if index in hard else frame
        for index, frame in enumerate(report.agreement)
    ]
    rewrite(second, agreement=tuple(blind))
    assert by_name(compare(first, second).differences)['boxes backed by mask'].difference == 0


def test_frames_that_one_lacks_are_left_out(tmp_path: Path) -> None:
    comparison = compare(write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.3, frames=40))
    assert (comparison.frames, comparison.only_first, comparison.only_second) == (40, 80, 0)
    assert all(item.difference in (None, 0) for item in comparison.differences if item.group == 'segmentation')
    assert 'AP50:95' not in by_name(comparison.differences)  # of 120 frames and of 40
    assert by_name(comparison.differences)['AP50'].first is not None
    assert any('AP50:95 is left out' in note for note in comparison.notes)


@pytest.mark.parametrize(
    ('has', 'lacks', 'left', 'said'),
    [
        (['masks', 'boxes'], [], set(), 'has truth, so segmentation and detection are not compared.'),
        (['masks', 'boxes'], ['masks'], {'segmentation'}, 'has truth with boxes, so detection is not compared.'),
        (['masks', 'boxes'], ['boxes'], {'detection'}, 'has truth with masks, so segmentation is not compared.'),
    ],
)
def test_truth_that_only_one_has_is_not_compared(
    tmp_path: Path, has: list[str], lacks: list[str], left: set[str], said: str
) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.4, truth=has)
    second = write_replay(tmp_path / 'b', wrong=0.2, truth=lacks)
    for name, comparison in (('A', compare(first, second)), ('B', compare(second, first))):
        assert groups(comparison) == left | {'agreement', 'latency'}
        assert comparison.notes == (f'Only {name} {said}',)


def test_only_frames_with_truth_in_both_are_scored(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.3, annotated=range(110))
    second = write_replay(tmp_path / 'b', wrong=0.3, annotated=range(5, FRAMES))
    comparison = compare(first, second)
    assert by_name(comparison.differences)['mIoU'].difference == 0
    assert 'Truth that only one has is left out, in 15 of 120 frames.' in comparison.notes
    apart = compare(first, write_replay(tmp_path / 'c', wrong=0.3, annotated=range(110, FRAMES)))
    assert groups(apart) == {'agreement', 'latency'}
    assert apart.notes[0] == 'In no frame do both have truth, so segmentation and detection are not compared.'


def test_unlike_truth_is_named(tmp_path: Path) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.2)
    scores = ReplayReport.load(second).scores
    other = replace(scores.frames[7], boxes=3)
    rewrite(second, scores=replace(scores, frames=(*scores.frames[:7], other, *scores.frames[8:])))
    assert 'THE TRUTH IS NOT THE SAME in 1 of 120 frames; give both one --truth.' in compare(first, second).notes


@pytest.mark.parametrize(
    ('unlike', 'said'),
    [
        ({'threads a frame': 1}, 'threads a frame is all in A and 1 in B'),
        (
            {'device': 'cuda:0', 'machines': ['EPYC, 16 cores, H100']},
            'device is cpu in A and cuda:0 in B, machine is EPYC, 2 cores in A and EPYC, 16 cores, H100 in B',
        ),
        ({'machines': ['Xeon', 'EPYC']}, 'machine is EPYC, 2 cores in A and EPYC and Xeon in B'),
    ],
)
def test_latency_of_runs_made_in_unlike_ways_is_shown_without_a_verdict(
    tmp_path: Path, unlike: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.3, seed=1)
    second = write_replay(tmp_path / 'b', wrong=0.2, seed=2, slow_ms=20.0, **unlike)
    comparison = compare(first, second)
    latency = by_name(comparison.differences)['latency ms']
    assert latency.difference == pytest.approx(60, abs=1)
    assert (latency.verdict, latency.withheld) == (None, 'unlike runs')
    assert comparison.notes == (
        f'Latency gets no verdict: {said}. Replay both with --workers 1 on one machine and device.',
    )
    assert by_name(comparison.differences)['mIoU'].verdict == 'better'
    assert main(['compare', str(first), str(second), '--output', str(tmp_path)]) == 0
    assert comparison.notes[0] in capsys.readouterr().out
    page = (tmp_path / 'comparison.html').read_text()
    assert comparison.notes[0] in page
    assert '<span>worse</span><b>0 of ' in page


def test_latency_on_machines_that_are_not_known_to_be_one_gets_no_verdict(tmp_path: Path) -> None:
    fleet = ['EPYC', 'Xeon']
    first = write_replay(tmp_path / 'a', wrong=0.3, machines=fleet)
    second = write_replay(tmp_path / 'b', wrong=0.2, slow_ms=20.0, machines=fleet)
    comparison = compare(first, second)
    assert by_name(comparison.differences)['latency ms'].withheld == 'unlike runs'
    assert 'the frames of each were looked at on EPYC and Xeon.' in comparison.notes[0]
    for folder in (first, second):  # as older versions wrote it
        document = json.loads((folder / TIMING_FILE).read_text())
        del document['machines']
        (folder / TIMING_FILE).write_text(json.dumps(document))
    comparison = compare(first, second)
    assert by_name(comparison.differences)['latency ms'].withheld == 'unlike runs'
    assert 'a machine that timing.json does not name' in comparison.notes[0]


def test_backends_and_precisions_may_be_compared_but_one_model_with_itself_tells_of_load(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.3)
    faster = write_replay(tmp_path / 'b', wrong=0.3, slow_ms=-5.0, backend='compiled', precision='bf16')
    assert by_name(compare(first, faster).differences)['latency ms'].verdict == 'better'
    again = compare(first, write_replay(tmp_path / 'c', wrong=0.3, slow_ms=5.0))
    assert by_name(again.differences)['latency ms'].withheld == 'same model'
    assert 'the load of the machine' in again.notes[0]


def test_agreement_at_unlike_thresholds_gets_no_verdict(tmp_path: Path) -> None:
    unlike: dict[str, Any] = {'score threshold of pictures and agreement': 0.5}
    comparison = compare(
        write_replay(tmp_path / 'a', wrong=0.4), write_replay(tmp_path / 'b', wrong=0.1, seed=1, **unlike)
    )
    assert {item.verdict for item in comparison.differences if item.group == 'agreement'} == {None}
    assert comparison.notes[0].endswith('is 0.3 in A and 0.5 in B. Replay both with one --score-threshold.')


def test_few_blocks_give_no_verdict(tmp_path: Path) -> None:
    few = FRAMES_PER_S * (MIN_BLOCKS - 1)
    first = write_replay(tmp_path / 'a', wrong=0.4, frames=few)
    second = write_replay(tmp_path / 'b', wrong=0.1, slow_ms=5.0, frames=few)
    comparison = compare(first, second)
    assert not any(item.verdict for item in comparison.differences)
    assert by_name(comparison.differences)['mIoU'].withheld == 'too few frames'
    assert by_name(comparison.differences)['sky'].withheld == ''  # there is no sky to judge
    assert comparison.notes[0].startswith('Too few frames for a verdict: it takes 20 different seconds')


def test_blocks_count_where_there_is_something_to_measure(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.4, annotated=range(20, 70))
    second = write_replay(tmp_path / 'b', wrong=0.1, slow_ms=5.0, annotated=range(20, 70))
    comparison = compare(first, second)
    assert by_name(comparison.differences)['mIoU'].withheld == 'too few frames'
    assert by_name(comparison.differences)['latency ms'].verdict == 'worse'
    assert comparison.notes[0].startswith('Too few frames for a verdict on some figures')
    sparse = [write_replay(tmp_path / f's{wrong}', wrong=wrong, annotated=range(0, FRAMES, 5)) for wrong in (0.4, 0.1)]
    assert by_name(compare(*sparse).differences)['mIoU'].verdict == 'better'


def test_a_recording_is_known_by_its_bytes(tmp_path: Path) -> None:
    first = write_replay(tmp_path / 'a', wrong=0.3)
    second = write_replay(tmp_path / 'b', wrong=0.2)
    rewrite(second, recordings={'tuesday_drive': 'd1'}, stream_names=('tuesday_drive/front',))
    comparison = compare(first, second)
    assert comparison.frames == FRAMES
    assert comparison.same_recording
    # The only one on each side, encoded anew.
    rewrite(second, recordings={'tuesday_drive': 'd2'})
    comparison = compare(first, second)
    assert comparison.frames == FRAMES
    assert not comparison.same_recording
    rewrite(second, stream_names=('tuesday_drive/rear',))
    with pytest.raises(ConfigError, match='no frame in common'):
        compare(first, second)


def test_one_of_several_recordings_is_known_by_bytes_or_else_by_name(tmp_path: Path) -> None:
    half = (0,) * 60 + (1,) * 60
    first = rewrite(
        write_replay(tmp_path / 'a', wrong=0.3),
        recordings={'drive': 'd1', 'drive_2': 'd2'},
        stream_names=('drive/front', 'drive_2/front'),
        streams=half,
    )
    # The other way round, the first under another name; as many frames under each stamp.
    second = rewrite(
        write_replay(tmp_path / 'b', wrong=0.2),
        recordings={'drive': 'd2', 'drive_3': 'd1'},
        stream_names=('drive/front', 'drive_3/front'),
        streams=half,
        recorded_ns=tuple(index % 120 * 10**9 // FRAMES_PER_S for index in range(60, 180)),
    )
    comparison = compare(first, second)
    assert (comparison.frames, comparison.same_recording) == (FRAMES, True)
    rewrite(second, recordings={'drive_2': 'd4', 'drive_3': 'd1'}, stream_names=('drive_2/front', 'drive_3/front'))
    comparison = compare(first, second)
    assert (comparison.frames, comparison.same_recording) == (FRAMES, False)
    rewrite(second, recordings={'rain': 'd4', 'drive_3': 'd1'}, stream_names=('rain/front', 'drive_3/front'))
    comparison = compare(first, second)
    assert (comparison.frames, comparison.only_first, comparison.same_recording) == (60, 60, True)


def test_frames_of_one_stamp_are_paired_in_order(tmp_path: Path) -> None:
    stamps = tuple(index // 2 for index in range(FRAMES))
    first, second = (
        rewrite(write_replay(tmp_path / f'{wrong}', wrong=wrong), recorded_ns=stamps) for wrong in (0.3, 0.2)
    )
    comparison = compare(first, second)
    assert (comparison.frames, comparison.only_first) == (FRAMES, 0)
    report = ReplayReport.load(second)
    assert by_name(comparison.differences)['mIoU'].second == pytest.approx(report.scores.segmentation.mean_iou)


def test_a_report_of_a_part_is_said_to_be_one(tmp_path: Path) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.2)
    rewrite(second, ended_by='a signal (Ctrl-C or SIGTERM)')
    assert compare(first, second).notes == (
        'B is of a part of its recordings, it ended early: a signal (Ctrl-C or SIGTERM).',
    )


def test_a_report_stands_for_its_folder_and_needs_no_times(tmp_path: Path) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.2)
    assert compare(first / REPORT_FILE, second) == compare(first, second)
    (second / TIMING_FILE).unlink()
    comparison = compare(first, second)
    assert groups(comparison) == {'segmentation', 'detection', 'agreement'}
    assert comparison.notes == ('B has no timing.json, so latency is not compared.',)
    (first / TIMING_FILE).unlink()
    assert compare(first, second).notes == ('A and B have no timing.json, so latency is not compared.',)


def test_the_command_prints_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.4), write_replay(tmp_path / 'b', wrong=0.1)
    assert main(['compare', str(first), str(second), '--output', str(tmp_path / 'page')]) == 0
    shown = capsys.readouterr().out
    assert 'mIoU' in shown
    assert 'A is net@0.4, B is net@0.1' in shown
    page = (tmp_path / 'page' / 'comparison.html').read_text()
    assert '<section class="full"><h2>Latency</h2>' in page  # half as wide, the verdicts were cut off
    assert 'Read this first' not in page
    assert 'net@0.4' in page


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_replay(tmp_path / 'a', wrong=0.3, frames=3)
    for wanting, said in ((tmp_path, 'holds no report.json'), (tmp_path / 'none', 'does not exist')):
        assert main(['compare', str(folder), str(wanting)]) == 1
        assert f'{wanting} {said}; give the output folder of a replay.' in capsys.readouterr().err
    for output in (folder / REPORT_FILE, folder / REPORT_FILE / 'deeper'):
        assert main(['compare', str(folder), str(folder), '--output', str(output)]) == 1
        shown = capsys.readouterr()
        assert f'{folder / REPORT_FILE} is a file, not a folder' in shown.err
        assert not shown.out
    other = write_replay(tmp_path / 'b', wrong=0.3, frames=3)
    document = (other / REPORT_FILE).read_text()
    (other / REPORT_FILE).write_text(document.replace('drive/front', 'drive/rear'))
    with pytest.raises(ConfigError, match='no frame in common'):
        compare(folder, other)
    # Ids count in the classes, whatever their list is called.
    (other / REPORT_FILE).write_text(document.replace('"sky"', '"heaven"'))
    with pytest.raises(ConfigError, match=r'a has .*building, sky, .*b has .*building, heaven, .*same classes'):
        compare(folder, other)
    (other / REPORT_FILE).write_text(document.replace('cityscapes_11_3', 'mine'))
    compare(folder, other)
    (other / REPORT_FILE).write_text(document)
    one_frame = {stage: [1.0] for stage in STAGES}
    for times in ('[]', json.dumps({'frames': {'ms': {}}}), json.dumps({'frames': {'ms': one_frame}})):
        (other / TIMING_FILE).write_text(times)
        with pytest.raises(ConfigError, match=r'timing\.json does not fit'):
            compare(folder, other)
