"""PyTorch's names of NumPy's functions, for `cumprop.flops.torch_arrays`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from cumprop.errors import CumpropError

Function = Callable[..., Any]


@cache
def torch_dtype(dtype: Any) -> Any:
    """PyTorch's name of a NumPy dtype."""
    return getattr(torch, np.dtype(dtype).name)


@cache
def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """NumPy's name of a PyTorch dtype; raises CumpropError where there is none."""
    name = str(dtype).removeprefix("torch.")
    if not hasattr(np, name):  # other libraries may register their own bfloat16
        raise CumpropError(f"{dtype} has no NumPy counterpart; use float32 or float64")
    return np.dtype(name)


def missing(name: str) -> CumpropError:
    """The error for a function of NumPy that tensors do not support."""
    return CumpropError(
        f"numpy.{name} is not available on PyTorch tensors here: use NumPy arrays, or add it to "
        "cumprop/flops/torch_functions.py"
    )


def _heaviside(z: torch.Tensor, at_zero: torch.Tensor) -> torch.Tensor:
    return torch.heaviside(z.detach(), at_zero.detach())  # PyTorch has no derivative: it is 0


_RENAMED: dict[str, Function] = {
    "equal": torch.eq,  # torch.equal compares whole tensors
    "heaviside": _heaviside,
    "invert": torch.bitwise_not,
    "power": torch.pow,
}


@cache
def counterpart(ufunc: np.ufunc) -> Function | None:
    """The function of PyTorch for a ufunc of NumPy or SciPy, None without one.

    Most have the same name.
    """
    homes, name = (torch, torch.special, torch.linalg), ufunc.__name__
    named = (getattr(home, name) for home in homes if hasattr(home, name))
    return _RENAMED.get(name) or next(named, None)


REDUCTIONS: dict[np.ufunc, Function] = {
    np.add: torch.sum,
    np.maximum: torch.amax,
    np.minimum: torch.amin,
    np.logical_and: torch.all,
    np.logical_or: torch.any,
}


def _filled(create: Function) -> Function:
    def like(_: Any, a: Any, *value: Any, dtype: Any = None, shape: Any = None) -> Any:
        lengths = a.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
        return create(lengths, *value, dtype=torch_dtype(dtype or a.dtype), device=a.tensor.device)

    return like


def _joined(join: Function) -> Function:
    def joined(self: Any, arrays: Any, axis: int | None = None) -> Any:
        tensors = self.promoted(list(arrays))
        return join(tensors) if axis is None else join(tensors, dim=axis)

    return joined


FUNCTIONS: dict[Any, Function] = {
    np.asarray: lambda self, x, dtype: self.to_tensor(x).to(torch_dtype(dtype)),
    np.zeros_like: _filled(torch.zeros),
    np.ones_like: _filled(torch.ones),
    np.empty_like: _filled(torch.empty),
    np.full_like: _filled(torch.full),
    np.concatenate: _joined(torch.cat),
    np.stack: _joined(torch.stack),
    np.hstack: _joined(torch.hstack),
    np.diag: lambda self, a: torch.diag(a.tensor),
    np.where: lambda self, c, a, b: torch.where(self.to_tensor(c), *self.promoted([a, b])),
    np.linalg.eigvalsh: lambda self, a: torch.linalg.eigvalsh(a.tensor.detach()),
}
"""Called with the TorchArray that was asked, then with the arguments; they give tensors."""
