"""Matrices most of whose entries are 0, such as those of convolutions: products skip the zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST_ENTRIES = 2**18
"""Smaller matrices are multiplied densely: calls of a sparse product cost more than they save."""
LARGEST_SHARE = 0.03
"""The largest share of entries beside 0 at which sparse products are at least twice as fast."""


class WithZeros(np.ndarray[Any, np.dtype[Any]]):
    """A dense matrix that also holds its entries beside 0, a scipy.sparse array `csr`.

    Matrix products with it take 2 FLOPs per such entry and column of the other factor; everything
    else, and a view other than the transpose, is that of the dense matrix.
    """

    csr: Any = None

    @property
    def T(self) -> WithZeros:
        return holding(super().T, None if self.csr is None else self.csr.T)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        own = (None, np.ndarray.__array_ufunc__, WithZeros.__array_ufunc__)
        if any(getattr(type(x), "__array_ufunc__", None) not in own for x in inputs):
            return NotImplemented  # counted arrays count, and come back with plain ones
        if ufunc is np.matmul and method == "__call__" and out is None:
            product = _product(*inputs)
            if product is not None:
                return product
        if out is not None:
            kwargs["out"] = tuple(x.view(np.ndarray) for x in out)
        arrays = (x.view(np.ndarray) if isinstance(x, WithZeros) else x for x in inputs)
        return getattr(ufunc, method)(*arrays, **kwargs)


def skipping_zeros(matrix: Array) -> Array:
    """The matrix (m, n), as `WithZeros` where it is large and at most 3% of its entries are not 0.

    Arrays that are no plain matrices of NumPy are returned as they are.

    >>> eye = skipping_zeros(np.eye(512))
    >>> type(eye).__name__, type(skipping_zeros(np.eye(3))).__name__, bool((eye @ eye == eye).all())
    ('WithZeros', 'ndarray', True)
    """
    if type(matrix) is not np.ndarray or matrix.size < LEAST_ENTRIES:
        return matrix
    if np.count_nonzero(matrix) > LARGEST_SHARE * matrix.size:
        return matrix
    from scipy.sparse import csr_array

    return holding(matrix, csr_array(matrix))


@dataclass(frozen=True)
class Entries:
    """The stand-in for `csr` of arrays without numbers: the number of entries beside 0."""

    nnz: int

    @property
    def T(self) -> Entries:
        return self


def nonzeros(matrix: Any) -> int | None:
    """The number of entries beside 0 where products skip the zeros; None where they do not."""
    csr = getattr(matrix, "csr", None)
    return None if csr is None else int(csr.nnz)


def holding(matrix: Array, csr: Any) -> WithZeros:
    """A view of a plain matrix, (m, n), that also holds its entries beside 0, `csr`, or None."""
    found = matrix.view(WithZeros)
    found.csr = csr
    return found


def _product(a: Any, b: Any) -> Array | None:
    """The product of a matrix with zeros and a vector or matrix; None for other shapes."""
    left, right = getattr(a, "csr", None), getattr(b, "csr", None)
    if left is not None and np.ndim(b) in (1, 2):
        return np.asarray(left @ np.asarray(b))
    if right is not None and np.ndim(a) in (1, 2):
        return np.asarray((right.T @ np.asarray(a).T).T)
    return None
