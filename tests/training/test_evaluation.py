"""The loop that scores: each image for what it is annotated for, at both sizes, in the data set's order."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.checkpoint import load_checkpoint
from perception.errors import DatasetError, NotFiniteError
from perception.interfaces import Detections, GroundTruth, InputSpec, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics.pictures import PictureKeeper
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.evaluation import SCORE_THRESHOLD, Scale, evaluate_dataset, prepare_scene

HW = (60, 100)


class DrawnDataset(SceneDataset):
    """Images with masks, with boxes, with both and with nothing, of two sizes."""

    labels = CITYSCAPES_11_3
    name = 'drawn-val'

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        height, width = HW if index % 2 else (72, 90)
        boxes = torch.tensor([[10.0, 10, 40, 50], [50, 20, 80, 40]])
        has_boxes, has_mask = index in (0, 1, 3), index in (0, 2, 3)
        return Sample(
            image=torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
            boxes=boxes if has_boxes else None,
            labels=torch.tensor([0, 1]) if has_boxes else None,
            mask=torch.randint(0, 11, (height, width), generator=generator, dtype=torch.uint8) if has_mask else None,
            name=f'drawn/{index}',
        )

    def fingerprint(self) -> str:
        return '0'


@pytest.fixture
def perceiver(tiny_checkpoint_path: Path) -> Perceiver:
    config = PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    return Perceiver(load_checkpoint(tiny_checkpoint_path), device='cpu', config=config)


def test_scores_each_image_for_what_it_is_annotated_for(perceiver: Perceiver):
    pictures = PictureKeeper(CITYSCAPES_11_3, count=1)
    evaluator = evaluate_dataset(perceiver, DrawnDataset(), batch_size=2, pictures=pictures, show_progress=False)
    report = evaluator.report()
    assert (report.segmentation.images, report.detection.images, len(report.frames)) == (3, 3, 5)
    assert report.segmentation.pixels == 72 * 90 * 2 + HW[0] * HW[1]
    assert report.detection.boxes == (3, 3, 0)
    assert report.detection.detections > 0
    assert [frame.name for frame in report.frames] == [f'drawn/{index}' for index in range(5)]
    assert len(pictures.worst()) == len(pictures.best()) == 1


def test_an_output_that_is_not_finite_names_its_image(perceiver: Perceiver):
    with torch.no_grad():
        next(perceiver.checkpoint.network.mask_head.parameters()).fill_(float('nan'))
    with pytest.raises(NotFiniteError, match=r'drawn-val, drawn/0: The network gave mask that are not finite'):
        evaluate_dataset(perceiver, DrawnDataset(), limit=1, show_progress=False)


def test_images_are_loaded_by_threads_whatever_their_number(perceiver: Perceiver):
    class Watched(DrawnDataset):
        def __init__(self) -> None:
            self.seen: set[tuple[int, int]] = set()

        def __getitem__(self, index: int) -> Sample:
            self.seen.add((os.getpid(), threading.get_ident()))
            return super().__getitem__(index)

    reports = []
    for workers in (2, 3):
        dataset = Watched()
        reports.append(evaluate_dataset(perceiver, dataset, workers=workers, show_progress=False).report())
        assert {process for process, _ in dataset.seen} == {os.getpid()}
        assert threading.get_ident() not in {thread for _, thread in dataset.seen}
    assert reports[0] == reports[1]
    assert [frame.name for frame in reports[0].frames] == [f'drawn/{index}' for index in range(5)]


def test_an_image_that_cannot_be_read_ends_it_with_its_name(perceiver: Perceiver):
    class Broken(DrawnDataset):
        def __getitem__(self, index: int) -> Sample:
            if index == 3:
                raise DatasetError('drawn/3 is broken')
            return super().__getitem__(index)

    with pytest.raises(DatasetError, match='drawn/3 is broken'):
        evaluate_dataset(perceiver, Broken(), show_progress=False)
    assert len(evaluate_dataset(perceiver, Broken(), limit=3, show_progress=False)) == 3


def test_the_last_batch_may_be_smaller_and_a_limit_cut_one(perceiver: Perceiver):
    for limit, batch_size, count in ((0, 2, 5), (3, 2, 3), (4, 8, 4), (99, 3, 5)):
        found = evaluate_dataset(perceiver, DrawnDataset(), limit=limit, batch_size=batch_size, show_progress=False)
        assert [frame.name for frame in found.report().frames] == [f'drawn/{index}' for index in range(count)]


def test_at_network_size_truth_is_reduced(perceiver: Perceiver):
    height, width = perceiver.checkpoint.network.input_spec.image_hw
    report = evaluate_dataset(perceiver, DrawnDataset(), at='network', show_progress=False).report()
    assert report.segmentation.pixels == 3 * height * width
    assert report.detection.boxes == (3, 3, 0)


class Oracle:
    """Stands in for the perceiver: recognises each image of the drawn data set and says its truth."""

    labels = CITYSCAPES_11_3
    device = 'cpu'

    def __init__(self, at: Scale) -> None:
        self.input_spec = InputSpec(image_hw=(36, 64))
        scenes = [prepare_scene(sample, at, self.input_spec) for sample in DrawnDataset()]
        self.truths = {image.tobytes(): truth for image, truth in scenes}

    def perceive(self, images: list[np.ndarray]) -> list[SceneResult]:
        return [self.look(image, self.truths[image.tobytes()]) for image in images]

    def look(self, image: np.ndarray, truth: GroundTruth) -> SceneResult:
        boxes = np.zeros((0, 4), np.float32) if truth.boxes_xyxy is None else truth.boxes_xyxy
        labels = np.zeros(0, np.int64) if truth.labels is None else truth.labels
        mask = np.zeros(image.shape[:2], np.uint8) if truth.mask is None else truth.mask
        found = Detections(boxes_xyxy=boxes, scores=np.ones(len(boxes), np.float32), labels=labels)
        return SceneResult(detections=found, mask=mask)


@pytest.mark.parametrize('at', ['original', 'network'])
def test_saying_the_truth_scores_one_at_both_sizes(at: Scale):
    report = evaluate_dataset(Oracle(at), DrawnDataset(), at=at, show_progress=False).report()
    assert report.segmentation.mean_iou == 1
    assert report.detection.mean_ap == pytest.approx(1)


def test_the_reduced_scene():
    sample = DrawnDataset()[3]
    image, truth = prepare_scene(sample, 'network', InputSpec(image_hw=(120, 50)))
    assert image.shape == (120, 50, 3)
    assert truth.mask is not None
    assert truth.mask.shape == (120, 50)
    np.testing.assert_allclose(truth.boxes_xyxy, [[5, 20, 20, 100], [25, 40, 40, 80]])
    letterbox = InputSpec(image_hw=(120, 50), resize='letterbox')
    assert prepare_scene(sample, 'network', letterbox)[0].shape == (30, 50, 3)
    original, _ = prepare_scene(sample, 'original', letterbox)
    assert (original == sample.image.permute(1, 2, 0).numpy()).all()
