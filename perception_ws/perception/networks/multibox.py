"""What the SSD line shares: prior boxes on several levels, and the head that classifies and moves them.

Liu et al.: "SSD: Single shot multibox detector"; scales and shapes as in BlitzNet (Dvornik et al.), whose successors
keep them. The order of the A predictions is level by level, then row, column, and a cell's own priors fastest.

The head's softmax over background and K classes reaches NetworkOutput as objectness = logsumexp(classes) - background,
so that sigmoid(objectness) * softmax(classes) is exactly that softmax, in post-processing and in the loss.

Shape letters: B images in a batch, A predictions per image, K detection classes, P priors of a cell, h w rows and
columns of a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.boxes import SSD_VARIANCES, decode_ssd, pairwise_size_iou
from perception.errors import ConfigError
from perception.interfaces import Suppression
from perception.networks.anchors import grid_cells
from perception.networks.predictions import Predictions

Shapes = tuple[tuple[float, float], ...]
"""Width and height of the P priors of a level's cells, in units of the root of the image's area."""

ASPECTS = (2.0, 1 / 2, 3.0, 1 / 3)
"""Width over height of the priors that are no squares."""

SSD_SUPPRESSION = Suppression(
    nms_threshold=0.45,
    max_candidates=0,
    max_candidates_per_class=400,
    max_detections_per_class=50,
    max_detections=200,
)
"""BlitzNet's, section 3.5: of each class the 400 best enter and 50 are kept, of all 200; the IoU is SSD's."""

INITIAL_VARIANCE = 0.1
"""Of a prediction layer's outputs in the beginning, for inputs of variance 1."""


def prior_scales(levels: int, smallest: float, least: float, largest: float) -> tuple[float, ...]:
    """Sides of the square priors: the finest level's, then even steps from ``least`` to ``largest``, and one beyond.

    Args:
        levels: L, at least 3.
        smallest, least, largest: Of the first, second and last level, in units of the root of the image's area.

    Returns:
        L + 1 scales; the last only bounds the last level.

    Raises:
        ConfigError: If there are fewer levels, or the scales do not grow.
    """
    if levels < 3 or not 0 < smallest <= least < largest:
        raise ConfigError(
            f'Prior boxes need 3 levels or more, and scales that grow from one to the next; got {levels} levels and '
            f'{smallest}, {least}, {largest} for the first, the second and the last.'
        )
    step = (largest - least) / (levels - 2)
    return (smallest, *(least + step * level for level in range(levels)))


def check_scales(levels: int, scales: Sequence[float]) -> None:
    """Check that scales are what ``prior_scales`` takes.

    Raises:
        ConfigError: If they are not three, or do not grow.
    """
    if len(scales) != 3:
        raise ConfigError(f'scales: expected those of the first, second and last level, got {scales}.')
    prior_scales(levels, *scales)


def prior_shapes(scales: Sequence[float], aspects: Sequence[float] = ASPECTS) -> tuple[Shapes, ...]:
    """The priors of each level: a square, the aspects at its area, and a square between its scale and the next.

    Args:
        scales: L + 1, as ``prior_scales`` gives them.
        aspects: Width over height of those that are no squares.

    Returns:
        For each of L levels the shapes of len(aspects) + 2 priors.
    """
    return tuple(
        (
            (scale, scale),
            *((scale * math.sqrt(aspect), scale / math.sqrt(aspect)) for aspect in aspects),
            (math.sqrt(scale * following),) * 2,
        )
        for scale, following in pairwise(scales)
    )


