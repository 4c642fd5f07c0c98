"""Activations: φ, φ' and the Wick coefficients w(k,p) = E[∂^k φ^p (G)] (mathematics §2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from cumprop.activations.activation import Activation
from cumprop.activations.gaussian_moments import (
    HermiteTable,
    MonomialTable,
    PiecewiseLinearTable,
    StepTable,
    power,
)
from cumprop.activations.per_neuron import per_neuron
from cumprop.activations.quadrature import TOLERANCE
from cumprop.errors import CumpropError

Array = NDArray[Any]


class LeakyReLU(Activation):
    """The function z for z > 0, slope·z below; `slope` is any finite number.

    Raises CumpropError for another slope.

    >>> LeakyReLU(0.2).forward(np.array([-1.0, 2.0])).tolist(), get("leaky_relu(0.2)").name
    ([-0.2, 2.0], 'leaky_relu(0.2)')
    """

    homogeneous = True
    breakpoints = (0.0,)

    def __init__(self, slope: float = 0.01) -> None:
        if not np.isfinite(slope):
            raise CumpropError(f"leaky_relu: the slope is {slope}; give a finite number")
        self.slope = float(slope)
        self.name = "leaky_relu" if slope == 0.01 else f"leaky_relu({self.slope!r})"

    def forward(self, z: Array) -> Array:
        return np.maximum(z, 0.0) + self.slope * np.minimum(z, 0.0)

    def derivative(self, z: Array) -> Array:
        return (1.0 - self.slope) * np.heaviside(z, 0.0) + self.slope

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return PiecewiseLinearTable(self.slope, mean, sigma)


class ReLU(LeakyReLU):
    """The function max(z, 0)."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.name = "relu"

    def forward(self, z: Array) -> Array:
        zero = np.zeros_like(z, shape=z.shape[-1:])  # NumPy is slow with a number
        y: Array = np.maximum(z, zero)
        return y

    def derivative(self, z: Array) -> Array:
        return np.heaviside(z, 0.0)


class Abs(LeakyReLU):
    """The function |z|."""

    def __init__(self) -> None:
        super().__init__(-1.0)
        self.name = "abs"

    def forward(self, z: Array) -> Array:
        return np.abs(z)

    def derivative(self, z: Array) -> Array:
        return np.sign(z)


class Step(Activation):
    """A function with one constant below 0 and one above; `values` are these two."""

    breakpoints = (0.0,)
    values: tuple[float, float]

    def derivative(self, z: Array) -> Array:
        return np.zeros_like(z)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return StepTable(self.values, mean, sigma)


class Heaviside(Step):
    """The step function: 1 for z > 0, else 0."""

    name = "heaviside"
    values = (0.0, 1.0)

    def forward(self, z: Array) -> Array:
        return np.heaviside(z, 0.0)


class Sign(Step):
    """The sign of z."""

    name = "sign"
    values = (-1.0, 1.0)

    def forward(self, z: Array) -> Array:
        return np.sign(z)


class Monomial(Activation):
    """The function z^degree, with the `name` that configurations use."""

    def __init__(self, name: str, degree: int) -> None:
        self.name, self.degree = name, degree
        self.homogeneous = degree == 1

    def forward(self, z: Array) -> Array:
        return power(z, self.degree)

    def derivative(self, z: Array) -> Array:
        return self.degree * power(z, self.degree - 1)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return MonomialTable(self.degree, mean, sigma)


class GELU(Activation):
    """The function z Φ(z), Φ the normal distribution function (the erf form)."""

    name = "gelu"

    def forward(self, z: Array) -> Array:
        return z * ndtr(z)

    def derivative(self, z: Array) -> Array:
        return ndtr(z) + z * (np.exp(-0.5 * (z * z)) / sqrt(2 * pi))


class Tanh(Activation):
    """The hyperbolic tangent."""

    name = "tanh"

    def forward(self, z: Array) -> Array:
        return np.tanh(z)

    def derivative(self, z: Array) -> Array:
        return 1.0 - np.square(np.tanh(z))


class Sigmoid(Activation):
    """The logistic function 1/(1 + exp(-z))."""

    name = "sigmoid"

    def forward(self, z: Array) -> Array:
        return expit(z)

    def derivative(self, z: Array) -> Array:
        s = expit(z)
        return s * (1.0 - s)


class Custom(Activation):
    """Any entrywise function of an array; its kinks, if it has some, go into `breakpoints`.

    `function` and `derivative` return arrays of the same shape as their argument. The derivative
    is needed by the estimator `linearized`, and for full precision where the function varies little
    beside its size. A network with a Custom activation cannot be saved. Raises CumpropError, when
    called, where the function changes the shape of its argument.

    >>> relu = Custom(lambda z: np.maximum(z, 0), name="mine", breakpoints=[0.0])
    >>> float(relu.wick(0.0, 1.0, k=0, p=2).round(12))
    0.5
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        derivative: Callable[[Array], Array] | None = None,
        name: str = "custom",
        breakpoints: Sequence[float] = (),
    ) -> None:
        self._function, self._derivative, self.name = function, derivative, name
        self.differentiable = derivative is not None
        self.breakpoints = tuple(float(b) for b in breakpoints)

    def forward(self, z: Array) -> Array:
        return self._entrywise(self._function, z)

    def derivative(self, z: Array) -> Array:
        if self._derivative is None:
            raise CumpropError(
                f"activation {self.name!r} has no derivative; pass one: Custom(f, derivative=...)"
            )
        return self._entrywise(self._derivative, z)

    def _entrywise(self, function: Callable[[Array], Array], z: Array) -> Array:
        y = function(z)
        if np.shape(y) != np.shape(z):
            raise CumpropError(
                f"activation {self.name!r} turns shape {np.shape(z)} into {np.shape(y)}; "
                "write it for arrays, or wrap it in numpy.vectorize"
            )
        return y


_ALL: list[Activation] = [ReLU(), LeakyReLU(), Abs(), Heaviside(), Sign(), GELU(), Tanh()]
_ALL += [Sigmoid(), Monomial("identity", 1), Monomial("square", 2), Monomial("cube", 3)]
_KNOWN = {activation.name: activation for activation in _ALL}


def available() -> list[str]:
    """Names of the activations that need no parameters.

    >>> available()[:3]
    ['abs', 'cube', 'gelu']
    """
    return sorted(_KNOWN)


def get(activation: str | Activation) -> Activation:
    """The activation of that name; an Activation is returned as it is.

    Raises CumpropError for an unknown name.

    >>> get("gelu"), get("leaky_relu(0.2)").slope
    (gelu, 0.2)
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str) and activation in _KNOWN:
        return _KNOWN[activation]
    if (mixed := per_neuron(str(activation), get)) is not None:
        return mixed
    if leaky := re.fullmatch(r"leaky_relu\(([^()]+)\)", str(activation)):
        with suppress(ValueError):
            return LeakyReLU(float(leaky[1]))
    raise CumpropError(
        f"unknown activation {activation!r}; the known ones are {', '.join(available())}, "
        "leaky_relu(SLOPE), and per neuron as in relu[64]+identity[10]; "
        "others are cumprop.activations.Custom(function)"
    )


def by_quadrature(name: str) -> bool:
    """Whether moments of the activation of that name need quadrature; True for an unknown name.

    >>> by_quadrature("relu"), by_quadrature("tanh"), by_quadrature("mine")
    (False, True, True)
    """
    try:
        return get(name).by_quadrature
    except CumpropError:
        return True
