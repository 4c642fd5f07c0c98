"""Wick coefficients of the neurons of a layer, from those of a standard normal (mathematics §2)."""

from __future__ import annotations

from math import comb
from typing import Any

from numpy.typing import NDArray

from cumprop.activations.gaussian_moments import HermiteTable, power, unit_power

Array = NDArray[Any]


class WickTable:
    """w(k,p) = E[∂^k φ^p (G)], G_i ~ N(mean_i, sigma_i²), from the coefficients of a standard x."""

    def __init__(self, table: HermiteTable, sigma: Array) -> None:
        self._table, self._sigma = table, sigma
        self._known: dict[tuple[int, int], Array] = {}

    @property
    def precision(self) -> float:
        return self._table.precision

    def __call__(self, k: int, p: int) -> Array:
        if (k, p) not in self._known:
            w = self._coefficient(k, p)
            self._known[k, p] = w / power(self._sigma, k) if k else w
        return self._known[k, p]

    def _coefficient(self, k: int, p: int) -> Array:
        """E[φ^p He_k], by the binomial theorem where the table is centred."""
        centre, size = self._table.centre, self._table.size
        w = self._table(k, p)
        if size != 1:
            w = w * unit_power(size, p)
        if centre is None:
            return w
        for j in range(1, p):
            w = w + comb(p, j) * unit_power(size, j) * power(centre, p - j) * self._table(k, j)
        return w if k else w + power(centre, p)
