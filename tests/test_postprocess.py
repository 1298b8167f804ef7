"""Detections and masks against slow oracles in plain Python."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from perception.errors import ConfigError, NotFiniteError
from perception.image import FrameGeometry, plan_geometry
from perception.interfaces import UNLABELLED, Detections, InputSpec, NetworkOutput, Suppression
from perception.networks.multibox import SSD_SUPPRESSION
from perception.postprocess import PostprocessConfig, postprocess

Activation = Literal['sigmoid', 'softmax']
HEIGHT, WIDTH = 32, 48
IDENTITY = FrameGeometry(original_hw=(HEIGHT, WIDTH), content_hw=(HEIGHT, WIDTH))
EVERYTHING = PostprocessConfig(score_threshold=0.0, nms_threshold=1.0, max_detections=10_000, max_candidates=10_000)

Found = list[tuple[float, int, list[float]]]


def draw_output(batch: int, anchors: int, kinds: int, classes: int = 4, seed: int = 0) -> NetworkOutput:
    """Boxes inside the image that overlap a lot, and logits of all sizes."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(batch, anchors, 2, generator=random) * torch.tensor([WIDTH - 20.0, HEIGHT - 20.0]) + 10
    halves = torch.rand(batch, anchors, 2, generator=random) * 6 + 3
    return NetworkOutput(
        boxes=torch.cat((centres - halves, centres + halves), dim=-1),
        objectness=torch.randn(batch, anchors, generator=random) * 2,
        class_logits=torch.randn(batch, anchors, kinds, generator=random) * 2,
        mask_logits=torch.randn(batch, classes, HEIGHT, WIDTH, generator=random),
    )


def certain(boxes: list[list[float]], labels: list[int], scores: list[float], kinds: int = 2) -> NetworkOutput:
    """An output whose detections are the given ones: every other class of a box scores (nearly) nothing."""
    class_logits = torch.full((1, len(boxes), kinds), -30.0)
    class_logits[0, torch.arange(len(boxes)), torch.tensor(labels, dtype=torch.int64)] = 30.0
    return NetworkOutput(
        boxes=torch.tensor(boxes).reshape(1, -1, 4),
        objectness=torch.tensor([scores]).logit(),
        class_logits=class_logits,
        mask_logits=torch.zeros(1, 4, HEIGHT, WIDTH),
    )


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def oracle(
    output: NetworkOutput,
    index: int,
    config: PostprocessConfig,
    activation: Activation,
    own: Suppression = Suppression(),  # noqa: B008 - frozen
) -> Found:
    """(score, label, box) of image ``index``, best first."""
    limits = config.suppression(own)
    candidates: Found = []
    for box, objectness, logits in zip(
        output.boxes[index].tolist(),
        output.objectness[index].tolist(),
        output.class_logits[index].tolist(),
        strict=True,
    ):
        classes = softmax(logits) if activation == 'softmax' else [sigmoid(logit) for logit in logits]
        candidates += [(sigmoid(objectness) * share, label, box) for label, share in enumerate(classes)]
    candidates.sort(key=lambda candidate: -candidate[0])
    if limits.max_candidates_per_class:
        entered: dict[int, int] = {}
        best = []
        for candidate in candidates:
            label = candidate[1]
            entered[label] = entered.get(label, 0) + 1
            if entered[label] <= limits.max_candidates_per_class:
                best.append(candidate)
        candidates = best
    kept: Found = []
    for score, label, box in candidates[: limits.max_candidates or None]:
        better = [other for _, kind, other in kept if kind == label]
        if score >= config.score_threshold and all(iou(box, other) <= limits.nms_threshold for other in better):
            kept.append((score, label, box))
    if limits.max_detections_per_class:
        kept = [
            found
            for place, found in enumerate(kept)
            if sum(other[1] == found[1] for other in kept[:place]) < limits.max_detections_per_class
        ]
    return kept[: limits.max_detections]


def assert_same(found: Detections, expected: Found) -> None:
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.boxes_xyxy.shape == (len(expected), 4)
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, np.reshape([box for *_, box in expected], (-1, 4)), atol=1e-4)


def detect(
    output: NetworkOutput, config: PostprocessConfig = EVERYTHING, activation: Activation = 'sigmoid'
) -> Detections:
    results = postprocess(output, [IDENTITY] * len(output.boxes), config, class_activation=activation)
    return results[0].detections


