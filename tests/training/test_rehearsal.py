"""Phases are tried before the data is read: what a late one would fail on is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perception.errors import ConfigError, PerceptionError
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, build_network
from tests.small_networks import overrides_of
from tests.training.conftest import PHASES, read_config
from training.rehearsal import rehearse
from training.staged_train import train


def test_a_phase_without_anything_to_learn_is_refused(config_file: Path, streets: Path) -> None:
    data = json.dumps([{'name': 'cityscapes', 'root': str(streets), 'options': {'boxes': False}}])
    said = "Phase 'detection' has nothing to learn: its data has masks, the phase learns from boxes"
    with pytest.raises(ConfigError, match=said):
        train(read_config(config_file, '--data', data))


def test_a_phase_whose_shares_leave_nothing_to_learn_is_refused(config_file: Path, streets: Path) -> None:
    data = [{'name': 'cityscapes', 'root': str(streets)}]
    data.append({**data[0], 'options': {'boxes': False}})
    phases = json.dumps([PHASES[0], {**PHASES[2], 'shares': [0, 1]}])
    with pytest.raises(
        ConfigError, match="'detection' has nothing to learn: its data has masks, the phase learns from"
    ):
        train(read_config(config_file, '--data', json.dumps(data), '--phases', phases))


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['detection_haed']}])], 'add .* detection_head'),
        (
            ['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['detection_head', 'decodr']}])],
            "mean 'decoder'",
        ),
        (['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['encoder']}])], "'detection' .* no head"),
        (['--phases', json.dumps([PHASES[0], PHASES[2]]), '--criterion.w_det', '0'], 'weighs their task with 0'),
        (
            ['--phases', json.dumps([PHASES[0], {**PHASES[2], 'trains': ['normalize', 'detection_head']}])],
            "'detection' trains 'normalize', which has no part",
        ),
        (['--network', 'interdependant'], "did you mean 'interdependent'"),
        (['--network_config', '{"stem_width": 0}'], 'stem_width: expected 1 or more'),
        (['--image_hw', '[90, 192]'], 'both sides must be multiples of 16'),
        (['--image_hw', '[0, 192]'], 'image_hw must be two positive sides'),
        (['--transform.crop_hw', '[50, 64]'], r'crop_hw: both sides must be multiples of 16; got \[50, 64\]'),
        (
            ['--phases', json.dumps([PHASES[0], {**PHASES[2], 'crop_hw': [48, 72]}])],
            r"'detection'.crop_hw: .* got \[48, 72",
        ),
        (['--phases', json.dumps([{**PHASES[0], 'crop_hw': [48, 0]}])], "'joint': crop_hw must be two positive sides"),
        (
            ['--phases', json.dumps([{**PHASES[0], 'shares': [1, 2]}])],
            r'a share for each data set \(cityscapes\), got \[1.0, 2.0',
        ),
        (['--phases', json.dumps([{**PHASES[0], 'shares': [0]}])], 'must not all be 0'),
        (['--data', json.dumps([{'name': 'camvid', 'root': 'x', 'share': 0}])], 'shares of data must not all be 0'),
        (['--phases', json.dumps([{**PHASES[0], 'shares': [-1]}])], "'joint': shares: expected 0 or more, got -1"),
        (['--transform.focus_classes', '[3, 11]'], 'the network has classes 0 to 10'),
        (['--criterion.segmentation.auxiliary_weights', '[0.6]'], '2 auxiliary outputs, got 1'),
        (['--criterion.segmentation.class_weights', '[1, 2]'], '11 classes, got 2'),
        (['--start_from', 'nowhere.safetensors'], 'nowhere.safetensors'),
        (['--network', 'interdependent', '--network_config', '{}', '--imagenet_weights', 'no.pth'], 'no.pth'),
    ],
)
def test_what_a_late_phase_would_fail_on_is_told_before_the_data_is_read(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.setattr('training.preparation.prepare_cache', None)  # is not reached
    with pytest.raises(PerceptionError, match=said):
        train(read_config(config_file, *options))


@pytest.mark.parametrize('network', NETWORKS)
def test_every_network_can_be_rehearsed(config_file: Path, network: str) -> None:
    overrides = overrides_of(network)
    balanced = ['--criterion.segmentation.class_weights', 'balanced', '--network_config', json.dumps(overrides)]
    config = read_config(config_file, '--network', network, *balanced)
    learned = rehearse(config, build_network(network, CITYSCAPES_11_3, overrides, config.input_spec))
    assert learned == [{'masks', 'boxes'}, {'masks'}, {'boxes'}, {'masks', 'boxes'}]


def test_a_network_of_prior_boxes_and_no_bottleneck_is_rehearsed(
    config_file: Path, multi_box_options: list[str]
) -> None:
    options = ['--phases', json.dumps(PHASES), '--criterion.multi_box.mining', 'batch']
    config = read_config(config_file, *multi_box_options, *options)
    network = build_network('drawn', CITYSCAPES_11_3, None, config.input_spec)
    assert not hasattr(network, 'bottleneck')
    assert rehearse(config, network) == [{'masks', 'boxes'}, {'masks'}, {'boxes'}, {'masks', 'boxes'}]


def test_settings_of_a_loss_that_the_network_is_not_trained_by_are_refused(
    config_file: Path, multi_box_options: list[str]
) -> None:
    for options, said in (
        (
            [*multi_box_options, '--criterion.detection.assignment', 'every_branch'],
            r'criterion\.detection says nothing',
        ),
        (['--criterion.multi_box.match_iou', '0.4'], r'criterion\.multi_box says nothing .* by criterion\.detection'),
    ):
        config = read_config(config_file, *options)
        network = build_network(config.network, CITYSCAPES_11_3, config.network_config, config.input_spec)
        with pytest.raises(ConfigError, match=said):
            rehearse(config, network)
