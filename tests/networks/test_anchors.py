"""The order of the predictions."""

import torch

from perception.networks.anchors import grid_cells, prediction_grid, prediction_index


def test_cells_run_row_by_row() -> None:
    assert grid_cells((2, 3)).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]


def test_predictions_run_by_branch_row_column_anchor() -> None:
    grid = prediction_grid((2, 3), branches=3, anchors_per_branch=2)
    expected = [
        ([column, row], branch * 2 + anchor)
        for branch in range(3)
        for row in range(2)
        for column in range(3)
        for anchor in range(2)
    ]
    assert grid.cells_xy.shape == (36, 2)
    assert grid.anchor.shape == (36,)
    assert list(zip(grid.cells_xy.tolist(), grid.anchor.tolist(), strict=True)) == expected


def test_prediction_index_is_the_inverse() -> None:
    grid = prediction_grid((4, 5), branches=3, anchors_per_branch=3)
    index = prediction_index(grid.cells_xy, grid.anchor, (4, 5), anchors_per_branch=3)
    assert index.tolist() == list(range(180))
    one = prediction_index(torch.tensor([2, 1]), torch.tensor(7), (4, 5), anchors_per_branch=3)
    assert grid.cells_xy[one].tolist() == [2, 1]
    assert grid.anchor[one] == 7
