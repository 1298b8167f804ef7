"""PyTorch as it is: the reference that other backends are compared with."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from perception.backends.devices import resolve_device, resolve_precision
from perception.interfaces import NetworkOutput, PerceptionNetwork

_settings_of_cuda = threading.Lock()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """On CUDA GPUs, compute fp32 as fp32, not with the ten bits of TF32 as PyTorch does convolutions, and always alike.

    PyTorch's settings are of the whole process: one thread at a time has them, and they are restored behind it, so that
    training is not slowed down.
    """
    with _settings_of_cuda:
        settings = _exact_settings()
        before = [getattr(owner, name) for owner, name, _ in settings]
        try:
            for owner, name, value in settings:
                setattr(owner, name, value)
            yield
        finally:
            for (owner, name, _), value in zip(settings, before, strict=True):
                setattr(owner, name, value)


def _exact_settings() -> list[tuple[Any, str, Any]]:
    """Object, attribute and value of each setting."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings: list[tuple[Any, str, Any]] = [(cudnn, 'benchmark', False), (cudnn, 'deterministic', True)]
    if hasattr(cudnn, 'conv'):
        # PyTorch 2.9 and later; there the older settings cannot even be read once somebody has set one of these.
        return [*settings, (matmul, 'fp32_precision', 'ieee'), (cudnn.conv, 'fp32_precision', 'ieee')]
    return [*settings, (matmul, 'allow_tf32', False), (cudnn, 'allow_tf32', False)]


class EagerBackend:
    """Runs a network in eager mode, channels last.

    Args:
        network: Is moved to the device and put into evaluation mode.
        device: ``auto`` takes a CUDA GPU when there is one.
        precision: ``fp32``, or ``bf16`` / ``fp16`` by autocast; fp16 needs a GPU.

    Raises:
        ConfigError: If device or precision cannot be served here.
    """

    name = 'eager'
    resolve_device = staticmethod(resolve_device)

    def __init__(self, network: PerceptionNetwork, *, device: str = 'auto', precision: str = 'fp32') -> None:
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self.device = str(self._device)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> NetworkOutput:
        """Run on (B, 3, H, W) uint8 images; returns when the result is there, so that times mean what they say."""
        images = images.to(self._device, non_blocking=True)
        on_gpu = self._device.type == 'cuda'
        autocast = torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32)
        with exact_arithmetic() if on_gpu else nullcontext(), autocast:
            output = self._network(images)
        if on_gpu:
            torch.cuda.synchronize(self._device)
        return output