def level_sizes(image_hw: tuple[int, int], *, stride: int, levels: int, pooled: bool = False) -> list[tuple[int, int]]:
    """Rows and columns of levels of which each is half the one before, rounded up, as strided convolutions give them.

    Args:
        image_hw: Height and width of the input.
        stride: Of the finest level.
        levels: How many.
        pooled: Whether the last one is the mean of a whole map instead: 1x1.
    """
    height, width = image_hw
    sizes = [(-(-height // (stride << level)), -(-width // (stride << level))) for level in range(levels)]
    return [*sizes[:-1], (1, 1)] if pooled else sizes


@dataclass(frozen=True, kw_only=True)
class PriorLayout:
    """The predictions of one input size, in SSD codes: an object belongs to the priors that overlap it.

    Attributes:
        image_hw: Height and width of the input in pixels.
        levels_hw: Rows and columns of each level.
        shapes: Of each level's priors.
        variances: As ``decode_ssd`` takes them.
    """

    matching: ClassVar[str] = 'multi_box'

    image_hw: tuple[int, int]
    levels_hw: tuple[tuple[int, int], ...]
    shapes: tuple[Shapes, ...]
    variances: tuple[float, float] = SSD_VARIANCES

    @property
    def predictions(self) -> int:
        """A, predictions per image."""
        levels = zip(self.levels_hw, self.shapes, strict=True)
        return sum(height * width * len(shapes) for (height, width), shapes in levels)

    def priors_cxcywh(self, device: torch.device | None = None) -> Tensor:
        """All prior boxes (A, 4) in input pixels, float32; those at the edge reach beyond the image.

        Computed afresh on the device: nothing is cached, so it is part of the graph, and nothing waits for a copy.
        """
        levels = zip(self.levels_hw, self.shapes, strict=True)
        return torch.cat([self._level_priors(level_hw, shapes, device) for level_hw, shapes in levels])

    def levels_of(self, sizes_wh: Tensor, *, iou: float) -> Tensor:
        """Which levels have priors for objects of some sizes, wherever these lie.

        Args:
            sizes_wh: (N, 2) in input pixels.
            iou: A level has them where a prior of it and the object overlap so far, put on one centre.

        Returns:
            (N, L) bool, of which the level with the largest overlap is always one.
        """
        unit = math.sqrt(self.image_hw[0] * self.image_hw[1])
        own = [pairwise_size_iou(sizes_wh, unit * sizes_wh.new_tensor(shapes)) for shapes in self.shapes]  # L of (N, P)
        overlaps = torch.stack([overlap.amax(dim=1) for overlap in own], dim=1)
        return (overlaps >= iou) | F.one_hot(overlaps.argmax(dim=1), len(own)).bool()

    def _level_priors(self, level_hw: tuple[int, int], shapes: Shapes, device: torch.device | None) -> Tensor:
        (height, width), (rows, columns) = self.image_hw, level_hw
        cell_wh = torch.tensor([width / columns, height / rows]).to(device, non_blocking=True)
        # Of one unit for both sides: squares stay squares where the image is none.
        sizes = (torch.tensor(shapes) * math.sqrt(height * width)).to(device, non_blocking=True)  # (P, 2)
        centres = (grid_cells(level_hw, device) + 0.5) * cell_wh  # (h * w, 2)
        spread = (len(centres), len(sizes), 2)
        return torch.cat((centres[:, None].expand(spread), sizes[None].expand(spread)), dim=2).flatten(0, 1)


class MultiBoxHead(nn.Module):
    """For each level a convolution to box codes and one to logits of background and classes; none is shared.

    Args:
        in_widths: Channels of each level.
        classes: K.
        shapes: Of each level's priors.
        kernel: Of the convolutions.
    """

    def __init__(self, in_widths: Sequence[int], classes: int, shapes: Sequence[Shapes], *, kernel: int = 3) -> None:
        super().__init__()
        self.classes, self.shapes = classes, tuple(shapes)
        self.locate = nn.ModuleList(
            nn.Conv2d(width, 4 * len(own), kernel, padding=kernel // 2)
            for width, own in zip(in_widths, shapes, strict=True)
        )
        self.classify = nn.ModuleList(
            nn.Conv2d(width, (1 + classes) * len(own), kernel, padding=kernel // 2)
            for width, own in zip(in_widths, shapes, strict=True)
        )

    def initialize_predictions(self) -> None:
        """Weak, as in BlitzNet's code: at first no class is far from the others, and no box from its prior."""
        for layer in (*self.locate, *self.classify):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=math.sqrt(INITIAL_VARIANCE / layer.weight[0].numel()))
            nn.init.zeros_(layer.bias)

    def layout(self, image_hw: tuple[int, int], levels_hw: Sequence[tuple[int, int]]) -> PriorLayout:
        """Where the predictions for levels of such sizes sit."""
        return PriorLayout(image_hw=image_hw, levels_hw=tuple(levels_hw), shapes=self.shapes)

    def forward(self, levels: Sequence[Tensor], image_hw: tuple[int, int]) -> Predictions:
        """Maps (B, C, h, w) of each level, and the size of the input that they are of."""
        codes = torch.cat([_rows(layer(x), 4) for layer, x in zip(self.locate, levels, strict=True)], dim=1)
        logits = torch.cat(
            [_rows(layer(x), 1 + self.classes) for layer, x in zip(self.classify, levels, strict=True)], dim=1
        )  # (B, A, 1 + K)
        layout = self.layout(image_hw, [(x.shape[2], x.shape[3]) for x in levels])
        boxes = decode_ssd(codes, layout.priors_cxcywh(codes.device), layout.variances)
        return Predictions(boxes, *split_background(logits), codes)


def split_background(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (..., 1 + K), background first -> objectness (...), float32, and class logits (..., K)."""
    classes = logits[..., 1:]
    return classes.float().logsumexp(dim=-1) - logits[..., 0].float(), classes


def _rows(level_map: Tensor, values: int) -> Tensor:
    """(B, P * values, h, w) -> (B, h * w * P, values)."""
    return level_map.permute(0, 2, 3, 1).unflatten(3, (-1, values)).flatten(1, 3)
