"""Arrays without numbers: a run of an estimator on shapes alone counts its FLOPs and its memory.

A shape-only array is a `Counted` array of equal elements, all 0 or all 1, stored once: its
arithmetic is that of one element. An `arena` adds up the bytes that arrays of these shapes would
take, from the creation of an array until Python frees it and its views. Estimators run unchanged,
so that no cost formula can differ from them; docs/costs.md has the rules that estimators obey.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.flops.meter import Work, count, not_counting, repeated
from cumprop.flops.numpy_arrays import PRODUCTS, Counted, operation_cost
from cumprop.flops.zeros import Entries

LARGE = 2**25
"""The bytes from which the allocator of Linux takes fresh memory for every array."""


class TooLarge(CumpropError):
    """The error of shape-only arrays that would take more bytes than their arena allows."""


@dataclass
class Arena:
    """Bytes of shape-only arrays alive now and at the worst moment, and kinds of work on them."""

    most: float
    now: int = 0
    peak: int = 0
    calls: int = 0
    products: int = 0
    large: int = 0

    def work(self, flops: int) -> Work:
        """The kinds of work in `flops` FLOPs: FLOPs that the arena has not noted are entrywise."""
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
        """Note the work inside the block `times` times."""
        before = replace(self)
        with repeated(times):
            yield
        self.calls += (times - 1) * (self.calls - before.calls)
        self.products += (times - 1) * (self.products - before.products)
        self.large += (times - 1) * (self.large - before.large)

    def allocate(self, array: ShapeOnly) -> None:
        """Count the bytes of an array until it is freed; views and copies keep it alive."""
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
    """Count the bytes of shape-only arrays that are made inside the block.

    Raises TooLarge as soon as they would take over `at_most` bytes, or over the limit of an arena
    around this one. A meter of FLOPs outside does not count the arithmetic inside.

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
    """The numbers 0 to n - 1, for a loop whose passes all have the same cost.

    A pass may keep only values in arrays that exist before the loop. In an arena the loop has two
    passes, because the second finds the arrays of the first still alive; the second counts n - 1
    times.

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
    with memory.repeated(n - 1):
        yield 1


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

    Code that depends on data (clamps, convergence) therefore takes its usual branch.
    """
    one = np.asarray(element)
    # bytes of its own: arrays at one address are taken to be views of one another
    own = (one != 0).astype(one.dtype).tobytes()
    array = ShapeOnly(shape, one.dtype, own, strides=(0,) * len(shape))
    if memory := _arena.get():
        memory.allocate(array)
    return array


def with_entries(array: ShapeOnly, entries: int | None) -> ShapeOnly:
    """The array, whose products then take so many entries; None for all of them."""
    if entries is not None:
        array.csr = Entries(entries)
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
