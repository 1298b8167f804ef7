"""The SSD loss against torchvision's on the same boxes, and what it leaves alone."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD

from perception.boxes import cxcywh_to_xyxy, pairwise_iou
from perception.errors import ConfigError, PerceptionError
from perception.interfaces import NetworkOutput
from perception.networks.multibox import PriorLayout, prior_scales, prior_shapes, split_background
from training.data.sample import Sample
from training.detection_loss.multi_box import (
    MULTI_BOX_NAMES,
    MultiBoxLoss,
    MultiBoxLossConfig,
    hard_negatives,
    prior_targets,
)

LAYOUT = PriorLayout(
    image_hw=(64, 96),
    levels_hw=((8, 12), (4, 6), (1, 1)),
    shapes=prior_shapes(prior_scales(3, smallest=0.1, least=0.25, largest=0.7)),
)
CLASSES = 4
CPU = torch.device('cpu')
CAR, DOG = [10.0, 10.0, 30.0, 26.0], [50.0, 20.0, 90.0, 60.0]


def sample(boxes: list[list[float]], labels: list[int], ignore: list[list[float]] | None = None) -> Sample:
    return Sample(
        image=torch.zeros(3, *LAYOUT.image_hw, dtype=torch.uint8),
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        ignore_boxes=torch.tensor(ignore or []).reshape(-1, 4),
    )


def random_sample(seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(4, 2, generator=generator) * torch.tensor([70, 40])
    boxes = torch.cat((low, low + 5 + 20 * torch.rand(4, 2, generator=generator)), dim=1)
    return sample(boxes.tolist(), torch.randint(CLASSES, (4,), generator=generator).tolist())


def raw(images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of background and classes (L, A, 1 + K), and box codes (L, A, 4)."""
    generator = torch.Generator().manual_seed(seed)
    logits, codes = (torch.randn(images, LAYOUT.predictions, size, generator=generator) for size in (1 + CLASSES, 4))
    return (3 * logits).requires_grad_(), codes.requires_grad_()


def outputs(logits: Tensor, codes: Tensor) -> NetworkOutput:
    objectness, class_logits = split_background(logits)
    masks = torch.zeros(len(logits), 0, *LAYOUT.image_hw)
    return NetworkOutput(torch.zeros_like(codes), objectness, class_logits, masks, codes)


def compute(
    output: NetworkOutput, samples: list[Sample], config: MultiBoxLossConfig | None = None
) -> dict[str, Tensor]:
    loss = MultiBoxLoss(LAYOUT, samples, config or MultiBoxLossConfig(), CPU)
    return loss.terms(output, 1 / torch.as_tensor(loss.count).clamp(min=1))


