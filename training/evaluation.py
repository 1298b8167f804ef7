"""Scoring of what a network says about a data set, the same for validation, comparisons, releases and the command.

Images are loaded and looked at by threads: decoders and networks work outside of Python, and a process that has started
threads cannot fork.

Shape letters: H W rows and columns, N boxes, M regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

import cv2
import numpy as np
from torch import Tensor
from tqdm import tqdm

from perception.errors import NotFiniteError
from perception.image import plan_geometry
from perception.interfaces import GroundTruth, InputSpec, LabelSpace, SceneResult
from perception.labels import check_same_classes
from perception.metrics import Evaluator
from perception.metrics.cityscapes_scoring import CityscapesWriter
from perception.metrics.pictures import PictureKeeper
from perception.throughput import map_in_order
from training.data.dataset import SceneDataset
from training.data.sample import Sample

SCORE_THRESHOLD = 0.01
"""Average precision looks at weak detections too."""

Scale = Literal['original', 'network']


class SceneObserver(Protocol):
    """What can be scored: a ``Perceiver``, or another network behind the same calls."""

    @property
    def labels(self) -> LabelSpace: ...

    @property
    def input_spec(self) -> InputSpec: ...

    @property
    def device(self) -> str: ...

    def perceive(self, images: Sequence[np.ndarray]) -> list[SceneResult]: ...


def evaluate_dataset(
    observer: SceneObserver,
    dataset: SceneDataset,
    *,
    at: Scale = 'original',
    batch_size: int = 1,
    limit: int = 0,
    workers: int = 0,
    pictures: PictureKeeper | None = None,
    masks: CityscapesWriter | None = None,
    show_progress: bool = True,
) -> Evaluator:
    """Run a network over a data set and score what it says. Its score threshold should be SCORE_THRESHOLD.

    Args:
        at: Score in the pixels of the original image, or at the network's input size (truth is reduced, too).
        batch_size: Images at a time.
        limit: Only so many images, from the start; 0: all.
        workers: Batches in hand at once; 0: as is fastest.
        pictures, masks: Are shown every image.

    Raises:
        ConfigError: If network and data set have different label spaces.
        DatasetError: If a sample cannot be read.
        NotFiniteError: If what the network says of an image is not finite; the message names the image.
    """
    check_same_classes(observer.labels, 'The network', dataset.labels, dataset.name)
    count = min(limit, len(dataset)) if limit else len(dataset)
    evaluator = Evaluator(dataset.labels)

    def look(indices: range) -> list[tuple[str, np.ndarray, GroundTruth, SceneResult]]:
        samples = [dataset[index] for index in indices]
        names = [sample.name for sample in samples]
        images, truths = zip(*(prepare_scene(sample, at, observer.input_spec) for sample in samples), strict=True)
        try:
            results = observer.perceive(images)
        except NotFiniteError as error:
            raise NotFiniteError(f'{dataset.name}, {" or ".join(names)}: {error}') from error
        return list(zip(names, images, truths, results, strict=True))

    batches = [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    with (
        tqdm(total=count, desc=dataset.name, unit='image', disable=not show_progress) as bar,
        map_in_order(look, batches, observer.device, workers) as looked,
    ):
        for indices, scenes in looked:
            for name, image_rgb, truth, result in scenes:
                frame = evaluator.add(result, truth, name)
                if pictures is not None:
                    pictures.offer(frame, image_rgb, result, truth)
                if masks is not None and truth.mask is not None:
                    masks.add(frame.name, result.mask, truth.mask)
            bar.update(len(indices))
    return evaluator


def prepare_scene(sample: Sample, at: Scale, spec: InputSpec) -> tuple[np.ndarray, GroundTruth]:
    """A sample's image (H, W, 3) uint8 and its truth, at the size at which it is to be scored."""
    image_rgb = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
    truth = GroundTruth(
        boxes_xyxy=_array(sample.boxes),
        labels=_array(sample.labels),
        ignore_boxes_xyxy=sample.ignore_boxes.numpy(),
        ignore_labels=_array(sample.ignore_labels),
        mask=_array(sample.mask),
    )
    return (image_rgb, truth) if at == 'original' else _reduce(image_rgb, truth, spec)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.numpy()


def _reduce(image_rgb: np.ndarray, truth: GroundTruth, spec: InputSpec) -> tuple[np.ndarray, GroundTruth]:
    """Image and truth at the size that the image has inside the network input, resized as training resizes them."""
    height, width = image_rgb.shape[:2]
    content_height, content_width = plan_geometry((height, width), spec).content_hw
    size = (content_width, content_height)
    scale = np.array([content_width / width, content_height / height] * 2, np.float32)
    mask = truth.mask
    return cv2.resize(image_rgb, size, interpolation=cv2.INTER_LINEAR), replace(
        truth,
        boxes_xyxy=None if truth.boxes_xyxy is None else truth.boxes_xyxy * scale,
        ignore_boxes_xyxy=None if truth.ignore_boxes_xyxy is None else truth.ignore_boxes_xyxy * scale,
        mask=None if mask is None else cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT),
    )
