"""The anchor loss in closed form: focal terms, box errors, and who is left alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss

from perception.boxes import decode_yolo, encode_yolo, yolo_targets
from perception.errors import ConfigError, PerceptionError
from perception.interfaces import NetworkOutput
from perception.networks.anchors import AnchorLayout, prediction_grid
from training.data.sample import Sample
from training.detection_loss.cells import DETECTION_NAMES, DetectionLossConfig, detection_terms
from training.matching.cells import MorePositives, assign

ANCHORS = torch.tensor([[8.0, 20.0], [20.0, 10.0], [30.0, 24.0]])
LAYOUT = AnchorLayout(anchors_wh=ANCHORS, anchors_per_branch=1, stride=16, feature_hw=(2, 3))
GRID = prediction_grid(LAYOUT.feature_hw, branches=3, anchors_per_branch=1)
ONE = torch.tensor(1.0)
CLASSES = 3


def sample(boxes: list[list[float]], labels: list[int], ignore: list[list[float]] | None = None) -> Sample:
    return Sample(
        image=torch.zeros(3, 32, 48, dtype=torch.uint8),
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        ignore_boxes=torch.tensor(ignore or []).reshape(-1, 4),
    )


def outputs(objectness: Tensor, class_logits: Tensor, codes: Tensor) -> NetworkOutput:
    return NetworkOutput(
        boxes=decode_yolo(codes, GRID.cells_xy, ANCHORS[GRID.anchor], LAYOUT.stride),
        objectness=objectness,
        class_logits=class_logits,
        mask_logits=torch.zeros(len(objectness), 0, 32, 48),
        box_codes=codes,
    )


def random_output(images: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> NetworkOutput:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(), (CLASSES,), (4,)]
    return outputs(
        *(torch.randn(images, LAYOUT.predictions, *size, generator=generator, dtype=dtype) for size in sizes)
    )


def compute(
    output: NetworkOutput, samples: list[Sample], config: DetectionLossConfig | None = None
) -> dict[str, Tensor]:
    return detection_terms(output, samples, LAYOUT, config or DetectionLossConfig(), per_image=ONE)


def focal(logit: float, positive: bool, alpha: float | None) -> float:
    probability = 1 / (1 + math.exp(-logit))
    if positive:
        return -(1 if alpha is None else alpha) * (1 - probability) ** 2 * math.log(probability)
    return -(1 if alpha is None else 1 - alpha) * probability**2 * math.log(1 - probability)


CAR = [17.0, 3.0, 37.0, 12.0]  # centre (27, 7.5): cell (1, 0); 20x9: anchor 1
CAR_PREDICTION = 6 + 1


def test_focal_loss_of_torchvision_is_the_papers() -> None:
    for logit in (-4.0, -0.3, 0.0, 2.5):
        for positive in (True, False):
            for alpha in (0.25, None):
                ours = sigmoid_focal_loss(
                    torch.tensor(logit), torch.tensor(float(positive)), -1 if alpha is None else alpha, 2.0
                )
                assert ours.item() == pytest.approx(focal(logit, positive, alpha), rel=1e-5)


def test_terms_in_closed_form() -> None:
    output = random_output(images=2)
    samples = [sample([CAR], [2]), sample([], [])]
    # Far from the car, so that no prediction is left alone.
    output = output._replace(boxes=torch.zeros_like(output.boxes))
    terms = compute(output, samples)
    assert tuple(sorted(terms)) == tuple(sorted(DETECTION_NAMES))

    logits = output.objectness.flatten().tolist()
    objectness = sum(focal(logit, index == CAR_PREDICTION, 0.25) for index, logit in enumerate(logits))
    assert terms['detection_objectness'].item() == pytest.approx(objectness, rel=1e-5)

    class_logits = output.class_logits[0, CAR_PREDICTION].tolist()
    expected = sum(focal(logit, label == 2, None) for label, logit in enumerate(class_logits))
    assert terms['detection_class'].item() == pytest.approx(expected, rel=1e-5)

    assert output.box_codes is not None
    tx, ty, tw, th = output.box_codes[0, CAR_PREDICTION].tolist()
    errors = (
        torch.tensor([tx, ty]).sigmoid() - torch.tensor([27 / 16 - 1, 7.5 / 16]),
        torch.tensor([tw - math.log(20 / 20), th - math.log(9 / 10)]),
    )
    box = sum(error.square().sum().item() for error in errors) * (2 - 20 * 9 / (32 * 48))
    assert terms['detection_box'].item() == pytest.approx(box, rel=1e-5)
    assert terms['detection'].item() == pytest.approx(objectness + expected + box, rel=1e-5)


def test_sum_over_images_is_scaled_once() -> None:
    output, samples = random_output(images=2), [sample([CAR], [0]), sample([CAR], [1])]
    whole = compute(output, samples)
    half = detection_terms(output, samples, LAYOUT, DetectionLossConfig(), per_image=torch.tensor(0.5))
    for name in DETECTION_NAMES:
        assert half[name].item() == pytest.approx(whole[name].item() / 2)


@pytest.mark.parametrize('kind', ['squared', 'giou'])
def test_exact_boxes_have_no_box_loss(kind: str) -> None:
    samples = [sample([CAR, [1.0, 2.0, 12.0, 30.0]], [0, 1])]
    assert samples[0].boxes is not None
    positives = assign([samples[0].boxes], LAYOUT)
    codes = torch.zeros(1, LAYOUT.predictions, 4)
    codes[0, positives.prediction] = encode_yolo(
        samples[0].boxes[positives.object], positives.cells_xy, positives.anchors_wh, LAYOUT.stride
    )
    output = outputs(torch.zeros(1, LAYOUT.predictions), torch.zeros(1, LAYOUT.predictions, CLASSES), codes)
    terms = compute(output, samples, DetectionLossConfig(box_loss=kind))  # type: ignore[arg-type]
    assert terms['detection_box'].item() == pytest.approx(0, abs=1e-5)


def test_giou_is_torchvisions() -> None:
    output = random_output()
    terms = compute(output, [sample([CAR], [0])], DetectionLossConfig(box_loss='giou'))
    expected = 1 - generalized_box_iou(output.boxes[0, CAR_PREDICTION][None], torch.tensor([CAR])).item()
    assert terms['detection_box'].item() == pytest.approx(expected, rel=1e-5)


def gradient_of_objectness(output: NetworkOutput, samples: list[Sample]) -> Tensor:
    objectness = output.objectness.clone().requires_grad_()
    compute(output._replace(objectness=objectness), samples)['detection'].backward()
    assert objectness.grad is not None
    return objectness.grad


def test_good_boxes_of_other_predictions_are_left_alone_but_never_the_positive() -> None:
    output = random_output()
    boxes = torch.zeros_like(output.boxes)
    boxes[0, [0, 11, CAR_PREDICTION]] = torch.tensor(CAR)
    gradient = gradient_of_objectness(output._replace(boxes=boxes), [sample([CAR], [0])])[0]
    assert gradient[[0, 11]].tolist() == [0, 0]
    assert gradient[CAR_PREDICTION] < 0
    others = [index for index in range(LAYOUT.predictions) if index not in (0, 11, CAR_PREDICTION)]
    assert (gradient[others] > 0).all()


def test_regions_are_left_alone() -> None:
    output = random_output()
    everywhere = sample([], [], ignore=[[0.0, 0.0, 48.0, 32.0]])
    assert (gradient_of_objectness(output, [everywhere]) == 0).all()
    assert (gradient_of_objectness(output, [sample([], [])]) > 0).all()


def test_learned_by_every_branch() -> None:
    output = random_output()._replace(boxes=torch.zeros(1, LAYOUT.predictions, 4))
    once, often = (
        compute(output, [sample([CAR], [0])], DetectionLossConfig(assignment=rule))  # type: ignore[arg-type]
        for rule in ('scale_aware', 'every_branch')
    )
    assert often['detection_class'] > once['detection_class']
    labels = output.class_logits[0, [1, 7, 13]]
    expected = sum(focal(logit, label == 0, None) for row in labels.tolist() for label, logit in enumerate(row))
    assert often['detection_class'].item() == pytest.approx(expected, rel=1e-5)


def test_weights_of_the_terms() -> None:
    output, samples = random_output(), [sample([CAR], [0])]
    plain = compute(output, samples)
    config = DetectionLossConfig(objectness_weight=2.0, class_weight=3.0, box_weight=5.0)
    weighted = compute(output, samples, config)
    for name, weight in zip(DETECTION_NAMES[1:], (2, 3, 5), strict=True):
        assert weighted[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    start = random_output(dtype=torch.float64)
    samples = [sample([CAR, [1.0, 2.0, 12.0, 30.0]], [0, 1])]

    def loss(objectness: Tensor, class_logits: Tensor, codes: Tensor) -> Tensor:
        # Decoded boxes are held, since they decide only who is left alone.
        return compute(start._replace(objectness=objectness, class_logits=class_logits, box_codes=codes), samples)[
            'detection'
        ]

    assert start.box_codes is not None
    inputs = tuple(x.clone().requires_grad_() for x in (start.objectness, start.class_logits, start.box_codes))
    assert torch.autograd.gradcheck(loss, inputs)


def test_evaluation_mode_is_named() -> None:
    with pytest.raises(PerceptionError, match='train'):
        compute(random_output()._replace(box_codes=None), [sample([CAR], [0])])


@pytest.mark.parametrize(
    'setting',
    [
        {'assignment': 'any'},
        {'box_loss': 'l2'},
        {'ignore_iou': 0.0},
        {'box_weight': -1.0},
        {'focal_gamma': -2.0},
        {'focal_alpha': 1.5},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        replace(DetectionLossConfig(), **setting)  # type: ignore[arg-type]


def test_objectness_that_learns_the_overlap_is_least_there() -> None:
    """The quality focal loss in closed form, and where it has its minimum."""
    config = DetectionLossConfig(objectness_target='iou', box_loss='giou')
    output = random_output(seed=4)
    (decoded,) = output.boxes[:, CAR_PREDICTION]
    overlap = float(box_iou(decoded[None], torch.tensor([CAR])))
    assert 0.05 < overlap < 0.95, 'the drawn prediction covers a part of the car'
    others = replace(config, objectness_target='one')
    background = compute(output, [sample([CAR], [0])], others)['detection_objectness'] - focal(
        float(output.objectness[0, CAR_PREDICTION]), True, 0.25
    )

    def at(logit: float) -> float:
        objectness = output.objectness.clone()
        objectness[0, CAR_PREDICTION] = logit
        moved = output._replace(objectness=objectness)
        return float(compute(moved, [sample([CAR], [0])], config)['detection_objectness'] - background)

    best = math.log(overlap / (1 - overlap))
    for logit in (-2.0, 0.5, best):
        probability = 1 / (1 + math.exp(-logit))
        entropy = -(overlap * math.log(probability) + (1 - overlap) * math.log(1 - probability))
        assert at(logit) == pytest.approx(0.25 * abs(overlap - probability) ** 2 * entropy, abs=1e-4)
    assert at(best) == pytest.approx(0, abs=1e-5)


def test_focal_and_quality_focal_loss_agree_on_perfect_boxes() -> None:
    positives = assign([torch.tensor([CAR])], LAYOUT)
    output = random_output(seed=1)
    codes = output.box_codes.clone()  # type: ignore[union-attr]
    codes[0, positives.prediction] = encode_yolo(
        torch.tensor([CAR]), positives.cells_xy, positives.anchors_wh, LAYOUT.stride
    )
    output = outputs(output.objectness, output.class_logits, codes)
    one, overlap = (
        compute(output, [sample([CAR], [0])], DetectionLossConfig(objectness_target=target))  # type: ignore[arg-type]
        for target in ('one', 'iou')
    )
    torch.testing.assert_close(one['detection_objectness'], overlap['detection_objectness'], rtol=1e-4, atol=1e-5)


def test_centres_beyond_the_cell_take_a_network_that_can_say_them() -> None:
    config = DetectionLossConfig(more_positives_iou=0.2, neighbour_cells=True)
    with pytest.raises(ConfigError, match='centre_reach of 2; it has 1'):
        compute(random_output(), [sample([CAR], [0])], config)
    with pytest.raises(ConfigError, match='set more_positives_iou below 1'):
        DetectionLossConfig(neighbour_cells=True)
    far = replace(LAYOUT, centre_reach=2.0)
    codes = torch.zeros(1, LAYOUT.predictions, 4)
    positives = assign([torch.tensor([CAR])], far, more=MorePositives(anchor_iou=0.2, neighbours=True))
    assert len(positives.prediction) > 1
    targets = yolo_targets(torch.tensor([CAR]), positives.cells_xy, positives.anchors_wh, 16)
    codes[0, positives.prediction] = torch.cat((((targets[:, :2] + 0.5) / 2).logit(), targets[:, 2:]), dim=1)
    boxes = decode_yolo(codes, GRID.cells_xy, ANCHORS[GRID.anchor], 16, centre_reach=2.0)
    output = random_output()._replace(box_codes=codes, boxes=boxes)
    for kind in ('squared', 'giou'):
        terms = detection_terms(output, [sample([CAR], [0])], far, replace(config, box_loss=kind), per_image=ONE)
        assert float(terms['detection_box']) == pytest.approx(0, abs=1e-4)
