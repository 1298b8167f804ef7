"""Clusters of box sizes: repeatable, sorted, near the best, and fit for a network's configuration."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from drawn_scenes import NARROW
from torch import Tensor

import training.cluster_anchors
from perception.errors import ConfigError
from perception.interfaces import InputSpec, LabelSpace
from perception.networks import NETWORKS, resolve_config
from tests.training.data.drawn_layouts import draw_camvid, draw_coco, draw_voc
from training.cluster_anchors import box_sizes, cluster_anchors, draw_clusters, main, mix_sizes
from training.data.sample import Sample

PLANTED = torch.tensor([[8.0, 20.0], [30.0, 15.0], [25.0, 60.0], [90.0, 60.0]])


def sizes_around(centres: Tensor, each: int = 50, spread: float = 0.08, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(centres), each, 2, generator=generator)
    return (centres[:, None] * (1 + spread * noise)).flatten(0, 1)


def road_sizes(count: int = 400, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, 2, generator=generator) * 0.7 + 3.4).exp()


def test_planted_clusters_are_found() -> None:
    clusters = cluster_anchors(sizes_around(PLANTED), count=4)
    torch.testing.assert_close(torch.tensor(clusters.anchors_wh), PLANTED, rtol=0.05, atol=0)


def test_starts_are_spread_so_that_rare_sizes_are_found_at_the_first_try() -> None:
    common, rare = sizes_around(PLANTED[:1], each=500, spread=0.002), sizes_around(PLANTED[1:], each=5, spread=0.002)
    for seed in range(10):
        anchors = cluster_anchors(torch.cat((common, rare)), count=4, seed=seed, restarts=1).anchors_wh
        torch.testing.assert_close(torch.tensor(anchors), PLANTED, rtol=0.05, atol=0)


def test_the_same_seed_gives_the_same_anchors() -> None:
    sizes = road_sizes()
    random_state = torch.get_rng_state()
    assert cluster_anchors(sizes, seed=3) == cluster_anchors(sizes, seed=3)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_anchors_are_sorted_by_area_and_fit_a_network() -> None:
    for seed in range(5):
        anchors = cluster_anchors(road_sizes(seed=seed), seed=seed, restarts=1).anchors_wh
        areas = [width * height for width, height in anchors]
        assert len(anchors) == 9
        assert areas == sorted(areas)
        assert replace(NARROW, anchors_wh=anchors).anchors_wh == anchors


def test_mean_best_iou_is_that_of_a_plain_loop() -> None:
    sizes = road_sizes(50)
    clusters = cluster_anchors(sizes)
    best = []
    for width, height in sizes.tolist():
        overlaps = []
        for anchor_width, anchor_height in clusters.anchors_wh:
            shared = min(width, anchor_width) * min(height, anchor_height)
            overlaps.append(shared / (width * height + anchor_width * anchor_height - shared))
        best.append(max(overlaps))
    assert clusters.mean_best_iou == pytest.approx(sum(best) / len(best))


def test_clusters_beat_random_boxes_and_grow_with_their_number() -> None:
    sizes = road_sizes()
    scores = [cluster_anchors(sizes, count=count).mean_best_iou for count in (1, 3, 9)]
    assert scores == sorted(scores)
    assert scores[-1] > 0.65
    drawn = sizes[torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0))[:9]].double()
    assert scores[-1] > training.cluster_anchors._best_iou(sizes.double(), drawn).mean()


def test_a_box_counts_as_often_as_its_weight_says() -> None:
    sizes, often = road_sizes(60), torch.arange(60) % 4 + 1
    repeated = cluster_anchors(sizes.repeat_interleave(often, dim=0), count=3, restarts=30)
    weighted = cluster_anchors(sizes, 0.01 * often, count=3, restarts=30)
    assert weighted.mean_best_iou == pytest.approx(repeated.mean_best_iou, abs=1e-6)
    assert weighted.anchors_wh == repeated.anchors_wh != cluster_anchors(sizes, count=3, restarts=30).anchors_wh


def test_equal_weights_are_none() -> None:
    sizes = road_sizes()
    assert cluster_anchors(sizes, torch.full((len(sizes),), 0.3)) == cluster_anchors(sizes)


def test_many_boxes_of_a_small_share_do_not_rule() -> None:
    crowd, few = sizes_around(PLANTED[:1], each=3000, spread=0.3), sizes_around(PLANTED[2:], each=20, spread=0.3)
    small = []
    for often in (1.0, 0.002):
        clusters = cluster_anchors(*mix_sizes((crowd, few), (often, 1.0)), count=6)
        small.append(sum(width * height < 400 for width, height in clusters.anchors_wh))
    assert small[0] >= 4
    assert small[1] <= 2, 'anchors for 6 boxes of 46'
    sizes, weights = mix_sizes((crowd, few), (0, 0.5))
    assert torch.equal(sizes, few), 'a box that is never drawn does not count'
    assert weights.tolist() == [0.5] * len(few)


def test_as_many_sizes_as_anchors_are_all_kept() -> None:
    clusters = cluster_anchors(PLANTED.repeat(3, 1), count=4)
    assert clusters.mean_best_iou == pytest.approx(1)


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match='there are 4'):
        cluster_anchors(PLANTED.repeat(5, 1), count=9)


def sample(image_hw: tuple[int, int], boxes: list[list[float]] | None) -> Sample:
    return Sample(
        image=torch.zeros(3, *image_hw, dtype=torch.uint8),
        boxes=None if boxes is None else torch.tensor(boxes).reshape(-1, 4),
        labels=None if boxes is None else torch.zeros(len(boxes), dtype=torch.int64),
    )


def test_sizes_are_those_at_the_network_input() -> None:
    samples = [
        sample((100, 100), [[10, 10, 30, 50]]),
        sample((200, 50), None),
        sample((200, 800), [[0, 0, 8, 2], [4, 4, 8, 8]]),
    ]
    sizes = box_sizes(samples, (200, 400))
    assert sizes.tolist() == [[80, 80], [4, 2], [2, 4]]
    assert box_sizes([], (200, 400)).shape == (0, 2)


class Drawn:
    """Stands in for a data set: one image for each row of sizes."""

    def __init__(self, sizes: Tensor) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Sample]:
        return (sample((100, 200), [[0, 0, *size]]) for size in self.sizes.tolist())


@pytest.fixture
def drawn_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str, root: Path, split: str, labels: LabelSpace, **options: object) -> Drawn:
        assert split == 'train'
        return Drawn(sizes_around(PLANTED[:2] if name == 'small' else PLANTED[2:]))

    monkeypatch.setattr(training.cluster_anchors, 'build_dataset', build)


@pytest.mark.usefixtures('drawn_dataset')
def test_command_prints_yaml_for_a_mixture_and_draws_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / 'anchors.png'
    arguments = ['--dataset', 'small', '--root', 'a', '--dataset', 'large', '--root', 'b', '--size', '100x200']
    assert main([*arguments, '--anchors', '4', '--picture', str(picture)]) == 0
    printed = capsys.readouterr().out
    anchors = yaml.safe_load(printed)['anchors_wh']
    torch.testing.assert_close(torch.tensor(anchors), PLANTED, rtol=0.05, atol=0)
    assert 'small + large, train at 100x200: 200 boxes, seed 0' in printed
    assert cv2.imread(str(picture)).std() > 1


@pytest.mark.usefixtures('drawn_dataset')
def test_command_weighs_by_shares(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['--dataset', 'small', '--root', 'a', '--dataset', 'large', '--root', 'b', '--size', '100x200']
    printed = []
    for shares in (['1', '1'], ['1', '300'], ['0', '1']):
        assert main([*arguments, '--share', shares[0], '--share', shares[1], '--anchors', '3']) == 0
        printed.append(capsys.readouterr().out)
    even, uneven, alone = ([wh[0] * wh[1] for wh in yaml.safe_load(text)['anchors_wh']] for text in printed)
    assert sum(area < 800 for area in even) >= 1
    assert min(uneven[1:]) > 800
    assert min(alone) > 800
    assert '1 small + 300 large, train at 100x200: 200 boxes, seed 0' in printed[1]


@pytest.mark.usefixtures('drawn_dataset')
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '384'], '384x768'),
        (['--size', '0x0'], "Size '0x0' is not HEIGHTxWIDTH"),
        (['--root', 'another'], '--root'),
        (['--anchors', '500'], 'different box sizes'),
        (['--anchors', '0'], '--anchors must be at least 1; got 0'),
        (['--picture', '/nodir/x.png'], '--picture /nodir/x.png must be a file in a folder that exists'),
        (['--picture', '/tmp'], '--picture /tmp must be a file'),
        (['--picture', '/tmp/x.nosuch'], 'Cannot write the picture /tmp/x.nosuch'),
        (['--options', '{}', '--options', '{}'], '1 data sets but 2 --options'),
        (['--share', '1', '--share', '2'], '1 data sets but 2 --share; give one each, or none'),
        (['--share', '0'], '--share must be 0 or more, and one of them above 0; got [0.0]'),
        (['--share', '-1'], '--share must be 0 or more'),
        (['--share', 'nan'], '--share must be 0 or more'),
        (['--options', '{"images"'], '--options \'{"images"\' is not JSON'),
        (['--options', '[]'], "--options '[]' is not a JSON object"),
        (['--network', 'interdependent_lit'], "did you mean 'interdependent_lite'"),
    ],
)
def test_command_reports_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    anchors = [] if '--anchors' in arguments else ['--anchors', '2']
    assert main(['--dataset', 'small', '--root', 'a', *anchors, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith('cluster_anchors: ')


def test_command_reads_each_data_set_with_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_coco(tmp_path / 'coco')
    (tmp_path / 'coco' / 'annotations' / 'instances_train2017.json').rename(tmp_path / 'coco' / 'labels.json')
    (tmp_path / 'coco' / 'train2017').rename(tmp_path / 'coco' / 'my pics')
    draw_camvid(tmp_path / 'camvid')
    own = json.dumps({'annotations': 'labels.json', 'images': 'my pics'})
    coco = ['--dataset', 'coco', '--root', str(tmp_path / 'coco'), '--options', own]
    assert main([*coco, '--anchors', '2']) == 0
    assert '# coco, train at 384x768: 6 boxes' in capsys.readouterr().out
    camvid = ['--dataset', 'camvid', '--root', str(tmp_path / 'camvid'), '--options', '{}']
    assert main([*coco, *camvid, '--anchors', '2']) == 0
    assert '# coco + camvid, train at 384x768: 15 boxes' in capsys.readouterr().out
    draw_voc(tmp_path / 'voc' / 'VOC2007')
    years = ['--dataset', 'voc', '--root', str(tmp_path / 'voc'), '--options', '{"years": [2007]}']
    assert main([*coco, *years, '--anchors', '2']) == 0
    assert '# coco + voc, train at 384x768: 12 boxes' in capsys.readouterr().out
    assert main(['--dataset', 'camvid', '--root', str(tmp_path / 'camvid'), '--options', '{"boxs": "none"}']) == 1
    assert "Option 'boxs' of data set 'camvid' is unknown: did you mean 'boxes'?" in capsys.readouterr().err


def test_picture_of_clusters(tmp_path: Path) -> None:
    sizes = road_sizes()
    draw_clusters(sizes, cluster_anchors(sizes), tmp_path / 'sizes.png')
    assert cv2.imread(str(tmp_path / 'sizes.png')).shape == (600, 720, 3)


@pytest.mark.usefixtures('drawn_dataset')
def test_the_network_says_how_many_anchors_it_takes_and_what_it_sees(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, multi_box_options: list[str]
) -> None:
    small = resolve_config('interdependent_small')
    four = replace(small, trident_dilations=(1, 2), anchors_wh=small.anchors_wh[:4])
    entry = replace(NETWORKS['interdependent_small'], config=four, input_spec=InputSpec(image_hw=(96, 160)))
    monkeypatch.setitem(NETWORKS, 'four', entry)
    arguments = ['--dataset', 'small', '--root', 'a']
    assert main([*arguments, '--network', 'four']) == 0
    printed = capsys.readouterr().out
    assert 'train at 96x160' in printed
    assert len(yaml.safe_load(printed)['anchors_wh']) == 4
    assert main([*arguments, '--network', 'four', '--size', '96x192', '--anchors', '2']) == 0
    printed = capsys.readouterr().out
    assert 'train at 96x192' in printed
    assert len(yaml.safe_load(printed)['anchors_wh']) == 2
    assert main([*arguments, *multi_box_options[:2]]) == 1
    assert '--network drawn has prior boxes of its own and takes no anchors' in capsys.readouterr().err
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert 'train at 384x768' in printed
    assert len(yaml.safe_load(printed)['anchors_wh']) == 9
