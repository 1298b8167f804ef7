"""Box formats, overlaps, the YOLO and SSD codes and suppression, as tensor functions over torchvision.ops.

The only place, with image.py, where formats are converted. ``xyxy`` is left, top, right, bottom; ``cxcywh`` is centre,
width, height; ``wh`` is a size without a place. Boxes are continuous pixel coordinates.

Shape letters: N, M boxes; ``...`` any leading sizes, which broadcast against each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

MAX_LOG_SCALE = 4.0
"""Largest log(size / anchor size) that is decoded: exp(4) is 55 anchors, and larger codes would overflow early on."""

SSD_VARIANCES = (0.1, 0.2)
"""Of centres and sizes: the scale of box codes in SSD and its successors."""


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners (..., 4) to centre and size (..., 4)."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Centre and size (..., 4) to corners (..., 4)."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def pairwise_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Intersection over union of (N, 4) with (M, 4) -> (N, M); 0 where both boxes are empty."""
    return box_iou(boxes_xyxy, others_xyxy).nan_to_num(0.0)


def paired_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Intersection over union of each box (N, 4) with the one in its row of (N, 4) -> (N,); 0 where both are empty."""
    shared_wh = torch.minimum(boxes_xyxy[:, 2:], others_xyxy[:, 2:]) - torch.maximum(
        boxes_xyxy[:, :2], others_xyxy[:, :2]
    )
    shared = shared_wh.clamp(min=0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (boxes_xyxy, others_xyxy)]
    return (shared / (areas[0] + areas[1] - shared)).nan_to_num(0.0)


def pairwise_size_iou(sizes_wh: Tensor, others_wh: Tensor) -> Tensor:
    """IoU of sizes (N, 2) with (M, 2) put on the same centre -> (N, M): the overlap that anchors are chosen by."""
    shared = torch.minimum(sizes_wh[:, None], others_wh[None]).prod(dim=-1)  # (N, M)
    union = sizes_wh.prod(dim=-1)[:, None] + others_wh.prod(dim=-1)[None] - shared
    return (shared / union).nan_to_num(0.0)


def yolo_targets(boxes_xyxy: Tensor, cells_xy: Tensor, anchors_wh: Tensor, stride: int) -> Tensor:
    """What (sigmoid tx, sigmoid ty, tw, th) should be for a box at a cell and an anchor: the space of the YOLO losses.

    Args:
        boxes_xyxy: (..., 4) in pixels.
        cells_xy: (..., 2) column and row of the cell that holds the box centre.
        anchors_wh: (..., 2) in pixels.
        stride: Pixels per cell.

    Returns:
        (..., 4): offset of the centre in its cell (0..1), then the log of size over anchor size.
    """
    boxes = xyxy_to_cxcywh(boxes_xyxy)
    return torch.cat((boxes[..., :2] / stride - cells_xy, (boxes[..., 2:] / anchors_wh).log()), dim=-1)


def encode_yolo(boxes_xyxy: Tensor, cells_xy: Tensor, anchors_wh: Tensor, stride: int) -> Tensor:
    """Boxes (..., 4) to raw YOLO codes (..., 4): the inverse of ``decode_yolo`` for centres inside their cell."""
    targets = yolo_targets(boxes_xyxy, cells_xy, anchors_wh, stride)
    return torch.cat((targets[..., :2].logit(eps=1e-6), targets[..., 2:]), dim=-1)


def centre_offset(codes_xy: Tensor, centre_reach: float = 1.0) -> Tensor:
    """Raw tx, ty (..., 2) to the centre's place in cells from the corner of its own; see ``decode_yolo``."""
    within = codes_xy.sigmoid()
    return within if centre_reach == 1 else within * centre_reach - (centre_reach - 1) / 2


def decode_yolo(
    codes: Tensor, cells_xy: Tensor, anchors_wh: Tensor, stride: int, *, centre_reach: float = 1.0
) -> Tensor:
    """Raw YOLO codes to boxes: centre = (reach(sigmoid(txy)) + cell) * stride, size = anchor * exp(twh).

    Computed in float32 whatever comes in: bfloat16 would round coordinates near 700 to multiples of 4 pixels.

    Args:
        codes: (..., 4) tx, ty, tw, th; the sizes are cut at MAX_LOG_SCALE. One that is not finite gives a box that is
            not, either.
        cells_xy: (..., 2) column and row of each prediction's cell.
        anchors_wh: (..., 2) in pixels.
        stride: Pixels per cell.
        centre_reach: Width in cells of the square around its cell that a prediction's centre may lie in. With 1 it lies
            in the cell (YOLOv2); with 2 also in the near halves of its neighbours (Bochkovskiy et al.: "YOLOv4").

    Returns:
        (..., 4) xyxy in pixels, not clipped to the image.
    """
    codes = codes.float()
    centre = (centre_offset(codes[..., :2], centre_reach) + cells_xy.float()) * stride
    size = anchors_wh.float() * codes[..., 2:].clamp(max=MAX_LOG_SCALE).exp()
    # 0 * inf is NaN, where sigmoid, cut and exp give a box that looks like any other.
    return cxcywh_to_xyxy(torch.cat((centre, size), dim=-1)) + 0 * codes


def encode_ssd(boxes_xyxy: Tensor, priors_cxcywh: Tensor, variances: tuple[float, float] = SSD_VARIANCES) -> Tensor:
    """Boxes (..., 4), with an area, to SSD codes (..., 4): the inverse of ``decode_ssd``."""
    boxes = xyxy_to_cxcywh(boxes_xyxy)
    shift = (boxes[..., :2] - priors_cxcywh[..., :2]) / priors_cxcywh[..., 2:]
    scale = (boxes[..., 2:] / priors_cxcywh[..., 2:]).log()
    return torch.cat((shift / variances[0], scale / variances[1]), dim=-1)


def decode_ssd(codes: Tensor, priors_cxcywh: Tensor, variances: tuple[float, float] = SSD_VARIANCES) -> Tensor:
    """SSD codes to boxes: centre = prior's + its size * txy * variance, size = prior's * exp(twh * variance).

    Computed in float32 whatever comes in, as ``decode_yolo`` is.

    Args:
        codes: (..., 4) tx, ty, tw, th; the logs of sizes are cut at MAX_LOG_SCALE. One that is not finite gives a box
            that is not, either.
        priors_cxcywh: (..., 4) in pixels.
        variances: Of centres and of sizes: what a code of 1 stands for.

    Returns:
        (..., 4) xyxy in pixels, not clipped to the image.
    """
    codes, priors = codes.float(), priors_cxcywh.float()
    centre = priors[..., :2] + priors[..., 2:] * codes[..., :2] * variances[0]
    size = priors[..., 2:] * (codes[..., 2:] * variances[1]).clamp(max=MAX_LOG_SCALE).exp()
    return cxcywh_to_xyxy(torch.cat((centre, size), dim=-1)) + 0 * codes


def class_wise_suppression(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression, each class by itself.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        labels: (N,) class of each box; boxes of different classes never suppress each other.
        iou_threshold: A box is dropped when its IoU with a better one of its class is larger.

    Returns:
        Indices of the boxes kept, best score first, int64.
    """
    if len(boxes_xyxy) == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes_xyxy.device)
    # batched_nms keeps classes apart by shifting them past the largest coordinate, which needs non-negative ones.
    boxes = boxes_xyxy.float()
    return batched_nms(boxes - boxes.min(), scores.float(), labels, iou_threshold)
