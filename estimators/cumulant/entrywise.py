"""Formulas on the entries of matrices, in one pass through memory where llvmlite is installed.

NumPy reads and writes whole matrices for every operation of a formula. The compiled formula reads
each entry once and computes it with the same operations in the same order, so that its numbers are
those of NumPy to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_void_p
from functools import cache, lru_cache, wraps
from importlib.util import find_spec
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop import threads

if TYPE_CHECKING:
    from .machine_code import Kernel

Array = NDArray[Any]
Result = TypeVar("Result")

LEAST = 64 * 64
"""The entries below which no formula is compiled."""
WORTH = 7 * LEAST
"""The entries times operations from which one compiled pass takes less time than NumPy's."""
SHARED = 512 * 512
"""The entries from which a second thread takes a part of the rows."""
_compiling = Lock()


def entrywise(formula: Callable[..., Result]) -> Callable[..., Result]:
    """`formula`, of arrays that broadcast to matrices, compiled for large plain arrays.

    The first argument is a matrix (n, m), others are matrices, rows (m,) or (1, m), columns (n, 1)
    and None; under a batch of inputs some of them have one more axis, the first. The formula is
    made of + − × ÷ and returns an array or a tuple of arrays, of the shape to which all arguments
    broadcast. It runs as it is, on NumPy's operators, where arrays are counted, without numbers, of
    PyTorch, small, or of several types, and where llvmlite is missing. Cost: some 20 ms to compile
    the formula for each pattern of arguments, once.

    >>> @entrywise
    ... def scaled(matrix, column, row):
    ...     return column * matrix * row
    >>> scaled(np.ones((2, 3)), np.ones((2, 1)), np.arange(3.0))[1].tolist()
    [0.0, 1.0, 2.0]
    """
    compiled: dict[Any, Kernel] = {}

    @cache
    def operations(arguments: int) -> int:
        """The operations of the formula on each entry of so many arguments."""
        from .machine_code import operations

        return operations(formula, arguments)

    @lru_cache(maxsize=256)
    def of_forms(*forms: Form) -> Callable[..., Any]:
        """The formula for arrays of these forms: compiled, or as it is."""
        arrays = [form for form in forms if form is not None]
        shape = _shape(arrays)
        if shape is None:
            return formula
        kinds, dtype = tuple(map(_kind, forms)), arrays[0][2]
        from .machine_code import compiled_formula

        with _compiling:
            kernel = compiled.get((kinds, dtype))
            if kernel is None:
                kernel = compiled[kinds, dtype] = compiled_formula(formula, kinds, dtype)
        return _in_place(kernel, shape, dtype, kernel.steps(arrays))

    @wraps(formula)
    def apply(*arrays: Any) -> Any:
        first = arrays[0]
        large = type(first) is np.ndarray and first.size >= LEAST and compiles()
        if large and first.size * operations(len(arrays)) >= WORTH:
            return of_forms(*map(_form, arrays))(*arrays)
        return formula(*arrays)

    return apply


Form = tuple[tuple[int, ...], tuple[int, ...], Any]
"""Shape, strides and type of a plain array."""


def _form(array: Any) -> Any:
    """The form of an argument: None for None, and the class of other objects."""
    if type(array) is np.ndarray:
        return array.shape, array.strides, array.dtype
    return None if array is None else type(array)


def _shape(forms: Sequence[Any]) -> tuple[int, ...] | None:
    """The shape of the result, None where the formula itself has to run."""
    if not all(type(form) is tuple and 0 < len(form[0]) < 4 for form in forms):
        return None
    dtype = forms[0][2]
    shape = np.broadcast_shapes(*(form[0] for form in forms))
    in_order = all(
        form[2] == dtype and (_is_column(form) or form[1][-1] == dtype.itemsize) for form in forms
    )
    return shape if in_order and len(shape) > 1 and dtype.char in "fd" else None


def _is_column(form: Form) -> bool:
    return form[0][-1] == 1


def _kind(form: Form | None) -> str | None:
    """The kind of an argument for `machine_code`."""
    return None if form is None else "column" if _is_column(form) else "matrix"


def _in_place(kernel: Kernel, shape: tuple[int, ...], dtype: Any, steps: Any) -> Callable[..., Any]:
    """The function that runs a kernel on arrays of one form where they are, for new results.

    The rows are dealt out to parts, side by side, where BLAS has several threads.
    """
    rows, shared = prod(shape[:-1]), prod(shape) >= SHARED

    def run(*arrays: Array | None) -> Any:
        results = [np.empty(shape, dtype) for _ in range(kernel.results)]
        addresses = [_address(array) for array in (*results, *arrays) if array is not None]

        def compute(first: int, last: int) -> None:
            kernel(first, last, *shape[-2:], steps, *addresses)

        parts = threads.allowed() if shared else 1
        if parts == 1:
            compute(0, rows)
        else:
            ends = [rows * part // parts for part in range(parts + 1)]
            list(_pool(parts).map(compute, ends, ends[1:]))
        return tuple(results) if kernel.several else results[0]

    return run


def _address(array: Array) -> int | None:
    """`array.ctypes.data` in a tenth of the time: in C, the first field behind the header."""
    return c_void_p.from_address(id(array) + object.__basicsize__).value


@cache
def _pool(parts: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(parts)


if hasattr(os, "register_at_fork"):  # a child process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def compiles() -> bool:
    """Whether formulas are compiled: llvmlite is installed."""
    return find_spec("llvmlite") is not None
