"""NumPy arrays that count their arithmetic, and functions for all counted arrays.

Arrays handed to `counted` carry their own meter: every ufunc, matrix product and reduction that
they take part in is added to the innermost `counting` block.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from cumprop.flops.known_counts import decided, on_plain_arrays
from cumprop.flops.meter import count
from cumprop.flops.zeros import WithZeros, holding, nonzeros

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
    """An array of another library that NumPy's functions accept and that counts its arithmetic.

    Operations without a protocol in NumPy are methods.
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
    """Whether a mask of unusual cases has a True entry; False for arrays without numbers.

    The answer is one of the choices that the FLOPs of a run depend on (`by_shape.decided`).
    """
    found: bool = decided(bool(mask.any()) and has_numbers(mask))
    return found


def is_foreign(x: object) -> bool:
    """Whether x is a ForeignArray or a PyTorch tensor; does not import PyTorch."""
    if isinstance(x, np.ndarray):
        return False
    torch = sys.modules.get("torch")
    return isinstance(x, ForeignArray) or (torch is not None and isinstance(x, torch.Tensor))


class Counted(np.ndarray[Any, np.dtype[Any]]):
    """An ndarray whose arithmetic is counted; `csr` as in `WithZeros`."""

    csr: Any = None

    @property
    def T(self) -> Counted:
        transposed = super().T
        if self.csr is not None:
            transposed.csr = self.csr.T
        return transposed

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        arrays = []
        for x in inputs:
            if isinstance(x, ForeignArray):
                return NotImplemented  # theirs is the arithmetic, and the counting
            arrays.append(plain(x))
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
    """A view of `array`, or of a PyTorch tensor, whose arithmetic is counted (no copy).

    Where the count is known beforehand (`by_shape`), it is the plain array itself.
    """
    if on_plain_arrays():
        found: Any = array if type(array) is np.ndarray else plain(np.asanyarray(array))
        return found  # type: ignore[no-any-return]
    if isinstance(array, Counted):
        return array
    if isinstance(array, ForeignArray):
        return cast(Counted, array)
    if is_foreign(array):
        from cumprop.flops.torch_arrays import TorchArray

        return cast(Counted, TorchArray(array))
    view = np.asarray(array).view(Counted)
    if isinstance(array, WithZeros):
        view.csr = array.csr
    return view


def plain(array: Any) -> Any:
    """The ordinary array behind a counted one; other values unchanged (no copy)."""
    if isinstance(array, ForeignArray):
        return array.tensor
    if not isinstance(array, Counted):
        return array
    view = array.view(np.ndarray)
    return view if array.csr is None else holding(view, array.csr)


def detached(array: Any) -> Any:
    """The counted array; of a PyTorch tensor, without the record of autograd (no copy)."""
    if isinstance(array, np.ndarray):
        return counted(array)
    return counted(plain(array).detach()) if is_foreign(array) else counted(array)


def records_gradients(arrays: Iterable[Any]) -> bool:
    """Whether autograd records operations on one of the arrays."""
    return any(is_foreign(a) and getattr(plain(a), "requires_grad", False) for a in arrays)


def on_host(array: Any) -> Any:
    """The numbers as a NumPy array, also those of a PyTorch tensor on any device."""
    return plain(array).detach().cpu().numpy() if is_foreign(array) else np.asarray(plain(array))


def operation_cost(
    ufunc: np.ufunc, method: str, inputs: Sequence[Any], results: tuple[Any, ...]
) -> int:
    """The FLOPs of one call of a ufunc's method, by the convention (mathematics §6)."""
    size = sum(int(r.size) for r in results)
    if ufunc in PRODUCTS:
        a, b = inputs[0], inputs[1]
        if (entries := nonzeros(a)) is not None:
            return 2 * entries * (int(np.size(b)) // int(np.shape(b)[0]))
        if (entries := nonzeros(b)) is not None:
            return 2 * entries * (int(np.size(a)) // int(np.shape(a)[-1]))
        if _is_symmetric_product(ufunc, a, b):
            return int((a.shape[0] + 1) * a.shape[0] * a.shape[1])
        return 2 * size * int(np.shape(a)[-1])
    if method == "reduce":
        return int(np.size(inputs[0])) - size
    if method == "at":
        return int(np.size(inputs[-1]))
    return size


def _is_symmetric_product(ufunc: np.ufunc, a: Any, b: Any) -> bool:
    """Whether a product is A @ A.T of NumPy arrays, which BLAS (syrk) computes at half the cost."""
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
