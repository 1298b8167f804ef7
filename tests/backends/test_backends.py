"""The contract that every backend in the registry keeps, and the eager one's choices of device and precision."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from perception.backends import BACKENDS, build_backend
from perception.backends.devices import PRECISIONS, resolve_device
from perception.backends.eager import EagerBackend, exact_arithmetic
from perception.errors import ConfigError, MissingDependencyError, nearest
from perception.interfaces import Backend, InputSpec, NetworkOutput, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network

SPEC = InputSpec(image_hw=(48, 80))


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_network() -> PerceptionNetwork:
    torch.manual_seed(0)
    return build_network('interdependent_small', CITYSCAPES_11_3, None, SPEC)


def draw_images(batch: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, *SPEC.image_hw), dtype=torch.uint8)


@pytest.fixture(scope='module')
def network() -> PerceptionNetwork:
    """The reference: never handed to a backend, which would move it."""
    return draw_network().eval()


@pytest.fixture(scope='module', params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return build_backend(request.param, draw_network(), device='cpu', precision='fp32')
    except MissingDependencyError as error:
        pytest.skip(str(error))


def test_backend_knows_its_name_and_device(backend: Backend) -> None:
    assert BACKENDS[backend.name] is not None
    assert build_backend(backend.name, draw_network(), device='cpu').name == backend.name
    assert backend.device == 'cpu'


@pytest.mark.parametrize('batch', [1, 3])
def test_backend_gives_what_the_network_gives(backend: Backend, network: PerceptionNetwork, batch: int) -> None:
    images = draw_images(batch)
    before = images.clone()
    found = backend(images)
    with torch.no_grad():
        expected = network(images)
    assert isinstance(found, NetworkOutput)
    assert found.boxes.shape == (batch, expected.boxes.shape[1], 4)
    assert found.objectness.shape == (batch, expected.boxes.shape[1])
    assert found.class_logits.shape == (batch, expected.boxes.shape[1], 3)
    assert found.mask_logits.shape == (batch, 11, *SPEC.image_hw)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)
    for ours, theirs in zip(found[1:4], expected[1:4], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
    assert found.box_codes is None
    assert found.auxiliary_mask_logits == ()
    assert not any(tensor.requires_grad for tensor in found[:4])
    assert torch.equal(images, before)


def test_backend_takes_images_that_are_views(backend: Backend) -> None:
    pixels_last = draw_images(2).permute(0, 2, 3, 1).contiguous()
    found, expected = backend(pixels_last.permute(0, 3, 1, 2)), backend(pixels_last.permute(0, 3, 1, 2).contiguous())
    torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=1e-3, atol=2e-3)


def test_backend_repeats_itself(backend: Backend) -> None:
    images = draw_images(1)
    first, second = backend(images), backend(images)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.mask_logits, second.mask_logits)


@pytest.mark.parametrize('name', list(BACKENDS))
def test_unknown_options_are_refused(name: str) -> None:
    for options in ({'device': 'gpu'}, {'device': 'mps'}, {'precision': 'int4'}):
        with pytest.raises((ConfigError, MissingDependencyError)):
            build_backend(name, draw_network(), **options)


def test_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown backend 'eagre': did you mean 'eager'\? Known are .*eager"):
        build_backend('eagre', draw_network())


def test_nearest_names_all_when_nothing_is_near() -> None:
    assert nearest('xyz', ['onnx', 'eager']) == 'known are eager, onnx.'
    assert nearest('onx', ['onnx', 'eager']) == "did you mean 'onnx'? Known are eager, onnx."
    assert nearest('xyz', []) == 'none is known.'


def test_a_network_in_training_is_put_into_evaluation() -> None:
    network = draw_network().train()
    output = EagerBackend(network, device='cpu')(draw_images(2))
    assert not network.training
    assert output.box_codes is None


def test_bfloat16_is_near(network: PerceptionNetwork) -> None:
    images = draw_images(1)
    found = EagerBackend(draw_network(), device='cpu', precision='bf16')(images)
    with torch.no_grad():
        expected = network(images)
    assert found.mask_logits.dtype == torch.bfloat16, 'autocast was off'
    assert found.boxes.dtype == torch.float32
    difference = (found.mask_logits.float() - expected.mask_logits).abs().mean()
    assert 0 < difference < 0.1 * expected.mask_logits.std()


def test_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown precision 'bf61': did you mean 'bf16'\? Known are bf16, fp16"):
        EagerBackend(draw_network(), device='cpu', precision='bf61')
    assert set(PRECISIONS) == {'fp32', 'bf16', 'fp16'}


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match='fp16 needs a CUDA GPU; on a CPU use fp32 or bf16'):
        EagerBackend(draw_network(), device='cpu', precision='fp16')


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


@pytest.mark.parametrize('device', ['cuda', 'cuda:0', 'cuda:3'])
def test_absent_gpu_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(ConfigError, match=f'{device!r} was asked for, but PyTorch sees 0 CUDA GPUs'):
        build_backend('eager', draw_network(), device=device)


def test_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    assert resolve_device('cuda:1') == torch.device('cuda:1')
    with pytest.raises(ConfigError, match='PyTorch sees 2 CUDA GPUs'):
        resolve_device('cuda:2')


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    assert resolve_device('auto').type == 'cpu'
    pretend_gpus(monkeypatch, 1)
    assert resolve_device('auto').type == 'cuda'
    assert resolve_device('cpu').type == 'cpu'


@pytest.mark.parametrize('device', ['', 'gpu', 'CPU', 'cuda:x', 'cuda:-1', 'mps', 'meta'])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match='expected auto, cpu, cuda or cuda:N'):
        resolve_device(device)


Settings = tuple[str, str, bool, bool]
EXACT: Settings = ('ieee', 'ieee', True, False)


def settings_of_cuda() -> Settings:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def default_settings() -> Iterator[Settings]:
    """PyTorch's settings as they were, and put back afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = settings_of_cuda()
    yield before
    matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark = before


