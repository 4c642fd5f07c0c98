"""Formulas on the entries of matrices, in one pass through memory where llvmlite is installed.

NumPy reads and writes whole matrices for every operation of a formula. The compiled formula reads
each entry once and computes it with the same operations in the same order, so that its numbers are
those of NumPy to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from importlib.util import find_spec
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop import threads

Array = NDArray[Any]
Result = TypeVar("Result")

LEAST = 128 * 128
"""The entries from which one compiled pass takes less time than NumPy's."""
SHARED = 512 * 512
"""The entries from which a second thread takes a part of the rows."""
_compiling = Lock()


def entrywise(formula: Callable[..., Result]) -> Callable[..., Result]:
    """`formula`, of arrays that broadcast to matrices, compiled for large plain arrays.

    The first argument is a matrix (n, m), others are matrices, rows (m,) or (1, m), columns (n, 1)
    and None. The formula is made of + − × ÷ and returns an array or a tuple of arrays. It runs as
    it is, on NumPy's operators, where arrays are counted, without numbers, of PyTorch, small, or
    of several types, and where llvmlite is missing. Cost: some 20 ms to compile the formula for
    each pattern of arguments, once.

    >>> @entrywise
    ... def scaled(matrix, column, row):
    ...     return column * matrix * row
    >>> scaled(np.ones((2, 3)), np.ones((2, 1)), np.arange(3.0))[1].tolist()
    [0.0, 1.0, 2.0]
    """
    compiled: dict[Any, Any] = {}

    @wraps(formula)
    def apply(*arrays: Any) -> Any:
        if type(arrays[0]) is not np.ndarray or arrays[0].size < LEAST or not compiles():
            return formula(*arrays)
        kinds = _kinds(arrays)
        if kinds is None:
            return formula(*arrays)
        shape, dtype = arrays[0].shape, arrays[0].dtype
        kernel = compiled.get((kinds, dtype))
        if kernel is None:
            from .machine_code import compiled_formula

            with _compiling:
                kernel = compiled[kinds, dtype] = compiled_formula(formula, kinds, dtype)
        results = [np.empty(shape, dtype) for _ in range(kernel.results)]
        given = [array for array in arrays if array is not None]
        _run(lambda first, last: kernel(first, last, shape[1], *results, *given), shape)
        return tuple(results) if kernel.several else results[0]

    return apply


def _kinds(arrays: Sequence[Any]) -> tuple[str | None, ...] | None:
    """The kinds of the arguments for `machine_code`, None where the formula itself has to run."""
    dtype, shape = arrays[0].dtype, arrays[0].shape
    if dtype.char not in "fd" or len(shape) != 2:
        return None
    n, m = shape
    kinds = tuple([None if array is None else _kind(array, n, m, dtype) for array in arrays])
    return None if "other" in kinds else kinds


def _kind(array: Any, n: int, m: int, dtype: np.dtype[Any]) -> str:
    """The kind of an argument beside matrices (n, m) of this type."""
    if type(array) is not np.ndarray or array.dtype != dtype:
        return "other"
    shape = array.shape
    if shape == (m,):
        kind = "row"
    elif len(shape) == 2 and shape[0] in (1, n) and shape[1] in (1, m):
        kind = "column" if shape[1] == 1 else "matrix"
    else:
        return "other"
    return kind if kind == "column" or array.strides[-1] == array.itemsize else "other"


def _run(kernel: Callable[[int, int], None], shape: tuple[int, int]) -> None:
    """Run a kernel on all rows, in parts side by side where BLAS has several threads."""
    rows, parts = shape[0], threads.allowed() if shape[0] * shape[1] >= SHARED else 1
    if parts == 1:
        kernel(0, rows)
        return
    ends = [rows * part // parts for part in range(parts + 1)]
    list(_pool(parts).map(kernel, ends, ends[1:]))


@cache
def _pool(parts: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(parts)


if hasattr(os, "register_at_fork"):  # a child process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def compiles() -> bool:
    """Whether formulas are compiled: llvmlite is installed."""
    return find_spec("llvmlite") is not None
