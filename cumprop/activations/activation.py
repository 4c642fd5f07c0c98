"""An activation: φ, φ' and the Wick coefficients w(k,p) = E[∂^k φ^p (G)] (mathematics §2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.activations.gaussian_moments import HermiteTable
from cumprop.activations.quadrature import TOLERANCE, QuadratureTable, difference
from cumprop.activations.wick import WickTable
from cumprop.errors import CumpropError
from cumprop.flops import counted, is_foreign

Array = NDArray[Any]


class Activation(ABC):
    """An entrywise function with its derivative and its Wick coefficients.

    `homogeneous` says whether φ(cz) = cφ(z) for c > 0; `breakpoints` are the kinks of φ;
    `differentiable` is False where `derivative` cannot be called; `neurons` is the width of the
    layers that it fits, None for all. Every method keeps float32 and uses ufuncs only, so that the
    FLOPs of counted arrays are counted.
    """

    name: str
    homogeneous: bool = False
    breakpoints: tuple[float, ...] = ()
    differentiable: bool = True
    neurons: int | None = None

    @property
    def kinds(self) -> tuple[Activation, ...]:
        """The different functions that neurons of the layer have: this one, if it is for all."""
        return (self,)

    @property
    def by_quadrature(self) -> bool:
        """Whether `coefficients` need quadrature, for one kind of neurons at least."""
        return any(type(kind).coefficients is Activation.coefficients for kind in self.kinds)

    def of(self, neuron: int) -> Activation:
        """The activation of one neuron, counted from 0."""
        return self

    @abstractmethod
    def forward(self, z: Array) -> Array:
        """The values φ(z), entrywise: an array of the same shape as z."""

    @abstractmethod
    def derivative(self, z: Array) -> Array:
        """The slopes φ'(z), entrywise: an array of the same shape as z.

        At a kink the slope is the one from the left or the mean of both sides, by activation.
        Raises CumpropError where the activation has no derivative (`differentiable` is False).
        """

    def difference(self, z: Array, h: Array) -> Array:
        """The change φ(z + h) - φ(z), entrywise: an array of the same shape as z and h.

        Almost all digits are right, however small h is beside z.

        >>> h = np.array([1e-12])
        >>> from cumprop.activations import get
        >>> float((get("gelu").difference(np.array([1.0]), h) / h)[0].round(10))    # φ'(1)
        1.0833154706
        """
        slope = self.derivative if self.differentiable else None
        return difference(self.forward, slope, np.array(self.breakpoints), z, h)

    def at_breakpoints(self, z: Array) -> Array:
        """Whether z is a kink of φ, entrywise: a mask of the same shape as z."""
        return np.isin(z, self.breakpoints)

    def of_neurons(self, z: Array, neurons: Array) -> Array:
        """The values φ(z), an array of the same shape; row i of z belongs to neuron `neurons[i]`.

        `neurons` is an array (m,) of indices, and m the length of the first axis of z.
        """
        return self.forward(z)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        """The Hermite coefficients a(k,p) of neurons N(mean_i, sigma_i²), sigma > 0.

        The result is a callable of k ≥ 0 and p ≥ 1 that returns an array of the same shape as
        `mean`. Unless the class has a closed form, it uses quadrature: 100 nodes, and more where
        as many others change the coefficient by over `trust`. `precision` is 0, or the worst such
        change above 1e-10. Relative accuracy does not depend on units (mathematics §2). Cost: by
        quadrature some 800 FLOPs per neuron and (k,p) in layers of up to 300 neurons, else 1,500.

        >>> from cumprop.activations import get
        >>> table = get("relu").coefficients(np.array([1.0]), np.array([1e-12]))
        >>> table.centre.tolist(), float(table(1, 1)[0] * table.size / 1e-12)    # 1, and slope 1
        ([1.0], 1.0)
        """
        slope = self.derivative if self.differentiable else None
        return QuadratureTable(self.forward, mean, sigma, self.breakpoints, trust, slope)

    def wick_table(self, mean: ArrayLike, var: ArrayLike, trust: float = TOLERANCE) -> WickTable:
        """The coefficients w(k,p) of neurons G_i ~ N(mean_i, var_i), var > 0, from `coefficients`.

        The result is a callable of (k,p) that returns an array of the same shape as `mean`.

        >>> from cumprop.activations import get
        >>> table = get("tanh").wick_table(np.zeros(3), np.ones(3))
        >>> table(1, 1).shape, round(float(table(0, 2)[0]), 4), table.precision
        ((3,), 0.3943, 0.0)
        """
        sigma = np.sqrt(_floating(var))
        return WickTable(self.coefficients(_floating(mean), sigma, trust), sigma)

    def wick(self, mean: ArrayLike, var: ArrayLike, k: int, p: int) -> Array:
        """One coefficient w(k,p), an array of the same shape as `mean` and `var`.

        `wick_table` is cheaper for several coefficients, because it shares work between them.

        >>> from cumprop.activations import get
        >>> float(get("relu").wick(0.0, 1.0, k=0, p=2))
        0.5
        """
        return self.wick_table(mean, var)(k, p)

    def __repr__(self) -> str:
        return self.name


def name_of(family: str, values: tuple[float, ...], default: tuple[float, ...] = ()) -> str:
    """The name that `get` finds an activation by: values in parentheses, unless the default's.

    >>> name_of("elu", (0.5,), (1.0,)), name_of("elu", (1.0,), (1.0,)), name_of("clip", (0.0, 1e20))
    ('elu(0.5)', 'elu', 'clip(0.0:1e20)')
    """
    if values == default:
        return family
    return f"{family}({':'.join(repr(value).replace('e+', 'e') for value in values)})"


def check(family: str, condition: bool, rule: str, *values: float) -> None:
    """Nothing where the condition holds, else a CumpropError that states the rule."""
    if not condition:
        given = ":".join(map(repr, values))
        raise CumpropError(f"{family}({given}): {rule}")


def _floating(x: ArrayLike) -> Array:
    array: Array = counted(x) if is_foreign(x) else np.asanyarray(x)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
