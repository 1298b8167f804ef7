import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from perception.errors import ConfigError, ShapeError
from perception.metrics.segmentation import SegmentationScorer

THREE = ('road', 'car', 'sky')


def test_hand_computed_confusion():
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 0, 1]], np.uint8)
    scorer = SegmentationScorer(THREE)
    image = scorer.add(predicted, truth)
    scores = scorer.scores()
    assert scores.confusion == ((2, 1, 0), (1, 2, 0), (0, 0, 0))
    assert scores.iou[:2] == pytest.approx((2 / 4, 2 / 4))
    assert scores.iou[2] is None
    assert scores.mean_iou == pytest.approx(0.5)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert (scores.images, scores.pixels) == (1, 6)
    assert image.class_iou == scores.iou
    assert image.iou.shape == (3,)
    assert image.confusion.shape == (3, 3)


def test_class_that_is_only_predicted_has_no_iou_and_costs_the_others():
    scorer = SegmentationScorer(THREE)
    scorer.add(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8))
    assert scorer.scores().iou == (0.5, None, None)
    assert scorer.scores().mean_iou == 0.5


def test_sums_over_images_agree_with_torchmetrics_on_all_pixels_at_once():
    random = np.random.default_rng(0)
    truths = random.integers(0, 3, (5, 40, 30)).astype(np.uint8)
    predictions = random.integers(0, 3, (5, 40, 30)).astype(np.uint8)
    truths[:, :5] = 255
    scorer = SegmentationScorer(THREE)
    confusions = [scorer.add(*pair).confusion for pair in zip(predictions, truths, strict=True)]
    scores = scorer.scores()
    pair = torch.from_numpy(predictions).long(), torch.from_numpy(truths).long()
    jaccard = MulticlassJaccardIndex(num_classes=3, average='macro', ignore_index=255)
    accuracy = MulticlassAccuracy(num_classes=3, average='micro', ignore_index=255)
    assert scores.mean_iou == pytest.approx(float(jaccard(*pair)), abs=1e-6)
    assert scores.pixel_accuracy == pytest.approx(float(accuracy(*pair)), abs=1e-6)
    assert torch.stack(confusions).sum(dim=0).tolist() == [list(row) for row in scores.confusion]


def test_nothing_labelled():
    scorer = SegmentationScorer(THREE)
    image = scorer.add(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert image.mean_iou is None
    assert image.pixel_accuracy is None
    assert scorer.scores().iou == (None, None, None)
    assert SegmentationScorer(THREE).scores().mean_iou is None


def test_refuses_other_sizes_and_unknown_classes():
    scorer = SegmentationScorer(THREE)
    with pytest.raises(ShapeError, match=r'\(4, 4\)'):
        scorer.add(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(ConfigError, match='True mask holds class 7'):
        scorer.add(np.zeros((1, 1), np.uint8), np.full((1, 1), 7, np.uint8))
    with pytest.raises(ConfigError, match='Predicted mask holds class 255'):
        scorer.add(np.full((1, 1), 255, np.uint8), np.zeros((1, 1), np.uint8))
    assert scorer.scores().images == 0


@pytest.mark.filterwarnings('error')
def test_merged_scores_are_those_of_all_images_and_no_reason_to_warn():
    random = np.random.default_rng(0)
    pairs = random.integers(0, 3, (4, 2, 6, 5)).astype(np.uint8)
    whole, joined, masks, nothing = (SegmentationScorer(THREE) for _ in range(4))
    for pair in pairs:
        whole.add(*pair)
        masks.add(*pair)
    for part in (nothing, masks, nothing):
        joined.merge(part)
    assert joined.scores() == whole.scores()
    nothing.merge(SegmentationScorer(THREE))
    assert nothing.scores().mean_iou is None
