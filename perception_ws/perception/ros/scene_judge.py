"""Scores the answers of a live run while it goes on, out of the way of whoever receives them."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from perception.interfaces import Detections, GroundTruth, LabelSpace, SceneResult
from perception.metrics import Evaluator, Report
from perception.ros.awaited import Awaited

MOST_WAITING = 32
"""Scenes that wait for being scored. Beyond, the receiver waits, so memory does not grow."""


class SceneJudge:
    """Scores what comes back against the truth of the frame that it belongs to, in a thread of its own.

    A context manager, which ends the thread.

    Args:
        labels: The label space that is scored.
        timeout_s: The truth of a frame that has no answer by then is forgotten.

    Attributes:
        bad_truth: What was wrong with truth that could not be used.
    """

    def __init__(self, labels: LabelSpace, timeout_s: float) -> None:
        self.bad_truth: list[str] = []
        self._evaluator = Evaluator(labels)
        self._truths: Awaited[GroundTruth] = Awaited(timeout_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='scoring')
        self._waiting: deque[Future[object]] = deque()

    def expect(self, index: int, truth: GroundTruth) -> None:
        """The truth of a frame that is about to be sent."""
        self._truths.put(index, truth)

    def judge(self, index: int, detections: Detections, mask: np.ndarray) -> None:
        """Have one answer scored; frames without truth are not.

        Args:
            index: Of the frame.
            detections: What was found in it.
            mask: (H, W) uint8, at its size.
        """
        truth = self._truths.take(index)
        if truth is None:
            return
        scene = SceneResult(detections=detections, mask=mask)
        self._waiting.append(self._thread.submit(self._evaluator.add, scene, truth, f'{index:06d}'))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft().result()

    def report(self, about: dict[str, str]) -> Report:
        """The scores of all answers, once the last one is scored.

        Args:
            about: What was scored, for the report.
        """
        while self._waiting:
            self._waiting.popleft().result()
        return self._evaluator.report(about)

    def __enter__(self) -> 'SceneJudge':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
