"""Prior boxes as the SSD line published them, torchvision's as an oracle, and the head's shapes, order and softmax."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from perception.boxes import cxcywh_to_xyxy
from perception.errors import ConfigError
from perception.image import FrameGeometry
from perception.interfaces import NetworkOutput
from perception.networks.multibox import (
    MultiBoxHead,
    PriorLayout,
    level_sizes,
    prior_scales,
    prior_shapes,
    split_background,
)
from perception.postprocess import PostprocessConfig, postprocess

COARSE, FINE = {'smallest': 0.04, 'least': 0.1, 'largest': 0.95}, {'smallest': 0.02, 'least': 0.08, 'largest': 0.95}
ONE_STRIDE = {'smallest': 0.1, 'least': 0.2, 'largest': 0.95}

# Side of the input, stride, levels, scales, sides of the levels, proposals: BlitzNet's four variants.
BLITZNET = [
    (300, 4, 7, COARSE, [75, 38, 19, 10, 5, 3, 1], 45_390),
    (300, 8, 6, ONE_STRIDE, [38, 19, 10, 5, 3, 1], 11_640),
    (512, 8, 7, COARSE, [64, 32, 16, 8, 4, 2, 1], 32_766),
    (512, 4, 8, FINE, [128, 64, 32, 16, 8, 4, 2, 1], 131_070),
]


def blitznet_layout(side: int, stride: int, levels: int, scales: dict[str, float]) -> PriorLayout:
    return PriorLayout(
        image_hw=(side, side),
        levels_hw=tuple(level_sizes((side, side), stride=stride, levels=levels, pooled=True)),
        shapes=prior_shapes(prior_scales(levels, **scales)),
    )


@pytest.mark.parametrize(('side', 'stride', 'levels', 'scales', 'sides', 'proposals'), BLITZNET)
def test_proposals_are_blitznets(
    side: int, stride: int, levels: int, scales: dict[str, float], sides: list[int], proposals: int
) -> None:
    layout = blitznet_layout(side, stride, levels, scales)
    assert list(layout.levels_hw) == [(each, each) for each in sides]
    assert layout.predictions == proposals
    assert layout.priors_cxcywh().shape == (proposals, 4)


@pytest.mark.parametrize(
    ('side', 'stride', 'sides', 'proposals'),
    [(300, 8, [38, 19, 10, 5, 3, 2], 11_658), (512, 8, [64, 32, 16, 8, 4, 2], 32_760)],
)
def test_proposals_are_triplenets(side: int, stride: int, sides: list[int], proposals: int) -> None:
    levels = level_sizes((side, side), stride=stride, levels=6)
    assert levels == [(each, each) for each in sides]
    shapes = prior_shapes(prior_scales(6, **ONE_STRIDE))
    assert PriorLayout(image_hw=(side, side), levels_hw=tuple(levels), shapes=shapes).predictions == proposals


@pytest.mark.parametrize(
    ('levels', 'scales', 'squares', 'between'),
    [
        (7, COARSE, '.04 .10 .27 .44 .61 .78 .95', '.0632 .1643 .3447 .5181 .6898 .8608 1.0315'),
        (6, ONE_STRIDE, '.10 .20 .3875 .575 .7625 .95', '.1414 .2784 .4720 .6621 .8511 1.0395'),
        (8, FINE, '.02 .08 .225 .37 .515 .66 .805 .95', '.04 .1342 .2885 .4365 .583 .7289 .8745 1.0199'),
    ],
)
def test_scales_are_blitznets(levels: int, scales: dict[str, float], squares: str, between: str) -> None:
    shapes = prior_shapes(prior_scales(levels, **scales))
    for place, expected in ((0, squares), (-1, between)):
        found = [level[place] for level in shapes]
        assert all(width == height for width, height in found)
        assert [width for width, _ in found] == pytest.approx([float(word) for word in expected.split()], abs=5e-5)
    for (scale, _), *others, _ in shapes:
        assert [width / height for width, height in others] == pytest.approx([2, 1 / 2, 3, 1 / 3])
        assert [width * height for width, height in others] == pytest.approx([scale**2] * 4)


def test_priors_are_torchvisions() -> None:
    layout = blitznet_layout(*BLITZNET[0][:4])
    scales = list(prior_scales(7, **COARSE))
    theirs = DefaultBoxGenerator([[2, 3]] * 7, scales=scales, clip=False)
    maps = [torch.zeros(1, 1, *level_hw) for level_hw in layout.levels_hw]
    expected = theirs(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]  # (A, 4) xyxy
    # A cell's own come there as two squares, then 2, 1/2, 3, 1/3.
    expected = expected.unflatten(0, (-1, 6))[:, [0, 2, 3, 4, 5, 1]].flatten(0, 1)
    torch.testing.assert_close(cxcywh_to_xyxy(layout.priors_cxcywh()), expected, rtol=0, atol=1e-3)


def test_squares_stay_squares_in_a_wide_image() -> None:
    shapes = prior_shapes(prior_scales(3, smallest=0.1, least=0.25, largest=0.7))
    layout = PriorLayout(image_hw=(100, 400), levels_hw=((2, 8), (1, 4), (1, 1)), shapes=shapes)
    priors = layout.priors_cxcywh()
    assert priors[0].tolist() == pytest.approx([25, 25, 20, 20])
    assert priors[1 * 6].tolist() == pytest.approx([75, 25, 20, 20]), 'columns run before rows'
    assert priors[8 * 6].tolist() == pytest.approx([25, 75, 20, 20])
    assert priors[-1].tolist()[:2] == [200, 50]


def test_an_object_belongs_to_the_levels_whose_priors_are_of_its_size() -> None:
    layout = blitznet_layout(300, 8, 6, ONE_STRIDE)
    squares = torch.tensor([[side, side] for side in (30.0, 36.0, 60.0, 290.0, 5.0, 600.0)])
    tall, needle = torch.tensor([[34.6, 104.0]]), torch.tensor([[4.0, 400.0]])
    found = layout.levels_of(torch.cat((squares, tall, needle)), iou=0.5)
    levels = [row.nonzero().flatten().tolist() for row in found]
    assert levels[:4] == [[0], [0], [0, 1], [4, 5]]
    assert levels[4:6] == [[0], [5]], 'what is smaller or larger than all priors belongs to the nearest'
    assert levels[6] == [1], 'a prior of a third of the height has the area of the square'
    assert len(levels[7]) == 1
    assert layout.levels_of(torch.zeros(0, 2), iou=0.5).shape == (0, 6)


def head_and_levels(image_hw: tuple[int, int] = (64, 96)) -> tuple[MultiBoxHead, list[Tensor], tuple[int, int]]:
    torch.manual_seed(0)
    sizes = level_sizes(image_hw, stride=8, levels=4, pooled=True)
    head = MultiBoxHead([4, 6, 8, 8], 5, prior_shapes(prior_scales(4, **ONE_STRIDE)))
    return head, [torch.randn(2, width, *hw) for width, hw in zip((4, 6, 8, 8), sizes, strict=True)], image_hw


def test_shapes_of_the_predictions() -> None:
    head, levels, image_hw = head_and_levels()
    predictions = head(levels, image_hw)
    count = 6 * (8 * 12 + 4 * 6 + 2 * 3 + 1)
    assert predictions.boxes.shape == predictions.box_codes.shape == (2, count, 4)
    assert predictions.objectness.shape == (2, count)
    assert predictions.class_logits.shape == (2, count, 5)
    assert head.layout(image_hw, level_sizes(image_hw, stride=8, levels=4, pooled=True)).predictions == count


def test_a_prediction_is_that_of_its_level_cell_and_prior() -> None:
    head, levels, image_hw = head_and_levels()
    level, row, column, prior = 1, 2, 3, 4
    index = 6 * (8 * 12 + row * 6 + column) + prior
    predictions = head(levels, image_hw)
    codes = head.locate[level](levels[level])[:, 4 * prior : 4 * prior + 4, row, column]
    torch.testing.assert_close(predictions.box_codes[:, index], codes)
    logits = head.classify[level](levels[level])[:, 6 * prior + 1 : 6 * prior + 6, row, column]
    torch.testing.assert_close(predictions.class_logits[:, index], logits)
    expected = torch.tensor([(column + 0.5) * 16, (row + 0.5) * 16])
    layout = head.layout(image_hw, [tuple(x.shape[2:]) for x in levels])  # type: ignore[misc]
    torch.testing.assert_close(layout.priors_cxcywh()[index, :2], expected)


def test_codes_of_zero_are_the_priors() -> None:
    head, levels, image_hw = head_and_levels()
    for layer in head.locate:
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    priors = head.layout(image_hw, [tuple(x.shape[2:]) for x in levels]).priors_cxcywh()  # type: ignore[misc]
    torch.testing.assert_close(head(levels, image_hw).boxes, cxcywh_to_xyxy(priors).expand(2, -1, -1))


def test_blitznets_head_has_its_parameters() -> None:
    with torch.device('meta'):
        head = MultiBoxHead([512] * 7, 20, prior_shapes(prior_scales(7, **COARSE)))
    counts = [sum(each.numel() for each in layers.parameters()) for layers in (head.locate, head.classify)]
    assert counts == [774_312, 4_065_138]


def test_first_predictions_are_weak() -> None:
    torch.manual_seed(0)
    head = MultiBoxHead([64] * 3, 20, prior_shapes(prior_scales(3, **ONE_STRIDE)))
    head.initialize_predictions()
    for layer in (*head.locate, *head.classify):
        assert layer(torch.randn(8, 64, 8, 8))[..., 1:-1, 1:-1].var().item() == pytest.approx(0.1, rel=0.1)
        assert isinstance(layer, torch.nn.Conv2d)
        assert not layer.bias.any()


def test_scales_that_do_not_grow_are_refused() -> None:
    for levels, scales in ((2, (0.1, 0.2, 0.9)), (4, (0.0, 0.2, 0.9)), (4, (0.3, 0.2, 0.9)), (4, (0.1, 0.9, 0.9))):
        with pytest.raises(ConfigError, match=f'got {levels} levels and {scales[0]}, {scales[1]}, {scales[2]}'):
            prior_scales(levels, *scales)


def test_scores_are_the_softmax_over_background_and_classes() -> None:
    logits = 5 * torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objectness, class_logits = split_background(logits.float())
    probability = objectness.sigmoid()[..., None] * class_logits.softmax(dim=-1)
    torch.testing.assert_close(probability, logits.softmax(dim=-1)[..., 1:].float())
    torch.testing.assert_close(1 - objectness.sigmoid(), logits.softmax(dim=-1)[..., 0].float())
    # Post-processing reports that softmax, too.
    boxes = torch.tensor([[2.0, 2.0, 9.0, 9.0]]).expand(1, 9, 4)
    output = NetworkOutput(boxes, objectness, class_logits, torch.zeros(1, 2, 12, 12))
    every = PostprocessConfig(score_threshold=0.0, nms_threshold=1.0)
    frame = FrameGeometry(original_hw=(12, 12), content_hw=(12, 12))
    found = postprocess(output, [frame], every, class_activation='softmax')[0].detections
    expected = logits.softmax(dim=-1)[..., 1:].flatten().sort(descending=True).values
    torch.testing.assert_close(torch.from_numpy(found.scores), expected.float())


def test_half_precision_keeps_the_objectness() -> None:
    logits = torch.full((1, 81), 10.0)
    logits[0, 0] = 10 + math.log(80) - 0.01
    objectness, _ = split_background(logits.bfloat16())
    assert objectness.dtype == torch.float32
    assert objectness.item() == pytest.approx(10 + math.log(80) - logits[0, 0].bfloat16().item(), abs=1e-5)