@pytest.mark.parametrize('activation', ['sigmoid', 'softmax'])
@pytest.mark.parametrize(
    'config',
    [
        PostprocessConfig(),
        PostprocessConfig(score_threshold=0.01),
        PostprocessConfig(score_threshold=0.0, nms_threshold=0.3, max_candidates=150),
        PostprocessConfig(score_threshold=0.1, max_detections=7),
        PostprocessConfig(score_threshold=0.0, nms_threshold=0.0, max_detections=1),
        EVERYTHING,
    ],
    ids=['default', 'low', 'few candidates', 'few detections', 'one', 'everything'],
)
def test_detections_equal_the_oracle(config: PostprocessConfig, activation: Activation) -> None:
    output = draw_output(batch=3, anchors=120, kinds=3)
    results = postprocess(output, [IDENTITY] * 3, config, class_activation=activation)
    assert len(results) == 3
    for index, result in enumerate(results):
        expected = oracle(output, index, config, activation)
        assert expected
        assert_same(result.detections, expected)
        assert result.detections.boxes_xyxy.dtype == result.detections.scores.dtype == np.float32
        assert result.detections.labels.dtype == np.int64
        assert (np.diff(result.detections.scores) <= 0).all()


@pytest.mark.parametrize('score_threshold', [0.01, 0.4])
@pytest.mark.parametrize(
    'own',
    [
        Suppression(max_candidates_per_class=30, max_candidates=0),
        Suppression(max_candidates_per_class=30, max_candidates=70),
        Suppression(max_candidates_per_class=1000),
        Suppression(max_detections_per_class=4),
        Suppression(max_detections_per_class=4, max_detections=9),
        Suppression(nms_threshold=0.45, max_candidates_per_class=40, max_detections_per_class=5, max_detections=20),
        SSD_SUPPRESSION,
    ],
    ids=['entering', 'entering twice', 'more than there are', 'kept', 'kept twice', 'scaled down', 'SSD'],
)
def test_limits_of_each_class_equal_the_oracle(own: Suppression, score_threshold: float) -> None:
    output, config = draw_output(batch=2, anchors=250, kinds=5), PostprocessConfig(score_threshold=score_threshold)
    results = postprocess(output, [IDENTITY] * 2, config, class_activation='softmax', suppression=own)
    for index, result in enumerate(results):
        expected = oracle(output, index, config, 'softmax', own)
        assert_same(result.detections, expected)


def test_the_ssd_line_lets_400_of_a_class_in_and_keeps_50_of_it_and_200_in_all() -> None:
    output = draw_output(batch=1, anchors=3000, kinds=6)
    shown = PostprocessConfig(score_threshold=0.0, nms_threshold=1.0)

    def count(config: PostprocessConfig) -> list[int]:
        found = postprocess(output, [IDENTITY], config, suppression=SSD_SUPPRESSION)[0].detections
        return np.bincount(found.labels).tolist()

    assert sum(count(shown)) == 200
    assert count(replace(shown, max_detections=10_000)) == [50] * 6
    assert count(replace(shown, max_detections=10_000, max_detections_per_class=0)) == [400] * 6


def test_what_is_stated_takes_the_place_of_the_networks_own() -> None:
    own = Suppression(nms_threshold=0.45, max_detections=7, max_detections_per_class=3)
    assert PostprocessConfig().suppression(own) == own
    stated = PostprocessConfig(nms_threshold=0.0, max_detections_per_class=0).suppression(own)
    assert stated == Suppression(nms_threshold=0.0, max_detections=7, max_detections_per_class=0)


def test_default_suppression_is_that_of_the_paper() -> None:
    # Two 10 x 10 boxes that are d apart overlap by (10 - d) / (10 + d): 0.563 at d = 2.8 and 0.538 at d = 3.
    first = [0.0, 0.0, 10.0, 10.0]
    dropped = certain([first, [2.8, 0.0, 12.8, 10.0]], [0, 0], [0.9, 0.8])
    kept = certain([first, [3.0, 0.0, 13.0, 10.0]], [0, 0], [0.9, 0.8])
    assert detect(dropped, PostprocessConfig()).scores.tolist() == pytest.approx([0.9])
    assert detect(kept, PostprocessConfig()).scores.tolist() == pytest.approx([0.9, 0.8])


