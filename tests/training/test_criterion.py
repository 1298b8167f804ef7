"""Partly annotated batches, batches split over processes, and a network that learns from the losses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from drawn_multi_box import build_multi_box_network
from drawn_scenes import IMAGE_HW, build_narrow_network, draw_scene, stack_images
from torch import Tensor, nn

from perception.errors import ConfigError, PerceptionError, ShapeError
from perception.interfaces import NetworkOutput, PerceptionNetwork
from tests.second_device import second_device
from training.criterion import Criterion, CriterionConfig
from training.data.sample import Sample
from training.detection_loss import DetectionLossConfig, MultiBoxLossConfig, detection_loss_of
from training.detection_loss.multi_box import MultiBoxLoss
from training.segmentation_loss import SegmentationLossConfig, segmentation_names

OPTIONS = CriterionConfig(
    w_seg=3.0,
    w_det=2.0,
    segmentation=SegmentationLossConfig(class_weights=tuple(1 + 0.1 * label for label in range(11))),
    detection=DetectionLossConfig(assignment='every_branch', box_loss='giou'),
    multi_box=MultiBoxLossConfig(negatives_per_positive=1.5, class_weight=2.0),
)

BUILDERS: dict[str, Callable[[], PerceptionNetwork]] = {
    'cells': build_narrow_network,
    'multi_box': build_multi_box_network,
}
each_way = pytest.mark.parametrize('build', BUILDERS.values(), ids=BUILDERS)


@pytest.fixture(scope='module', params=BUILDERS)
def network(request: pytest.FixtureRequest) -> PerceptionNetwork:
    """One for each way that objects are matched."""
    return BUILDERS[request.param]()


def leaf_output(
    network: PerceptionNetwork, samples: Sequence[Sample], dtype: torch.dtype = torch.float32
) -> NetworkOutput:
    """The network's output with every tensor a leaf that collects its gradient."""
    with torch.no_grad():
        output = network(stack_images(list(samples)))
    return map_output(output, lambda tensor: tensor.to(dtype).requires_grad_())


def map_output(output: NetworkOutput, function) -> NetworkOutput:  # type: ignore[no-untyped-def]
    return NetworkOutput(
        *(tuple(map(function, part)) if isinstance(part, tuple) else function(part) for part in output)
    )


def tensors(output: NetworkOutput) -> list[Tensor]:
    return [*output[:5], *output.auxiliary_mask_logits]  # type: ignore[list-item]


def test_terms_and_total(network: PerceptionNetwork) -> None:
    samples = [draw_scene(), draw_scene(5)]
    terms = Criterion()(network, leaf_output(network, samples), samples)
    names = detection_loss_of(network.prediction_layout(IMAGE_HW)).names
    segmentation = SegmentationLossConfig(auxiliary_weights=network.auxiliary_weights)
    assert set(terms) == {*segmentation_names(segmentation), *names, 'total'}
    assert all(term.shape == () and term > 0 for term in terms.values())
    parts = [terms[f'segmentation_{name}'] for name in ('main', 'auxiliary1', 'auxiliary2')]
    torch.testing.assert_close(terms['segmentation'], parts[0] + 0.6 * parts[1] + 0.5 * parts[2])
    torch.testing.assert_close(terms['detection'], sum(terms[name] for name in names[1:]))
    torch.testing.assert_close(terms['total'], network.mask_weight * terms['segmentation'] + terms['detection'])


def test_detection_is_divided_by_the_images_with_boxes_and_segmentation_by_their_pixels() -> None:
    network = build_narrow_network()
    samples = [draw_scene(), draw_scene(masked=False), draw_scene(boxed=False), draw_scene()]
    output = leaf_output(network, samples)
    terms = Criterion()(network, output, samples)

    def alone(row: int) -> dict[str, Tensor]:
        one = map_output(output, lambda tensor: tensor[row : row + 1])
        return Criterion()(network, one, [draw_scene()])

    with_boxes = [alone(row)['detection'] for row in (0, 1, 3)]
    torch.testing.assert_close(terms['detection'], torch.stack(with_boxes).mean())
    with_masks = [alone(row)['segmentation'] for row in (0, 2, 3)]  # all of them with the same number of pixels
    torch.testing.assert_close(terms['segmentation'], torch.stack(with_masks).mean())


