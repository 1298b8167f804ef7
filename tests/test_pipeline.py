"""The Perceiver: with a network whose answers are known, and with a real one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perception import postprocess as postprocess_module
from perception.bag.reader import read_frames
from perception.checkpoint import UNTRAINED, Checkpoint, resolve_checkpoint
from perception.errors import ConfigError, ShapeError
from perception.image import prepare_image
from perception.interfaces import (
    Detections,
    InputSpec,
    NetworkOutput,
    PerceptionNetwork,
    PixelOrder,
    SceneResult,
    Suppression,
)
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, build_network
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig, postprocess
from perception.resources import SAMPLE_BAG
from tests.second_device import second_device
from tests.small_networks import overrides_of

LOW = PostprocessConfig(score_threshold=0.01, max_detections=50)
SIZES = [(1, 1), (1, 40), (50, 1), (45, 77), (64, 96), (123, 61), (721, 1283)]
COLORS = torch.tensor([label.color_rgb for label in CITYSCAPES_11_3.segmentation])


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ColorNetwork(PerceptionNetwork):
    """Sees in each pixel the class whose colour it has, and one car where the image is red (224, 0, 0)."""

    name = 'color'
    divisor = 1
    class_activation = 'softmax'
    labels = CITYSCAPES_11_3

    def __init__(self, resize: str) -> None:
        super().__init__()
        self.input_spec = InputSpec(image_hw=(60, 90), resize=resize)  # type: ignore[arg-type]
        self.batches: list[int] = []
        self.layer = nn.Linear(1, 1)

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        assert images.dtype == torch.uint8
        self.batches.append(len(images))
        distances = (images[:, None].float() - COLORS[None, :, :, None, None]).square().sum(dim=2)  # (B, C, H, W)
        red = (images.float() - torch.tensor([224.0, 0, 0])[None, :, None, None]).square().sum(dim=1) < 900
        boxes = [
            [found[:, 1].min(), found[:, 0].min(), found[:, 1].max() + 1, found[:, 0].max() + 1]
            if len(found)
            else [0] * 4
            for found in (mask.nonzero() for mask in red)
        ]
        # Class logits of 3, 1, 1 under a softmax: 0.787, 0.107 and 0.107.
        return NetworkOutput(
            boxes=torch.tensor(boxes, dtype=torch.float32)[:, None],
            objectness=torch.where(red.flatten(1).any(dim=1), 20.0, -20.0)[:, None],
            class_logits=torch.tensor([3.0, 1.0, 1.0]).expand(len(images), 1, 3),
            mask_logits=-distances / 1000,
        )


def checkpoint_of(network: PerceptionNetwork) -> Checkpoint:
    return Checkpoint(network=network.eval(), digest=UNTRAINED)


@pytest.fixture(scope='module')
def perceiver() -> Perceiver:
    """Runs a real network, whose random weights see something everywhere."""
    torch.manual_seed(0)
    network = build_network('interdependent_small', CITYSCAPES_11_3, None, InputSpec(image_hw=(64, 96)))
    return Perceiver(checkpoint_of(network), device='cpu', config=LOW)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def draw_scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Road below, sky above, vegetation at the right, and the mask that says so."""
    mask = np.full((height, width), 4, np.uint8)
    mask[height // 2 :] = 0
    mask[:, width * 2 // 3 :] = 5
    return COLORS.numpy().astype(np.uint8)[mask], mask


def assert_whole(result: SceneResult, image_hw: tuple[int, int], most: int = 50) -> None:
    found = result.detections
    count = len(found)
    assert count <= most
    assert found.boxes_xyxy.shape == (count, 4)
    assert found.scores.shape == found.labels.shape == (count,)
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    height, width = image_hw
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert (found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert np.isin(found.labels, range(3)).all()
    assert result.mask.shape == image_hw
    assert result.mask.dtype == np.uint8
    assert result.mask.max() < 11
    assert result.times_ms.keys() == {'preprocess', 'inference', 'postprocess'}
    assert all(value > 0 for value in result.times_ms.values())


def assert_same(one: Detections, other: Detections, pixels: float = 0.05) -> None:
    assert one.labels.tolist() == other.labels.tolist()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=pixels)


@pytest.mark.parametrize('image_hw', SIZES, ids=lambda size: f'{size[0]}x{size[1]}')
def test_every_size_gives_a_whole_result(perceiver: Perceiver, image_hw: tuple[int, int]) -> None:
    image = noise(*image_hw, 3)
    before = image.copy()
    result = perceiver(image)
    assert_whole(result, image_hw)
    assert len(result.detections) > 0
    assert result.confidence is None
    assert np.array_equal(image, before)


@pytest.mark.parametrize('resize', ['stretch', 'letterbox'])
@pytest.mark.parametrize('image_hw', [(60, 90), (121, 179), (90, 60), (31, 200), (30, 45)], ids=str)
def test_scene_comes_back_as_it_was_drawn(resize: str, image_hw: tuple[int, int]) -> None:
    image, mask = draw_scene(*image_hw)
    height, width = image_hw
    box = [width // 4, height // 4, width // 2, height * 3 // 4]
    image[box[1] : box[3], box[0] : box[2]] = (224, 0, 0)
    result = Perceiver(checkpoint_of(ColorNetwork(resize)), device='cpu')(image, with_confidence=True)
    assert_whole(result, image_hw)
    pixel = max(height / 60, width / 90)
    assert len(result.detections) == 1
    assert np.abs(result.detections.boxes_xyxy[0] - box).max() <= 3 * max(1, pixel)
    assert result.detections.labels.tolist() == [0]
    assert result.detections.scores[0] == pytest.approx(np.exp(3) / (np.exp(3) + 2 * np.exp(1)), rel=1e-4)

    # Away from edges, where the resize blends colours, the mask is the drawn one.
    margin = int(np.ceil(2 * max(1, pixel)))
    edges = np.zeros(image_hw, bool)
    for row in (height // 2, box[1], box[3]):
        edges[max(0, row - margin) : row + margin] = True
    for column in (width * 2 // 3, box[0], box[2]):
        edges[:, max(0, column - margin) : column + margin] = True
    edges[box[1] : box[3], box[0] : box[2]] = True
    assert not edges.all()
    assert np.array_equal(result.mask[~edges], mask[~edges])
    assert result.confidence is not None
    assert result.confidence.shape == image_hw
    assert result.confidence.dtype == np.uint8
    assert (result.confidence[~edges] > 128).all()


@pytest.mark.parametrize('order', list(PixelOrder))
def test_every_pixel_order_shows_the_same(order: PixelOrder) -> None:
    image, mask = draw_scene(60, 90)
    if order is PixelOrder.MONO:
        image, mask = np.full((60, 90), 153, np.uint8), np.full((60, 90), 6, np.uint8)  # the grey of poles
    elif order in (PixelOrder.BGR, PixelOrder.BGRA):
        image = np.ascontiguousarray(image[..., ::-1])
    if order in (PixelOrder.RGBA, PixelOrder.BGRA):
        image = np.concatenate((image, noise(60, 90, 1)), axis=2)
    result = Perceiver(checkpoint_of(ColorNetwork('stretch')), device='cpu')(image, order)
    assert np.array_equal(result.mask, mask)
    assert len(result.detections) == 0


def test_batch_gives_what_single_images_give(perceiver: Perceiver) -> None:
    images = [noise(45, 77, 3), noise(130, 64, 4), noise(64, 96)]
    orders = [PixelOrder.RGB, PixelOrder.BGRA, PixelOrder.MONO]
    together = perceiver.perceive(images, orders, with_confidence=True)
    assert len(together) == 3
    for image, order, result in zip(images, orders, together, strict=True):
        alone = perceiver(image, order, with_confidence=True)
        assert_whole(result, image.shape[:2])
        assert_same(result.detections, alone.detections)
        assert np.mean(result.mask != alone.mask) < 1e-3
        assert result.confidence is not None
        assert alone.confidence is not None
        assert np.abs(result.confidence.astype(int) - alone.confidence).max() <= 1
    assert together[0].times_ms == together[2].times_ms


def test_batch_is_one_call_of_the_network() -> None:
    network = ColorNetwork('stretch')
    perceiver = Perceiver(checkpoint_of(network), device='cpu')
    perceiver.perceive([noise(5, 7, 3)] * 4)
    assert network.batches == [4]
    assert perceiver.perceive([]) == []
    assert network.batches == [4]
    perceiver.warm_up(2)
    assert network.batches == [4, 1, 1]


def test_warm_up_reaches_suppression_though_a_blank_image_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    suppressed: list[int] = []
    suppress = postprocess_module.class_wise_suppression

    def note(boxes: Tensor, *arguments: Any) -> Tensor:
        suppressed.append(len(boxes))
        return suppress(boxes, *arguments)

    monkeypatch.setattr(postprocess_module, 'class_wise_suppression', note)
    perceiver = Perceiver(checkpoint_of(ColorNetwork('stretch')), device='cpu')
    before = perceiver.config
    perceiver.warm_up(2)
    assert suppressed == [3, 3]  # its one box for each class
    assert perceiver.config is before


def test_same_image_gives_the_same_result(perceiver: Perceiver) -> None:
    image = noise(75, 101, 3)
    first, second = (perceiver(image, with_confidence=True) for _ in range(2))
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.confidence, second.confidence)  # type: ignore[arg-type]
    assert_same(first.detections, second.detections, pixels=0)
    assert np.array_equal(first.detections.scores, second.detections.scores)


def test_config_can_be_replaced_at_run_time(perceiver: Perceiver) -> None:
    image = noise(75, 101, 3)
    every = perceiver(image).detections
    assert len(every) > 4
    threshold = float(every.scores[2])
    try:
        perceiver.config = replace(LOW, score_threshold=threshold)
        few = perceiver(image).detections
        perceiver.config = replace(LOW, max_detections=1)
        one = perceiver(image).detections
    finally:
        perceiver.config = LOW
    assert few.scores.tolist() == [score for score in every.scores.tolist() if score >= threshold]
    assert one.scores.tolist() == every.scores[:1].tolist()
    assert len(perceiver(image).detections) == len(every)


def test_a_network_suppresses_as_its_paper_does_until_the_config_says_otherwise() -> None:
    network = ColorNetwork('stretch')
    image = np.zeros((60, 90, 3), np.uint8)
    image[10:30, 20:50] = [224, 0, 0]
    perceiver = Perceiver(checkpoint_of(network), device='cpu', config=PostprocessConfig(score_threshold=0.01))
    assert perceiver(image).detections.labels.tolist() == [0, 1, 2]
    network.suppression = Suppression(max_detections=2)
    perceiver = Perceiver(checkpoint_of(network), device='cpu', config=perceiver.config)
    assert perceiver(image).detections.labels.tolist() == [0, 1]
    perceiver.config = replace(perceiver.config, max_detections=3)
    assert perceiver(image).detections.labels.tolist() == [0, 1, 2]


def test_perceiver_says_what_it_runs(perceiver: Perceiver) -> None:
    assert perceiver.device == 'cpu'
    assert perceiver.labels is perceiver.checkpoint.network.labels
    assert Perceiver(checkpoint_of(ColorNetwork('stretch')), device='cpu').config == PostprocessConfig()


def test_wrong_images_are_refused(perceiver: Perceiver) -> None:
    with pytest.raises(ShapeError, match='rgb8'):
        perceiver(noise(5, 7))
    with pytest.raises(ShapeError, match='mono8'):
        perceiver(noise(5, 7, 3), PixelOrder.MONO)
    with pytest.raises(ShapeError, match='float64'):
        perceiver.perceive([noise(5, 7, 3), np.zeros((5, 7, 3))])


def test_wrong_options_are_refused() -> None:
    checkpoint = checkpoint_of(ColorNetwork('stretch'))
    with pytest.raises(ConfigError, match='Unknown backend'):
        Perceiver(checkpoint, backend='eagre')
    with pytest.raises(ConfigError, match='Unknown device'):
        Perceiver(checkpoint, device='gpu')
    with pytest.raises(ConfigError, match='Unknown precision'):
        Perceiver(checkpoint, precision='fp8')


@pytest.mark.parametrize('name', list(NETWORKS))
def test_network_and_postprocess_bring_no_two_devices_together(name: str) -> None:
    spec = InputSpec(image_hw=(64, 96), resize='letterbox')
    image = np.random.default_rng(0).integers(0, 256, (50, 120, 3), np.uint8)
    prepared, geometry = prepare_image(image, spec)
    images = torch.from_numpy(prepared).permute(2, 0, 1)[None]

    def look(device: torch.device) -> SceneResult:
        torch.manual_seed(0)
        network = build_network(name, CITYSCAPES_11_3, overrides_of(name), spec).eval()
        network = network.to(device).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            output = network(images.to(device))
            activation = network.class_activation
            return postprocess(output, [geometry], LOW, class_activation=activation, with_confidence=True)[0]

    here = look(torch.device('cpu'))
    with second_device() as device:
        there = look(device)
    assert len(here.detections.scores)
    np.testing.assert_array_equal(there.detections.boxes_xyxy, here.detections.boxes_xyxy)
    np.testing.assert_array_equal(there.mask, here.mask)
    np.testing.assert_array_equal(there.confidence, here.confidence)


SHARES = {
    'road': 24.0,
    'traffic sign': 0.6,
    'pedestrian': 1.9,
    'building': 25.6,
    'sky': 21.0,
    'vegetation': 7.9,
    'pole': 1.5,
    'sidewalk': 11.4,
    'fence': 0.1,
    'rider/cycle': 1.1,
    'car/truck/bus': 5.0,
}
BOXES = [
    (0, 0.634, (326.9, 187.1, 388.9, 240.7)),
    (0, 0.616, (143.3, 181.0, 273.1, 261.1)),
    (1, 0.522, (621.2, 188.7, 662.9, 295.6)),
    (1, 0.434, (123.0, 180.3, 156.4, 260.3)),
]


def test_shipped_weights_see_what_they_saw() -> None:
    # New weights have new numbers. The tolerances are some ten times what bfloat16 changes.
    perceiver = Perceiver(resolve_checkpoint(''), device='cpu')
    scene = perceiver(next(read_frames(SAMPLE_BAG)).image_rgb)
    shares = 100 * np.bincount(scene.mask.ravel(), minlength=len(SHARES)) / scene.mask.size
    names = [label.name for label in perceiver.labels.segmentation]
    assert dict(zip(names, shares.tolist(), strict=True)) == pytest.approx(SHARES, abs=0.3)
    found = scene.detections
    for label, score, box in BOXES:
        # Which box it is may change with the order of scores that are close.
        distance = np.abs(found.boxes_xyxy - box).max(axis=1)
        nearest = int(distance.argmin())
        assert distance[nearest] < 2
        assert found.labels[nearest] == label
        assert found.scores[nearest] == pytest.approx(score, abs=0.05)
    assert found.scores[0] == pytest.approx(BOXES[0][1], abs=0.05)