def test_classes_do_not_suppress_each_other() -> None:
    box = [5.0, 5.0, 15.0, 15.0]
    found = detect(certain([box, box, box], [0, 1, 1], [0.7, 0.8, 0.6]), PostprocessConfig())
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])


def test_one_box_can_be_several_classes() -> None:
    output = certain([[5.0, 5.0, 15.0, 15.0]], [0], [0.9])
    output = output._replace(class_logits=torch.tensor([[[3.0, 2.0]]]))
    assert detect(output, PostprocessConfig()).labels.tolist() == [0, 1]


def test_score_at_the_threshold_is_reported() -> None:
    output = certain([[5.0, 5.0, 15.0, 15.0]], [0], [0.5])
    score = float(detect(output).scores[0])
    assert len(detect(output, PostprocessConfig(score_threshold=score))) == 1
    assert len(detect(output, PostprocessConfig(score_threshold=score + 1e-4))) == 0


def test_equal_scores() -> None:
    apart = [[10.0 * index, 0.0, 10.0 * index + 8, 8.0] for index in range(4)]
    output = certain([*apart, *apart], [0] * 8, [0.75] * 8)
    found = detect(output, PostprocessConfig(max_detections=3))
    assert found.scores.tolist() == pytest.approx([0.75] * 3)
    assert len(np.unique(found.boxes_xyxy, axis=0)) == 3
    # Suppression leaves one of each pair, whichever of them it is.
    assert sorted(detect(output, PostprocessConfig()).boxes_xyxy.tolist()) == apart


