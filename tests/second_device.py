"""A second device for machines that have none: tensors of the CPU that say that they are elsewhere.

A GPU refuses tensors that are not on it, and such a slip never shows on a CPU. Within ``second_device()`` tensors on
``DEVICE`` refuse the CPU's as a GPU would, and otherwise compute what the CPU computes, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device('meta')  # of the devices without a driver the one that autograd serves

aten = torch.ops.aten
TAKES_INDICES_OF_THE_CPU = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
TAKES_BOTH = {aten.copy_.default}


class Elsewhere(Tensor):
    """A tensor on ``DEVICE``.

    Args:
        here: Its values.
    """

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        layout = {'strides': here.stride(), 'storage_offset': here.storage_offset(), 'dtype': here.dtype}
        return Tensor._make_wrapper_subclass(cls, here.size(), device=DEVICE, **layout)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def __repr__(self) -> str:  # type: ignore[override]
        return f'Elsewhere({self.here})'

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


class Dispatch(TorchDispatchMode):
    """Catches what makes tensors on the device out of none."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


def compute(function: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU; the result is where the device was asked for, or else where the tensors are.

    Raises:
        RuntimeError: If tensors are on two devices.
    """
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    asked = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    elsewhere = asked[0] == DEVICE if asked else any(isinstance(tensor, Elsewhere) for tensor in tensors)
    if elsewhere and not asked:
        _check_devices(function, tensors)
    owners = {id(_bring_here(tensor)): tensor for tensor in tensors}
    kwargs = {key: False if key == 'non_blocking' else value for key, value in kwargs.items()}
    result = function(*tree_map(_bring_here, args), **tree_map(_bring_here, kwargs))

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        owner = owners.get(id(value))
        if owner is not None and isinstance(owner, Elsewhere) == elsewhere:
            return owner  # of a function that changes it in place
        own = value if owner is None else value.clone()  # devices share no memory
        return Elsewhere(own) if elsewhere else own

    return tree_map(place, result)


def _check_devices(function: Any, tensors: list[Tensor]) -> None:
    if function in TAKES_BOTH or (function in TAKES_INDICES_OF_THE_CPU and isinstance(tensors[0], Elsewhere)):
        return
    strangers = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if strangers:
        raise RuntimeError(f'{function} got tensors on two devices; on the CPU are those of shape {strangers}.')


def _bring_here(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device('cpu')
    return value.here if isinstance(value, Elsewhere) else value


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Tensors and modules can be moved to the device that is handed out."""

    def sending(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            tensor = make(*args, **kwargs)
            return tensor if device is None else tensor.to(device)

        return made

    # These two are made without a dispatch.
    functions = {name: sending(getattr(torch, name)) for name in ('tensor', 'as_tensor')}
    # Else a module's parameters would keep their class when they move.
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with mock.patch.multiple(torch, **functions), Dispatch():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
