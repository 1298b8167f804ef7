"""Assignment against a plain loop, collisions, and what is left alone."""

import pytest
import torch
from drawn_scenes import IMAGE_HW, build_narrow_network, draw_scene, stack_images
from torch import Tensor

from perception.boxes import cxcywh_to_xyxy, decode_yolo, encode_yolo, pairwise_iou, xyxy_to_cxcywh
from perception.networks.anchors import AnchorLayout, prediction_grid
from training.matching.cells import (
    AssignmentRule,
    MorePositives,
    Positives,
    assign,
    ignored_predictions,
    overlaps_any,
)

ANCHORS = torch.tensor(
    [
        [5.0, 12.0], [12.0, 9.0], [9.0, 26.0],
        [22.0, 16.0], [17.0, 46.0], [38.0, 26.0],
        [66.0, 46.0], [35.0, 90.0], [130.0, 90.0],
    ]
)  # fmt: skip
LAYOUT = AnchorLayout(anchors_wh=ANCHORS, anchors_per_branch=3, stride=16, feature_hw=(4, 6))


def random_boxes(count: int, seed: int, layout: AnchorLayout = LAYOUT) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    height, width = (side * layout.stride for side in layout.feature_hw)
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    sizes = torch.rand(count, 2, generator=generator) ** 2 * 100 + 2
    return cxcywh_to_xyxy(torch.cat((centres, sizes), dim=1))


def size_iou(first: list[float], second: list[float]) -> float:
    shared = min(first[0], second[0]) * min(first[1], second[1])
    return shared / (first[0] * first[1] + second[0] * second[1] - shared)


