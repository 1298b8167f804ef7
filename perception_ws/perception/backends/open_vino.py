"""OpenVINO: the quickest way to run a network on a CPU of Intel's or AMD's; an optional library."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from torch import Tensor

from perception.backends.devices import resolve_device, resolve_precision
from perception.backends.portable import export_graph, to_output
from perception.errors import ConfigError, MissingDependencyError
from perception.interfaces import NetworkOutput, PerceptionNetwork

_HINTS = {torch.float32: 'f32', torch.bfloat16: 'bf16'}


class OpenVinoBackend:
    """Runs a network in OpenVINO, as many threads to an image as PyTorch has in the calling thread.

    Args:
        network: Is moved to the CPU and put into evaluation mode; its weights are copied.
        device: ``auto`` or ``cpu``.
        precision: ``fp32``, or ``bf16`` where the CPU has instructions for it.

    Raises:
        ConfigError: If device or precision cannot be served here.
        MissingDependencyError: If OpenVINO is not installed.
    """

    name = 'openvino'
    device = 'cpu'

    def __init__(self, network: PerceptionNetwork, *, device: str = 'auto', precision: str = 'fp32') -> None:
        self._hint = _HINTS[resolve_precision(precision, self.resolve_device(device))]
        openvino = _require_openvino()
        self._core = openvino.Core()
        if self._hint == 'bf16' and 'BF16' not in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            raise ConfigError('Precision bf16: this CPU has no instructions for it; use fp32.')
        self._tensor = openvino.Tensor
        self._model = openvino.convert_model(export_graph(network))
        self._image_hw = network.input_spec.image_hw
        self._compiled: dict[tuple[int, int], Any] = {}
        self._compiling = threading.Lock()
        self._of_thread = threading.local()

    @staticmethod
    def resolve_device(device: str) -> torch.device:
        """The CPU, if that is what is asked for.

        Raises:
            ConfigError: If it is not.
        """
        if device != 'auto' and resolve_device(device).type != 'cpu':
            raise ConfigError(f'The backend openvino runs on the CPU; got device {device!r}: take the backend eager.')
        return torch.device('cpu')

    def __call__(self, images: Tensor) -> NetworkOutput:
        """Run on (B, 3, H, W) uint8 images."""
        request = self._request(len(images))
        # OpenVINO reads this memory without owning it: it stays until the request has ended.
        pixels = images.cpu().contiguous()
        request.set_input_tensor(self._tensor(pixels.numpy(), shared_memory=True))
        # The caller's own memory: what a later call writes is elsewhere.
        outputs = [torch.empty(tuple(output.shape)) for output in request.model_outputs]
        for place, output in enumerate(outputs):
            request.set_output_tensor(place, self._tensor(output.numpy(), shared_memory=True))
        request.infer()
        return to_output(outputs)

    def _request(self, batch: int) -> Any:
        """A request serves one thread at a time, one size of batch, and one number of threads."""
        requests = self._of_thread.__dict__.setdefault('requests', {})
        key = batch, torch.get_num_threads()
        if key not in requests:
            requests[key] = self._compile(*key).create_infer_request()
        return requests[key]

    def _compile(self, batch: int, threads: int) -> Any:
        with self._compiling:
            if (batch, threads) not in self._compiled:
                model = self._model.clone()
                model.reshape([batch, 3, *self._image_hw])
                # With a thread for each image, many callers are served side by side.
                streams = len(os.sched_getaffinity(0)) if threads == 1 else 1
                options = {
                    'INFERENCE_PRECISION_HINT': self._hint,
                    'INFERENCE_NUM_THREADS': threads * streams,
                    'NUM_STREAMS': streams,
                }
                self._compiled[batch, threads] = self._core.compile_model(model, 'CPU', options)
            return self._compiled[batch, threads]


def _require_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f'The backend openvino needs {error.name}, which is not installed. Run: pip install openvino '
            '(with --break-system-packages on a robot), or take the backend eager.'
        ) from error
    return openvino
