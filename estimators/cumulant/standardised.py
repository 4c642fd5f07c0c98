"""Layers in the form of the formulas: pre-activations of variance 1, activations less a centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from math import isfinite, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import TOLERANCE, Activation, HermiteTable, convenient_unit, in_unit
from cumprop.errors import CumpropError
from cumprop.flops import component, counted, decided, not_counting, occurs, on_host
from cumprop.networks import MLP

from .batches import of_node, turned
from .coefficients import ByNumbers, coefficients
from .entrywise import entrywise
from .symmetric_tensors import DiagonalMetric, Metric, diagonal

Array = NDArray[Any]

ROUNDING = 8.0
"""The factor of eps √n times the sum of its terms below which a variance is rounding."""

TRUSTED_NODES = 1e-4
"""The change of a coefficient up to which its value of 100 Gauss–Hermite nodes is kept (§2), but in
networks of one hidden layer, whose means are exact."""


Wanted = Literal["all", "covariance", "mean"]
"""The wanted parts of X_l: all that are tracked, or at the last layer those of the output."""


@dataclass(eq=False)
class AffineMap:
    """The map Z = rows · W X + b, applied to a mean, and without `rows` to a covariance.

    A covariance None is I. `scale` · I replaces (rows W) (rows W)ᵀ as the image of an identity
    factor. The powers of two `rows`, None for 1, keep cubes of W in range. A `dense` W is known
    to have no zeros.
    """

    weight: Array
    bias: Array | None
    scale: float | None = None
    rows: Array | None = None
    dense: bool = False

    @classmethod
    def in_range(
        cls,
        weight: Array,
        bias: Array | None,
        scale: float | None = None,
        sizes: tuple[float, float] | None = None,
    ) -> AffineMap:
        """The map, with `rows` where the cubes of some row would leave the range of its type.

        `sizes` are the least and the largest of its entries, where known (`MLP.sizes`).
        """
        least, most = _range(weight.dtype)
        if decided(sizes is not None and least <= sizes[0] and sizes[1] <= most):
            return cls(weight, bias, scale, dense=True)
        with not_counting():
            largest = np.abs(weight).max(axis=1)
            beyond = np.logical_or(largest > most, largest < least)
            if not occurs(np.logical_and(beyond, largest > 0)):
                return cls(weight, bias, scale)
            units = [convenient_unit(float(size), weight.dtype) for size in largest]
            rows = np.asarray(units, dtype=weight.dtype)
            return cls(weight * (1 / rows)[:, None], bias, scale, counted(rows))

    def mean(self, mean: Array) -> Array:
        mean = self.weight @ mean if mean.ndim == 1 else mean @ self.weight.T
        if self.rows is not None:
            mean = mean * self.rows
        return mean if self.bias is None else mean + self.bias

    def half(self, C: Array | None) -> Array:
        """The product W C, from which `covariance` and `variance` are computed."""
        return self.weight if C is None else self.weight @ C

    @cached_property
    def transpose(self) -> Array:
        """The transpose of W, in the order of its rows."""
        return turned(self.weight)

    def covariance(self, half: Array) -> Array:
        return half @ (self.weight.T if half.ndim == 2 else self.transpose)

    def variance(self, half: Array) -> Array:
        variance: Array = (half * self.weight).sum(axis=-1)
        return variance

    def in_units(self, covariance: Array, unit: float) -> Array:
        """The covariance of Z from that of W X̂, X̂ being X in a `unit`."""
        if decided(unit != 1):
            covariance = covariance * unit * unit
        if self.rows is not None:
            covariance = self.rows[:, None] * covariance * self.rows
        return covariance

    def scaled(self, unit: float) -> Array:
        """The map from X̂, X in a `unit`, to W X."""
        weight = self.weight if unit == 1 else self.weight * unit
        return weight if self.rows is None else self.rows[:, None] * weight

    @property
    def metric(self) -> Metric | DiagonalMetric:
        """The metric W Wᵀ, or scale · I without `rows`."""
        if self.scale is None:
            return Metric(self.weight)
        diagonal = np.full_like(self.weight, self.scale, shape=len(self.weight))
        return DiagonalMetric(
            diagonal if self.rows is None else diagonal * (1 / self.rows) * (1 / self.rows)
        )


@cache
def epsilon(dtype: Any) -> float:
    """The distance from 1 to the next number of a type."""
    return float(np.finfo(dtype).eps)


@cache
def _range(dtype: Any) -> tuple[float, float]:
    """The sizes whose cubes, and products of these with a few numbers, are in the type's range."""
    limits = np.finfo(dtype)
    return float(limits.tiny) ** 0.3, float(limits.max) ** 0.3