def oracle(boxes: list[Tensor], layout: AnchorLayout, rule: AssignmentRule) -> set[tuple[int, int, int]]:
    """(image, object of the image, prediction), by plain loops over the words of the rule."""
    height, width = layout.feature_hw
    per_branch = layout.anchors_per_branch
    found = set()
    for image, of_image in enumerate(boxes):
        claims = []  # (object, cell index, anchors from best to worst with their IoU)
        for index, (x, y, w, h) in enumerate(xyxy_to_cxcywh(of_image).tolist()):
            column, row = min(int(x // layout.stride), width - 1), min(int(y // layout.stride), height - 1)
            overlaps = [size_iou([w, h], anchor) for anchor in layout.anchors_wh.tolist()]
            best = max(range(len(overlaps)), key=lambda a: overlaps[a])
            branches = [best // per_branch] if rule == 'scale_aware' else range(len(overlaps) // per_branch)
            for branch in branches:
                own = range(branch * per_branch, (branch + 1) * per_branch)
                ranked = sorted(own, key=lambda a: -overlaps[a])
                claims.append((index, (row, column), [(a, overlaps[a]) for a in ranked]))
        taken = set()
        for wish in range(per_branch):
            for claim in sorted(claims, key=lambda c: -c[2][wish][1]):
                index, (row, column), ranked = claim
                anchor = ranked[wish][0]
                if (row, column, anchor) not in taken:
                    taken.add((row, column, anchor))
                    cell = (anchor // per_branch * height + row) * width + column
                    found.add((image, index, cell * per_branch + anchor % per_branch))
                    claims.remove(claim)
    return found


def as_set(positives: Positives, boxes: list[Tensor]) -> set[tuple[int, int, int]]:
    first = [sum(len(of_image) for of_image in boxes[:image]) for image in range(len(boxes))]
    rows = zip(positives.image.tolist(), positives.object.tolist(), positives.prediction.tolist(), strict=True)
    return {(image, index - first[image], prediction) for image, index, prediction in rows}


@pytest.mark.parametrize('rule', ['scale_aware', 'every_branch'])
@pytest.mark.parametrize('seed', range(5))
def test_assignment_is_that_of_a_plain_loop(rule: AssignmentRule, seed: int) -> None:
    boxes = [random_boxes(count, 10 * seed + count) for count in (0, 1, 7, 150, 30)]
    positives = assign(boxes, LAYOUT, rule)
    result = as_set(positives, boxes)
    assert len(result) == len(positives.image)
    assert result == oracle(boxes, LAYOUT, rule)


def test_positives_have_the_documented_shapes_and_agree_with_the_grid() -> None:
    boxes = [random_boxes(4, 1), random_boxes(3, 2)]
    positives = assign(boxes, LAYOUT)
    count = len(positives.image)
    assert [tuple(part.shape) for part in positives] == [(count,)] * 3 + [(count, 2)] * 2
    grid = prediction_grid(LAYOUT.feature_hw, branches=3, anchors_per_branch=3)
    assert torch.equal(grid.cells_xy[positives.prediction], positives.cells_xy)
    assert torch.equal(ANCHORS[grid.anchor[positives.prediction]], positives.anchors_wh)


def test_layout_follows_the_network() -> None:
    network = build_narrow_network()
    layout = network.prediction_layout(IMAGE_HW)
    output = network(stack_images([draw_scene(), draw_scene(4)]))
    assert output.objectness.shape == (2, layout.predictions)
    assert layout.image_area == IMAGE_HW[0] * IMAGE_HW[1]


def test_codes_of_the_assigned_prediction_decode_to_the_box() -> None:
    boxes = random_boxes(20, 3)
    positives = assign([boxes], LAYOUT)
    wanted = boxes[positives.object]
    codes = encode_yolo(wanted, positives.cells_xy, positives.anchors_wh, LAYOUT.stride)
    decoded = decode_yolo(codes, positives.cells_xy, positives.anchors_wh, LAYOUT.stride)
    torch.testing.assert_close(decoded, wanted, rtol=0, atol=2e-3)


@pytest.mark.parametrize('anchor', range(9))
def test_a_box_of_an_anchors_size_is_learned_by_that_anchor_alone(anchor: int) -> None:
    box = cxcywh_to_xyxy(torch.cat((torch.tensor([40.0, 24.0]), ANCHORS[anchor])))[None]
    positives = assign([box], LAYOUT)
    assert positives.cells_xy.tolist() == [[2, 1]]
    assert positives.anchors_wh.tolist() == [ANCHORS[anchor].tolist()]
    every = assign([box], LAYOUT, 'every_branch')
    assert len(every.image) == 3
    assert ANCHORS[anchor].tolist() in every.anchors_wh.tolist()


def boxes_at(centre: tuple[float, float], sizes: list[tuple[float, float]]) -> Tensor:
    return cxcywh_to_xyxy(torch.tensor([[*centre, *size] for size in sizes]))


def test_of_colliding_objects_the_best_fit_wins_and_the_other_stays_in_its_branch() -> None:
    # Both fit anchor 5 (38x26) best; the loser's second choice of all nine is 6 (66x46), in another branch.
    boxes = boxes_at((40, 40), [(46, 32), (39, 27)])
    positives = assign([boxes], LAYOUT)
    anchor_of = dict(zip(positives.object.tolist(), positives.anchors_wh.tolist(), strict=True))
    assert anchor_of == {1: [38.0, 26.0], 0: [17.0, 46.0]}


def test_an_object_without_a_free_anchor_is_left_out() -> None:
    boxes = boxes_at((40, 40), [(38, 26), (39, 26), (40, 26), (41, 26)])
    positives = assign([boxes], LAYOUT)
    assert sorted(positives.object.tolist()) == [0, 1, 2]
    elsewhere = assign([boxes[:3], boxes[3:]], LAYOUT)
    assert len(elsewhere.image) == 4


def test_a_second_wish_never_displaces_a_first() -> None:
    # Object 0 loses anchor 5 to object 1; its second wish, anchor 3, is the first of object 2, a far worse fit.
    boxes = boxes_at((40, 40), [(37, 26), (38, 26), (100, 4)])
    positives = assign([boxes], LAYOUT)
    anchor_of = dict(zip(positives.object.tolist(), positives.anchors_wh.tolist(), strict=True))
    assert anchor_of[2] == [22.0, 16.0]
    assert anchor_of[1] == [38.0, 26.0]
    assert anchor_of[0] == [17.0, 46.0]


def test_the_order_of_the_objects_does_not_matter() -> None:
    boxes = random_boxes(80, 4)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    straight, shuffled = assign([boxes], LAYOUT), assign([boxes[order]], LAYOUT)
    pairs = set(zip(straight.object.tolist(), straight.prediction.tolist(), strict=True))
    assert pairs == set(zip(order[shuffled.object].tolist(), shuffled.prediction.tolist(), strict=True))


def test_centres_on_the_far_edges_stay_in_the_grid() -> None:
    positives = assign([boxes_at((96, 64), [(20, 20)])], LAYOUT)
    assert positives.cells_xy.tolist() == [[5, 3]]


@pytest.mark.parametrize('rule', ['scale_aware', 'every_branch'])
def test_images_without_objects_have_no_positives(rule: AssignmentRule) -> None:
    assert len(assign([torch.zeros(0, 4), torch.zeros(0, 4)], LAYOUT, rule).image) == 0


@pytest.mark.parametrize('iou', [0.3, 0.5, 0.7])
def test_overlaps_any_is_a_comparison_of_pairwise_iou(iou: float) -> None:
    predicted, boxes = random_boxes(2000, 5), random_boxes(25, 6)
    expected = pairwise_iou(predicted, boxes).amax(dim=1) > iou
    assert 0 < expected.sum() < len(expected)
    assert torch.equal(overlaps_any(predicted, boxes, iou), expected)


def test_overlap_of_exactly_the_threshold_is_background() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    assert not overlaps_any(torch.tensor([[0.0, 0.0, 10.0, 5.0]]), box, 0.5)
    assert overlaps_any(torch.tensor([[0.0, 0.0, 10.0, 5.1]]), box, 0.5)


def test_predictions_on_objects_and_in_regions_are_ignored_image_by_image() -> None:
    predicted = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [80.0, 0.0, 90.0, 8.0]])
    none = torch.zeros(0, 4)
    objects = torch.tensor([[1.0, 1.0, 10.0, 10.0]])
    # The centre of the second prediction is in the region, only a corner of the third is.
    region = torch.tensor([[54.0, 54.0, 100.0, 56.0], [85.0, 5.0, 100.0, 20.0]])
    ignored = ignored_predictions(predicted.expand(3, 3, 4), [objects, none, none], [none, region, none], iou=0.5)
    assert ignored.shape == (3, 3)
    assert ignored.tolist() == [[True, False, False], [False, True, False], [False, False, False]]


def more_oracle(boxes: Tensor, layout: AnchorLayout, more: MorePositives, taken: set[int]) -> dict[int, int]:
    """Object by prediction of one image, by plain loops over the words of the rule."""
    height, width = layout.feature_hw
    found: dict[int, tuple[float, int]] = {}
    for index, (x, y, w, h) in enumerate(xyxy_to_cxcywh(boxes).tolist()):
        column, row = min(int(x // layout.stride), width - 1), min(int(y // layout.stride), height - 1)
        cells = [(row, column)]
        if more.neighbours:
            cells.append((row, column + (-1 if x / layout.stride - column < 0.5 else 1)))
            cells.append((row + (-1 if y / layout.stride - row < 0.5 else 1), column))
        for anchor, size in enumerate(layout.anchors_wh.tolist()):
            overlap = size_iou([w, h], size)
            if overlap <= more.anchor_iou:
                continue
            for cell_row, cell_column in cells:
                if not (0 <= cell_row < height and 0 <= cell_column < width):
                    continue
                per_branch = layout.anchors_per_branch
                cell = (anchor // per_branch * height + cell_row) * width + cell_column
                prediction = cell * per_branch + anchor % per_branch
                if prediction not in taken and overlap > found.get(prediction, (0.0, -1))[0]:
                    found[prediction] = (overlap, index)
    return {prediction: index for prediction, (_, index) in found.items()}


@pytest.mark.parametrize('neighbours', [False, True])
@pytest.mark.parametrize(('count', 'seed'), [(0, 0), (1, 1), (6, 2), (40, 3)])
def test_more_positives_against_plain_loops(count: int, seed: int, neighbours: bool) -> None:
    boxes = random_boxes(count, seed)
    more = MorePositives(anchor_iou=0.3, neighbours=neighbours)
    own, found = assign([boxes], LAYOUT), assign([boxes], LAYOUT, more=more)
    first = len(own.prediction)
    for before, after in zip(own, found, strict=True):
        assert torch.equal(after[:first], before), "the objects' own come first and stay"
    added = dict(zip(found.prediction[first:].tolist(), found.object[first:].tolist(), strict=True))
    assert added == more_oracle(boxes, LAYOUT, more, set(own.prediction.tolist()))
    assert len(set(found.prediction.tolist())) == len(found.prediction)
    grid = prediction_grid(LAYOUT.feature_hw, branches=3, anchors_per_branch=3)
    assert torch.equal(grid.cells_xy[found.prediction], found.cells_xy)
    assert torch.equal(ANCHORS[grid.anchor[found.prediction]], found.anchors_wh)


def test_a_neighbour_can_say_where_the_object_is() -> None:
    boxes = random_boxes(30, 5)
    found = assign([boxes], LAYOUT, more=MorePositives(anchor_iou=0.2, neighbours=True))
    offsets = xyxy_to_cxcywh(boxes[found.object])[:, :2] / LAYOUT.stride - found.cells_xy
    assert ((offsets >= -0.5) & (offsets <= 1.5)).all()
    assert ((offsets < 0) | (offsets > 1)).any()