def torchvisions(
    logits: Tensor, codes: Tensor, samples: list[Sample], layout: PriorLayout = LAYOUT
) -> dict[str, Tensor]:
    anchors = cxcywh_to_xyxy(layout.priors_cxcywh())
    ssd = SimpleNamespace(box_coder=BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    targets = [{'boxes': each.boxes, 'labels': each.labels + 1} for each in samples]  # type: ignore[operator]
    matches = [SSDMatcher(0.5)(pairwise_iou(target['boxes'], anchors)) for target in targets]
    heads = {'bbox_regression': codes, 'cls_logits': logits}
    return SSD.compute_loss(ssd, targets, heads, [anchors] * len(samples), matches)  # type: ignore[arg-type]


def test_losses_and_gradients_are_torchvisions() -> None:
    for seed in range(10):
        samples = [random_sample(3 * seed + row) for row in range(3)]
        logits, codes = raw(3, seed)
        expected = torchvisions(logits, codes, samples)
        terms = compute(outputs(logits, codes), samples)
        assert set(terms) == set(MULTI_BOX_NAMES)
        torch.testing.assert_close(terms['detection_class'], expected['classification'])
        torch.testing.assert_close(terms['detection_box'], expected['bbox_regression'])
        torch.testing.assert_close(terms['detection'], sum(expected.values()))
        found = torch.autograd.grad(terms['detection'], (logits, codes))
        wanted = torch.autograd.grad(sum(expected.values()), (logits, codes))  # type: ignore[arg-type]
        torch.testing.assert_close(found, wanted)
        assert all(gradient.any() for gradient in found)


def test_losses_are_torchvisions_on_all_prior_boxes_of_blitznet300() -> None:
    layout = PriorLayout(
        image_hw=(300, 300),
        levels_hw=tuple((side, side) for side in (75, 38, 19, 10, 5, 3, 1)),
        shapes=prior_shapes(prior_scales(7, smallest=0.04, least=0.1, largest=0.95)),
    )
    assert layout.predictions == 45_390
    generator = torch.Generator().manual_seed(1)
    low = 200 * torch.rand(3, 8, 2, generator=generator)
    boxes = torch.cat((low, low + 4 + 96 * torch.rand(3, 8, 2, generator=generator) ** 2), dim=2)
    samples = [sample(of_image.tolist(), torch.arange(8).remainder(CLASSES).tolist()) for of_image in boxes]
    logits = 3 * torch.randn(3, layout.predictions, 1 + CLASSES, generator=generator)
    codes = torch.randn(3, layout.predictions, 4, generator=generator)
    expected = torchvisions(logits, codes, samples, layout)
    loss = MultiBoxLoss(layout, samples, MultiBoxLossConfig(), CPU)
    terms = loss.terms(outputs(logits, codes), 1 / loss.count)
    assert loss.count > 100
    torch.testing.assert_close(terms['detection_class'], expected['classification'])
    torch.testing.assert_close(terms['detection_box'], expected['bbox_regression'])


def test_negatives_of_the_batch_are_the_hardest_of_a_plain_list() -> None:
    samples = [random_sample(seed) for seed in range(2)] + [sample([], [], [[20.0, 0.0, 60.0, 50.0]])]
    logits, codes = raw(3)
    labels, _, ignored = prior_targets(LAYOUT, samples, iou=0.5, device=CPU)
    costs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten() + 1, reduction='none').tolist()
    kinds = list(zip(costs, (labels >= 0).flatten().tolist(), ignored.flatten().tolist(), strict=True))
    positives = [cost for cost, positive, _ in kinds if positive]
    negatives = sorted(cost for cost, positive, left in kinds if not (positive or left))
    expected = (sum(positives) + sum(negatives[-3 * len(positives) :])) / len(positives)
    found = compute(outputs(logits, codes), samples, MultiBoxLossConfig(mining='batch'))['detection_class']
    torch.testing.assert_close(found, torch.tensor(expected))


def test_confident_logits_lose_no_precision() -> None:
    logits, codes = (part.detach() for part in raw(2))
    samples = [sample([CAR, DOG], [0, 3]), sample([DOG], [1])]
    terms, expected = compute(outputs(20 * logits, codes), samples), torchvisions(20 * logits, codes, samples)
    torch.testing.assert_close(terms['detection_class'], expected['classification'])


def test_exact_predictions_cost_nothing() -> None:
    samples = [sample([CAR, DOG], [0, 3])]
    labels, codes, _ = prior_targets(LAYOUT, samples, iou=0.5, device=CPU)
    logits = 50.0 * torch.nn.functional.one_hot(labels + 1, 1 + CLASSES)
    terms = compute(outputs(logits, codes), samples)
    assert all(term < 1e-6 for term in terms.values())
    assert (labels == 0).any()
    assert (labels == 3).any()


def test_images_without_objects_teach_background_only_where_the_batch_is_mined() -> None:
    samples = [sample([CAR], [0]), sample([], [])]
    gradients = {}
    for mining in ('image', 'batch'):
        logits, codes = raw(2)
        terms = compute(outputs(logits, codes), samples, MultiBoxLossConfig(mining=mining))  # type: ignore[arg-type]
        terms['detection'].backward()
        assert logits.grad is not None
        gradients[mining] = logits.grad[1].any().item()
    assert gradients == {'image': False, 'batch': True}


