"""Activations with kinks or jumps between polynomials: ReLU and its relatives, steps, clips."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.activation import Activation, check, name_of
from cumprop.activations.gaussian_moments import HermiteTable, PiecewiseLinearTable, StepTable
from cumprop.activations.piecewise_moments import PiecewisePolynomialTable
from cumprop.activations.quadrature import TOLERANCE

Array = NDArray[Any]


class LeakyReLU(Activation):
    """The function z for z > 0, slope·z below; `slope` is any finite number.

    Raises CumpropError for another slope.

    >>> LeakyReLU(0.2).forward(np.array([-1.0, 2.0])).tolist(), LeakyReLU(0.2).name
    ([-0.2, 2.0], 'leaky_relu(0.2)')
    """

    homogeneous = True
    breakpoints = (0.0,)

    def __init__(self, slope: float = 0.01) -> None:
        check("leaky_relu", isfinite(slope), "give a finite slope", slope)
        self.slope = float(slope)
        self.name = name_of("leaky_relu", (self.slope,), (0.01,))

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


class PiecewisePolynomial(Activation):
    """A function that is one polynomial of `pieces` before, between and after its breakpoints.

    Coefficients of polynomials start with the constant.
    """

    pieces: tuple[tuple[float, ...], ...]

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        return PiecewisePolynomialTable(self.forward, self.pieces, self.breakpoints, mean, sigma)


class Clip(PiecewisePolynomial):
    """The function z within [low, high], and the nearer bound outside; a bound may be infinite.

    Raises CumpropError unless low < high.

    >>> Clip(0.0, 6.0).name, Clip(-0.5, float("inf")).forward(np.array([-2.0, 9.0])).tolist()
    ('relu6', [-0.5, 9.0])
    """

    def __init__(self, low: float, high: float) -> None:
        check("clip", low < high, "the first bound must be below the second", low, high)
        self.low, self.high = float(low), float(high)
        ends = [bound for bound in (self.low, self.high) if isfinite(bound)]
        below, above = ([(bound,)] if isfinite(bound) else [] for bound in (self.low, self.high))
        self.breakpoints, self.pieces = tuple(ends), (*below, (0.0, 1.0), *above)
        self.homogeneous = {self.low, self.high} <= {-inf, 0.0, inf}
        special = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh"}
        bounds = (self.low, self.high)
        self.name = special.get(bounds) or name_of("clip", bounds)

    def forward(self, z: Array) -> Array:
        y: Array = np.minimum(np.maximum(z, self.low), self.high)
        return y

    def derivative(self, z: Array) -> Array:
        return np.heaviside(z - self.low, 0.0) - np.heaviside(z - self.high, 0.0)


class HardSigmoid(PiecewisePolynomial):
    """The function alpha·z + beta, clipped to [0, 1]; the defaults are those of ONNX.

    Raises CumpropError unless alpha > 0 and beta are finite.

    >>> HardSigmoid().forward(np.array([-9.0, 0.5, 9.0])).tolist(), HardSigmoid(0.5, 0.5).name
    ([0.0, 0.6, 1.0], 'hard_sigmoid(0.5:0.5)')
    """

    def __init__(self, alpha: float = 0.2, beta: float = 0.5) -> None:
        valid = 0 < alpha < inf and isfinite(beta)
        check("hard_sigmoid", valid, "alpha must be positive, both finite", alpha, beta)
        self.alpha, self.beta = float(alpha), float(beta)
        self.breakpoints = (-self.beta / self.alpha, (1.0 - self.beta) / self.alpha)
        self.pieces = ((0.0,), (self.beta, self.alpha), (1.0,))
        self.name = name_of("hard_sigmoid", (self.alpha, self.beta), (0.2, 0.5))

    def forward(self, z: Array) -> Array:
        y: Array = np.minimum(np.maximum(self.alpha * z + self.beta, 0.0), 1.0)
        return y

    def derivative(self, z: Array) -> Array:
        y = self.alpha * z + self.beta
        return self.alpha * (np.heaviside(y, 0.0) - np.heaviside(y - 1.0, 0.0))


class HardSwish(PiecewisePolynomial):
    """The function z · min(max(z + 3, 0), 6)/6."""

    name = "hard_swish"
    breakpoints = (-3.0, 3.0)
    pieces = ((0.0,), (0.0, 1 / 2, 1 / 6), (0.0, 1.0))

    def forward(self, z: Array) -> Array:
        y: Array = z * (np.minimum(np.maximum(z + 3.0, 0.0), 6.0) / 6.0)
        return y

    def derivative(self, z: Array) -> Array:
        right = np.heaviside(z - 3.0, 0.0)
        return right + (np.heaviside(z + 3.0, 0.0) - right) * (z / 3.0 + 0.5)


class ThresholdedReLU(PiecewisePolynomial):
    """The function z for z > alpha, else 0; it jumps at alpha, whose default is that of ONNX.

    Raises CumpropError for an alpha that is not finite.

    >>> ThresholdedReLU(0.5).forward(np.array([0.5, 0.6])).tolist(), ThresholdedReLU().name
    ([0.0, 0.6], 'thresholded_relu')
    """

    pieces = ((0.0,), (0.0, 1.0))

    def __init__(self, alpha: float = 1.0) -> None:
        check("thresholded_relu", isfinite(alpha), "give a finite alpha", alpha)
        self.alpha = float(alpha)
        self.breakpoints = (self.alpha,)
        self.homogeneous = alpha == 0
        self.name = name_of("thresholded_relu", (self.alpha,), (1.0,))

    def forward(self, z: Array) -> Array:
        y: Array = z * np.heaviside(z - self.alpha, 0.0)
        return y

    def derivative(self, z: Array) -> Array:
        return np.heaviside(z - self.alpha, 0.0)


class ExponentialLinear(Activation):
    """The function gamma·z for z > 0, gamma·alpha (exp(z/width) - 1) below."""

    breakpoints = (0.0,)

    def __init__(self, alpha: float, gamma: float = 1.0, width: float = 1.0) -> None:
        self.alpha, self.gamma, self.width = float(alpha), float(gamma), float(width)

    def forward(self, z: Array) -> Array:
        below = self.alpha * np.expm1(np.minimum(z, 0.0) / self.width)
        y: Array = self.gamma * (np.maximum(z, 0.0) + below)
        return y

    def derivative(self, z: Array) -> Array:
        right = np.heaviside(z, 0.0)
        below = (self.alpha / self.width) * np.exp(np.minimum(z, 0.0) / self.width)
        return self.gamma * (right + (1.0 - right) * below)


class ELU(ExponentialLinear):
    """The function z for z > 0, alpha (exp(z) - 1) below; `alpha` is any finite number.

    Raises CumpropError for another alpha.

    >>> ELU(2.0).forward(np.array([-1.0, 3.0])).round(6).tolist(), ELU().name, ELU(2.0).name
    ([-1.264241, 3.0], 'elu', 'elu(2.0)')
    """

    def __init__(self, alpha: float = 1.0) -> None:
        check("elu", isfinite(alpha), "give a finite alpha", alpha)
        super().__init__(alpha)
        self.name = name_of("elu", (self.alpha,), (1.0,))


class SELU(ExponentialLinear):
    """The function gamma·z for z > 0, gamma·alpha (exp(z) - 1) below, with defaults as in ONNX.

    Raises CumpropError where a parameter is not finite.

    >>> SELU().forward(np.array([1.0])).tolist(), SELU(1.0, 2.0).name
    ([1.0507010221481323], 'selu(1.0:2.0)')
    """

    DEFAULT = (float(np.float32(1.67326319217681884765625)), float(np.float32(1.0507010221481323)))

    def __init__(self, alpha: float = DEFAULT[0], gamma: float = DEFAULT[1]) -> None:
        check("selu", isfinite(alpha) and isfinite(gamma), "give finite numbers", alpha, gamma)
        super().__init__(alpha, gamma)
        self.name = name_of("selu", (self.alpha, self.gamma), self.DEFAULT)


class CELU(ExponentialLinear):
    """The function z for z > 0, alpha (exp(z/alpha) - 1) below; its slope is continuous.

    Raises CumpropError unless alpha is positive and finite.

    >>> CELU(2.0).forward(np.array([-2.0, 3.0])).round(6).tolist(), CELU().name, CELU(2.0).name
    ([-1.264241, 3.0], 'celu', 'celu(2.0)')
    """

    def __init__(self, alpha: float = 1.0) -> None:
        check("celu", 0 < alpha < inf, "alpha must be positive and finite", alpha)
        super().__init__(alpha, width=alpha)
        self.name = name_of("celu", (self.alpha,), (1.0,))