class Gpu:
    """Stands in for images: says that it was moved to a GPU, and stays on the CPU."""

    def to(self, device: torch.device, **_: object) -> torch.Tensor:
        assert device.type == 'cuda'
        return torch.zeros(1)


@pytest.mark.filterwarnings('ignore:User provided device_type')
def test_fp32_on_a_gpu_is_fp32_and_each_time_alike(monkeypatch: pytest.MonkeyPatch, default_settings: Settings) -> None:
    seen = []
    backend = EagerBackend(draw_network(), device='cpu')
    monkeypatch.setattr(backend, '_device', torch.device('cuda'))
    monkeypatch.setattr(backend, '_network', lambda images: seen.append(settings_of_cuda()))
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    torch.backends.cuda.matmul.fp32_precision = 'tf32'
    torch.backends.cudnn.benchmark = True
    backend(Gpu())  # type: ignore[arg-type]
    assert seen == [EXACT]
    assert settings_of_cuda() == ('tf32', default_settings[1], False, True)


SETTINGS = """
import torch
from torch import backends
from perception.backends.eager import exact_arithmetic

def settings():
    cudnn = backends.cudnn
    precisions = [x.fp32_precision for x in (backends, cudnn, backends.cuda.matmul, cudnn.conv, cudnn.rnn)]
    return precisions, cudnn.deterministic, cudnn.benchmark

for start in (
    '',
    'backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = True, False',
    "torch.set_float32_matmul_precision('high')",
    "backends.fp32_precision = 'tf32'",
    "backends.cuda.matmul.fp32_precision, backends.cudnn.benchmark = 'tf32', True",
):
    exec(start)
    before = settings()
    with exact_arithmetic():
        precisions, *others = settings()
        assert precisions[2:4] == ['ieee', 'ieee'] and others == [True, False], (start, precisions, others)
    assert settings() == before, (start, settings(), before)
"""


def test_settings_are_put_back_whatever_they_were() -> None:
    # In a process of its own: once set, these settings never are again as PyTorch starts.
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, '-c', SETTINGS], capture_output=True, text=True, timeout=100, env=environment
    )
    assert shown.returncode == 0, shown.stderr


class OldSetting:
    """Stands in for what holds settings in PyTorch before 2.9, which knows no others."""

    __slots__ = ('allow_tf32', 'benchmark', 'deterministic')

    def __init__(self) -> None:
        self.allow_tf32, self.benchmark, self.deterministic = True, True, False


def test_older_pytorch_has_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, matmul = OldSetting(), OldSetting()
    monkeypatch.setattr(torch.backends, 'cudnn', cudnn)
    monkeypatch.setattr(torch.backends.cuda, 'matmul', matmul)
    with exact_arithmetic():
        assert not any((matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, not cudnn.deterministic))
    assert all((matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, not cudnn.deterministic))


def test_threads_do_not_restore_each_others_settings() -> None:
    before, inside, may_leave = settings_of_cuda(), threading.Event(), threading.Event()
    seen = []

    def first() -> None:
        with exact_arithmetic():
            inside.set()
            may_leave.wait(10)

    def second() -> None:
        with exact_arithmetic():
            seen.append(settings_of_cuda())

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert not seen
    may_leave.set()
    for thread in threads:
        thread.join()
    assert seen == [EXACT]
    assert settings_of_cuda() == before


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives(network: PerceptionNetwork) -> None:
    if not torch.cuda.is_available():
        pytest.skip('no CUDA GPU here')
    images = draw_images(2)
    backend = build_backend('eager', draw_network(), device='auto')
    assert backend.device.startswith('cuda')
    found = backend(images)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(found.boxes.cpu(), expected.boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.mask_logits.cpu(), expected.mask_logits, rtol=1e-3, atol=2e-3)