def test_detection_of_prior_boxes_is_divided_by_their_positives() -> None:
    network = build_multi_box_network()
    samples = [draw_scene(), draw_scene(7, masked=False), draw_scene(boxed=False)]
    output = leaf_output(network, samples)
    config = MultiBoxLossConfig()
    loss = MultiBoxLoss(network.prediction_layout(IMAGE_HW), samples[:2], config, torch.device('cpu'))
    positives = int(loss.count)
    assert positives >= 6, 'every object has a prior'
    boxed = map_output(output, lambda tensor: tensor[:2])
    expected = loss.terms(boxed, torch.tensor(1 / positives))
    found = Criterion(CriterionConfig(w_det=3.0))(network, output, samples)
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)
    torch.testing.assert_close(found['total'], network.mask_weight * found['segmentation'] + 3 * found['detection'])


@pytest.mark.parametrize('mining', ['image', 'batch'])
def test_images_without_annotation_change_no_loss_of_prior_boxes(mining: str) -> None:
    network = build_multi_box_network()
    criterion = Criterion(CriterionConfig(multi_box=MultiBoxLossConfig(mining=mining)))  # type: ignore[arg-type]
    kinds = [(True, True), (False, False), (False, True), (True, False), (False, False)]
    samples = [draw_scene(3 * row, masked=masked, boxed=boxed) for row, (masked, boxed) in enumerate(kinds)]
    output = leaf_output(network, samples)
    found = criterion(network, output, samples)

    def of_rows(rows: list[int]) -> dict[str, Tensor]:
        chosen = map_output(output, lambda tensor: tensor[rows])
        return criterion(network, chosen, [samples[row] for row in rows])

    boxed, masked = of_rows([0, 2]), of_rows([0, 3])
    for name, term in found.items():
        if name != 'total':
            torch.testing.assert_close(term, (boxed if name.startswith('detection') else masked)[name])
            assert term > 0
    found['total'].backward()
    for row, (has_mask, has_boxes) in enumerate(kinds):
        assert bool(output.mask_logits.grad[row].any()) == has_mask  # type: ignore[index]
        for predictions in (output.objectness, output.class_logits, output.box_codes):
            assert bool(predictions.grad[row].any()) == has_boxes  # type: ignore[index,union-attr]


def test_unannotated_images_have_no_gradient(network: PerceptionNetwork) -> None:
    samples = [draw_scene(masked=False), draw_scene(boxed=False)]
    output = leaf_output(network, samples)
    Criterion()(network, output, samples)['total'].backward()
    boxes_only, masks_only = 0, 1
    for logits in (output.mask_logits, *output.auxiliary_mask_logits):
        assert (logits.grad[boxes_only] == 0).all()
        assert (logits.grad[masks_only] != 0).any()
    for predictions in (output.objectness, output.class_logits, output.box_codes):
        assert (predictions.grad[masks_only] == 0).all()
        assert (predictions.grad[boxes_only] != 0).any()


@pytest.mark.parametrize(('annotated', 'missing'), [('segmentation', 'detection'), ('detection', 'segmentation')])
def test_a_task_without_annotation_is_exactly_zero(network: PerceptionNetwork, annotated: str, missing: str) -> None:
    samples = [draw_scene(masked=annotated == 'segmentation', boxed=annotated == 'detection')] * 2
    output = leaf_output(network, samples)
    terms = Criterion()(network, output, samples)
    for name, term in terms.items():
        if name.startswith(missing):
            assert term == 0
            assert not term.requires_grad
    assert terms[annotated] > 0
    terms['total'].backward()
    untouched = [output.mask_logits] if missing == 'segmentation' else [output.objectness, output.box_codes]
    assert all(tensor.grad is None for tensor in untouched)


def test_a_batch_without_any_annotation_has_a_total_without_gradient(network: PerceptionNetwork) -> None:
    samples = [draw_scene(masked=False, boxed=False)] * 2
    total = Criterion()(network, leaf_output(network, samples), samples)['total']
    assert total == 0
    assert not total.requires_grad


