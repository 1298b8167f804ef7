"""What OpenVINO adds to the contract: its library may be missing, its memory is shared, its threads are the callers."""

import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from perception.backends import build_backend, device_of
from perception.backends.open_vino import OpenVinoBackend
from perception.errors import ConfigError, MissingDependencyError
from perception.interfaces import InputSpec, NetworkOutput, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network
from tests.small_networks import overrides_of

SPEC = InputSpec(image_hw=(32, 48))


def draw_network() -> PerceptionNetwork:
    torch.manual_seed(0)
    return build_network('interdependent_small', CITYSCAPES_11_3, None, SPEC).eval()


@pytest.fixture(scope='module')
def backend() -> Iterator[OpenVinoBackend]:
    pytest.importorskip('openvino')
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield OpenVinoBackend(draw_network())
    torch.set_num_threads(before)


def draw_images(batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, *SPEC.image_hw), dtype=torch.uint8, generator=generator)


def test_an_answer_stays_what_it_was_when_the_next_image_comes(backend: OpenVinoBackend) -> None:
    first = backend(draw_images(seed=1))
    copies = [tensor.clone() for tensor in first[:4]]
    second = backend(draw_images(seed=2))
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(first[:4], copies, strict=True))
    assert not torch.equal(first.mask_logits, second.mask_logits)


def test_maps_that_were_rounded_up_come_out_the_same() -> None:
    pytest.importorskip('openvino')
    torch.manual_seed(0)
    spec = InputSpec(image_hw=(45, 70))
    network = build_network('blitznet300_small', CITYSCAPES_11_3, overrides_of('blitznet300_small'), spec).eval()
    images = torch.randint(0, 256, (3, 3, *spec.image_hw), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    found = OpenVinoBackend(network)(images)
    for ours, theirs in zip(found[:4], expected[:4], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)


def test_callers_side_by_side_get_their_own_answers(backend: OpenVinoBackend) -> None:
    images = [draw_images(1 + number % 2, seed=number) for number in range(4)]
    expected = [backend(image) for image in images]
    found: dict[int, list[NetworkOutput]] = {number: [] for number in range(4)}
    start = threading.Barrier(4)

    def ask(number: int) -> None:
        torch.set_num_threads(1)
        start.wait(60)
        found[number] = [backend(images[number]) for _ in range(3)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        assert len(answers) == 3
        assert all(torch.equal(answer.mask_logits, expected[number].mask_logits) for answer in answers)


def test_bfloat16_is_near_where_the_cpu_has_it(backend: OpenVinoBackend) -> None:
    try:
        rounded = OpenVinoBackend(draw_network(), precision='bf16')
    except ConfigError as error:
        pytest.skip(str(error))
    output = rounded(draw_images())
    exact, near = backend(draw_images()).mask_logits, output.mask_logits
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().mean() < 0.1 * exact.std()
    # Boxes are decoded in 32 bit: in bf16 a corner at 400 pixels would be off by one.
    assert not torch.equal(output.boxes, output.boxes.bfloat16().float())


def test_a_cpu_without_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip('openvino')
    monkeypatch.setattr(openvino.Core, 'get_property', lambda *_: ['FP32', 'INT8'])
    with pytest.raises(ConfigError, match='Precision bf16: this CPU has no instructions for it; use fp32'):
        OpenVinoBackend(draw_network(), precision='bf16')


def test_it_is_no_backend_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(ConfigError, match=r"openvino runs on the CPU; got device 'cuda:0': take the backend eager"):
        build_backend('openvino', draw_network(), device='cuda:0')


def test_where_it_runs_is_known_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert device_of('openvino', 'auto') == 'cpu'
    assert device_of('eager', 'auto') == 'cuda'
    assert device_of('eager', 'cpu') == 'cpu'


def test_a_missing_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(MissingDependencyError, match='pip install openvino'):
        OpenVinoBackend(draw_network())
