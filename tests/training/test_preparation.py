"""What a run begins with: anchors, class weights, weights of another run, data that can be learned from and scored."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError
from perception.interfaces import PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, NetworkEntry, build_network, resolve_config
from perception.networks.interdependent import InterdependentNetwork
from tests.conftest import TINY_CONFIG
from tests.training.conftest import PHASES, lose_run_at, read_config
from tests.training.data.drawn_layouts import DRAWERS
from training.configuration import TrainingConfig
from training.data.cache import CachedDataset
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.distributed import build_fabric
from training.phases import Phase
from training.preparation import (
    _check_same_areas,
    _images_of,
    open_stream,
    prepare_datasets,
    prepare_start,
    prepare_validation,
    restore_start,
)
from training.rehearsal import rehearse
from training.staged_train import train


def test_masks_alone_train_with_the_anchors_of_the_preset(config_file: Path) -> None:
    config = read_config(config_file, '--phases', json.dumps(PHASES[1:2]))
    masks_only = replace(config, data=(replace(config.data[0], options={'boxes': False}),), validation=())
    network = load_checkpoint(train(masks_only) / 'last.safetensors').network
    preset = build_network('interdependent', CITYSCAPES_11_3, TINY_CONFIG, config.input_spec)
    assert torch.equal(network.anchors_wh, preset.anchors_wh)


class Boxes(SceneDataset):
    """So many images with so many boxes each, all about one size, without masks."""

    labels = CITYSCAPES_11_3

    def __init__(self, images: int, boxes: int, side: float) -> None:
        self.images, self.boxes, self.side, self.name = images, boxes, side, f'boxes of {side}'

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        sides = self.side * (0.5 + torch.rand(self.boxes, 2, generator=generator))
        return Sample(
            image=torch.zeros(3, 96, 192, dtype=torch.uint8),
            boxes=torch.cat((torch.zeros_like(sides), sides), dim=1),
            labels=torch.zeros(self.boxes, dtype=torch.int64),
        )

    def fingerprint(self) -> str:
        return self.name


def test_anchors_are_those_of_the_boxes_that_are_drawn(config_file: Path) -> None:
    crowds, cars = Boxes(50, 30, side=6), Boxes(10, 1, side=60)

    def small_anchors(shares: tuple[float | None, float | None], *phases: Phase) -> int:
        config = read_config(config_file)
        data = tuple(replace(config.data[0], share=share) for share in shares)
        start = prepare_start(replace(config, data=data, phases=phases), [crowds, cars], None)
        return sum(width < 20 for width, _ in start.network.config.anchors_wh)

    joint = Phase(name='joint', iterations=100, learning_rate=1e-3)
    by_count = small_anchors((None, None), joint)
    assert by_count >= small_anchors((0.5, 0.5), joint) > small_anchors((0.02, 0.98), joint)
    assert small_anchors((0.0, 1.0), joint) == 0
    # Phases with shares of their own: all that learn boxes, by their length; not those that do not.
    masks = Phase(**{**PHASES[1], 'shares': (1, 0), 'iterations': 10**6})
    late = replace(joint, shares=(0.02, 0.98), iterations=900)
    assert small_anchors((0.5, 0.5), masks, late) == small_anchors((0.02, 0.98), late)
    assert small_anchors((0.5, 0.5), masks) == small_anchors((1, 0), joint) == 9


def test_as_many_anchors_are_found_as_the_network_has(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = resolve_config('interdependent', {**TINY_CONFIG, 'trident_dilations': (1, 2), 'anchors_wh': [[8, 8]] * 4})
    monkeypatch.setitem(NETWORKS, 'four', NetworkEntry(network=InterdependentNetwork, config=preset))
    config = read_config(config_file, '--network', 'four', '--phases', json.dumps(PHASES[:1]))
    network = load_checkpoint(train(config) / 'last.safetensors').network
    assert network.anchors_wh.shape == (4, 2)
    assert len(network.anchors_wh.unique(dim=0)) == 4


def test_data_without_annotation_is_refused(config_file: Path, streets: Path, tmp_path: Path) -> None:
    roots = {'cityscapes': shutil.copytree(streets, tmp_path / 'streets'), 'camvid': tmp_path / 'camvid'}
    DRAWERS['camvid'](roots['camvid'])
    for pattern, nothing in (('streets/gtFine/train/*/*_labelIds.png', 0), ('camvid/trainannot/*.png', 255)):
        for path in tmp_path.glob(pattern):
            cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), nothing))
    config = read_config(config_file)
    for name, message in (
        ('cityscapes', 'cityscapes-train is not annotated: its 8 images'),
        ('camvid', r'camvid-train has \d+ masks, and not one labelled pixel'),
    ):
        with pytest.raises(ConfigError, match=message):
            train(replace(config, data=(replace(config.data[0], name=name, root=str(roots[name])),)))


def test_training_data_is_read_once_before_the_first_step(
    config_file: Path, streets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(config_file, '--criterion.segmentation.class_weights', 'balanced')
    fabric = build_fabric(config)
    read: list[int] = []
    get = CachedDataset.__getitem__
    monkeypatch.setattr(CachedDataset, '__getitem__', lambda self, index: read.append(index) or get(self, index))
    datasets = prepare_datasets(config, fabric, None, None)
    start = prepare_start(config, datasets, None)
    restore_start(config, datasets, start.state())
    assert read == list(range(8))


def _boxes_alone(root: Path, boxes: list[list[float]]) -> str:
    """A data set of two photos with those boxes each, as the option --data takes it."""
    images = [{'id': number, 'file_name': f'{number}.png', 'height': 60, 'width': 80} for number in (1, 2)]
    (root / 'train2017').mkdir(parents=True)
    for image in images:
        cv2.imwrite(str(root / 'train2017' / image['file_name']), np.full((60, 80, 3), 99, np.uint8))
    annotations = [
        {'id': place, 'image_id': image['id'], 'category_id': 1, 'bbox': box, 'area': 1, 'iscrowd': 0}
        for place, (image, box) in enumerate(itertools.product(images, boxes), start=1)
    ]
    values = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'car'}]}
    (root / 'instances.json').write_text(json.dumps(values))
    return json.dumps(
        [
            {
                'name': 'coco',
                'root': str(root),
                'options': {'annotations': 'instances.json', 'classes': {'car': 'car/truck/bus'}},
            }
        ]
    )


def test_images_may_be_kept_larger_than_the_network_sees_them(config_file: Path) -> None:
    anchors, batches = {}, {}
    for size in ('[0, 0]', '[192, 384]'):
        config = read_config(config_file, '--cache_hw', size)
        fabric = build_fabric(config)
        (cached,) = prepare_datasets(config, fabric, None, None)
        anchors[size] = prepare_start(config, [cached], None).network.config.anchors_wh
        stream = open_stream(config, config.phases[0], [cached], fabric, start_step=0, stop_step=1)
        batches[size] = next(iter(stream))
    assert cached[0].image.shape == (3, 192, 384)
    torch.testing.assert_close(torch.tensor(anchors['[192, 384]']), torch.tensor(anchors['[0, 0]']))
    for large, small in zip(*batches.values(), strict=True):
        assert large.image.shape == small.image.shape == (3, 96, 192)
    with pytest.raises(ConfigError, match=r'cache_hw must be two positive sides.*\[0, 5\]'):
        read_config(config_file, '--cache_hw', '[0, 5]')


@pytest.mark.parametrize('cache', ['[0, 0]', '[192, 384]'])
@pytest.mark.parametrize(
    ('boxes', 'said'),
    [
        ([], 'coco-train: the box annotation of 2 images holds not one object'),
        (
            [[3, 3, 0.4, 20], [9, 9, 12, 0.5]],
            'coco-train: all 4 boxes have a side below transform.min_box_side_px, 2, at',
        ),
    ],
)
def test_boxes_that_teach_no_object_are_told_before_training(
    config_file: Path,
    streets: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    boxes: list[list[float]],
    said: str,
    cache: str,
) -> None:
    data = _boxes_alone(tmp_path / 'photos', boxes)
    config = read_config(config_file, '--data', data, '--anchors', 'preset', '--cache_hw', cache)
    with pytest.raises(ConfigError, match=f"'joint' has nothing to learn: its data has nothing .{re.escape(said)}"):
        prepare_datasets(config, build_fabric(config), None, None)
    caplog.clear()
    # Beside other data they are images of background, which may be meant.
    beside = json.dumps([*json.loads(data), {'name': 'cityscapes', 'root': str(streets)}])
    config = read_config(config_file, '--data', beside)
    assert len(prepare_datasets(config, build_fabric(config), None, None)) == 2
    assert said in caplog.text
    phases = json.dumps([{**PHASES[2], 'shares': [1, 0]}])
    config = read_config(config_file, '--data', beside, '--phases', phases)
    with pytest.raises(ConfigError, match=f"'detection' has nothing to learn: .*{re.escape(said)}"):
        prepare_datasets(config, build_fabric(config), None, None)


def test_another_network_or_size_is_no_start(config_file: Path, tmp_path: Path) -> None:
    joint = train(read_config(config_file, '--phases', json.dumps(PHASES[:1])))
    options = ['--start_from', str(joint / 'last.safetensors'), '--output', str(tmp_path / 'next')]
    with pytest.raises(ConfigError, match=r'holds interdependent at \[96, 192\].*at \[64, 128\]. Set'):
        train(read_config(config_file, *options, '--image_hw', '[64, 128]'))
    with pytest.raises(ConfigError, match='train interdependent_small at'):
        train(read_config(config_file, *options, '--network', 'interdependent_small'))
    with pytest.raises(ConfigError, match=r'is not what .* was built with'):
        train(read_config(config_file, *options, '--network_config', '{"trident_dilations": [2]}'))
    with pytest.raises(ConfigError, match='leave one out'):
        train(read_config(config_file, *options, '--imagenet_weights', 'torchvision'))


def test_a_resumed_run_keeps_what_it_began_with(
    config_file: Path,
    streets: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsed = []

    def noted(config: TrainingConfig, network: PerceptionNetwork) -> list[set[str]]:
        rehearsed.append(network.config)
        return rehearse(config, network)

    data = tmp_path / 'streets'
    shutil.copytree(streets, data)
    values = json.dumps([{'name': 'cityscapes', 'root': str(data)}])
    first = train(read_config(config_file, '--phases', json.dumps(PHASES[:1]), '--output', str(tmp_path / 'first')))
    start = tmp_path / 'start.safetensors'
    shutil.copy(first / 'last.safetensors', start)
    options = ['--data', values, '--start_from', str(start), '--criterion.segmentation.class_weights', 'balanced']
    config = read_config(config_file, *options)
    monkeypatch.setattr('training.preparation.rehearse', noted)
    lose_run_at(config, step=5)
    before = torch.load(tmp_path / 'run' / 'state.pt', weights_only=True)['start']

    start.unlink()
    (mask, *_) = (data / 'gtFine' / 'train').glob('*/*_labelIds.png')
    ids = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(mask), np.where(ids == 7, 0, ids))
    finished = train(config, resume=True)
    assert 'not what this run began with' in caplog.text
    assert torch.load(finished / 'state.pt', weights_only=True)['start'] == before
    checkpoint = load_checkpoint(finished / 'last.safetensors')
    assert checkpoint.network.config == load_checkpoint(first / 'last.safetensors').network.config
    assert rehearsed == [checkpoint.network.config] * 2, 'phases are rehearsed with the network that they will train'
    assert checkpoint.provenance['started_from'] == load_checkpoint(first / 'last.safetensors').provenance


def test_the_figure_that_chooses_must_be_measurable(config_file: Path, streets: Path) -> None:
    for select_by, options in (('mean_ap50', {'boxes': False}), ('mean_iou', {'masks': False})):
        data = json.dumps([{'name': 'cityscapes', 'root': str(streets), 'split': 'val', 'options': options}])
        with pytest.raises(ConfigError, match=f'select_by {select_by} cannot be measured on cityscapes-val'):
            train(read_config(config_file, '--validation', data, '--select_by', select_by))


def test_validation_on_what_is_trained_on_is_told(
    config_file: Path, streets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = read_config(config_file, '--phases', json.dumps(PHASES[:1]))
    prepare_validation(config)
    assert not caplog.text
    other = replace(config.data[0], options={'annotations': 'others.json'})
    assert (
        _images_of(other) != _images_of(config.data[0]) == _images_of(replace(config.data[0], options={'masks': False}))
    )
    around = f'{streets}/../{streets.name}'
    prepare_validation(replace(config, validation=(replace(config.data[0], root=around),)))
    assert 'cityscapes-train is trained on and validated on' in caplog.text


def test_years_and_lists_decide_which_images_a_data_set_holds(config_file: Path) -> None:
    data = read_config(config_file).data[0]
    chosen = [{'years': [2007]}, {'years': [2012]}, {'years': [2007, 2012]}, {'image_set': 'Main'}, {}]
    assert len({_images_of(replace(data, options=options)) for options in chosen}) == len(chosen)


def test_objects_of_other_areas_are_another_run() -> None:
    first, *others = CITYSCAPES_11_3.detection
    _check_same_areas(CITYSCAPES_11_3, CITYSCAPES_11_3)
    with pytest.raises(ConfigError, match=r'car/truck/bus .* is made of road, and was of .* when this run began'):
        _check_same_areas(
            replace(CITYSCAPES_11_3, detection=(replace(first, areas=('road',)), *others)), CITYSCAPES_11_3
        )