@pytest.mark.parametrize('task', ['segment', 'detect'])
def test_a_task_that_was_switched_off_is_zero(network: PerceptionNetwork, task: str) -> None:
    samples = [draw_scene(), draw_scene(5)]
    terms = Criterion()(network, network(stack_images(samples), **{task: False}), samples)
    off, on = ('segmentation', 'detection') if task == 'segment' else ('detection', 'segmentation')
    assert terms[off] == 0
    assert terms[on] > 0


def test_images_without_objects_still_teach_background() -> None:
    network = build_narrow_network()
    empty = replace(draw_scene(), boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    terms = Criterion()(network, leaf_output(network, [empty]), [empty])
    assert terms['detection_objectness'] > 0
    assert terms['detection_class'] == terms['detection_box'] == 0


def run_ranks(
    config: CriterionConfig, network: PerceptionNetwork, parts: list[tuple[NetworkOutput, list[Sample]]]
) -> list[dict[str, Tensor]]:
    """What each of several processes would compute, one after the other: first count, then sum the counts."""
    counts: list[Tensor] = []

    def record(own: Tensor) -> Tensor:
        counts.append(own)
        return own

    for output, samples in parts:
        Criterion(config, record)(network, output, samples)
    assert len(counts) == len(parts)
    joint = torch.stack(counts).sum(dim=0)
    return [Criterion(config, lambda own: joint)(network, output, samples) for output, samples in parts]


@pytest.mark.parametrize('config', [CriterionConfig(), OPTIONS], ids=['published', 'options'])
@pytest.mark.parametrize(
    'kinds',
    [
        [(True, True), (True, True), (True, True), (True, True)],
        [(True, False), (False, True), (True, True), (False, False)],
        [(True, True), (True, True), (False, False), (False, False)],
        [(True, False), (True, False), (False, True), (True, True)],
    ],
    ids=['full', 'mixed', 'one_process_without_annotation', 'one_process_without_boxes'],
)
def test_two_processes_have_the_gradient_of_the_joint_batch(
    network: PerceptionNetwork, config: CriterionConfig, kinds: list[tuple[bool, bool]]
) -> None:
    samples = [draw_scene(3 * index, masked=masked, boxed=boxed) for index, (masked, boxed) in enumerate(kinds)]
    output = leaf_output(network, samples, torch.float64)
    joint = Criterion(config)(network, output, samples)
    expected = torch.autograd.grad(joint['total'], tensors(output), materialize_grads=True)

    parts = [(map_output(output, lambda t, rows=rows: t[rows]), samples[rows]) for rows in (slice(0, 2), slice(2, 4))]
    ranks = run_ranks(config, network, parts)
    averaged = torch.stack([terms['total'] for terms in ranks]).mean()
    gradients = torch.autograd.grad(averaged, tensors(output), materialize_grads=True)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-15)
    for name, value in joint.items():
        mean = torch.stack([terms[name].double() for terms in ranks]).mean()
        torch.testing.assert_close(mean, value.double(), rtol=1e-12, atol=1e-15)