def test_candidates_are_cut_before_suppression() -> None:
    same = [0.0, 0.0, 10.0, 10.0]
    output = certain([same, same, [20.0, 0.0, 30.0, 10.0]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert detect(output, PostprocessConfig(max_candidates=2)).scores.tolist() == pytest.approx([0.9])
    assert detect(output, PostprocessConfig(max_candidates=3)).scores.tolist() == pytest.approx([0.9, 0.7])


def test_nothing_above_the_threshold() -> None:
    found = detect(draw_output(1, 50, 3), PostprocessConfig(score_threshold=1.0))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


@pytest.mark.parametrize('activation', ['sigmoid', 'softmax'])
@pytest.mark.parametrize(('anchors', 'kinds'), [(0, 3), (5, 0), (0, 0)])
def test_without_predictions_there_is_still_a_mask(anchors: int, kinds: int, activation: Activation) -> None:
    output = draw_output(2, anchors, kinds)
    results = postprocess(output, [IDENTITY] * 2, EVERYTHING, class_activation=activation)
    for index, result in enumerate(results):
        assert result.detections.boxes_xyxy.shape == (0, 4)
        assert result.detections.scores.dtype == np.float32
        assert result.detections.labels.dtype == np.int64
        assert np.array_equal(result.mask, output.mask_logits[index].argmax(dim=0).numpy())


def test_without_segmentation_nothing_is_labelled() -> None:
    output = draw_output(1, 30, 3, classes=0)
    result = postprocess(output, [IDENTITY], PostprocessConfig(), with_confidence=True)[0]
    assert result.mask.shape == (HEIGHT, WIDTH)
    assert (result.mask == UNLABELLED).all()
    assert result.confidence is not None
    assert not result.confidence.any()
    assert_same(result.detections, oracle(output, 0, PostprocessConfig(), 'sigmoid'))


def test_background_softmax_is_objectness_and_classes() -> None:
    random = torch.Generator().manual_seed(3)
    with_background = torch.randn(1, 60, 1 + 3, generator=random) * 3
    background, foreground = with_background[..., 0], with_background[..., 1:]
    output = draw_output(1, 60, 3)._replace(
        objectness=torch.logsumexp(foreground, dim=-1) - background, class_logits=foreground
    )
    found = detect(output, activation='softmax')
    expected = with_background.double().softmax(dim=-1)[0, :, 1:].flatten().sort(descending=True).values
    np.testing.assert_allclose(found.scores, expected.numpy(), rtol=1e-5)


def test_half_precision_logits() -> None:
    output = draw_output(1, 40, 3)
    low = output._replace(
        objectness=output.objectness.bfloat16(),
        class_logits=output.class_logits.bfloat16(),
        mask_logits=output.mask_logits.bfloat16(),
    )
    rounded = low._replace(objectness=low.objectness.float(), class_logits=low.class_logits.float())
    assert_same(detect(low, PostprocessConfig()), oracle(rounded, 0, PostprocessConfig(), 'sigmoid'))
    result = postprocess(low, [IDENTITY], EVERYTHING, with_confidence=True)[0]
    assert np.array_equal(result.mask, low.mask_logits.float().argmax(dim=1)[0].numpy())


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('levels', [2, 3, 1000], ids=lambda levels: f'{levels} levels')
def test_mask_is_the_argmax_also_of_ties(layout: torch.memory_format, levels: int) -> None:
    random = torch.Generator().manual_seed(levels)
    logits = torch.randint(0, levels, (2, 11, HEIGHT, WIDTH), generator=random).float().contiguous(memory_format=layout)
    results = postprocess(draw_output(2, 4, 3)._replace(mask_logits=logits), [IDENTITY] * 2, PostprocessConfig())
    found = np.stack([result.mask for result in results])
    assert found.dtype == np.uint8
    assert np.array_equal(found, logits.argmax(dim=1).numpy())


def test_confidence_is_the_probability_of_the_best_class() -> None:
    logits = torch.randn(2, 11, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5)) * 4
    logits[1, :, 0, 0] = torch.tensor([400.0] + [-400.0] * 10)  # must not overflow
    logits[1, :, 0, 1] = 7.0  # all classes alike
    output = draw_output(2, 4, 3)._replace(mask_logits=logits)
    assert postprocess(output, [IDENTITY] * 2, EVERYTHING)[0].confidence is None
    for index, result in enumerate(postprocess(output, [IDENTITY] * 2, EVERYTHING, with_confidence=True)):
        expected = 255 * logits[index].double().softmax(dim=0).max(dim=0).values.numpy()
        assert result.confidence is not None
        assert result.confidence.shape == (HEIGHT, WIDTH)
        assert result.confidence.dtype == np.uint8
        assert np.abs(result.confidence - expected).max() <= 0.5 + 1e-3
    assert result.confidence is not None
    assert result.confidence[0, :2].tolist() == [255, round(255 / 11)]


def letterboxed(boxes: list[list[float]], mask_logits: Tensor | None = None) -> tuple[NetworkOutput, FrameGeometry]:
    """Boxes in the input of a wide image: (16, 48) in the middle of (32, 48), borders of 8 rows."""
    geometry = plan_geometry((32, 96), InputSpec(image_hw=(HEIGHT, WIDTH), resize='letterbox'))
    assert (geometry.content_hw, geometry.top, geometry.left) == ((16, 48), 8, 0)
    output = certain(boxes, [0] * len(boxes), [0.9 - index / 10 for index in range(len(boxes))])
    return (output if mask_logits is None else output._replace(mask_logits=mask_logits)), geometry


def test_boxes_in_the_border_are_dropped() -> None:
    above, half, inside, below = (
        [5.0, 0.0, 15.0, 7.5],
        [20.0, 4.0, 30.0, 12.0],
        [2.0, 10.0, 6.0, 20.0],
        [40, 25, 45, 31.0],
    )
    output, geometry = letterboxed([above, half, inside, below])
    found = postprocess(output, [geometry], PostprocessConfig())[0].detections
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])
    assert found.labels.tolist() == [0, 0]
    assert found.boxes_xyxy.tolist() == [[40, 0, 60, 8], [4, 4, 12, 24]]


def test_mask_and_confidence_come_without_the_border() -> None:
    logits = torch.zeros(1, 4, HEIGHT, WIDTH)
    logits[:, 3] = 9.0  # the border
    logits[:, :, 8:24] = 0.0
    logits[:, 1, 8:24, :24], logits[:, 2, 8:24, 24:] = 1.0, 2.0
    output, geometry = letterboxed([[0.0, 0.0, 9.0, 9.0]], logits)
    result = postprocess(output, [geometry], PostprocessConfig(), with_confidence=True)[0]
    assert result.mask.shape == (32, 96)
    assert (result.mask[:, :48] == 1).all()
    assert (result.mask[:, 48:] == 2).all()
    assert result.confidence is not None
    probabilities = [softmax([0, 0, 0, best])[3] for best in (1, 2)]
    assert result.confidence[0, [0, 95]].tolist() == [round(255 * value) for value in probabilities]


