"""Scoring beside a live run: out of the receiver's way, and without end to the memory that is not needed any more."""

from threading import Event, get_ident
from typing import Any
from weakref import ref

import numpy as np
import pytest

from perception.interfaces import Detections, GroundTruth
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from perception.ros.scene_judge import SceneJudge

pytestmark = pytest.mark.ros

MASK = np.zeros((4, 6), np.uint8)
NOTHING = Detections(
    boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64)
)


def test_the_receiver_does_not_wait_for_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, threads = Event(), []
    add = Evaluator.add

    def wait_and_add(*arguments: Any) -> Any:
        assert go_on.wait(60)
        threads.append(get_ident())
        return add(*arguments)

    monkeypatch.setattr(Evaluator, 'add', wait_and_add)
    with SceneJudge(CITYSCAPES_11_3, 15.0) as judge:
        for index in range(3):
            judge.expect(index, GroundTruth(mask=MASK))
            judge.judge(index, NOTHING, MASK)
        judge.judge(7, NOTHING, MASK)  # has no truth
        assert threads == []
        go_on.set()
        report = judge.report({})
    assert report.segmentation.images == len(report.frames) == 3
    assert get_ident() not in threads


def test_truth_of_frames_that_are_never_answered_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr('perception.ros.awaited.monotonic', lambda: now[0])
    with SceneJudge(CITYSCAPES_11_3, 15.0) as judge:
        kept = []
        for index in range(40):
            truth = GroundTruth(mask=MASK)
            kept.append(ref(truth))
            judge.expect(index, truth)
            del truth
            now[0] += 1
        assert sum(each() is not None for each in kept) == 16
        for index in range(40):
            judge.judge(index, NOTHING, MASK)
        assert len(judge.report({}).frames) == 16


def test_what_goes_wrong_in_scoring_is_not_lost() -> None:
    with SceneJudge(CITYSCAPES_11_3, 15.0) as judge:
        judge.expect(0, GroundTruth(mask=MASK))
        judge.judge(0, NOTHING, np.zeros((7, 7), np.uint8))
        with pytest.raises(Exception, match='7'):
            judge.report({})
