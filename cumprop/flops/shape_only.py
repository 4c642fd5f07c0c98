"""Arrays without numbers: run an estimator on shapes alone to learn its FLOPs and its memory.

A phantom is a `Counted` array of equal elements: it takes no memory and its arithmetic is that of
one element. What the code would allocate is added up by the lifetimes of the arrays, so no cost
formula can drift from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.flops.meter import Work, count, not_counting, repeated
from cumprop.flops.numpy_arrays import PRODUCTS, Counted, operation_cost

LARGE = 2**25
"""Bytes from which the allocator of Linux takes fresh memory for every array."""


class TooLarge(CumpropError):
    """Phantom arrays would take more than the block `at_most` allows."""


@dataclass
class Memory:
    """Bytes of phantom arrays alive now, and at the worst moment so far; what was done to them."""

    now: int = 0
    peak: int = 0
    calls: int = 0
    products: int = 0
    large: int = 0

    def work(self, flops: int) -> Work:
        """The kinds of so many FLOPs in all: those not noted here are entrywise."""
        return Work(self.calls, self.products, flops - self.products - self.large, self.large)

    def done(self, flops: int, array: Any, is_product: bool) -> None:
        """Note one call of NumPy; `array` is its result, or the larger array that it reduced."""
        self.calls += 1
        if is_product:
            self.products += flops
        elif array.size * array.itemsize >= LARGE:
            self.large += flops

    @contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """Note what is done inside the block so many times."""
        before = replace(self)
        with repeated(times):
            yield
        self.calls += (times - 1) * (self.calls - before.calls)
        self.products += (times - 1) * (self.products - before.products)
        self.large += (times - 1) * (self.large - before.large)

    def take(self, nbytes: int) -> None:
        self.now += nbytes
        self.peak = max(self.peak, self.now)
        if self.peak > _most.get():
            raise TooLarge(f"needs more than {_most.get() / 1e9:.1f} GB; take a smaller width")


_memory: ContextVar[Memory | None] = ContextVar("cumprop_memory", default=None)
_most: ContextVar[float] = ContextVar("cumprop_most", default=math.inf)


@contextmanager
def metering() -> Iterator[Memory]:
    """Follow the memory that phantom arrays would take inside the block.

    A meter of FLOPs outside of it counts nothing of what is done here to arrays without numbers.
    """
    memory = Memory()
    token = _memory.set(memory)
    try:
        with not_counting():
            yield memory
    finally:
        _memory.reset(token)


@contextmanager
def at_most(nbytes: float) -> Iterator[None]:
    """Inside the block, give up with TooLarge as soon as phantom arrays would take more."""
    token = _most.set(nbytes)
    try:
        yield
    finally:
        _most.reset(token)


def alike(n: int) -> Iterator[int]:
    """range(n), for a loop whose passes cost the same and keep nothing but what they fill in.

    Phantoms take two of them, as the second finds the arrays of the one before it still alive, and
    count the FLOPs of the second for all others.

    >>> list(alike(4))
    [0, 1, 2, 3]
    >>> with metering():
    ...     list(alike(4))
    [0, 1]
    """
    memory = _memory.get()
    if memory is None or n < 2:
        yield from range(n)
        return
    yield 0
    with memory.repeated(n - 1):
        yield 1


_CREATORS = {np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.copy}


class _Buffer:
    """The memory one phantom and its views share; given back when the last of them goes."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.memory = _memory.get()
        if self.memory is not None:
            self.memory.take(nbytes)

    def __del__(self) -> None:
        if self.memory is not None:
            self.memory.now -= self.nbytes


class Phantom(Counted):
    """A counted array whose elements are all the same number, stored once."""

    _buffer: _Buffer | None
    has_no_numbers = True

    def __array_finalize__(self, obj: Any) -> None:
        self._buffer = getattr(obj, "_buffer", None)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        usual = method == "__call__" and ufunc not in PRODUCTS and ufunc.nout == 1
        if usual and out:
            _done(out[0].size, out[0])
            return out[0]
        with np.errstate(all="ignore"):
            sample = getattr(ufunc, method)(*map(_one_element, inputs), **kwargs)
        shape = _result_shape(ufunc, method, inputs, kwargs)
        if usual:  # made quick
            result = phantom(shape, sample)
            _done(result.size, result)
            return result
        samples = sample if isinstance(sample, tuple) else (sample,)
        results = tuple(out) if out else tuple(phantom(shape, s) for s in samples)
        flops = operation_cost(ufunc, method, list(inputs), results)
        largest = inputs[0] if method == "reduce" else results[0]
        _done(flops, largest, ufunc in PRODUCTS)
        return results if isinstance(sample, tuple) else results[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _CREATORS:
            shape = kwargs.pop("shape", None)
            one = func(_one_element(args[0]), *args[1:], **kwargs)
            shape = np.shape(args[0]) if shape is None else shape
            return phantom(shape if isinstance(shape, tuple) else (shape,), one)
        if func is np.concatenate:
            return _joined(args[0], args[1] if len(args) > 1 else kwargs.get("axis", 0))
        return super().__array_function__(func, types, args, kwargs)


def _done(flops: int, array: Any, is_product: bool = False) -> None:
    count(flops)
    memory = _memory.get()
    if memory is not None:
        memory.done(flops, array, is_product)


def _joined(arrays: Sequence[Phantom], axis: int) -> Phantom:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return phantom(tuple(shape), _one_element(arrays[0]))


def phantom(shape: tuple[int, ...], element: Any) -> Phantom:
    """An array of equal elements that takes no memory but is accounted for as if it did.

    Elements other than 0 beyond 1e±3 become 1, so that what depends on data (clamps, convergence)
    takes its ordinary course.
    """
    one = np.asarray(element)
    size = abs(one.flat[0].item())
    if size != 0 and not 1e-3 <= size <= 1e3:
        one = np.ones((), one.dtype)
    # bytes of its own: arrays at one address are taken to be views of one another
    array = Phantom(shape, one.dtype, one.tobytes(), strides=(0,) * len(shape))
    array._buffer = _Buffer(array.size * array.itemsize)
    return array


def _one_element(x: Any) -> Any:
    """An array shrunk to its first element, with all its dimensions; anything else unchanged."""
    if not isinstance(x, np.ndarray):
        return x
    if not x.size:
        return np.ones((1,) * x.ndim, x.dtype)
    return x.view(np.ndarray)[(slice(1),) * x.ndim]


_broadcast = cache(np.broadcast_shapes)


def _result_shape(ufunc: np.ufunc, method: str, inputs: Any, kwargs: Any) -> tuple[int, ...]:
    shapes = [x.shape if isinstance(x, np.ndarray) else np.shape(x) for x in inputs]
    if ufunc is np.matmul:
        a, b = shapes
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
    if method == "reduce":
        axis, ndim = kwargs.get("axis", 0), len(shapes[0])
        summed = range(ndim) if axis is None else {a % ndim for a in np.atleast_1d(axis)}
        return tuple(n for i, n in enumerate(shapes[0]) if i not in summed)
    if ufunc is np.vecdot:
        return np.broadcast_shapes(*shapes)[:-1]
    if method == "__call__":
        return _broadcast(*shapes)
    raise NotImplementedError(f"phantom {ufunc.__name__}.{method}")
