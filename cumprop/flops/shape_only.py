"""Arrays without numbers: an estimator that runs on shapes alone tells its FLOPs and its memory.

A shape-only array is a `Counted` array of equal elements, all 0 or all 1, stored once: its
arithmetic is that of one element. An `arena` adds up the bytes that arrays of these shapes would
take, from the moment one is made until Python lets go of it and of its views. Estimators run as
they are, so that no cost formula can drift from them; docs/costs.md has the rules they obey.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.flops.meter import Work, count, not_counting, repeated
from cumprop.flops.numpy_arrays import PRODUCTS, Counted, operation_cost

LARGE = 2**25
"""Bytes from which the allocator of Linux takes fresh memory for every array."""


class TooLarge(CumpropError):
    """Shape-only arrays would take more bytes than their arena allows."""


@dataclass
class Arena:
    """Bytes of shape-only arrays alive now, and at the worst moment; what was done to them."""

    most: float
    now: int = 0
    peak: int = 0
    calls: int = 0
    products: int = 0
    large: int = 0

    @property
    def work(self) -> Work:
        return Work(self.calls, self.products, self.large)

    def allocate(self, array: ShapeOnly) -> None:
        """Account for the array until it is gone; views and copies keep it alive."""
        self.now += array.nbytes
        self.peak = max(self.peak, self.now)
        if self.peak > self.most:
            raise TooLarge(f"needs more than {self.most / 1e9:.1f} GB; take a smaller width")
        weakref.finalize(array, self._release, array.nbytes)

    def _release(self, nbytes: int) -> None:
        self.now -= nbytes


_arena: ContextVar[Arena | None] = ContextVar("cumprop_arena", default=None)


@contextmanager
def arena(at_most: float = math.inf) -> Iterator[Arena]:
    """Account for the shape-only arrays that are made inside the block.

    TooLarge is raised as soon as they would take over `at_most` bytes, or over what an arena
    around this one allows. A meter of FLOPs outside counts nothing of what is done inside.

    >>> with arena() as memory:
    ...     a = without_numbers((100, 100), np.float64(1))
    ...     b = a @ np.ones(100)
    ...     del a
    >>> memory.peak, memory.now, memory.products
    (80800, 800, 20000)
    """
    outer = _arena.get()
    memory = Arena(at_most if outer is None else min(at_most, outer.most))
    token = _arena.set(memory)
    try:
        with not_counting():
            yield memory
    finally:
        _arena.reset(token)


def alike(n: int) -> Iterator[int]:
    """range(n), for a loop whose passes cost the same and keep nothing but what they fill in.

    In an arena there are two passes, as the second finds the arrays of the first still alive; what
    the second does counts for all others, too.

    >>> list(alike(4))
    [0, 1, 2, 3]
    >>> with arena():
    ...     list(alike(4))
    [0, 1]
    """
    memory = _arena.get()
    if memory is None or n < 2:
        yield from range(n)
        return
    yield 0
    before = memory.work
    with repeated(n - 1):
        yield 1
    memory.calls += (n - 2) * (memory.calls - before.calls)
    memory.products += (n - 2) * (memory.products - before.products)
    memory.large += (n - 2) * (memory.large - before.large)


_CREATORS = {np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.copy}


class ShapeOnly(Counted):
    """A counted array whose elements are all 0, or all 1, stored once; writes do not change it."""

    has_no_numbers = True

    def __array_finalize__(self, obj: Any) -> None:
        self._source = obj  # in its memory, for NumPy's own copies (astype, x[indices]) too

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        if out:
            result = out[0]
        else:
            with np.errstate(all="ignore"):
                element = getattr(ufunc, method)(*map(_one_element, inputs), **kwargs)
            result = without_numbers(_result_shape(ufunc, method, inputs, kwargs), element)
        flops = operation_cost(ufunc, method, inputs, (result,))
        count(flops)
        if memory := _arena.get():
            memory.calls += 1
            if ufunc in PRODUCTS:
                memory.products += flops
            elif (inputs[0] if method == "reduce" else result).nbytes >= LARGE:
                memory.large += flops
        return result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _CREATORS:
            shape = kwargs.pop("shape", args[0].shape)
            element = func(_one_element(args[0]), *args[1:], **kwargs)
            return without_numbers(shape if isinstance(shape, tuple) else (shape,), element)
        if func is np.concatenate:
            arrays, axis = args[0], args[1] if len(args) > 1 else kwargs.get("axis", 0)
            lengths = list(arrays[0].shape)
            lengths[axis] = sum(array.shape[axis] for array in arrays)
            return without_numbers(tuple(lengths), _one_element(arrays[0]))
        return super().__array_function__(func, types, args, kwargs)


def without_numbers(shape: tuple[int, ...], element: Any) -> ShapeOnly:
    """An array without numbers of the type of `element`: 0 where that is 0, else 1.

    Clamps, convergence and all else that depends on data so take their ordinary course.
    """
    one = np.asarray(element)
    # bytes of its own: arrays at one address are taken to be views of one another
    own = (one != 0).astype(one.dtype).tobytes()
    array = ShapeOnly(shape, one.dtype, own, strides=(0,) * len(shape))
    if memory := _arena.get():
        memory.allocate(array)
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
    if method == "reduce":
        axis, ndim, keep = kwargs.get("axis", 0), len(shapes[0]), kwargs.get("keepdims")
        gone = range(ndim) if axis is None else {a % ndim for a in np.atleast_1d(axis)}
        lengths = enumerate(shapes[0])
        return tuple(1 if i in gone else n for i, n in lengths if keep or i not in gone)
    if method == "__call__" and ufunc.nout == 1:
        if ufunc is np.matmul:
            a, b = shapes
            return (*_broadcast(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
        if ufunc is np.vecdot:
            return _broadcast(*shapes)[:-1]
        if ufunc.signature is None:
            return _broadcast(*shapes)
    raise NotImplementedError(f"{ufunc.__name__}.{method} on arrays without numbers")
