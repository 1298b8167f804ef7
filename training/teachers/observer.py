"""A teacher where a Perceiver is expected, so that both are scored by one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perception.interfaces import UNLABELLED, InputSpec, SceneResult
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.teachers import Teacher


class TeacherObserver:
    """Looks through a teacher; one without masks leaves every pixel unlabelled."""

    device = 'cpu'
    input_spec = InputSpec()

    def __init__(self, teacher: Teacher) -> None:
        self._teacher, self.labels = teacher, teacher.labels

    def perceive(self, images: Sequence[np.ndarray]) -> list[SceneResult]:
        """Images (H, W, 3) uint8 -> a result each."""
        return [self._look(image) for image in images]

    def _look(self, image_rgb: np.ndarray) -> SceneResult:
        answer = self._teacher(image_rgb)
        mask = np.full(image_rgb.shape[:2], UNLABELLED, np.uint8) if answer.mask is None else answer.mask
        return SceneResult(detections=answer.detections, mask=mask, confidence=answer.confidence)


class WithoutMasks(SceneDataset):
    """A data set whose masks are not looked at, to score a teacher that gives none."""

    def __init__(self, base: SceneDataset) -> None:
        self._base = base
        self.name, self.labels, self.remark, self.image_paths = base.name, base.labels, base.remark, base.image_paths

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, index: int) -> Sample:
        return replace(self._base[index], mask=None)

    def fingerprint(self) -> str:
        return f'{self._base.fingerprint()}-boxes'