@each_way
def test_two_processes_have_the_weight_gradient_of_the_joint_batch(build: Callable[[], PerceptionNetwork]) -> None:
    network = build().double()
    # Batch statistics of a half differ from the whole's; synchronised norms are not what is tested here.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    samples = [draw_scene(), draw_scene(4), draw_scene(8, masked=False), draw_scene(12, boxed=False)]

    def gradients(total: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(total, list(network.parameters()), materialize_grads=True)

    expected = gradients(Criterion()(network, network(stack_images(samples)), samples)['total'])
    halves = [samples[0::2], samples[1::2]]
    ranks = run_ranks(CriterionConfig(), network, [(network(stack_images(half)), half) for half in halves])
    per_rank = [gradients(terms['total']) for terms in ranks]
    for wanted, *own in zip(expected, *per_rank, strict=True):
        torch.testing.assert_close(torch.stack(own).mean(dim=0), wanted, rtol=1e-6, atol=1e-8)


def test_half_precision_outputs_are_summed_in_float32(network: PerceptionNetwork) -> None:
    samples = [draw_scene(), draw_scene(5)]
    output = leaf_output(network, samples, torch.bfloat16)
    terms = Criterion()(network, output, samples)
    assert all(term.dtype == torch.float32 for term in terms.values())
    exact = Criterion()(network, map_output(output, lambda tensor: tensor.float()), samples)
    torch.testing.assert_close(terms, exact)


@pytest.mark.parametrize('config', [CriterionConfig(), OPTIONS], ids=['default', 'options'])
@each_way
def test_a_training_step_brings_no_two_devices_together(
    build: Callable[[], PerceptionNetwork], config: CriterionConfig
) -> None:
    samples = [draw_scene(), draw_scene(masked=False), draw_scene(5, boxed=False)]
    samples[0] = replace(samples[0], ignore_boxes=torch.tensor([[0.0, 0.0, 96.0, 48.0]]))

    def learn(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        network = build().to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        terms = Criterion(config)(network, network(stack_images(samples).to(device)), samples)
        assert {term.device for term in terms.values()} == {device}
        terms['total'].backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return terms, network.state_dict()

    expected = learn(torch.device('cpu'))
    with second_device() as device:
        found = learn(device)
        for there, here in zip(found, expected, strict=True):
            for name, values in here.items():
                assert torch.equal(there[name].cpu(), values), name


@each_way
def test_a_narrow_network_learns_two_scenes(build: Callable[[], PerceptionNetwork]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = build()
    samples = [draw_scene(), draw_scene(20)]
    images = stack_images(samples)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    criterion = Criterion()
    history = []
    for _ in range(30):
        terms = criterion(network, network(images), samples)
        optimizer.zero_grad()
        terms['total'].backward()
        optimizer.step()
        history.append({name: term.item() for name, term in terms.items()})
    torch.set_num_threads(threads)
    first, last = history[0], history[-1]
    assert last['segmentation'] < first['segmentation'] / 3
    assert last['detection'] < first['detection'] / 10
    assert all(last[name] < first[name] / 2 for name in first)


def test_an_untrained_network_starts_near_chance() -> None:
    network, samples = build_narrow_network(), [draw_scene(), draw_scene(5)]
    terms = Criterion()(network, network(stack_images(samples)), samples)
    # Objectness 0.01 at three objects an image, each alone in the focal sum; classes at 1/2.
    assert terms['detection_objectness'].item() == pytest.approx(3 * 0.25 * 0.99**2 * math.log(100), rel=0.1)
    assert terms['detection_class'].item() == pytest.approx(3 * 3 * 0.25 * math.log(2), rel=0.1)


def refused(network: PerceptionNetwork, *samples: Sample) -> str:
    output = leaf_output(network, [draw_scene()] * len(samples))
    with pytest.raises(ShapeError) as caught:
        Criterion()(network, output, samples)
    return str(caught.value)


def test_samples_that_do_not_fit_are_named(network: PerceptionNetwork) -> None:
    good = draw_scene()
    assert good.boxes is not None
    assert good.mask is not None
    assert '(96, 192)' in refused(network, replace(good, image=torch.zeros(3, 96, 160, dtype=torch.uint8)))
    assert 'mask (48, 192)' in refused(network, replace(good, mask=good.mask[::2]))
    assert '11' in refused(network, good, replace(good, mask=torch.full_like(good.mask, 11)))
    assert 'one each' in refused(network, replace(good, labels=torch.zeros(2, dtype=torch.int64)))
    assert '3 detection classes' in refused(network, replace(good, labels=torch.tensor([0, 1, 3])))
    message = refused(network, good, replace(good, boxes=good.boxes[:, [0, 1, 0, 3]], name='frame_17'))
    assert 'frame_17' in message
    assert 'without an area' in message


def test_other_mistakes_are_named(network: PerceptionNetwork) -> None:
    samples = [draw_scene(), draw_scene(5)]
    output = leaf_output(network, samples)
    with pytest.raises(ShapeError, match='1 samples'):
        Criterion()(network, output, samples[:1])
    with pytest.raises(PerceptionError, match='train'):
        Criterion()(network, output._replace(box_codes=None), samples)
    with pytest.raises(ConfigError, match='resolve_class_weights'):
        Criterion(CriterionConfig(segmentation=SegmentationLossConfig(class_weights='balanced')))


@pytest.mark.parametrize('setting', [{'w_seg': -3.0}, {'w_det': -1.0}, {'w_seg': float('inf')}])
def test_weights_that_turn_learning_round_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f'{next(iter(setting))}: expected 0 or more, got'):
        CriterionConfig(**setting)  # type: ignore[arg-type]
