"""Prior boxes and objects against torchvision's SSD matcher, and the objects that want one prior."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher

from perception.boxes import cxcywh_to_xyxy, pairwise_iou
from training.matching.multi_box import match_priors


def random_boxes(count: int, seed: int, least: float = 4.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=generator) * 200
    sizes = least + torch.rand(count, 2, generator=generator) ** 2 * 100
    return cxcywh_to_xyxy(torch.cat((centres, sizes), dim=1))


@pytest.mark.parametrize('iou', [0.3, 0.5])
def test_matches_are_torchvisions(iou: float) -> None:
    found = 0
    for seed in range(40):
        objects, priors = random_boxes(1 + seed % 9, seed), random_boxes(3000, 1000 + seed)
        overlaps = pairwise_iou(objects, priors)
        if len(overlaps.argmax(dim=1).unique()) < len(objects):
            continue  # torchvision gives the prior to the last of them: see below
        expected = SSDMatcher(iou)(overlaps)
        matched = match_priors(objects, priors, iou=iou)
        assert torch.equal(matched, expected)
        assert set(matched.tolist()) >= set(range(len(objects)))
        found += int((matched >= 0).sum()) - len(objects)
    assert found > 40, 'too few priors beyond the best ones were matched for this to say anything'


def test_an_overlap_at_the_threshold_is_enough() -> None:
    priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9]])
    assert match_priors(priors[:1], priors, iou=0.5).tolist() == [0, 0, -1]


def test_a_prior_goes_to_the_object_that_overlaps_it_most_and_every_object_has_one() -> None:
    priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 90.0, 90.0]])
    small, half = [2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 10.0, 5.0]
    for objects, owner in (([small, half], 1), ([half, small], 0)):
        assert match_priors(torch.tensor(objects), priors, iou=0.5).tolist() == [owner, -1]
    # A poor overlap is enough for the best prior of an object, even against one of another object above the threshold.
    priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 8.0, 10.0, 9.0]])
    assert match_priors(objects, priors, iou=0.5).tolist() == [0, 1]


def test_equal_objects_share_nothing_and_the_first_has_the_prior() -> None:
    priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 4.0]])
    assert match_priors(priors[[0, 0]], priors, iou=0.5).tolist() == [0, -1]


def test_an_object_that_touches_no_prior_spoils_none() -> None:
    priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    assert match_priors(torch.tensor([[90.0, 90.0, 95.0, 95.0]]), priors, iou=0.5).tolist() == [-1, -1]


def test_without_objects_nothing_is_matched() -> None:
    matched = match_priors(torch.zeros(0, 4), random_boxes(7, 0), iou=0.5)
    assert matched.tolist() == [-1] * 7
    assert matched.dtype == torch.int64
