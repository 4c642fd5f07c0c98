"""Smooth activations: powers, waves, sigmoids, and products of z with a sigmoid."""

from __future__ import annotations

from math import inf, isfinite, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from cumprop.activations.activation import Activation, check, name_of
from cumprop.activations.gaussian_moments import HermiteTable, MonomialTable, power
from cumprop.activations.quadrature import TOLERANCE
from cumprop.activations.wave_moments import CosTable, ExpTable

Array = NDArray[Any]


class Monomial(Activation):
    """The function z^degree, for a whole degree ≥ 1.

    Raises CumpropError for another degree.

    >>> Monomial(2).name, Monomial(4).name, Monomial(4).forward(np.array([-2.0])).tolist()
    ('square', 'power(4)', [16.0])
    """

    NAMES = ("identity", "square", "cube")

    def __init__(self, degree: float) -> None:
        valid = isfinite(degree) and degree >= 1 and degree == int(degree)
        check("power", valid, "the degree must be a whole number ≥ 1", degree)
        self.degree = int(degree)
        self.name = (dict(enumerate(self.NAMES, start=1))).get(self.degree, f"power({self.degree})")
        self.homogeneous = degree == 1

    def forward(self, z: Array) -> Array:
        return power(z, self.degree)

    def derivative(self, z: Array) -> Array:
        return self.degree * power(z, self.degree - 1)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return MonomialTable(self.degree, mean, sigma)


class Exp(Activation):
    """The exponential function."""

    name = "exp"

    def forward(self, z: Array) -> Array:
        return np.exp(z)

    def derivative(self, z: Array) -> Array:
        return np.exp(z)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return ExpTable(mean, sigma)


class Sin(Activation):
    """The sine."""

    name = "sin"

    def forward(self, z: Array) -> Array:
        return np.sin(z)

    def derivative(self, z: Array) -> Array:
        return np.cos(z)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return CosTable(-1, np.sin(mean), np.cos(mean), mean, sigma)


class Cos(Activation):
    """The cosine."""

    name = "cos"

    def forward(self, z: Array) -> Array:
        return np.cos(z)

    def derivative(self, z: Array) -> Array:
        return -np.sin(z)

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return CosTable(0, np.cos(mean), -np.sin(mean), mean, sigma)


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


class Erf(Activation):
    """The error function."""

    name = "erf"

    def forward(self, z: Array) -> Array:
        return erf(z)

    def derivative(self, z: Array) -> Array:
        y: Array = (2 / sqrt(pi)) * np.exp(-(z * z))
        return y


class Softsign(Activation):
    """The function z/(1 + |z|), whose second derivative jumps at 0."""

    name = "softsign"
    breakpoints = (0.0,)

    def forward(self, z: Array) -> Array:
        return z / (1.0 + np.abs(z))

    def derivative(self, z: Array) -> Array:
        return 1.0 / np.square(1.0 + np.abs(z))


class Softplus(Activation):
    """The function log(1 + exp(z))."""

    name = "softplus"

    def forward(self, z: Array) -> Array:
        return np.logaddexp(z, 0.0)

    def derivative(self, z: Array) -> Array:
        return expit(z)


class GELU(Activation):
    """The function z Φ(z), Φ the normal distribution function (the erf form)."""

    name = "gelu"

    def forward(self, z: Array) -> Array:
        return z * ndtr(z)

    def derivative(self, z: Array) -> Array:
        return ndtr(z) + z * (np.exp(-0.5 * (z * z)) / sqrt(2 * pi))


class GELUTanh(Activation):
    """The function z (1 + tanh u)/2 = z sigmoid(2 u), u = √(2/π) (z + 0.044715 z³)."""

    name = "gelu_tanh"

    def forward(self, z: Array) -> Array:
        return z * expit(self._exponent(z * z) * z)

    def derivative(self, z: Array) -> Array:
        square = z * z
        u = self._exponent(square) * z
        slope = sqrt(8 / pi) * (1.0 + (3 * 0.044715) * square)
        s = expit(u)
        return s * (1.0 + z * slope * expit(-u))

    def _exponent(self, square: Array) -> Array:
        """The ratio 2 u/z."""
        return sqrt(8 / pi) * (1.0 + 0.044715 * square)


class SiLU(Activation):
    """The function z sigmoid(beta z), the swish; `beta` is a positive number.

    Raises CumpropError for another beta.

    >>> SiLU().name, SiLU(1.5).name, SiLU().forward(np.array([1.0])).round(6).tolist()
    ('silu', 'silu(1.5)', [0.731059])
    """

    def __init__(self, beta: float = 1.0) -> None:
        check("silu", 0 < beta < inf, "beta must be positive and finite", beta)
        self.beta = float(beta)
        self.name = name_of("silu", (self.beta,), (1.0,))

    def forward(self, z: Array) -> Array:
        return z * expit(self.beta * z)

    def derivative(self, z: Array) -> Array:
        u = self.beta * z
        return expit(u) * (1.0 + u * expit(-u))


class Mish(Activation):
    """The function z tanh(softplus(z))."""

    name = "mish"

    def forward(self, z: Array) -> Array:
        return z * np.tanh(np.logaddexp(z, 0.0))

    def derivative(self, z: Array) -> Array:
        t = np.tanh(np.logaddexp(z, 0.0))
        return t + z * expit(z) * (1.0 - t * t)
