"""Forms in the legs of one layer's neurons: what a birth adds to κ_3, at n² numbers (§4.1).

Every neuron r of the layer where a form was born has a few *legs*, vectors over the neurons of the
layer it has reached; a linear map and an activation act on each leg alike, from the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import iadd
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """Matrices (n, R), one column a neuron r of the birth; None stands for zeros."""

    def scaled(self, left: Array) -> Self:
        """A matrix, or the diagonal of one, from the left."""
        return type(self)(
            *(m if m is None else left @ m if left.ndim == 2 else left[:, None] * m for m in self)
        )

    def plus(self, other: Self) -> Self:
        """The sum, of what both have."""
        return type(self)(*(None if A is None else A + B for A, B in zip(self, other, strict=True)))

    def dot(self, other: Self) -> Array:
        """Σ A Bᵀ over the matrices both have."""
        total: Array = reduce(iadd, (A @ B.T for A, B in self._shared(other)))
        return total

    def row_dot(self, other: Self) -> Array:
        """The diagonal of `dot`, at n² each."""
        total: Array = reduce(iadd, (np.vecdot(A, B) for A, B in self._shared(other)))
        return total

    def _shared(self, other: Self) -> Iterator[tuple[Array, Array]]:
        return ((A, B) for A, B in zip(self, other, strict=True) if A is not None and B is not None)

    def __iter__(self) -> Iterator[Any]:
        return iter(vars(self).values())


@dataclass(frozen=True)
class Legs(Columns):
    """κ_3 = Sym Σ_r [3 P_r ⊗ U_r ⊗ Y_r + D_r ⊗ P_r ⊗ P_r]: the cubic form Σ_r 3 p u y + d p²."""

    P: Any  # Array, or None at birth, where it is I
    U: Array
    Y: Array
    D: Array

    def gradient(self) -> Legs:
        """A third of the form's derivatives in p, u, y and d, at every neuron: κ_ii·."""
        P, U, Y, D = self
        return Legs(U * Y + D * P * (2 / 3), P * Y, P * U, P * P * (1 / 3))

    def joined(self, other: Legs) -> Legs:
        return Legs(*(np.hstack(pair) for pair in zip(self, other, strict=True)))

    def slice_21(self) -> Array:
        """κ_iij as an (i, j) matrix; its diagonal is κ_iii."""
        return self.gradient().dot(self)

    def contracted(self, v: Legs) -> Array:
        """Σ_k v_k κ_kij, from the products of v with the legs, each (R,)."""
        P, U, Y, D = self
        half: Array = (U * v.P + P * v.U) @ Y.T
        half += P @ (U * v.Y + P * (v.D * (1 / 3)) + D * (v.P * (2 / 3))).T
        return (half + half.T) * 0.5
