"""Arrays and numbers under a batch of inputs, which have one more axis, the first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import is_foreign, on_host

from .entrywise import LEAST

Array = NDArray[Any]
Number = Any
"""A float, or a float64 array (B,) of one for each input of a batch, on the host."""
WIDE, PADDING = 128, 16
"""The rows from which a copy pays before a transpose is read, and the entries it adds to each."""


def of_node(array: Any, b: int, axes: int) -> Any:
    """The part of one input of a batch; arrays of so many axes are the same for all inputs."""
    return array if array is None or array.ndim == axes else array[b]


def applied(matrix: Array, vector: Array) -> Array:
    """The product of a matrix and a vector, where either may be one for each input."""
    if matrix.ndim == 2:
        return vector @ matrix.T if vector.ndim > 1 else matrix @ vector
    product: Array = (matrix @ vector[..., None])[..., 0]
    return product


def transposed(matrix: Array) -> Array:
    """The transpose of a matrix, or of one for each input."""
    return matrix.T if matrix.ndim == 2 else np.moveaxis(matrix, -1, -2)


def turned(matrix: Array) -> Array:
    """The transpose for entrywise work with other matrices: row by row in memory if it is large.

    Entries of a column are as far apart as rows are long. At lengths like 1,024 all of them fall
    into few places of the cache, so that the transpose of a copy with longer rows is read.
    """
    n, m = matrix.shape[-2:]
    if is_foreign(matrix) or matrix.size < LEAST:
        return transposed(matrix)
    if n >= WIDE:
        longer = np.empty_like(matrix, shape=(*matrix.shape[:-1], m + PADDING), order="C")[..., :m]
        longer[...] = matrix
        matrix = longer
    rows = np.empty_like(matrix, shape=(*matrix.shape[:-2], m, n), order="C")
    rows[...] = transposed(matrix)
    return rows


def below(*products: tuple[Array | None, Array]) -> Array:
    """The products a b one below the other, each computed in its place; a = None stands for I.

    >>> below((np.ones((1, 2)), np.eye(2)), (None, np.eye(2))).tolist()
    [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    b = products[0][1]
    if is_foreign(b):
        return np.concatenate([b if a is None else a @ b for a, b in products], axis=-2)
    ends = [*accumulate((b if a is None else a).shape[-2] for a, b in products)]
    result = np.empty_like(b, shape=(*b.shape[:-2], ends[-1], b.shape[-1]))
    for (a, b), start, end in zip(products, [0, *ends], ends, strict=False):
        part = result[..., start:end, :]
        if a is None:
            part[...] = b
        else:
            np.matmul(a, b, out=part)
    return result


def number(x: Any) -> Number:
    """The number, or those of all inputs, from arrays of any kind."""
    return on_host(x).astype(np.float64) if x.ndim else float(x)


def positive(x: Any) -> Any:
    """The number where it is positive, else 1."""
    return np.where(x > 0, x, 1.0) if isinstance(x, np.ndarray) else x if x > 0 else 1.0


def ratio(a: Number, b: Number, otherwise: float = 0.0) -> Number:
    """The quotient where b is positive, else another number."""
    if isinstance(b, np.ndarray):
        return np.where(b > 0, a / positive(b), otherwise)
    return a / b if b > 0 else otherwise


def column(x: Number, like: Array) -> Any:
    """Numbers to multiply arrays (…, n) with, of the type of these."""
    return x[:, None].astype(like.dtype) if isinstance(x, np.ndarray) else float(x)


def each(x: Number) -> list[float]:
    """The number of each input."""
    return x.tolist() if isinstance(x, np.ndarray) else [x]


def by_input(numbers: Iterable[Number], inputs: tuple[int, ...]) -> list[tuple[float, ...]]:
    """The numbers of each input: `inputs` is (B,) for a batch, else ()."""
    if not inputs:
        return [tuple(map(float, numbers))]
    columns = [each(x) if isinstance(x, np.ndarray) else inputs[0] * [x] for x in numbers]
    return list(zip(*columns, strict=True)) if columns else [()] * inputs[0]
