"""Covariances after an activation of single pairs of Gaussian pre-activations."""

from __future__ import annotations

import math
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import (
    Activation,
    Clip,
    HardSigmoid,
    LeakyReLU,
    Monomial,
    QuadratureTable,
    Step,
)
from cumprop.flops import counted

from ..cumulant.standardised import Coefficients

Array = NDArray[Any]

NODES = 64  # of the integral over C_ij
STEPS, SLOPES, SMOOTH, POLYNOMIAL = 1, 2, 0, -1  # derivatives that are deltas; none


class Pairs:
    """Covariances of X̂ = φ(Z)/size of pairs of neurons; Z_i ~ N(mean_i, sigma_i²).

    `coefficients` are those of Z, and `expected` the means of φ(Z); arrays are (n,). `order` is the
    derivative of φ that is a sum of deltas, by neuron, or `SMOOTH` or `POLYNOMIAL`. `precision` is
    the worst of the covariances that were integrated.
    """

    def __init__(
        self,
        activation: Activation,
        mean: Array,
        sigma: Array,
        coefficients: Coefficients,
        expected: Array,
    ) -> None:
        self._activation, self._mean, self._sigma = activation, mean, sigma
        self._coefficients, self._expected = coefficients, expected
        self._unit, self.precision = coefficients.size, 0.0
        kinds = {kind: _kink(kind) for kind in activation.kinds}
        kinks = [kinds[activation.of(neuron)] for neuron in range(len(sigma))]
        self.order = np.array([order for order, _ in kinks])
        self._kinks = [deltas for _, deltas in kinks]

    @cached_property
    def _deltas(self) -> list[tuple[Array, Array]]:
        """The deltas at t of all neurons, first and later ones: (μ - t)/σ and their multiples."""
        places, jumps = np.zeros((2, max(1, *map(len, self._kinks)), len(self._kinks)))
        for neuron, deltas in enumerate(self._kinks):
            for m, delta in enumerate(deltas):
                places[m, neuron], jumps[m, neuron] = delta
        distances = (self._mean - place if place.any() else self._mean for place in places)
        return [(d / self._sigma, jump) for d, jump in zip(distances, jumps, strict=True)]

    def covariances(self, i: Array, j: Array, rho: Array) -> Array:
        """The covariances of X̂_i and X̂_j, (m,), for pairs of correlations rho, (m,) each."""
        rho = rho.astype(np.float64)
        found: Array = counted(np.empty(len(i)))
        alike = np.where(self.order[i] == self.order[j], self.order[i], SMOOTH)
        for kind in np.unique(alike):
            some = np.flatnonzero(alike == kind)
            a, b, r = i[some], j[some], rho[some]
            if kind == SMOOTH:
                pairs = zip(a, b, r, strict=True)
                found[some] = counted([self._by_conditioning(*pair) for pair in pairs])
                continue
            integrals = (
                first[a] * second[b] * self._density_integral(alpha[a], beta[b], a, b, r, kind)
                for alpha, first in self._deltas
                for beta, second in self._deltas
            )
            found[some] = reduce(add, integrals)
            if kind == SLOPES:
                rise: Array = self._coefficients(1, 1)
                found[some] += rise[a] * rise[b] * r
        return found

    def _density_integral(
        self, alpha: Array, beta: Array, i: Array, j: Array, rho: Array, order: int
    ) -> Array:
        """The integral ∫_0^C (C - c)^(order-1) p(s, t; c) dc, p the density of (Z_i, Z_j).

        The density is taken at covariance c; alpha is (μ_i - s)/σ_i, and beta (μ_j - t)/σ_j.

        Sums of it are the remainder of Price's identity ∂^k Cov/∂C^k = E[φ^(k)(Z_i) φ^(k)(Z_j)]
        taken up to k = order, where φ^(order) is a sum of deltas. With c = σ_i σ_j sin t,
        t = θ(1 - s³), the nodes crowd where ρ → ±1 makes the density steep.
        """
        s, weights = np.polynomial.legendre.leggauss(NODES)
        s, weights = (s + 1) / 2, weights / 2
        sign, rho = np.sign(rho)[:, None], abs(rho)[:, None]  # Z_j may change its sign
        a, b = alpha[:, None], sign * beta[:, None]
        t = np.arcsin(rho) * (1 - s**3)
        sin, cos = np.sin(t), np.cos(t)
        exponent = 0.5 * ((a - b) / cos) ** 2 + a * b / (1 + sin)
        integrand = np.exp(-exponent) * (np.arcsin(rho) * (3 * s**2 * weights / (2 * math.pi)))
        if order == 1:
            integrand *= sign
        else:
            sigma = self._sigma * (1 / self._unit)
            integrand *= (rho - sin) * (sigma[i] * sigma[j])[:, None]
        total: Array = np.add.reduce(integrand, axis=1)
        return total

    def _by_conditioning(self, i: int, j: int, rho: float) -> float:
        """The covariance of X̂_i and E[φ(Z_j) | Z_i], by nested quadrature of φ less its mean."""
        rho = float(rho)
        slope = rho * self._sigma[j] / self._sigma[i]
        variance = max(1 - rho * rho, 1e-14) * self._sigma[j] ** 2
        first, second = self._activation.of(i), self._activation.of(j)
        seen = [float(self._mean[i] + (b - self._mean[j]) / slope) for b in second.breakpoints]

        def product(z: Array) -> Array:
            mean = self._mean[j] + slope * (z - self._mean[i])
            inner = second.wick_table(mean, np.full_like(z, variance))(0, 1)
            left = (first.forward(z) - self._expected[i]) * (1 / self._unit)
            right = (inner - self._expected[j]) * (1 / self._unit)
            both: Array = left * right
            return both

        outer = QuadratureTable(
            product, self._mean[i : i + 1], self._sigma[i : i + 1], (*first.breakpoints, *seen)
        )
        self.precision = max(self.precision, outer.precision)
        covariance = outer(0, 1)[0] * outer.size
        return float(covariance if outer.centre is None else covariance + outer.centre[0])


def _kink(activation: Activation) -> tuple[int, list[tuple[float, float]]]:
    """The derivative that is a sum of deltas, or `SMOOTH` or `POLYNOMIAL`; places and multiples."""
    if isinstance(activation, LeakyReLU):
        return SLOPES, [(0.0, 1 - activation.slope)]
    if isinstance(activation, Clip | HardSigmoid):
        slopes = (q[1] if len(q) > 1 else 0.0 for q in activation.pieces)
        jumps = [right - left for left, right in pairwise(slopes)]
        return SLOPES, list(zip(activation.breakpoints, jumps, strict=True))
    if isinstance(activation, Step):
        return STEPS, [(0.0, activation.values[1] - activation.values[0])]
    return POLYNOMIAL if isinstance(activation, Monomial) else SMOOTH, []
