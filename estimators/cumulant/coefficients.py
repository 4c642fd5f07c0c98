"""Wick coefficients of a layer, and those whose FLOPs depend on numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from cumprop.activations import Activation, HermiteTable
from cumprop.flops import by_numbers, counted

Array = NDArray[Any]


def coefficients(
    activation: Activation, mean: Array, sigma: Array, trust: float
) -> HermiteTable | ByNumbers:
    """The coefficients of the activation; those of classes of others may depend on numbers."""
    if _takes_numbers(activation):
        return ByNumbers(activation, mean, sigma, trust)
    return activation.coefficients(mean, sigma, trust)


@lru_cache(maxsize=64)
def _takes_numbers(activation: Activation) -> bool:
    """Whether the FLOPs of the coefficients may depend on numbers."""
    ours = (type(kind).__module__.startswith("cumprop.") for kind in activation.kinds)
    return activation.by_quadrature or not all(ours)


class ByNumbers:
    """Wick coefficients whose FLOPs depend on numbers, such as those of a quadrature."""

    def __init__(self, activation: Activation, mean: Array, sigma: Array, trust: float) -> None:
        with by_numbers():
            self._table = activation.coefficients(counted(mean), counted(sigma), trust)
        self.size, self.tolerance = self._table.size, self._table.tolerance
        self.centre = None if self._table.centre is None else counted(self._table.centre)

    @property
    def precision(self) -> float:
        return self._table.precision

    def __call__(self, k: int, p: int) -> Array:
        with by_numbers():
            w = self._table(k, p)
        return counted(w)
