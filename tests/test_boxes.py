"""Box formats, overlaps, the YOLO code and suppression against plain loops."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from perception.boxes import (
    MAX_LOG_SCALE,
    class_wise_suppression,
    cxcywh_to_xyxy,
    decode_ssd,
    decode_yolo,
    encode_ssd,
    encode_yolo,
    paired_iou,
    pairwise_iou,
    pairwise_size_iou,
    xyxy_to_cxcywh,
    yolo_targets,
)


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 100
    return torch.cat((low, low + 1 + torch.rand(count, 2, generator=generator) * 50), dim=1)


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def test_formats_are_inverse() -> None:
    assert xyxy_to_cxcywh(torch.tensor([[10.0, 20.0, 30.0, 60.0]])).tolist() == [[20, 40, 20, 40]]
    boxes = random_boxes(50)
    assert torch.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, atol=1e-4)


def test_pairwise_iou() -> None:
    boxes, others = random_boxes(8), random_boxes(11, seed=1)
    expected = [[iou(a, b) for b in others.tolist()] for a in boxes.tolist()]
    overlaps = pairwise_iou(boxes, others)
    assert overlaps.shape == (8, 11)
    np.testing.assert_allclose(overlaps.numpy(), expected, atol=1e-5)


def test_iou_of_empty_boxes_is_zero() -> None:
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert pairwise_size_iou(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0.0]]


def test_size_iou_is_iou_on_one_centre() -> None:
    sizes, others = torch.rand(4, 2) * 30 + 1, torch.rand(9, 2) * 30 + 1
    expected = pairwise_iou(torch.cat((-sizes / 2, sizes / 2), 1), torch.cat((-others / 2, others / 2), 1))
    assert pairwise_size_iou(sizes, others).shape == (4, 9)
    assert torch.allclose(pairwise_size_iou(sizes, others), expected, atol=1e-5)


def test_decode_yolo_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    codes = generator.normal(0, 2, (2, 20, 4)).astype(np.float32)
    codes[0, 0, 2:] = 9  # beyond the largest scale
    cells = generator.integers(0, 12, (20, 2))
    anchors = generator.uniform(4, 100, (20, 2)).astype(np.float32)
    expected = np.zeros((2, 20, 4))
    for image in range(2):
        for index in range(20):
            tx, ty, tw, th = (float(value) for value in codes[image, index])
            x = (1 / (1 + math.exp(-tx)) + cells[index, 0]) * 16
            y = (1 / (1 + math.exp(-ty)) + cells[index, 1]) * 16
            w = anchors[index, 0] * math.exp(min(tw, 4.0))
            h = anchors[index, 1] * math.exp(min(th, 4.0))
            expected[image, index] = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    boxes = decode_yolo(torch.tensor(codes), torch.tensor(cells), torch.tensor(anchors), 16)
    assert boxes.shape == (2, 20, 4)
    np.testing.assert_allclose(boxes.numpy(), expected, rtol=1e-4, atol=1e-3)


def test_yolo_codes_are_inverse() -> None:
    boxes = random_boxes(40)
    cells = (xyxy_to_cxcywh(boxes)[:, :2] / 16).floor()
    anchors = torch.rand(40, 2) * 40 + 5
    codes = encode_yolo(boxes, cells, anchors, 16)
    assert torch.allclose(decode_yolo(codes, cells, anchors, 16), boxes, atol=1e-2)
    targets = yolo_targets(boxes, cells, anchors, 16)
    assert targets[:, :2].min() >= 0
    assert targets[:, :2].max() < 1
    assert torch.allclose(torch.cat((codes[:, :2].sigmoid(), codes[:, 2:]), 1), targets, atol=1e-4)


def test_decode_keeps_precision_and_range_in_half_types() -> None:
    codes = torch.tensor([[0.0, 0.0, 100.0, 0.0]], dtype=torch.bfloat16)
    boxes = decode_yolo(codes, torch.tensor([[43, 3]]), torch.tensor([[10.0, 8.0]]), 16)
    assert boxes.dtype == torch.float32
    half = 5 * math.exp(MAX_LOG_SCALE)
    assert boxes[0].tolist() == pytest.approx([696 - half, 52, 696 + half, 60])


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', range(4))
def test_a_code_that_is_not_finite_gives_no_box(place: int, value: float) -> None:
    codes = torch.zeros(2, 4)
    codes[0, place] = value
    boxes = decode_yolo(codes, torch.zeros(2, 2), torch.ones(2, 2), 16)
    assert boxes.isfinite().all(dim=1).tolist() == [False, True]


def test_suppression_against_a_loop() -> None:
    boxes = random_boxes(60) - 80  # negative coordinates included
    scores, labels = torch.rand(60), torch.randint(0, 3, (60,))
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        if all(iou(boxes[index].tolist(), boxes[other].tolist()) <= 0.3 for other in rivals):
            kept.append(index)
    assert class_wise_suppression(boxes, scores, labels, 0.3).tolist() == kept
    assert 3 < len(kept) < 60


def test_suppression_of_nothing() -> None:
    kept = class_wise_suppression(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_paired_iou_is_the_diagonal() -> None:
    boxes, others = random_boxes(20, 1), random_boxes(20, 2)
    assert torch.allclose(paired_iou(boxes, others), pairwise_iou(boxes, others).diagonal(), atol=1e-6)
    empty = torch.zeros(2, 4)
    assert paired_iou(empty, empty).tolist() == [0, 0]


def test_a_centre_reaches_as_far_as_it_is_said_to() -> None:
    codes = torch.tensor([[-50.0, 50.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    cells, anchors = torch.tensor([[3, 2], [3, 2]]), torch.tensor([[8.0, 8.0]] * 2)
    for reach, low, high in ((1.0, 0.0, 1.0), (2.0, -0.5, 1.5), (3.0, -1.0, 2.0)):
        corner, middle = xyxy_to_cxcywh(decode_yolo(codes, cells, anchors, 16, centre_reach=reach))[:, :2].tolist()
        assert corner == pytest.approx([16 * (3 + low), 16 * (2 + high)])
        assert middle == pytest.approx([16 * 3.5, 16 * 2.5])


def test_ssd_codes_are_torchvisions() -> None:
    boxes, priors = random_boxes(40), random_boxes(40, seed=1)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    codes = encode_ssd(boxes, xyxy_to_cxcywh(priors))
    torch.testing.assert_close(codes, coder.encode_single(boxes, priors))
    torch.testing.assert_close(decode_ssd(codes, xyxy_to_cxcywh(priors)), coder.decode_single(codes, priors))
    torch.testing.assert_close(decode_ssd(codes, xyxy_to_cxcywh(priors)), boxes)


def test_ssd_codes_in_numbers() -> None:
    prior, box = torch.tensor([50.0, 40.0, 20.0, 10.0]), torch.tensor([48.0, 32.0, 68.0, 52.0])
    expected = [8 / 20 / 0.1, 2 / 10 / 0.1, 0.0, math.log(2) / 0.2]
    assert encode_ssd(box, prior).tolist() == pytest.approx(expected)
    assert encode_ssd(box, prior, (1.0, 1.0)).tolist() == pytest.approx([0.4, 0.2, 0.0, math.log(2)])


def test_decoded_ssd_sizes_are_cut_and_what_is_not_finite_stays_so() -> None:
    prior = torch.tensor([0.0, 0.0, 2.0, 2.0])
    low, _, high, _ = decode_ssd(torch.tensor([0.0, 0.0, 1e4, 0.0]), prior).tolist()
    assert high - low == pytest.approx(2 * math.exp(MAX_LOG_SCALE))
    assert not decode_ssd(torch.tensor([0.0, 0.0, float('inf'), 0.0]), prior).isfinite().all()
    codes = torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=torch.bfloat16)
    assert torch.equal(decode_ssd(codes, prior), decode_ssd(codes.float(), prior))
