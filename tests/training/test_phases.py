"""Frozen parts do not change by a bit; the optimizer holds what is trained and nothing else."""

from dataclasses import replace

import pytest
import torch
from drawn_multi_box import build_multi_box_network
from drawn_scenes import build_narrow_network, draw_scene, stack_images
from torch import Tensor

from perception.errors import ConfigError
from perception.networks.interdependent import InterdependentNetwork
from training.criterion import Criterion, CriterionConfig
from training.phases import (
    PAPER_PHASES,
    OptimizerConfig,
    Phase,
    build_optimizer,
    freeze_all_but,
    set_learning_rate,
    set_training_mode,
    weigh_losses,
)

SEGMENTATION, DETECTION = PAPER_PHASES[1], PAPER_PHASES[2]
SAMPLES = [draw_scene(), draw_scene(10)]


def state(network: InterdependentNetwork, *, detection: bool) -> dict[str, Tensor]:
    """A copy of all weights and statistics of the detection head, or of everything else."""
    return {
        name: tensor.clone()
        for name, tensor in network.state_dict().items()
        if name.startswith('detection_head.') == detection
    }


def train(network: InterdependentNetwork, phase: Phase, config: OptimizerConfig, *, steps: int = 3) -> None:
    """Some steps as the loop takes them, with an evaluation in between."""
    optimizer = build_optimizer(network, phase, config)
    criterion = Criterion(weigh_losses(CriterionConfig(), phase))
    for _ in range(steps):
        set_training_mode(network, phase)
        output = network(stack_images(SAMPLES), segment=phase.segment, detect=phase.detect)
        optimizer.zero_grad()
        criterion(network, output, SAMPLES)['total'].backward()
        optimizer.step()
        network.eval()
        network(stack_images(SAMPLES))
        network.train()


def test_paper_phases() -> None:
    table = [(phase.iterations, phase.learning_rate, phase.segment, phase.detect) for phase in PAPER_PHASES]
    assert table == [
        (30_000, 1e-3, True, True),
        (120_000, 1e-3, True, False),
        (120_000, 1e-4, False, True),
        (50_000, 1e-4, True, True),
    ]
    assert sum(phase.iterations for phase in PAPER_PHASES) == 320_000
    weights = [weigh_losses(CriterionConfig(), phase) for phase in PAPER_PHASES]
    assert [(config.w_seg, config.w_det) for config in weights] == [(None, 1), (None, 0), (0, 1), (None, 1)]
    assert weights[0].mask_weight(build_narrow_network()) == 40
    assert weights[2].mask_weight(build_narrow_network()) == 0


def test_phases_of_the_paper_cover_the_network_between_them() -> None:
    network = build_narrow_network()
    with_weights = {name for name, part in network.named_children() if any(True for _ in part.parameters())}
    assert {*SEGMENTATION.trains, *DETECTION.trains} == with_weights
    assert not {*SEGMENTATION.trains} & {*DETECTION.trains}


@pytest.mark.parametrize(
    ('trains', 'tasks'),
    [
        ('all', (True, True)),
        (('mask_head',), (True, False)),
        (('encoder', 'detection_head'), (False, True)),
        (('mask_head', 'detection_head'), (True, True)),
    ],
)
def test_a_task_is_learned_where_its_head_is(trains: tuple[str, ...] | str, tasks: tuple[bool, bool]) -> None:
    phase = Phase(name='any', trains=trains, iterations=1, learning_rate=1.0)  # type: ignore[arg-type]
    assert (phase.segment, phase.detect) == tasks
    weights = weigh_losses(CriterionConfig(w_seg=3.0, w_det=2.0), phase)
    assert (weights.w_seg, weights.w_det) == (3.0 * tasks[0], 2.0 * tasks[1])


