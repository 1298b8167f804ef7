"""Sample: one annotated image. Every data set is read into it, every loss is computed from it.

None means not annotated, and that loss is skipped: photos with boxes only and frames with masks only train together.
Shape letters: H W rows and columns, N objects, M regions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from perception.interfaces import GroundTruth
from perception.truth.index_maps import ImageSize


def no_boxes() -> Tensor:
    """An empty (0, 4) float32 tensor."""
    return torch.zeros(0, 4)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with what it is annotated for, all in the image's own pixels."""

    image: Tensor
    """(3, H, W) uint8 RGB."""
    boxes: Tensor | None = None
    """(N, 4) float32 xyxy; an empty tensor means: annotated, and there is no object."""
    labels: Tensor | None = None
    """(N,) int64, index into LabelSpace.detection; None exactly when boxes is None."""
    ignore_boxes: Tensor = field(default_factory=no_boxes)
    """(M, 4) float32 xyxy regions, such as crowds, in which objectness is not trained."""
    ignore_labels: Tensor | None = None
    """(M,) int64, the class that each region is not scored for, as in GroundTruth; training ignores it for all."""
    mask: Tensor | None = None
    """(H, W) uint8, index into LabelSpace.segmentation, 255 unlabelled."""
    name: str = ''
    """Where it came from, for error messages and pictures."""


def send(annotation: Tensor, device: torch.device | str) -> Tensor:
    """An annotation, or what was found in it, on the device of a network, which does not have to wait for it."""
    return annotation.to(device, non_blocking=True)


def annotate(image: Tensor, read: Callable[[ImageSize], GroundTruth], *, name: str, image_path: Path) -> Sample:
    """The sample of an image (3, H, W) with what ``read`` finds for one of its size."""
    truth = read(ImageSize(str(image_path), (image.shape[1], image.shape[2])))
    ignored, ignored_labels = truth.ignore_boxes_xyxy, truth.ignore_labels
    return Sample(
        image=image,
        boxes=None if truth.boxes_xyxy is None else torch.from_numpy(truth.boxes_xyxy),
        labels=None if truth.labels is None else torch.from_numpy(truth.labels),
        ignore_boxes=no_boxes() if ignored is None else torch.from_numpy(ignored),
        ignore_labels=None if ignored_labels is None else torch.from_numpy(ignored_labels),
        mask=None if truth.mask is None else torch.from_numpy(truth.mask),
        name=name,
    )
