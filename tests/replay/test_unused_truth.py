"""A replay says what of its truth it could not use, in terminal, report and page; without any it is of no use."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.bag.scene_messages import write_label_info
from perception.bag.writer import BagWriter
from perception.cli import main
from perception.interfaces import LabelClass, StampedImage
from perception.replay.report import ReplayReport

FIRST_NS = 1_700_000_000_000_000_000
HW = (24, 48)


def draw_drive(path: Path, *, late_ns: int = 0, names: tuple[str, ...] = ()) -> Path:
    with BagWriter(path) as writer:
        if names:
            classes = [LabelClass(name=name, color_rgb=(0, 0, 0)) for name in names]
            write_label_info(writer, '/cam/truth/mask/label_info', classes, FIRST_NS, threshold=0, masks=True)
        for index in range(3):
            stamp_ns = FIRST_NS + index * 10**8
            writer.write_image('/cam/image', StampedImage(image_rgb=np.zeros((*HW, 3), np.uint8), stamp_ns=stamp_ns))
            png = cv2.imencode('.png', np.tile(np.uint8([0, 1]), (HW[0], HW[1] // 2)))[1].tobytes()
            writer.write_mask('/cam/truth/mask/compressed', png, stamp_ns + late_ns)
    return path


@pytest.mark.parametrize(('options', 'code'), [((), 1), (('--frames', '2'), 0)], ids=['all', 'some'])
def test_truth_whose_stamps_fit_no_frame_is_a_fault(
    tmp_path: Path,
    tiny_checkpoint_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
) -> None:
    bag = draw_drive(tmp_path / 'drive', late_ns=10**9 if options else 21)
    out = tmp_path / 'out'
    model = str(tiny_checkpoint_path)
    assert main(['replay', str(bag), '--output', str(out), '--model', model, *options]) == code
    said = '3 of 3 messages on /cam/truth/mask/compressed belong to no frame'
    shown = capsys.readouterr()
    assert (said in shown.out) == bool(code)  # behind the last frame that was read, it may belong to others
    assert ('None of the 3 frames' in shown.err) == bool(code)
    if not code:
        return
    assert 'nearest is 21 ns' in shown.out
    report = ReplayReport.load(out)
    assert report.unmatched_truth == 3
    assert said in report.truth_remarks[0]
    assert said in (out / 'report.html').read_text()
    assert main(['replay', str(bag), '--output', str(out), '--model', model, '--resume']) == 1


def test_classes_that_are_not_scored_stand_in_the_report(
    tmp_path: Path, tiny_checkpoint_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = draw_drive(tmp_path / 'drive', names=('road', 'pavement'))
    out = tmp_path / 'out'
    assert main(['replay', str(bag), '--output', str(out), '--model', str(tiny_checkpoint_path)]) == 0
    lost = f'pavement ({3 * HW[0] * HW[1] // 2:,} pixels, 50.0 %)'
    assert lost in capsys.readouterr().out
    assert lost in json.loads((out / 'report.json').read_text())['truth_remarks'][0]
    assert lost in (out / 'report.html').read_text()
