"""PyTorch as it is: the reference that other backends are compared with."""

import torch
from torch import Tensor

from perception.errors import ConfigError, nearest
from perception.interfaces import NetworkOutput, PerceptionNetwork

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that this machine has.

    Raises:
        ConfigError: If the name is unknown or the device is not there.
    """
    cuda = torch.cuda.is_available()
    if device == 'auto':
        return torch.device('cuda' if cuda else 'cpu')
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f'Unknown device {device!r}; expected auto, cpu, cuda or cuda:N.') from error
    if resolved.type not in ('cpu', 'cuda'):
        raise ConfigError(f'Device {device!r} is not served; expected auto, cpu, cuda or cuda:N.')
    if resolved.type == 'cuda' and not (cuda and (resolved.index or 0) < torch.cuda.device_count()):
        raise ConfigError(
            f'Device {device!r} was asked for, but PyTorch sees {torch.cuda.device_count()} CUDA GPUs here.'
        )
    return resolved


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

    def __init__(self, network: PerceptionNetwork, *, device: str = 'auto', precision: str = 'fp32') -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f'Unknown precision {precision!r}: {nearest(precision, list(PRECISIONS))}')
        self._device = resolve_device(device)
        if precision == 'fp16' and self._device.type == 'cpu':
            raise ConfigError('Precision fp16 needs a CUDA GPU; on a CPU use fp32 or bf16.')
        self.device = str(self._device)
        self._dtype = PRECISIONS[precision]
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> NetworkOutput:
        """Run on (B, 3, H, W) uint8 images; returns when the result is there, so that times mean what they say."""
        images = images.to(self._device, non_blocking=True)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            output = self._network(images)
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        return output
