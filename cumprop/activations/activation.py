"""An activation: φ, φ' and the Wick coefficients w(k,p) = E[∂^k φ^p (G)] (mathematics §2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.activations.gaussian_moments import HermiteTable
from cumprop.activations.quadrature import TOLERANCE, QuadratureTable, difference
from cumprop.activations.wick import WickTable
from cumprop.flops import counted, is_foreign

Array = NDArray[Any]


class Activation(ABC):
    """An entrywise function with its derivative and its Wick coefficients.

    `homogeneous` says φ(cz) = cφ(z) for c > 0; `breakpoints` are the kinks of φ; `differentiable`
    is False where `derivative` cannot be called. Every method keeps float32 and uses ufuncs only,
    so that counted arrays are counted.
    """

    name: str
    homogeneous: bool = False
    breakpoints: tuple[float, ...] = ()
    differentiable: bool = True

    @abstractmethod
    def forward(self, z: Array) -> Array:
        """φ(z), entrywise."""

    @abstractmethod
    def derivative(self, z: Array) -> Array:
        """φ'(z), entrywise, where it exists."""

    def difference(self, z: Array, h: Array) -> Array:
        """φ(z + h) - φ(z), entrywise, to almost all digits however small h is beside z.

        >>> h = np.array([1e-12])
        >>> from cumprop.activations import get
        >>> float((get("gelu").difference(np.array([1.0]), h) / h)[0].round(10))    # φ'(1)
        1.0833154706
        """
        slope = self.derivative if self.differentiable else None
        return difference(self.forward, slope, np.array(self.breakpoints), z, h)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        """The Hermite coefficients a(k,p) of neurons N(mean_i, sigma_i²), sigma > 0.

        p ≥ 1, k ≥ 0; a callable (k,p) -> array shaped like `mean`. By quadrature, unless the class
        has a closed form: 100 nodes, more where those are off by over `trust`; `precision` is 0
        unless a coefficient misses 1e-10. Relative accuracy does not depend on units.

        >>> from cumprop.activations import get
        >>> table = get("relu").coefficients(np.array([1.0]), np.array([1e-12]))
        >>> table.centre.tolist(), float(table(1, 1)[0] * table.size / 1e-12)    # 1, and slope 1
        ([1.0], 1.0)
        """
        slope = self.derivative if self.differentiable else None
        return QuadratureTable(self.forward, mean, sigma, self.breakpoints, trust, slope)

    def wick_table(self, mean: ArrayLike, var: ArrayLike, trust: float = TOLERANCE) -> WickTable:
        """The coefficients w(k,p) of neurons G_i ~ N(mean_i, var_i), var > 0, from `coefficients`.

        >>> from cumprop.activations import get
        >>> table = get("tanh").wick_table(np.zeros(3), np.ones(3))
        >>> table(1, 1).shape, round(float(table(0, 2)[0]), 4), table.precision
        ((3,), 0.3943, 0.0)
        """
        sigma = np.sqrt(_floating(var))
        return WickTable(self.coefficients(_floating(mean), sigma, trust), sigma)

    def wick(self, mean: ArrayLike, var: ArrayLike, k: int, p: int) -> Array:
        """w(k,p) alone; `wick_table` shares work between several.

        >>> from cumprop.activations import get
        >>> float(get("relu").wick(0.0, 1.0, k=0, p=2))
        0.5
        """
        return self.wick_table(mean, var)(k, p)

    def __repr__(self) -> str:
        return self.name


def _floating(x: ArrayLike) -> Array:
    array: Array = counted(x) if is_foreign(x) else np.asanyarray(x)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
