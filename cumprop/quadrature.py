"""Wick coefficients by quadrature, for activations without a closed form (mathematics §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import factorial, pi, sqrt
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.closed_forms import convenient_unit, power
from cumprop.errors import CumpropError
from cumprop.flops import occurs

Array = NDArray[Any]

TOLERANCE = 1e-10
"""Relative change, on doubling the nodes, up to which a coefficient is taken as exact."""
NODES = 100
REACH = 12.0  # standard deviations; the normal density beyond is below 1e-31
PANELS = (1, 2, 4, 8, 16, 32, 64, 128)  # of 100 nodes each
EPS = float(np.finfo(np.float64).eps)
PATH_NODES = 6  # of φ' between μ and μ + h
FLAT = 0.1  # of |φ(μ)|: φ that varies less is taken less φ(μ), or powers of it would cancel
LOSSY = 1e-6  # of |φ(μ)| or |μ|: with less variation, a difference of φ loses digits
BLOCK = 2**20  # neurons x nodes held at a time: 8 MiB


class QuadratureTable:
    """a(k,p) = E[((φ(μ + σx) - c)/s)^p He_k(x)], x ~ N(0, 1), with 100 nodes, doubled until stable.

    Gauss–Hermite nodes come first; where as many equidistant nodes on ±12 σ agree to 1e-10 their
    value stands, elsewhere the equidistant nodes double until they agree with themselves. With
    `breakpoints`, panels of Gauss–Legendre nodes between the kinks double. Changes are relative to
    √(k! E[(φ - c)^2p]), the bound of Cauchy and Schwarz. The first value stands up to a change of
    `trust` already. `precision` is 0 while all (k,p) asked for are stable to 1e-10, then the worst
    change of a value that stands. Works in float64 and returns the type of `mean`.

    Where φ varies little beside its size, c is φ(μ), elsewhere 0. Where even φ(μ + σx) - φ(μ) would
    lose digits, it is the integral of the `derivative`, if given, along the way. s, the `size`, is
    a unit in which the largest variation of a neuron is about 1. Raises CumpropError where φ
    overflows or is NaN. Cost: some 1,500 FLOPs per neuron and (k,p) where 100 nodes suffice.

    >>> table = QuadratureTable(np.cos, np.array([0.0]), np.array([1.0]))
    >>> float(table(0, 1)[0].round(12)), round(float(np.exp(-0.5)), 12), table.precision
    (0.606530659713, 0.606530659713, 0.0)
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        mean: Array,
        sigma: Array,
        breakpoints: Sequence[float] = (),
        trust: float = TOLERANCE,
        derivative: Callable[[Array], Array] | None = None,
    ) -> None:
        self.precision, self._trust = 0.0, trust
        self._function, self._derivative = function, derivative
        self._shape, self._dtype = mean.shape, mean.dtype
        self._mean = mean.astype(np.float64).reshape(-1, 1)
        self._sigma = sigma.astype(np.float64).reshape(-1, 1)
        self._kinks = np.sort(np.asarray(breakpoints, dtype=np.float64))
        self._panels = PANELS if len(self._kinks) else (0, *PANELS)
        self._known: dict[tuple[int, int], Array] = {}
        self._squares: dict[int, Array] = {}
        self._centre_values()

    def _centre_values(self) -> None:
        """Choose c and s from φ at μ and μ ± σ, and the neurons whose φ - c needs φ'."""
        mean, sigma = self._mean, self._sigma
        at_mean = self._function(mean)
        variation = np.maximum(
            *(np.abs(self._function(mean + h) - at_mean) for h in (sigma, -sigma))
        )
        size, place = np.abs(at_mean), np.abs(mean)
        lossy = np.logical_or(variation < LOSSY * size, sigma < LOSSY * place)
        centred = np.logical_or(lossy, variation < FLAT * size)
        self.centre: Array | None = None
        self._centre = np.where(centred, at_mean, 0.0)
        if occurs(centred):
            self.centre = self._centre.reshape(self._shape).astype(self._dtype)
        self._steep = np.zeros_like(mean, dtype=bool)
        if self._derivative is not None and occurs(lossy):
            self._steep = np.logical_and(lossy, self._is_smooth(at_mean))
            slope = np.abs(self._derivative(mean)) * sigma
            variation = np.where(self._steep, slope, variation)
        self.size = convenient_unit(float(variation.max()))

    def __call__(self, k: int, p: int) -> Array:
        if (k, p) not in self._known:
            a = self._stable(k, p)
            if not np.isfinite(a).all():
                raise CumpropError(
                    f"E[d^{k} φ^{p}] is not finite: the activation overflows or is NaN within "
                    f"{REACH:g} standard deviations of a pre-activation; bound it"
                )
            self._known[k, p] = a.reshape(self._shape).astype(self._dtype)
        return self._known[k, p]

    def _stable(self, k: int, p: int) -> Array:
        """E[φ^p He_k]: the 100-node value where it is stable, else the finest one needed."""
        everyone = np.arange(len(self._mean))
        if p not in self._squares:
            self._squares[p] = self._expectation(self._panels[0], everyone, 0, 2 * p)
        scale = np.maximum(np.sqrt(factorial(k) * self._squares[p]), np.finfo(np.float64).tiny)
        value = self._expectation(self._panels[0], everyone, k, p)
        change = np.zeros_like(value)
        unstable = everyone
        for panels in self._panels[1:]:
            refined = self._expectation(panels, unstable, k, p)
            change[unstable] = np.abs(refined - value[unstable]) / scale[unstable]
            first = unstable is everyone
            moved = ~(change[unstable] <= (self._trust if first else TOLERANCE))
            replaced = moved if first else slice(None)
            value[unstable[replaced]] = refined[replaced]
            unstable = unstable[moved]
            if not len(unstable):
                break
        worst = float(np.max(change, initial=0.0))
        if not worst <= TOLERANCE:
            self.precision = max(self.precision, worst)
        return value

    def _expectation(self, panels: int, neurons: Array, k: int, p: int) -> Array:
        """E[((φ - c)/s)^p He_k] for some neurons, `panels` to a piece."""
        result = np.empty_like(self._mean, shape=len(neurons))
        rows = max(1, BLOCK // (NODES * max(panels, 1) * (len(self._kinks) + 1)))
        for start in range(0, len(neurons), rows):
            part = slice(start, start + rows)
            mean, sigma = self._mean[neurons[part]], self._sigma[neurons[part]]
            if len(self._kinks):
                x, weights = panel_rule(self._edges(mean, sigma), panels)
                weights = weights * hermite(k, x)
            else:
                x, weights = smooth_rule(panels, k)
            y = self._deviations(neurons[part], mean, sigma * x)
            result[part] = np.vecdot(power(y, p), weights)
        return result

    def _deviations(self, neurons: Array, mean: Array, h: Array) -> Array:
        """(φ(μ + h) - c)/s of some neurons, (neurons, nodes)."""
        y = self._function(mean + h)
        if self.centre is not None:
            y = y - self._centre[neurons]
            steep = self._steep[neurons, 0]
            if steep.any():
                y[steep] = self._integrated(mean[steep], h[steep])
        return y if self.size == 1 else y * (1 / self.size)

    def _integrated(self, mean: Array, h: Array) -> Array:
        """φ(μ + h) - φ(μ) as h times the mean of φ' between the two."""
        assert self._derivative is not None
        t, dt = _unit_rule(1, PATH_NODES)
        slopes = (w * self._derivative(mean + s * h) for s, w in zip(t, dt, strict=True))
        deviation: Array = h * reduce(add, slopes)
        return deviation

    def _is_smooth(self, at_mean: Array) -> Array:
        """Where the integral of φ' agrees, within rounding, with the difference of φ."""
        mean, sigma = self._mean, self._sigma
        kinks = np.abs(self._kinks - mean) <= REACH * sigma
        smooth: Array = np.logical_not(kinks.any(axis=1, keepdims=True))
        for x in (-6.0, -3.0, -1.0, 1.0, 3.0, 6.0):
            h = sigma * x
            found, difference = self._integrated(mean, h), self._function(mean + h) - at_mean
            steepness = np.abs(self._derivative(mean)) if self._derivative else 0.0
            rounding = np.abs(at_mean) + (np.abs(mean) + np.abs(h)) * steepness
            agrees = np.abs(found - difference) <= 64 * EPS * rounding
            smooth = np.logical_and(smooth, agrees)
        return smooth

    def _edges(self, mean: Array, sigma: Array) -> Array:
        edges = np.empty_like(mean, shape=(len(mean), len(self._kinks) + 2))
        edges[:, 0], edges[:, -1] = -REACH, REACH
        edges[:, 1:-1] = np.minimum(np.maximum((self._kinks - mean) / sigma, -REACH), REACH)
        return edges


def hermite(k: int, x: Array) -> Array:
    """The probabilists' Hermite polynomial He_k.

    >>> hermite(3, np.array([2.0])).tolist()                                  # x³ - 3x
    [2.0]
    """
    below, he = np.zeros_like(x), np.ones_like(x)
    for j in range(k):
        below, he = he, x * he - j * below
    return he


def panel_rule(edges: Array, panels: int) -> tuple[Array, Array]:
    """Nodes and normal-density weights between `edges` (rows, pieces + 1): (rows, nodes) each.

    Every piece is cut into `panels` equal panels of 100 Gauss–Legendre nodes.
    """
    t, dt = _unit_rule(panels)
    left, width = edges[:, :-1, None], (edges[:, 1:] - edges[:, :-1])[:, :, None]
    x = left + width * t
    weights = (width * dt) * (np.exp(-0.5 * (x * x)) / sqrt(2 * pi))
    return x.reshape(len(edges), -1), weights.reshape(len(edges), -1)


@lru_cache(maxsize=256)
def smooth_rule(panels: int, k: int) -> tuple[Array, Array]:
    """Nodes and weights · He_k, (1, nodes), without kinks; 0 panels stands for Gauss–Hermite.

    Equidistant nodes: for analytic functions against a normal density their error falls like
    exp(-2π d/h), h the spacing and d the distance of the nearest pole in standard deviations.
    """
    x: Array
    weights: Array
    if panels == 0:
        from scipy.special import roots_hermitenorm

        x, weights = roots_hermitenorm(NODES)
        weights = weights / sqrt(2 * pi)
    else:
        h = 2 * REACH / (NODES * panels)
        x = (np.arange(NODES * panels) + 0.5) * h - REACH
        weights = h * np.exp(-0.5 * (x * x)) / sqrt(2 * pi)
    return x[None], (weights * hermite(k, x))[None]


@lru_cache(maxsize=16)
def _unit_rule(panels: int, nodes: int = NODES) -> tuple[Array, Array]:
    from scipy.special import roots_legendre

    t, dt = roots_legendre(nodes)
    starts = np.arange(panels)[:, None]
    return (((t + 1) / 2 + starts) / panels).ravel(), np.tile(dt / (2 * panels), panels)
