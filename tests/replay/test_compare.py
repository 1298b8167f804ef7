"""Two replays against each other: figures as in the reports, intervals that hold what is known, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perception.cli import main
from perception.errors import ConfigError
from perception.interfaces import Detections, GroundTruth, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from perception.replay.agreement import AgreementMeter
from perception.replay.compare import Difference, compare, draw_blocks
from perception.replay.report import REPORT_FILE, TIMING_FILE, ReplayReport
from perception.replay.timing import STAGES, Timing

FRAMES = 60


def write_replay(folder: Path, *, wrong: float, slow_ms: float = 0.0, frames: int = FRAMES, seed: int = 0) -> Path:
    """A replay whose masks are wrong in a share of their pixels, and whose only box is found where they are right."""
    rng = np.random.default_rng(seed)
    evaluator, meter, timing = Evaluator(CITYSCAPES_11_3), AgreementMeter(CITYSCAPES_11_3, 0.3), Timing(seconds=1.0)
    agreement = []
    for index in range(frames):
        truth = rng.integers(0, 3, (16, 20)).astype(np.uint8)
        box = np.array([[2, 2, 12, 12]], np.float32)
        mask = np.where(rng.random((16, 20)) < wrong, (truth + 1) % 3, truth).astype(np.uint8)
        moved = box + (40 if rng.random() < wrong else 0)
        result = SceneResult(
            detections=Detections(boxes_xyxy=moved, scores=np.array([0.9], np.float32), labels=np.array([0])),
            mask=mask,
        )
        evaluator.add(result, GroundTruth(mask=truth, boxes_xyxy=box, labels=np.array([0])), f'drive@{index}')
        agreement.append(meter.measure(result))
        timing.add(index / 10, {stage: 10 + slow_ms + rng.random() for stage in STAGES})
    report = ReplayReport(
        scores=evaluator.report({'network': f'net@{wrong}', 'recordings': ['drive']}),
        agreement=tuple(agreement),
        recorded_ns=tuple(range(frames)),
        streams=(0,) * frames,
        stream_names=('drive',),
        truth=('topics',),
        with_truth=frames,
    )
    folder.mkdir()
    (folder / REPORT_FILE).write_text(report.to_json())
    timing.save(folder / TIMING_FILE, {})
    return folder


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
    first = write_replay(tmp_path / 'a', wrong=0.4)
    second = write_replay(tmp_path / 'b', wrong=0.2, slow_ms=5.0, seed=1)
    comparison = compare(first, second)
    found = by_name(comparison.differences)
    reports = ReplayReport.load(first), ReplayReport.load(second)
    assert found['mIoU'].first == pytest.approx(reports[0].scores.segmentation.mean_iou)
    assert found['mIoU'].second == pytest.approx(reports[1].scores.segmentation.mean_iou)
    assert found['road'].first == pytest.approx(reports[0].scores.segmentation.iou[0])
    assert found['AP50'].second == pytest.approx(reports[1].scores.detection.mean_ap50)
    verdicts = {name: item.verdict for name, item in found.items()}
    assert verdicts['mIoU'] == verdicts['road'] == verdicts['AP50, mean of frames'] == 'better'
    assert verdicts['inference ms'] == verdicts['latency ms'] == 'worse'
    assert verdicts['AP50'] is None  # of a whole run there is just one
    assert found['sky'].first is None
    assert found['latency ms'].difference == pytest.approx(15, abs=1)
    assert comparison.same_recording
    assert comparison.frames == FRAMES


def test_intervals_hold_no_difference_nineteen_times_of_twenty(tmp_path: Path) -> None:
    same = 0
    for seed in range(20):
        first = write_replay(tmp_path / f'a{seed}', wrong=0.3, seed=2 * seed)
        second = write_replay(tmp_path / f'b{seed}', wrong=0.3, seed=2 * seed + 1)
        same += by_name(compare(first, second, rounds=200).differences)['mIoU'].verdict == 'no difference'
    assert same >= 15  # of 20; fewer come by chance once in four hundred times


def test_blocks_are_neighbours_and_repeat_from_a_seed() -> None:
    drawn = draw_blocks(100, 50, seed=3)
    assert drawn.shape == (50, 100)
    np.testing.assert_array_equal(drawn, draw_blocks(100, 50, seed=3))
    steps = np.diff(drawn, axis=1) % 100
    assert (steps == 1).mean() > 0.85
    assert np.bincount(drawn.ravel(), minlength=100).min() > 0
    assert draw_blocks(1, 4, seed=0).tolist() == [[0]] * 4


def test_frames_that_one_lacks_are_left_out(tmp_path: Path) -> None:
    comparison = compare(write_replay(tmp_path / 'a', wrong=0.3), write_replay(tmp_path / 'b', wrong=0.3, frames=40))
    assert (comparison.frames, comparison.only_first, comparison.only_second) == (40, 20, 0)
    assert all(item.difference in (None, 0) for item in comparison.differences if item.group == 'segmentation')


def test_the_command_prints_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write_replay(tmp_path / 'a', wrong=0.4), write_replay(tmp_path / 'b', wrong=0.1)
    assert main(['compare', str(first), str(second), '--output', str(tmp_path / 'page')]) == 0
    shown = capsys.readouterr().out
    assert 'mIoU' in shown
    assert 'A is net@0.4, B is net@0.1' in shown
    page = (tmp_path / 'page' / 'comparison.html').read_text()
    assert '<h2>Latency</h2>' in page
    assert 'net@0.4' in page


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_replay(tmp_path / 'a', wrong=0.3, frames=3)
    assert main(['compare', str(folder), str(tmp_path)]) == 1
    assert 'give the output folder of a replay' in capsys.readouterr().err
    other = write_replay(tmp_path / 'b', wrong=0.3, frames=3)
    document = (other / REPORT_FILE).read_text()
    (other / REPORT_FILE).write_text(document.replace('drive@', 'rain@'))
    with pytest.raises(ConfigError, match='no frame in common'):
        compare(folder, other)
    (other / REPORT_FILE).write_text(document.replace('cityscapes_11_3', 'voc'))
    with pytest.raises(ConfigError, match=r"'cityscapes_11_3'.*'voc'"):
        compare(folder, other)
    (other / REPORT_FILE).write_text(document)
    (other / TIMING_FILE).write_text(json.dumps({'frames': {'ms': {}}}))
    with pytest.raises(ConfigError, match=r'timing\.json does not fit'):
        compare(folder, other)
