"""PyTorch tensors behind NumPy's protocols (NEP 13, NEP 18), so that no formula is written twice.

A `TorchArray` behaves like an ndarray, counts FLOPs like one, and keeps what autograd recorded. It
knows what the formulas use; anything else raises CumpropError with the name of what is missing.

The package array-api-compat would not replace it. The formulas write into slices and views in some
60 places, for which the array API has no function, and autograd forbids such writes to tensors that
it recorded. They count FLOPs by component, which a namespace of functions does not; PyTorch's own
meter (`torch_executed`) makes estimates at width 64 take 1.6 to 2.1 times as long, and NumPy arrays
would still need theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin

from cumprop.errors import CumpropError
from cumprop.flops.meter import count
from cumprop.flops.numpy_arrays import ForeignArray, operation_cost
from cumprop.flops.torch_functions import (
    FUNCTIONS,
    REDUCTIONS,
    counterpart,
    missing,
    numpy_dtype,
    torch_dtype,
)


class TorchArray(NDArrayOperatorsMixin, ForeignArray):
    """A tensor that NumPy's ufuncs and functions take; results are TorchArrays on its device.

    Types promote as in NumPy, and arithmetic has the FLOPs of a `Counted` array, except symmetric
    products, of which PyTorch computes all and NumPy half. A view reads its base whenever it is
    read. A write goes to the base; while autograd records, a changed copy replaces the base, so
    that no tensor that the backward pass needs is ever written to.

    >>> x = TorchArray(torch.tensor([1.0, 4.0], requires_grad=True))
    >>> (np.sqrt(x) * x).sum().tensor.backward()
    >>> x.tensor.grad.tolist()
    [1.5, 3.0]
    """

    def __init__(
        self,
        tensor: torch.Tensor | None,
        view_of: tuple[Callable[[Any], Any], TorchArray] | None = None,
    ) -> None:
        self._tensor, self._view_of = tensor, view_of
        self._number = False  # one entry of an array: NumPy makes it a number, and counts nothing

    @property
    def tensor(self) -> Any:
        """The tensor itself."""
        if self._view_of is None:
            return self._tensor
        view, base = self._view_of
        return view(base.tensor)

    # The two protocols

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        arrays = [TorchArray(x) if isinstance(x, torch.Tensor) else x for x in inputs]
        if method == "__call__" and (function := counterpart(ufunc)) and not kwargs:
            tensor = function(*self.promoted(arrays))
        elif method == "reduce" and ufunc in REDUCTIONS:
            tensor = arrays[0]._reduced(REDUCTIONS[ufunc], **kwargs)
        else:
            raise missing(f"{ufunc.__name__}.{method}".removesuffix(".__call__"))
        result = TorchArray(tensor)
        result._number = all(np.isscalar(x) or getattr(x, "_number", False) for x in arrays)
        if not result._number:
            count(operation_cost(ufunc, method, arrays, (result,)))
        if out is None:
            return result
        if not isinstance(out[0], TorchArray):
            raise CumpropError(f"numpy.{ufunc.__name__} cannot write a tensor into a NumPy array")
        out[0]._overwrite(tensor)
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in FUNCTIONS:
            return TorchArray(FUNCTIONS[function](self, *args, **kwargs))
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        if not hasattr(TorchArray, name):
            raise missing(name)
        found = getattr(args[0], name)
        return found(*args[1:], **kwargs) if callable(found) else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The NumPy array of a mask, which steers control flow; an error for other arrays."""
        if self.dtype != np.bool_:
            raise CumpropError("a tensor cannot become a NumPy array here; use plain(x).detach()")
        return self.tensor.cpu().numpy()

    def promoted(self, arrays: list[Any]) -> list[Any]:
        """Tensors of the type that NumPy would compute in."""
        dtype = torch_dtype(np.result_type(*(getattr(x, "dtype", x) for x in arrays)))
        tensors = [self.to_tensor(x) for x in arrays]
        return [x if x.dtype == dtype else x.to(dtype) for x in tensors]

    def to_tensor(self, x: Any) -> Any:
        if isinstance(x, TorchArray):
            return x.tensor
        if isinstance(x, torch.Tensor):
            return x
        if not np.ndim(x):  # a number serves every device from the host
            return torch.tensor(np.array(x))
        return torch.tensor(np.array(x, order="C"), device=self.tensor.device)

    def _reduced(
        self, reduction: Callable[..., Any], axis: Any = 0, keepdims: bool = False, **others: Any
    ) -> Any:
        least = others.pop("initial", None) if reduction is torch.amax else None
        if others:
            raise missing(f"reduction with {', '.join(others)}")
        axes = tuple(range(self.ndim) if axis is None else np.atleast_1d(axis).tolist())
        result = reduction(self.tensor, dim=axes, keepdim=keepdims)
        return result if least is None else result.clamp(min=least)

    # Views and writes

    def _viewed(self, view: Callable[[Any], Any]) -> TorchArray:
        """A view where the tensor's memory is shared, else an array of its own."""
        tensor = self.tensor
        result = view(tensor)
        shared = result.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        return TorchArray(None, (view, self)) if shared else TorchArray(result)

    def __getitem__(self, key: Any) -> TorchArray:
        key = self._key(key)
        part = self._viewed(lambda tensor: tensor[key])
        if part.ndim or key is Ellipsis:
            return part
        number = part.copy()
        number._number = True
        return number

    def __setitem__(self, key: Any, value: Any) -> None:
        key, root, views = self._key(key), self, []
        while root._view_of is not None:
            view, root = root._view_of
            views.append(view)
        tensor: Any = root._tensor
        value = self.to_tensor(value).to(tensor.dtype)
        if torch.is_grad_enabled() and (tensor.requires_grad or value.requires_grad):
            tensor = tensor.clone()
        target = tensor
        for view in reversed(views):
            target = view(target)
        target[key] = value
        root._tensor = tensor

    def _overwrite(self, tensor: Any) -> None:
        """Replace all numbers by those of a tensor that no other array holds."""
        old = self.tensor
        same = (old.dtype, old.shape, old.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
        if self._view_of is None and same:
            self._tensor = tensor
        else:
            self[...] = tensor

    def _key(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return tuple(map(self._key, key))
        return self.to_tensor(key) if isinstance(key, np.ndarray | TorchArray) else key

    def repeated(self, u: tuple[int, ...]) -> TorchArray:
        def view(tensor: Any) -> Any:
            for legs in u:
                tensor = tensor.movedim(0, -1)
                for _ in range(legs - 1):
                    tensor = tensor.diagonal(dim1=0, dim2=-1)
            return tensor

        return self._viewed(view)

    def reshape(self, *shape: Any) -> TorchArray:
        lengths = shape[0] if shape and np.ndim(shape[0]) else shape
        try:
            return self._viewed(lambda tensor: tensor.view(*lengths))
        except RuntimeError:  # no view has this shape
            return TorchArray(self.tensor.reshape(*lengths))

    def transpose(self, *axes: Any) -> TorchArray:
        order = np.ravel(axes).astype(int).tolist() if axes else range(self.ndim)[::-1]
        return self._viewed(lambda tensor: tensor.permute(*order))

    def moveaxis(self, source: Any, destination: Any) -> TorchArray:
        return self._viewed(lambda tensor: tensor.movedim(source, destination))

    def broadcast_to(self, shape: tuple[int, ...], subok: bool = True) -> TorchArray:
        return self._viewed(lambda tensor: tensor.expand(*shape))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> TorchArray:
        return self._viewed(lambda tensor: tensor.diagonal(offset, axis1, axis2))

    @property
    def T(self) -> TorchArray:
        return self.transpose()

    # Attributes and methods of an ndarray that the formulas use

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.tensor.numel())

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self.tensor.dtype)

    def astype(self, dtype: Any, copy: bool = True) -> TorchArray:
        return TorchArray(self.tensor.to(torch_dtype(dtype), copy=copy))

    def copy(self, order: str = "K", subok: bool = True) -> TorchArray:
        return TorchArray(self.tensor.clone())

    def _reduce(self, ufunc: np.ufunc, axis: Any = None, **kwargs: Any) -> Self:
        result: Self = ufunc.reduce(self, axis=axis, **kwargs)
        return result

    sum = partialmethod(_reduce, np.add)
    max = partialmethod(_reduce, np.maximum)
    min = partialmethod(_reduce, np.minimum)
    all = partialmethod(_reduce, np.logical_and)
    any = partialmethod(_reduce, np.logical_or)

    def __len__(self) -> int:
        return len(self.tensor)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __int__(self) -> int:
        return int(self.tensor)

    def __float__(self) -> float:
        return float(self.tensor.detach())

    def __repr__(self) -> str:
        return f"TorchArray({self.tensor!r})"
