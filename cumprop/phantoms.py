"""Arrays without numbers: run an estimator on shapes alone to learn its FLOPs and its memory.

A phantom behaves as a `Counted` array that takes no memory and does no arithmetic. What the code
would allocate is added up by the lifetimes of the arrays, so no cost formula can drift from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from cumprop import activations
from cumprop.estimator import Shape
from cumprop.flops import Counted, count, operation_cost
from cumprop.networks import MLP


@dataclass
class Memory:
    """Bytes of phantom arrays alive now, and at the worst moment so far."""

    now: int = 0
    peak: int = 0


_memory: ContextVar[Memory | None] = ContextVar("cumprop_memory", default=None)


@contextmanager
def metering() -> Iterator[Memory]:
    """Follow the memory that phantom arrays would take inside the block."""
    memory = Memory()
    token = _memory.set(memory)
    try:
        yield memory
    finally:
        _memory.reset(token)


class _Buffer:
    """The memory one phantom and its views share; given back when the last of them goes."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.memory = _memory.get()
        if self.memory is not None:
            self.memory.now += nbytes
            self.memory.peak = max(self.memory.peak, self.memory.now)

    def __del__(self) -> None:
        if self.memory is not None:
            self.memory.now -= self.nbytes


class Phantom(Counted):
    """A counted array of ones that is never stored: every element is the same number."""

    _buffer: _Buffer | None

    def __array_finalize__(self, obj: Any) -> None:
        self._buffer = getattr(obj, "_buffer", None)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        unit = [np.ones((1,) * np.ndim(x), x.dtype) if isinstance(x, np.ndarray) else x
                for x in inputs]  # fmt: skip
        sample = getattr(ufunc, method)(*unit, **kwargs)
        samples = sample if isinstance(sample, tuple) else (sample,)
        shape = _result_shape(ufunc, method, inputs, kwargs, np.shape(samples[0]))
        results = tuple(out) if out else tuple(phantom(shape, np.asarray(s).dtype) for s in samples)
        count(operation_cost(ufunc, method, list(inputs), results))
        return results if isinstance(sample, tuple) else results[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.copy):
            shape = kwargs.get("shape") or np.shape(args[0])
            return phantom(shape, kwargs.get("dtype") or args[0].dtype)
        return super().__array_function__(func, types, args, kwargs)


def phantom(shape: tuple[int, ...], dtype: Any) -> Phantom:
    """An array of this shape that takes no memory but is accounted for as if it did."""
    array = np.broadcast_to(np.ones((), dtype), shape).view(Phantom)
    array._buffer = _Buffer(array.size * array.itemsize)
    return array


def _result_shape(
    ufunc: np.ufunc, method: str, inputs: Any, kwargs: Any, sample: tuple[int, ...]
) -> tuple[int, ...]:
    shapes = [np.shape(x) for x in inputs]
    if ufunc is np.matmul:
        a, b = shapes
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
    if method == "reduce":
        axis = kwargs.get("axis", 0)
        axes = range(len(shapes[0])) if axis is None else np.atleast_1d(axis) % len(shapes[0])
        kept = [n for i, n in enumerate(shapes[0]) if i not in set(axes)]
        return tuple(kept)
    if method == "__call__":
        return np.broadcast_shapes(*shapes)
    raise NotImplementedError(f"phantom {ufunc.__name__}.{method}")


def phantom_network(shape: Shape) -> MLP:
    """A stand-in for a network of this shape."""
    maps = list(zip(shape.widths[1:], shape.widths[:-1], strict=True))
    n = shape.widths[0]
    network = SimpleNamespace(
        weights=[phantom(size, shape.dtype) for size in maps],
        biases=[phantom(size[:1], shape.dtype) if shape.biased else None for size in maps],
        activations=[activations.get(name) for name in shape.activations],
        input_mean=phantom((n,), shape.dtype) if shape.gaussian_input else None,
        input_cov=phantom((n, n), shape.dtype) if shape.gaussian_input else None,
        init_scale=(1.0,) * len(maps),
        depth=shape.depth,
        widths=shape.widths,
        dtype=np.dtype(shape.dtype),
        shape=shape,
    )
    return cast(MLP, network)
