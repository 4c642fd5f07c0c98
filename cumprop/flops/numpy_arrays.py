"""NumPy arrays that count their arithmetic, and what all counted arrays have in common.

Arrays handed to `counted` carry their own meter: every ufunc, matrix product and reduction that
they take part in is added to the innermost `counting` block.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from cumprop.flops.meter import count

PRODUCTS = {np.matmul, np.vecdot, np.matvec, np.vecmat}
_UNCOUNTABLE = {
    np.dot,
    np.einsum,
    np.inner,
    np.outer,
    np.tensordot,
    np.vdot,
    np.cov,
    np.var,
    np.std,
}


class ForeignArray:
    """An array of another library that NumPy's functions take and that counts its arithmetic.

    Its methods stand in where NumPy has no protocol.
    """

    @property
    def tensor(self) -> Any:
        """The library's own array."""
        raise NotImplementedError

    def repeated(self, u: tuple[int, ...]) -> Any:
        """The view in which index a is repeated u_a times (`symmetric_tensors.diagonal`)."""
        raise NotImplementedError


def has_numbers(array: Any) -> bool:
    """Whether an array has elements of its own, not only a shape."""
    return not getattr(array, "has_no_numbers", False)


def occurs(mask: Any) -> bool:
    """Whether an entry is True, of something unusual: never for arrays without numbers."""
    return bool(mask.any()) and has_numbers(mask)


def is_foreign(x: object) -> bool:
    """Whether x is a ForeignArray or a PyTorch tensor; does not import PyTorch."""
    torch = sys.modules.get("torch")
    return isinstance(x, ForeignArray) or (torch is not None and isinstance(x, torch.Tensor))


class Counted(np.ndarray[Any, np.dtype[Any]]):
    """An array whose arithmetic is counted; otherwise an ordinary ndarray."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        arrays = []
        for x in inputs:
            if isinstance(x, ForeignArray):
                return NotImplemented  # theirs is the arithmetic, and the counting
            arrays.append(x.view(np.ndarray) if isinstance(x, Counted) else x)
        if out is not None:
            kwargs["out"] = tuple(plain(x) for x in out)
        result = getattr(ufunc, method)(*arrays, **kwargs)
        if type(result) is np.ndarray and method == "__call__" and ufunc not in PRODUCTS:
            count(result.size)  # the usual case, made quick
            return out[0] if out else result.view(Counted)
        results = result if isinstance(result, tuple) else (result,)
        count(operation_cost(ufunc, method, arrays, results))
        wrapped = out or tuple(counted(r) for r in results)
        return wrapped if isinstance(result, tuple) else wrapped[0]

    def __array_function__(
        self, func: Any, types: Any, args: Any, kwargs: Any
    ) -> Any:  # only what the meter can see may run on counted arrays
        if func in _UNCOUNTABLE or func.__module__ == "numpy.linalg":
            raise TypeError(
                f"{func.__name__} is not counted: use ufuncs and @, or plain() + count()"
            )
        result = super().__array_function__(func, types, args, kwargs)
        return counted(result) if isinstance(result, np.ndarray) else result


def counted(array: Any) -> Counted:
    """View `array`, a PyTorch tensor too, so that its arithmetic is counted (no copy)."""
    if isinstance(array, Counted):
        return array
    if isinstance(array, ForeignArray):
        return cast(Counted, array)
    if is_foreign(array):
        from cumprop.flops.torch_arrays import TorchArray

        return cast(Counted, TorchArray(array))
    return np.asarray(array).view(Counted)


def plain(array: Any) -> Any:
    """The ordinary array behind a counted one; anything else unchanged (no copy)."""
    if isinstance(array, ForeignArray):
        return array.tensor
    return array.view(np.ndarray) if isinstance(array, Counted) else array


def detached(array: Any) -> Any:
    """The counted array, of a PyTorch tensor without what autograd recorded (no copy)."""
    return counted(plain(array).detach()) if is_foreign(array) else counted(array)


def records_gradients(arrays: Iterable[Any]) -> bool:
    """Whether autograd follows one of them."""
    return any(is_foreign(a) and getattr(plain(a), "requires_grad", False) for a in arrays)


def on_host(array: Any) -> Any:
    """The numbers as a NumPy array, of a PyTorch tensor on any device too."""
    return plain(array).detach().cpu().numpy() if is_foreign(array) else np.asarray(plain(array))


def operation_cost(
    ufunc: np.ufunc, method: str, inputs: Sequence[Any], results: tuple[Any, ...]
) -> int:
    size = sum(int(r.size) for r in results)
    if ufunc in PRODUCTS:
        a, b = inputs[0], inputs[1]
        if _is_symmetric_product(ufunc, a, b):
            return int((a.shape[0] + 1) * a.shape[0] * a.shape[1])
        return 2 * size * int(np.shape(a)[-1])
    if method == "reduce":
        return int(np.size(inputs[0])) - size
    if method == "at":
        return int(np.size(inputs[-1]))
    return size


def _is_symmetric_product(ufunc: np.ufunc, a: Any, b: Any) -> bool:
    """True for A @ A.T of NumPy arrays, which the BLAS routine syrk computes at half the cost."""
    return (
        ufunc is np.matmul
        and isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.ndim == b.ndim == 2
        and a.dtype.kind == "f"
        and a.shape == b.shape[::-1]
        and a.strides == b.strides[::-1]
        and a.shape[1] > 1
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )
