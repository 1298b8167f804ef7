"""Sample: one annotated image. Every data set is read into it, every loss is computed from it.

None means not annotated, and that loss is skipped: photos with boxes only and frames with masks only train together.
Shape letters: H W rows and columns, N objects, M regions.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


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
    mask: Tensor | None = None
    """(H, W) uint8, index into LabelSpace.segmentation, 255 unlabelled."""
    name: str = ''
    """Where it came from, for error messages and pictures."""
