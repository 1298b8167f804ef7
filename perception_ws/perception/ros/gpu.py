"""The GPU beneath the network, where there is one: whether this process still has it, and giving its memory back."""

import torch

from perception.errors import PerceptionError


class GpuLostError(PerceptionError):
    """This process cannot compute on its GPU any more; a new one may."""


def check_gpu(device: str) -> None:
    """Find out, after a failure, whether it is one that stays. That memory ran out, for one, does not.

    Args:
        device: As PyTorch names it; there is nothing to lose on ``cpu``.

    Raises:
        GpuLostError: If CUDA repeats an error: those that corrupt its context are the answer to every later call.
    """
    if not device.startswith('cuda'):
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise GpuLostError(f'{device} is lost to this process, start it anew: {error}') from error


def free_gpu_memory() -> None:
    """Give back what PyTorch keeps for tensors to come; without CUDA there is nothing to give."""
    torch.cuda.empty_cache()
