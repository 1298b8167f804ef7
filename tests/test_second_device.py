"""The device that tests pretend: as strict as a GPU, and with the CPU's results."""

import pytest
import torch
from torch import nn

from tests.second_device import second_device


def test_tensors_of_two_devices_do_not_meet() -> None:
    with second_device() as device:
        there, here = torch.zeros(3, device=device), torch.ones(3)
        assert (there + 1).device == (there + torch.tensor(1.0)).device == device
        for meet in (
            lambda: there + here,
            lambda: here.add_(there),
            lambda: here[torch.tensor([0], device=device)],
            lambda: there.index_select(0, torch.tensor([0])),
            lambda: nn.functional.linear(torch.ones(2, 3), there[None]),
        ):
            with pytest.raises(RuntimeError, match='two devices'):
                meet()
        with pytest.raises(RuntimeError):
            there.numpy()


def test_what_is_moved_is_copied() -> None:
    with second_device() as device:
        here = torch.ones(2)
        there = here.to(device)
        there += torch.tensor([1.0, 2.0], device=device)
        there[torch.tensor([1])] *= 2
        back = there.cpu()
        back += 1
        assert (here.tolist(), there.tolist(), back.tolist()) == ([1, 1], [2, 6], [3, 7])
        with torch.inference_mode():
            assert here.to(device).add_(1).sum().item() == 4
        assert here.tolist() == [1, 1]