@dataclass(eq=False)
class Standardised:
    """The pre-activations Z_l = mean + unit · spread · Ẑ, every Ẑ_i with variance 1.

    X_{l-1} is E[X_{l-1}] + unit · (X̂ - E[X̂]) and, up to means, Ẑ = W X̂ / spread; the Wick
    coefficients include the means. `covariance` is that of W X̂, None where it is not wanted. The
    variance of a `constant` neuron (None: there is none) is 0 within rounding, or negative; its
    spread is a stand-in.
    """

    affine: AffineMap
    mean: Array
    spread: Array
    covariance: Array | None = None
    constant: Array | None = None
    negative: Array | int = 0

    @cached_property
    def inverse(self) -> Array:
        return 1 / self.spread

    @cached_property
    def weight(self) -> Array:
        """The map X̂ -> Ẑ."""
        weight: Array = self.affine.weight * self.inverse[..., None]
        return weight

    @cached_property
    def weight_T(self) -> Array:
        """The transpose of that map, in the order of its rows."""
        transpose: Array = self.affine.transpose * self.inverse[..., None, :]
        return transpose

    @property
    def C(self) -> Array:
        """The covariance of Ẑ, the correlations, as a new array."""
        assert self.covariance is not None
        inverse = of_node(self.inverse, 0, 1) if self.covariance.ndim == 2 else self.inverse
        C: Array = scaled(self.covariance, inverse[..., None], inverse[..., None, :])
        return C

    @property
    def variance(self) -> Array:
        """The variances of Ẑ: 1, except for constant neurons."""
        assert self.covariance is not None
        variance: Array = diagonal(self.covariance, (2,)) * self.inverse * self.inverse
        return variance

    @cached_property
    def metric(self) -> Metric | DiagonalMetric:
        """The metric that Ẑ turns an identity factor into."""
        metric = self.affine.metric
        if isinstance(metric, Metric):
            return Metric(self.weight)
        return DiagonalMetric(metric.diagonal * self.inverse * self.inverse)


@entrywise
def scaled(matrix: Array, column: Array, row: Array) -> Any:
    """A matrix with its rows times the entries of a column, its columns times those of a row."""
    return column * matrix * row


def standardised(
    affine: AffineMap,
    mean: Array,
    variance: Array,
    covariance: Array | None,
    terms: Callable[[], Array],
) -> Standardised:
    """The standardised Z with this mean, from variance and covariance of W X̂.

    `terms` computes Σ_j W_ij² Var[X̂_j], where a variance looks like rounding. Neurons that vary so
    little beside the others that powers of 1/σ would overflow are constant too: all that such a
    neuron sees may be dead, as in convolutions.
    """
    noise = ROUNDING * epsilon(variance.dtype) * sqrt(affine.weight.shape[1])
    with component("nonlinear"):
        largest = float(variance.max())
        check_range(largest, variance.dtype)
        if not occurs(variance <= noise * largest):
            return Standardised(affine, mean, np.sqrt(variance), covariance)
    with not_counting():  # counts of FLOPs depend on shapes alone
        floor = noise * terms()
        least = float(np.finfo(variance.dtype).tiny) ** 0.4 * max(largest, 0.0)
        constant = variance <= np.maximum(floor, least)
        raised = np.where(constant, floor, variance)
        raised = np.where(raised > least, raised, largest if largest > 0 else 1.0)
        negative = on_host((variance < -floor).sum(axis=-1))
    with component("nonlinear"):
        return Standardised(affine, mean, np.sqrt(raised), covariance, constant, negative)


def check_range(largest: float, dtype: Any) -> None:
    """Raise CumpropError where the largest of a layer's numbers is beyond its type."""
    if not isfinite(largest):
        raise CumpropError(
            f"pre-activations overflow {np.dtype(dtype)}: rescale the weights or use float64"
        )


