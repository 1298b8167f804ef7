"""YOLOX (Ge et al.: "YOLOX: exceeding YOLO series in 2021") as ONNX, trained on COCO's 80 classes: boxes.

Images are laid into the top left corner of a grey square, BGR in 0..255. The output has 85 columns: centre within its
cell and log of the size, in cells, at strides 8, 16 and 32; objectness and classes are probabilities.

Shape letters: A predictions, N boxes, H W rows and columns of an image.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception.errors import CheckpointError, MissingDependencyError
from perception.interfaces import Detections
from perception.labels import DEFAULT_LABELS
from training.teachers.views import Answer, Views, join_detections, mirror_boxes

STRIDES = (8, 16, 32)
GREY = 114
COCO_COLUMNS = {
    'person/rider': (0,),
    'bicycle/motorcycle': (1, 3),
    'car/truck/bus': (2, 5, 7),
}
"""COCO's classes, counted from 0, that are ours of DEFAULT_LABELS."""
CLASSES = 80
OWN_SIZE = 640


class YoloxTeacher:
    """Runs the file by ONNX Runtime.

    Raises:
        CheckpointError: If the file is missing, or no YOLOX on COCO.
        MissingDependencyError: If ONNX Runtime is not installed.
    """

    segments = False
    labels = DEFAULT_LABELS

    def __init__(self, path: Path, views: Views) -> None:
        if not path.is_file():
            raise CheckpointError(f'Teacher {path}: there is no such file.')
        self._views, self._session = views, _open(path)
        self.title = f'{path.stem}@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}'
        self._path = path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        columns = outputs[0].shape[-1]
        if (len(inputs), len(outputs)) != (1, 1) or (isinstance(columns, int) and columns != 5 + CLASSES):
            found = f'inputs {[_shape(one) for one in inputs]} and outputs {[_shape(one) for one in outputs]}'
            raise CheckpointError(
                f'Teacher {path}: expected a YOLOX trained on COCO, with one image as input and {5 + CLASSES} columns '
                f'as output; it has {found}.'
            )
        self._input = inputs[0].name

    def __call__(self, image_rgb: np.ndarray) -> Answer:
        """(H, W, 3) uint8 -> boxes in its own pixels."""
        image_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
        seen = []
        for size in self._views.sizes or (OWN_SIZE,):
            seen.append(self._look(image_bgr, size))
            if self._views.flip:
                mirrored = self._look(np.ascontiguousarray(image_bgr[:, ::-1]), size)
                boxes = mirror_boxes(mirrored.boxes_xyxy, image_bgr.shape[1])
                seen.append(Detections(boxes_xyxy=boxes, scores=mirrored.scores, labels=mirrored.labels))
        return Answer(join_detections(seen, self._views))

    def _look(self, image_bgr: np.ndarray, size: int) -> Detections:
        height, width = image_bgr.shape[:2]
        scale = min(size / height, size / width)
        content = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = np.full((size, size, 3), GREY, np.uint8)
        canvas[: content[1], : content[0]] = cv2.resize(image_bgr, content)
        predictions = self._run(canvas.transpose(2, 0, 1)[None].astype(np.float32), size)
        boxes = np.clip(_decode(predictions, size) / scale, 0, (width, height, width, height)).astype(np.float32)
        names = [label.name for label in self.labels.detection]
        classes = [predictions[:, [5 + column for column in COCO_COLUMNS[name]]].max(axis=1) for name in names]
        scores = predictions[:, 4:5] * np.stack(classes, axis=1)  # (A, K)
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        row, label = np.nonzero((scores >= self._views.score_floor) & has_area[:, None])
        return Detections(boxes_xyxy=boxes[row], scores=scores[row, label].astype(np.float32), labels=label)

    def _run(self, images: np.ndarray, size: int) -> np.ndarray:
        """(1, 3, size, size) -> (A, 85)."""
        predicted: Any = None
        try:
            (predicted,) = self._session.run(None, {self._input: images})
        except Exception as error:  # ONNX Runtime's own errors share no other base
            raise CheckpointError(f'Teacher {self._path} does not take an image of {size}x{size}: {error}') from error
        expected = (1, sum((size // stride) ** 2 for stride in STRIDES), 5 + CLASSES)
        if predicted.shape != expected:
            raise CheckpointError(
                f'Teacher {self._path}: expected predictions {expected} of a YOLOX on COCO for {size}x{size}, got '
                f'{predicted.shape}.'
            )
        return np.asarray(predicted[0])


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f'Teacher {path} needs ONNX Runtime, which is not installed: pip install onnxruntime'
        ) from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's own errors share no other base
        raise CheckpointError(f'Teacher {path} is no ONNX file that ONNX Runtime can run: {error}') from error


def _shape(tensor: Any) -> str:
    return f'{tensor.name} {tensor.shape}'


def _decode(predictions: np.ndarray, size: int) -> np.ndarray:
    """(A, 85) of a square of that size -> (A, 4) xyxy in its pixels."""
    cells, strides = [], []
    for stride in STRIDES:
        count = size // stride
        rows, columns = np.mgrid[:count, :count]
        cells.append(np.stack((columns, rows), axis=-1).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    stride_of = np.concatenate(strides)
    centre = (predictions[:, :2] + np.concatenate(cells)) * stride_of
    half = np.exp(predictions[:, 2:4]) * stride_of / 2
    return np.concatenate((centre - half, centre + half), axis=1)
