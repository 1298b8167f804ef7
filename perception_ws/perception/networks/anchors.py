"""Where the predictions of a dense detector of cells and anchors sit, and their order.

The order of the A predictions of one feature map with several branches is branch-major, then row, column, and the
branch's own anchors fastest:

    index = ((branch * h + row) * w + column) * anchors_per_branch + anchor_in_branch

and anchors are numbered through the branches: ``anchor = branch * anchors_per_branch + anchor_in_branch``.

Shape letters: A predictions per image, h w rows and columns of the feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AnchorLayout:
    """The predictions of one input size, in YOLO codes: an object belongs to a cell and to an anchor.

    Attributes:
        anchors_wh: (T * anchors_per_branch, 2) in input pixels, on the CPU; T branches.
        anchors_per_branch: How many consecutive anchors a branch owns.
        stride: Input pixels per cell.
        feature_hw: Rows and columns of cells.
        centre_reach: As ``decode_yolo`` takes it.
    """

    matching: ClassVar[str] = 'cells'

    anchors_wh: Tensor
    anchors_per_branch: int
    stride: int
    feature_hw: tuple[int, int]
    centre_reach: float = 1.0

    @property
    def predictions(self) -> int:
        """A, predictions per image."""
        return len(self.anchors_wh) * self.feature_hw[0] * self.feature_hw[1]

    @property
    def image_area(self) -> int:
        """Pixels of the input image."""
        return self.feature_hw[0] * self.feature_hw[1] * self.stride**2


class PredictionGrid(NamedTuple):
    """For each of the A predictions of an image: its cell and its anchor, int64."""

    cells_xy: Tensor
    """(A, 2) column and row."""
    anchor: Tensor
    """(A,) index into the network's anchors_wh."""


def grid_cells(feature_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Column and row of every cell, row by row -> (h * w, 2) int64."""
    height, width = feature_hw
    rows = torch.arange(height, device=device)[:, None].expand(height, width)
    columns = torch.arange(width, device=device)[None].expand(height, width)
    return torch.stack((columns, rows), dim=-1).reshape(-1, 2)


def prediction_grid(
    feature_hw: tuple[int, int], *, branches: int, anchors_per_branch: int, device: torch.device | None = None
) -> PredictionGrid:
    """The cell and the anchor of every prediction, in the order that the module docstring gives.

    Computed afresh from the feature size: nothing is cached, so it is part of the graph at any input size.
    """
    cells = grid_cells(feature_hw, device)  # (h * w, 2)
    count = cells.shape[0]
    cells = cells[None, :, None].expand(branches, count, anchors_per_branch, 2)
    anchors = torch.arange(branches * anchors_per_branch, device=device).view(branches, 1, anchors_per_branch)
    return PredictionGrid(cells.reshape(-1, 2), anchors.expand(branches, count, anchors_per_branch).reshape(-1))


def prediction_index(
    cells_xy: Tensor, anchor: Tensor, feature_hw: tuple[int, int], *, anchors_per_branch: int
) -> Tensor:
    """Index of the prediction at cells (..., 2) for anchors (...) -> (...): the inverse of ``prediction_grid``."""
    height, width = feature_hw
    branch = anchor // anchors_per_branch
    cell = (branch * height + cells_xy[..., 1]) * width + cells_xy[..., 0]
    return cell * anchors_per_branch + anchor % anchors_per_branch
