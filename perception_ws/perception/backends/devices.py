"""Devices and precisions by the names that users give them."""

import torch

from perception.errors import ConfigError, nearest

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


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type that a network computes in.

    Raises:
        ConfigError: If the name is unknown, or a CPU is to compute in fp16.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f'Unknown precision {precision!r}: {nearest(precision, list(PRECISIONS))}')
    if precision == 'fp16' and device.type == 'cpu':
        raise ConfigError('Precision fp16 needs a CUDA GPU; on a CPU use fp32 or bf16.')
    return PRECISIONS[precision]