def test_a_bottleneck_may_be_named_where_there_is_none() -> None:
    network = build_multi_box_network()
    set_training_mode(network, SEGMENTATION)
    learning = {name.partition('.')[0] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {'encoder', 'decoder', 'mask_head'}
    held = [id(value) for group in build_optimizer(network, SEGMENTATION).param_groups for value in group['params']]
    assert sorted(held) == sorted(id(value) for value in network.parameters() if value.requires_grad)
    with pytest.raises(ConfigError, match="no part 'bottlenek' to train"):
        set_training_mode(network, replace(SEGMENTATION, trains=('bottlenek', 'mask_head')))


@pytest.mark.parametrize('config', [OptimizerConfig(), OptimizerConfig(name='adamw', weight_decay=0.1)])
@pytest.mark.parametrize(('phase', 'detector_learns'), [(DETECTION, True), (SEGMENTATION, False)])
def test_frozen_parts_do_not_change_by_a_bit(phase: Phase, detector_learns: bool, config: OptimizerConfig) -> None:
    # Dropout must sleep too: awake, it would alter what frozen parts say although no weight changes.
    network = build_narrow_network(dropout=0.5)
    train(network, replace(PAPER_PHASES[0], iterations=1), config, steps=1)
    frozen, learning = state(network, detection=not detector_learns), state(network, detection=detector_learns)
    train(network, phase, config)
    for name, tensor in state(network, detection=not detector_learns).items():
        assert torch.equal(tensor, frozen[name]), name
    changed = [
        name for name, tensor in state(network, detection=detector_learns).items() if (tensor != learning[name]).any()
    ]
    assert any(name.endswith('running_mean') for name in changed)
    assert any(name.endswith('running_var') for name in changed)
    assert any(name.endswith('weight') for name in changed)


def test_phase_three_leaves_the_masks_as_they_were() -> None:
    network = build_narrow_network(dropout=0.5)
    images = stack_images(SAMPLES)
    before = network.eval()(images)
    train(network, DETECTION, OptimizerConfig())
    after = network.eval()(images)
    assert torch.equal(before.mask_logits, after.mask_logits)
    assert not torch.equal(before.objectness, after.objectness)


def test_frozen_parts_say_the_same_in_training_as_in_evaluation() -> None:
    network = build_narrow_network(dropout=0.5)
    images = stack_images(SAMPLES)
    expected = network.eval()(images).mask_logits
    set_training_mode(network, DETECTION)
    assert torch.equal(network(images).mask_logits, expected)


def test_mode_and_gradients_by_part() -> None:
    network = build_narrow_network()
    network(stack_images(SAMPLES)).mask_logits.sum().backward()
    freeze_all_but(network, ('decoder', 'mask_head'))
    for name, part in network.named_children():
        learns = name in ('decoder', 'mask_head')
        assert all(module.training == learns for module in part.modules())
        assert all(parameter.requires_grad == learns for parameter in part.parameters())
        assert learns or all(parameter.grad is None for parameter in part.parameters())
    # The network itself still gives what only losses need.
    assert network.training
    freeze_all_but(network, 'all')
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_training_mode_survives_network_train() -> None:
    network = build_narrow_network()
    freeze_all_but(network, DETECTION.trains)
    network.train()
    set_training_mode(network, DETECTION)
    assert not any(module.training for module in network.encoder.modules())
    assert all(module.training for module in network.detection_head.modules())


def test_frozen_forward_keeps_no_graph() -> None:
    network = build_narrow_network()
    set_training_mode(network, DETECTION)
    output = network(stack_images(SAMPLES))
    assert not output.mask_logits.requires_grad
    assert output.objectness.requires_grad


def test_optimizer_is_the_papers_and_holds_the_trained_parts() -> None:
    network = build_narrow_network()
    optimizer = build_optimizer(network, DETECTION)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults['betas'] == (0.9, 0.999)
    assert optimizer.defaults['eps'] == 1e-10
    assert {group['lr'] for group in optimizer.param_groups} == {1e-4}
    held = [id(parameter) for group in optimizer.param_groups for parameter in group['params']]
    assert sorted(held) == sorted(id(parameter) for parameter in network.detection_head.parameters())


def test_norms_and_biases_do_not_decay() -> None:
    network = build_narrow_network()
    config = OptimizerConfig(name='adamw', weight_decay=0.05)
    optimizer = build_optimizer(network, PAPER_PHASES[0], config)
    assert type(optimizer) is torch.optim.AdamW
    decaying, spared = optimizer.param_groups
    assert (decaying['weight_decay'], spared['weight_decay']) == (0.05, 0.0)
    spared_ids = {id(parameter) for parameter in spared['params']}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in spared_ids) == (name.endswith('bias') or parameter.ndim == 1), name
    assert len(decaying['params']) + len(spared['params']) == len(list(network.parameters()))


def test_sgd_has_momentum_and_decays_weights() -> None:
    network = build_narrow_network()
    config = OptimizerConfig(name='sgd', momentum=0.8, weight_decay=5e-4)
    optimizer = build_optimizer(network, PAPER_PHASES[0], config)
    assert type(optimizer) is torch.optim.SGD
    decaying, spared = optimizer.param_groups
    assert (decaying['weight_decay'], spared['weight_decay']) == (5e-4, 0.0)
    weight, bias = decaying['params'][0], spared['params'][0]
    before = [parameter.detach().clone() for parameter in (weight, bias)]
    for _ in range(2):
        weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
        set_learning_rate(optimizer, 0.1)
        optimizer.step()
    first = 1 + 5e-4 * before[0]
    expected = before[0] - 0.1 * first - 0.1 * (0.8 * first + 1 + 5e-4 * (before[0] - 0.1 * first))
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(bias.detach(), before[1] - 0.1 - 0.1 * 1.8)


@pytest.mark.parametrize(
    'setting', [{'momentum': 1.0}, {'momentum': -0.1}, {'betas': (0.9, 1.0)}, {'eps': 0.0}, {'weight_decay': -1.0}]
)
def test_optimizer_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        OptimizerConfig(**setting)  # type: ignore[arg-type]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    network = build_narrow_network()
    phase = replace(DETECTION, trains=('encodr', 'detection_head'))
    for act in (lambda: freeze_all_but(network, phase.trains), lambda: build_optimizer(network, phase)):
        with pytest.raises(ConfigError, match="did you mean 'encoder'"):
            act()
    with pytest.raises(ConfigError, match='adamw'):
        OptimizerConfig(name='adamv')  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'setting',
    [
        {'trains': 'encoder'},
        {'trains': ()},
        {'trains': ('encoder', 'decoder')},
        {'iterations': 0},
        {'learning_rate': 0.0},
        {'w_seg': -3.0},
        {'w_seg': 0.0},
        {'trains': ('detection_head',), 'w_seg': 1.0},
        {'trains': ('encoder', 'mask_head'), 'w_det': 1.0},
    ],
)
def test_phases_that_cannot_train_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="'joint'"):
        replace(PAPER_PHASES[0], **setting)  # type: ignore[arg-type]
