"""Products with a factor of squares, at n² numbers: through its profile (docs/tree.md §4).

The entries of a matrix of squares are of one sign, so that its rows are nearly multiples of one
vector, the *profile*: the normalised mean row. A product of two such matrices keeps what passes
through a profile on either side; only the product of both fluctuations is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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


Outer = tuple[Array, Array]
"""A column and a row, for their outer product."""


def summed(outers: Sequence[Outer]) -> Array:
    """The sum of outer products, as one product of thin matrices."""
    columns = np.concatenate([column[:, None] for column, _ in outers], axis=1)
    matrix: Array = columns @ np.concatenate([row[None, :] for _, row in outers])
    return matrix


def through_profiles(X: Array, x: Array, a: Array, Y: Array, y: Array) -> list[Outer]:
    """X diag(a) Yᵀ without the product of what fluctuates about the profiles x of X and y of Y:
    X (x xᵀ a + a y yᵀ − x xᵀ a y yᵀ) Yᵀ, as outer products to be `summed`."""
    Xx, Yy = X @ x, Y @ y
    both = (x * a) @ y
    return [(Xx, Y @ (a * x) - both * Yy), (X @ (a * y), Yy)]


@dataclass(frozen=True)
class ThroughProfile:
    """P2 d through the profile c of P2, d symmetric: P2 (c cᵀ d + d c cᵀ − c cᵀ d c cᵀ)."""

    P2: Array
    c: Array
    dc: Array

    @property
    def factors(self) -> tuple[Array, Array, Array, Array]:
        """Columns (n, 1) and rows (R,), in pairs, whose outer products add up to the matrix."""
        shared, rest = self._columns
        return shared[:, None], self.dc, rest[:, None], self.c

    def times_transpose(self) -> list[Outer]:
        """P2 d P2ᵀ (n, n), as outer products to be `summed`."""
        shared, rest = self._columns
        return [(shared, self.P2 @ self.dc), (rest, shared)]

    @cached_property
    def _columns(self) -> Outer:
        shared = self.P2 @ self.c
        return shared, self.P2 @ self.dc - (self.c @ self.dc) * shared
