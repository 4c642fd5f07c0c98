"""What NumPy's functions are called in PyTorch; `cumprop.flops.torch_arrays` looks them up here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cumprop.errors import CumpropError

Function = Callable[..., Any]


def torch_dtype(dtype: Any) -> Any:
    return getattr(torch, np.dtype(dtype).name)


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    name = str(dtype).removeprefix("torch.")
    if not hasattr(np, name):  # other libraries may register their own bfloat16
        raise CumpropError(f"{dtype} has no NumPy counterpart; use float32 or float64")
    return np.dtype(name)


def missing(name: str) -> CumpropError:
    return CumpropError(
        f"numpy.{name} is not available on PyTorch tensors here: use NumPy arrays, or add it to "
        "cumprop/flops/torch_functions.py"
    )


def _heaviside(z: torch.Tensor, at_zero: torch.Tensor) -> torch.Tensor:
    return torch.heaviside(z.detach(), at_zero.detach())  # PyTorch has no derivative: it is 0


def _ufuncs() -> dict[str, Function]:
    """By name, which is the same in NumPy, SciPy and PyTorch but for a few."""
    names = (
        "add subtract multiply divide negative positive absolute sign square sqrt reciprocal "
        "exp expm1 exp2 log log1p log2 log10 sin cos tan arcsin arccos arctan sinh cosh tanh "
        "arcsinh arccosh arctanh floor ceil hypot maximum minimum matmul vecdot less less_equal "
        "greater greater_equal equal not_equal isfinite isnan isinf logical_and logical_or "
        "logical_not ndtr log_ndtr ndtri erf erfc erfinv expit"
    )
    found: dict[str, Function] = {"power": torch.pow, "invert": torch.bitwise_not}
    found["heaviside"] = _heaviside
    for name in names.split():
        homes = (torch, torch.special, torch.linalg)
        found[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
    return found


UFUNCS = _ufuncs()
REDUCTIONS: dict[str, Function] = {
    "add": torch.sum,
    "maximum": torch.amax,
    "minimum": torch.amin,
    "logical_and": torch.all,
    "logical_or": torch.any,
}


def _filled(create: Function) -> Function:
    def like(
        _: Any,
        a: Any,
        *value: Any,
        dtype: Any = None,
        shape: Any = None,
        order: str = "K",
        subok: bool = True,
    ) -> Any:
        lengths = a.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
        return create(lengths, *value, dtype=torch_dtype(dtype or a.dtype), device=a.device)

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
    np.diag: lambda self, a: torch.diag(self.to_tensor(a)),
    np.where: lambda self, c, a, b: torch.where(self.to_tensor(c), *self.promoted([a, b])),
    np.linalg.eigvalsh: lambda self, a: torch.linalg.eigvalsh(self.to_tensor(a).detach()),
}
"""Called with the TorchArray that was asked, then with the arguments; they give tensors."""

METHODS = {np.all, np.any, np.max, np.min, np.sum, np.copy, np.diagonal, np.reshape, np.transpose}
METHODS |= {np.swapaxes, np.moveaxis, np.broadcast_to}
ATTRIBUTES = {np.ndim, np.shape, np.size}
