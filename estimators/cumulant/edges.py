"""Edges of the trees that enter κ_3 and κ_4: one pair of neurons, one of them a leaf (§3.1)."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from .batches import turned
from .standardised import Coefficients

Array = NDArray[Any]


class Edges:
    """Matrices [centre, leaf] with the leaf's Wick coefficient on them, by cost.

    `first` is C itself (cost 1). Of cost 2, `second` leaves one derivative at the centre and
    `third` two. C, k21 (κ_iij) and k22 (κ_iijj) have zero diagonals.
    """

    def __init__(self, C: Array, k21: Array, k22: Array, w: Coefficients) -> None:
        self.C, self.k21 = C, k21
        self.pair = C * C * 0.5 + k22 * 0.25
        self.first = C * w(1, 1)
        self.second = turned(k21) * (0.5 * w(2, 1))
        self.third = self.pair * w(2, 1) + k21 * (0.5 * w(1, 1))

    def chains(self, a2: Array, a3: Array) -> Array:
        """Y [centre, leaf]: chains are Sym Σ_r 3 e_r ⊗ first_r ⊗ Y_r, r the centre, a_k its own."""
        Y: Array = self.first * a2[:, None] + self.second * (2 * a2[:, None])
        Y += self.third * (2 * a3[:, None])
        return Y
