"""Covariances of the input in the smallest form they have: a number, a diagonal or a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError
from cumprop.flops import counted, is_foreign, plain

Array = NDArray[Any]

_ROUNDING = 1e-6  # asymmetry and negative eigenvalues forgiven, relative to the largest entry


class Checked(NamedTuple):
    """A covariance that `compact` has seen before, for `MLP.replace`."""

    cov: Array


def compact(cov: Array, n: int, dtype: np.dtype[Any]) -> Array:
    """The covariance of n inputs as a number σ² for σ² I, a diagonal (n,) or a matrix (n, n).

    `cov` has one of these shapes, and the result may have a smaller one; a tensor keeps its shape,
    because a gradient may be wanted for every entry. The result is float64 and exactly symmetric.
    Raises CumpropError for other shapes, asymmetric matrices, negative eigenvalues, and a
    covariance that vanishes in `dtype`. Cost: O(n) for a number or a diagonal, O(n²) for a diagonal
    matrix, O(n³) (eigenvalues) for all others.

    >>> compact(np.diag([0.5, 0.5, 0.5]), 3, np.dtype("f4")).tolist()
    0.5
    """
    if cov.shape not in ((), (n,), (n, n)):
        raise CumpropError(
            f"input_cov has shape {cov.shape}; give ({n}, {n}), a diagonal ({n},) or a number"
        )
    cov = cov.astype(np.float64)
    largest = float(np.abs(cov).max())
    if 0 < largest < float(np.finfo(dtype).tiny):
        raise CumpropError(f"input_cov is too small for {dtype}; give float64 weights")
    if cov.ndim == 2:
        if np.abs(cov - cov.T).max() > _ROUNDING * largest:
            raise CumpropError("input_cov is not symmetric; give a covariance matrix")
        cov = cov / 2 + cov.T / 2
    if not is_foreign(cov):
        cov = _smallest_form(cov)
    lowest = float(np.linalg.eigvalsh(cov)[0] if cov.ndim == 2 else cov.min())
    if lowest < -_ROUNDING * largest:
        raise CumpropError(
            f"input_cov has the negative eigenvalue {lowest:.3g}; give a covariance matrix"
        )
    return cov


def _smallest_form(cov: Array) -> Array:
    if cov.ndim == 2 and is_diagonal(cov):
        cov = cov.diagonal()
    if cov.ndim == 1 and (cov == cov[0]).all():
        cov = cov[0, ...]
    return cov


def is_diagonal(cov: Array) -> bool:
    """Whether all entries of a matrix (n, n) beside the diagonal are 0.

    >>> is_diagonal(np.diag([1.0, 0.0])), is_diagonal(np.ones((2, 2)))
    (True, False)
    """
    return bool(np.count_nonzero(cov) == np.count_nonzero(cov.diagonal()))


def full(cov: Array, n: int) -> Array:
    """The matrix (n, n) of a covariance in any form; one that is a matrix already is not copied.

    >>> full(np.array(2.0), 2).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    if cov.ndim == 2:
        return cov
    matrix: Array = plain(np.diag(np.broadcast_to(counted(cov), (n,))))
    if not is_foreign(matrix):
        matrix.setflags(write=False)
    return matrix
