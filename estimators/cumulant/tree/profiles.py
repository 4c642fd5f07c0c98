"""Products with a factor of squares, at n² numbers: through its profile (docs/tree.md §4).

The entries of a matrix of squares are of one sign, so that its rows are nearly multiples of one
vector, the *profile*: the normalised mean row. A product of two such matrices keeps what passes
through a profile on either side; only the product of both fluctuations is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def profile(squares: Array) -> Array:
    """The mean row (R,) of a matrix (n, R), normalised; zeros stay zeros."""
    return normalised(squares.sum(axis=0))


def normalised(vector: Array) -> Array:
    """A vector over its length; zeros stay zeros."""
    square = vector @ vector
    unit: Array = vector / np.sqrt(np.where(square > 0, square, np.inf))
    return unit


def outer(column: Array, row: Array) -> Array:
    """The matrix column rowᵀ."""
    matrix: Array = column[:, None] * row
    return matrix


def through_profiles(X: Array, a: Array, Y: Array) -> Array:
    """X diag(a) Yᵀ without the product of what fluctuates about the profiles x of X and y of Y:
    X (x xᵀ a + a y yᵀ − x xᵀ a y yᵀ) Yᵀ."""
    x, y = profile(X), profile(Y)
    Xx, Yy = X @ x, Y @ y
    both = (x * a) @ y
    matrix: Array = outer(Xx, Y @ (a * x) - both * Yy) + outer(X @ (a * y), Yy)
    return matrix


@dataclass(frozen=True)
class ThroughProfile:
    """P2 d through the profile c of P2, d symmetric: P2 (c cᵀ d + d c cᵀ − c cᵀ d c cᵀ)."""

    P2: Array
    c: Array
    dc: Array

    @classmethod
    def of(cls, P2: Array, d: Array) -> ThroughProfile:
        c = profile(P2)
        return cls(P2, c, d @ c)

    def matrix(self) -> Array:
        """(n, R), at n² numbers."""
        shared, rest = self._columns
        matrix: Array = outer(shared, self.dc) + outer(rest, self.c)
        return matrix

    def times_transpose(self) -> Array:
        """P2 d P2ᵀ (n, n)."""
        shared, rest = self._columns
        matrix: Array = outer(shared, self.P2 @ self.dc) + outer(rest, shared)
        return matrix

    @property
    def _columns(self) -> tuple[Array, Array]:
        shared = self.P2 @ self.c
        return shared, self.P2 @ self.dc - (self.c @ self.dc) * shared