class WithConstants:
    """Wick coefficients in which constant neurons are φ(μ) + φ'(μ)(Z - μ), σ → 0.

    Products of what is rounding, w(k,k) with k > 1, are left out. The unit is that of the neurons
    that vary, and where none does that of the lines.
    """

    def __init__(
        self, table: HermiteTable | ByNumbers, activation: Activation, z: Standardised, sigma: Array
    ) -> None:
        assert z.constant is not None
        self._table, self._constant = table, z.constant
        self.tolerance, self.precision = table.tolerance, table.precision
        with not_counting():
            centre = np.zeros_like(z.mean) if table.centre is None else table.centre
            self.centre = np.where(z.constant, activation.forward(z.mean), centre)
            if activation.differentiable:
                slope = activation.derivative(z.mean)
            else:
                step = np.abs(z.mean) * float(np.finfo(z.mean.dtype).eps) ** (1 / 3)
                step = np.where(step > 0, step, float(np.finfo(z.mean.dtype).eps) ** (1 / 3))
                ends = (activation.forward(z.mean + h) for h in (step, -step))
                slope = np.subtract(*ends) / (2 * step)
            rise, self.size = slope * sigma, table.size
            if not occurs(np.logical_not(z.constant)):
                self.size = convenient_unit(float(np.abs(rise).max()), rise.dtype)
            self._rise = rise * (1 / self.size)

    def __call__(self, k: int, p: int) -> Array:
        w = self._table(k, p)
        with not_counting():
            line = self._rise if k == p == 1 else np.zeros_like(self._rise)
            return np.where(self._constant, line, w)


Coefficients = HermiteTable | ByNumbers | WithConstants
"""w(k,p) of X̂ = (φ(Z) - centre)/size, by derivatives in Ẑ."""


def trusted_nodes(depth: int) -> float:
    """The `trust` in Gauss–Hermite nodes in networks of so many hidden layers."""
    return TOLERANCE if depth == 1 else TRUSTED_NODES


def wick_coefficients(
    activation: Activation, z: Standardised, unit: float, trust: float = TRUSTED_NODES
) -> Coefficients:
    """The coefficients of a layer; `unit` is that of its inputs X̂."""
    sigma = in_unit(z.spread, unit)
    if z.affine.rows is not None:
        sigma = sigma * z.affine.rows
    if sigma is not z.spread:
        with not_counting():
            check_range(float(sigma.max()), sigma.dtype)
    if z.constant is None:
        return coefficients(activation, z.mean, sigma, trust)
    with not_counting():  # of constants the table reads φ next to μ, or next to 0
        near = 1e-8 * np.abs(z.mean)
        near = np.where(near > 0, near, 1e-8)
        seen = np.where(z.constant, np.minimum(near, sigma.max()), sigma)
    table = coefficients(activation, z.mean, seen, trust)
    return WithConstants(table, activation, z, sigma)


def expected(mean: Array, w: Coefficients) -> Array:
    """The mean E[X], given E[X̂]."""
    mean = in_unit(mean, w.size)
    if w.centre is None:
        return mean
    with not_counting():
        return mean + w.centre


def standardised_map(
    affine: AffineMap, mean: Array, C: Array | None, half: Array, wanted: Wanted
) -> Standardised:
    """The standardised Z = W X + b, from E[X], Cov[X̂] and `half` = W Cov[X̂]."""
    covariance = None if wanted == "mean" else affine.covariance(half)
    variance = affine.variance(half) if covariance is None else variances(covariance).copy()

    def terms() -> Array:
        squares = affine.weight * affine.weight
        found: Array = squares.sum(axis=1) if C is None else variances(C) @ squares.T
        return found

    mean = affine.mean(mean)
    if variance.ndim < mean.ndim:  # the first layer of a batch, whose inputs differ by their mean
        variance = np.broadcast_to(variance, mean.shape, subok=True)
    return standardised(affine, mean, variance, covariance, terms)


def variances(covariance: Array) -> Array:
    """The diagonals of covariances (…, n, n), as a view (…, n)."""
    view: Array = covariance.diagonal(0, -2, -1)
    if isinstance(view, np.ndarray):
        view.flags.writeable = covariance.flags.writeable
    return view


def input_of(network: MLP) -> tuple[Array, Array | None]:
    """The mean and covariance of X_0; None for the identity."""
    n = network.widths[0]
    mean = np.zeros(n, network.dtype) if network.input_mean is None else network.input_mean
    return counted(mean), None if network.input_cov is None else counted(network.input_cov)


def standard_input(network: MLP) -> tuple[Array, Array | None, float]:
    """The mean E[X_0], Cov[X̂_0] (None for the identity) and the unit of X̂_0."""
    mean, C = input_of(network)
    if decided(C is None):
        return mean, None, 1.0
    assert C is not None
    unit = convenient_unit(sqrt(float(diagonal(C, (2,)).max())), C.dtype)
    return mean, C * (1 / unit) * (1 / unit) if decided(unit != 1) else C, unit
