"""Teachers: models that say what is in an image, so that a network can learn from photos that nobody annotated.

A kind of teacher is one file here and one line in TEACHERS, by the ending of its file.

Shape letters: H W rows and columns of an image, N boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from perception.errors import ConfigError
from perception.interfaces import Detections, LabelSpace
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.views import Answer, Views
from training.teachers.yolox import YoloxTeacher

__all__ = ['TEACHERS', 'Answer', 'Detections', 'Teacher', 'Views', 'build_teacher']


class Teacher(Protocol):
    """What annotates images.

    Attributes:
        title: Of the model and its file, for provenance.
        labels: What its class ids count in.
        segments: Whether it says masks, too.
    """

    title: str
    labels: LabelSpace
    segments: bool

    def __call__(self, image_rgb: np.ndarray) -> Answer:
        """(H, W, 3) uint8 -> what is in it, in its own pixels."""
        ...


TEACHERS: dict[str, Callable[[Path, Views], Teacher]] = {
    '.onnx': YoloxTeacher,
    '.safetensors': CheckpointTeacher,
}


def build_teacher(path: Path, views: Views) -> Teacher:
    """Open a model.

    Args:
        path: A YOLOX that was trained on COCO, exported to ONNX, or a checkpoint of ours.
        views: How it looks at each image.

    Raises:
        CheckpointError: If the file is missing, broken, or holds another model.
        ConfigError: If its ending says nothing, or the model does not take these views.
        MissingDependencyError: If the library that runs it is not installed.
    """
    if path.suffix not in TEACHERS:
        raise ConfigError(f'Teacher {path}: expected a file that ends with {" or ".join(TEACHERS)}.')
    return TEACHERS[path.suffix](path, views)
