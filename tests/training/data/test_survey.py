"""What a data set is annotated with, from one reading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.data.drawn_layouts import DRAWERS
from training.data import DATASETS, build_dataset
from training.data.cache import prepare_cache
from training.data.dataset import sum_pixels
from training.data.sample import Sample
from training.data.survey import take_survey

IMAGE = torch.zeros(3, 4, 6, dtype=torch.uint8)


def test_pixels_sizes_and_images_are_counted() -> None:
    half, nothing = torch.tensor([[0, 1, 255], [1, 1, 3]], dtype=torch.uint8), torch.zeros(0, 4)
    box = torch.tensor([[1.0, 2.0, 3.5, 3.0]])
    survey = take_survey(
        [
            Sample(image=IMAGE, mask=half),
            Sample(image=IMAGE, mask=torch.full_like(half, 255), boxes=nothing, labels=torch.zeros(0).long()),
            Sample(image=IMAGE, boxes=box, labels=torch.zeros(1).long()),
            Sample(image=IMAGE),
        ],
        5,
    )
    assert (survey.images, survey.with_mask, survey.with_boxes) == (4, 2, 2)
    assert survey.pixels.tolist() == [1, 3, 0, 1, 0]
    assert survey.sizes_wh.tolist() == [[2.5, 1.0]]


def test_of_no_samples() -> None:
    survey = take_survey([], 3)
    assert (survey.images, survey.pixels.tolist(), survey.sizes_wh.shape) == (0, [0, 0, 0], (0, 2))


@pytest.mark.parametrize('name', DATASETS)
def test_every_data_set_has_one_and_reads_itself_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DRAWERS[name](tmp_path / name)
    files = build_dataset(name, tmp_path / name, 'train')
    cached = prepare_cache(files, (32, 48), tmp_path / 'cache', show_progress=False)
    for dataset in (files, cached):
        samples, read = list(dataset), []
        get = type(dataset).__getitem__
        monkeypatch.setattr(
            type(dataset), '__getitem__', lambda self, i, get=get, read=read: read.append(i) or get(self, i)
        )
        survey = dataset.survey
        assert dataset.survey is survey
        assert read == list(range(len(samples)))
        assert survey.images == len(samples)
        assert survey.with_boxes == sum(sample.boxes is not None for sample in samples)
        assert len(survey.sizes_wh) == sum(len(sample.boxes) for sample in samples if sample.boxes is not None)
        masks = [sample.mask for sample in samples if sample.mask is not None]
        assert survey.with_mask == len(masks)
        assert survey.pixels.sum() == sum(int((mask != 255).sum()) for mask in masks)
    assert torch.equal(sum_pixels([files, cached]), files.survey.pixels + cached.survey.pixels)