def test_every_image_has_its_own_geometry() -> None:
    output = draw_output(2, 30, 3)
    frames = [IDENTITY, FrameGeometry(original_hw=(HEIGHT * 3, WIDTH * 2), content_hw=(HEIGHT, WIDTH))]
    small, large = postprocess(output, frames, EVERYTHING)
    assert small.mask.shape == (HEIGHT, WIDTH)
    assert large.mask.shape == (HEIGHT * 3, WIDTH * 2)
    assert np.array_equal(large.mask[1::3, ::2], output.mask_logits[1].argmax(dim=0).numpy())
    expected = oracle(output, 1, EVERYTHING, 'sigmoid')
    scaled = [(score, label, [box[0] * 2, box[1] * 3, box[2] * 2, box[3] * 3]) for score, label, box in expected]
    assert_same(large.detections, scaled)


@pytest.mark.parametrize('activation', ['sigmoid', 'softmax'])
@pytest.mark.parametrize(
    ('field', 'place', 'value', 'said'),
    [
        ('mask_logits', (1, 2, 5, 7), math.nan, 'mask'),
        ('mask_logits', (1, 0, 0, 0), math.inf, 'mask'),
        ('mask_logits', (0, slice(None), 3, 3), -math.inf, 'mask'),
        ('objectness', (1, 11), math.nan, 'scores'),
        ('objectness', (1, slice(None)), -math.inf, 'scores'),
        ('objectness', (1, 11), math.inf, 'scores'),
        ('objectness', (0, 11), -math.inf, 'scores'),
        ('class_logits', (0, 11, 1), math.nan, 'scores'),
        ('class_logits', (1, slice(None)), -math.inf, 'scores'),
        ('class_logits', (0, 11, 1), math.inf, 'scores'),
        ('class_logits', (1, 11, 0), -math.inf, 'scores'),
        ('boxes', (1, 11, 2), math.nan, 'boxes'),
        ('boxes', (0, 11, 0), -math.inf, 'boxes'),
        ('boxes', (0, 11, 3), math.inf, 'boxes'),
    ],
)
def test_an_output_that_is_not_finite_is_no_empty_scene(
    field: str, place: tuple[int | slice, ...], value: float, said: str, activation: Activation
) -> None:
    output = draw_output(2, 120, 3)
    config = PostprocessConfig(score_threshold=0.5, max_candidates=5)
    postprocess(output, [IDENTITY] * 2, config, class_activation=activation)
    broken = getattr(output, field).clone()
    broken[place] = value
    with pytest.raises(NotFiniteError, match=f'gave {said} that are not finite') as caught:
        postprocess(output._replace(**{field: broken}), [IDENTITY] * 2, config, class_activation=activation)
    assert caught.value.reason == 'not_finite'


def test_certain_logits_are_finite_enough() -> None:
    output = draw_output(1, 30, 3)
    sure = torch.where(output.mask_logits > 0, 1e4, -math.inf)
    sure[:, 0] = 1.0
    output = output._replace(mask_logits=sure, objectness=output.objectness * 1e4)
    assert postprocess(output, [IDENTITY], EVERYTHING)[0].mask.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize('name', ['score_threshold', 'nms_threshold'])
@pytest.mark.parametrize('value', [-0.01, 1.01, math.nan, math.inf])
def test_thresholds_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf'{name} must lie in 0\.\.1; got {value}'):
        PostprocessConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('name', 'value', 'least'),
    [
        ('max_detections', 0, 1),
        ('max_detections', -1, 1),
        ('max_candidates', -1, 0),
        ('max_candidates_per_class', -1, 0),
        ('max_detections_per_class', -1, 0),
    ],
)
@pytest.mark.parametrize('kind', [PostprocessConfig, Suppression])
def test_counts_out_of_range_are_refused(
    kind: type[PostprocessConfig | Suppression], name: str, value: int, least: int
) -> None:
    with pytest.raises(ConfigError, match=f'{name} must be at least {least}.*; got {value}'):
        kind(**{name: value})  # type: ignore[arg-type]


def test_bounds_themselves_are_allowed() -> None:
    for value in (0.0, 1.0):
        PostprocessConfig(score_threshold=value, nms_threshold=value, max_detections=1, max_candidates=1)