def test_a_batch_without_objects_is_finite() -> None:
    logits, codes = raw(2)
    terms = compute(outputs(logits, codes), [sample([], []), sample([], [])])
    terms['detection'].backward()
    assert all(term == 0 for term in terms.values())
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize('mining', ['image', 'batch'])
def test_the_hardest_negatives_are_taken_three_for_each_positive(mining: str) -> None:
    losses = torch.tensor([[9.0, 1.0, 5.0, 2.0, 7.0, 8.0], [0.5, 6.0, 3.0, 4.0, 0.1, 0.2]])
    positive, ignored = torch.zeros((2, 2, 6), dtype=torch.bool)
    positive[0, 0] = ignored[0, 5] = True
    config = MultiBoxLossConfig(mining=mining)  # type: ignore[arg-type]
    found = hard_negatives(losses, positive, ignored, config).nonzero().tolist()
    assert found == {'image': [[0, 2], [0, 3], [0, 4]], 'batch': [[0, 2], [0, 4], [1, 1]]}[mining]


def test_more_negatives_than_there_are_are_all() -> None:
    losses, positive = torch.rand(1, 6), torch.tensor([[True, True, False, False, False, False]])
    found = hard_negatives(losses, positive, torch.zeros_like(positive), MultiBoxLossConfig())
    assert torch.equal(found, ~positive)


def test_regions_are_left_alone_but_not_the_objects_in_them() -> None:
    left, everything = [0.0, 0.0, 48.0, 64.0], MultiBoxLossConfig(negatives_per_positive=1000)
    logits, codes = raw(1)
    compute(outputs(logits, codes), [sample([CAR], [0], [left])], everything)['detection'].backward()
    assert logits.grad is not None
    learns = logits.grad[0].any(dim=1)
    positive = prior_targets(LAYOUT, [sample([CAR], [0])], iou=0.5, device=CPU).labels[0] >= 0
    inside = LAYOUT.priors_cxcywh()[:, 0] <= 48
    assert torch.equal(learns, positive | ~inside)
    assert (positive & inside).any()


@pytest.mark.parametrize('iou', [0.2, 0.5, 0.7])
def test_what_would_learn_a_region_if_it_were_an_object_is_no_negative(iou: float) -> None:
    small, between_cells = [[40.0, 20.0, 52.0, 30.0], [9.0, 9.0, 11.0, 11.0]]
    as_objects = prior_targets(LAYOUT, [sample([small, between_cells], [0, 1])], iou=iou, device=CPU)
    ignored = prior_targets(LAYOUT, [sample([CAR], [0], [small, between_cells])], iou=iou, device=CPU).ignored
    assert {0, 1} <= set(as_objects.labels[0].tolist())
    assert ignored[as_objects.labels >= 0].all()


def test_weights_of_the_terms() -> None:
    output, samples = outputs(*raw(1)), [sample([CAR, DOG], [0, 1])]
    plain = compute(output, samples)
    weighted = compute(output, samples, MultiBoxLossConfig(class_weight=2.0, box_weight=3.0))
    torch.testing.assert_close(weighted['detection_class'], 2 * plain['detection_class'])
    torch.testing.assert_close(weighted['detection_box'], 3 * plain['detection_box'])
    torch.testing.assert_close(weighted['detection'], weighted['detection_class'] + weighted['detection_box'])


def test_evaluation_mode_is_named() -> None:
    with pytest.raises(PerceptionError, match=r'call train\(\)'):
        compute(outputs(*raw(1))._replace(box_codes=None), [sample([CAR], [0])])


@pytest.mark.parametrize(
    'setting',
    [
        {'match_iou': 0.0},
        {'match_iou': 1.5},
        {'negatives_per_positive': -1.0},
        {'mining': 'everywhere'},
        {'class_weight': float('nan')},
        {'box_weight': -1.0},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        replace(MultiBoxLossConfig(), **setting)  # type: ignore[arg-type]
