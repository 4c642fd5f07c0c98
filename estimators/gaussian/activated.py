"""Means and covariances after an activation of Gaussian pre-activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import BLOCK, TOLERANCE, Activation, HermiteSeries, Monomial, stand_in
from cumprop.flops import counted, counting, plain

from ..cumulant.standardised import AffineMap, Standardised, expected, wick_coefficients
from .pairs import POLYNOMIAL, Pairs

Array = NDArray[Any]

TYPICAL = 0.7  # no correlation of random networks is larger
MAX_TERMS = 40  # of the series in C_ij; pairs that need more are integrated
NEARLY_LINEAR = 1e-6  # s.d. of a neuron beside its mean
_TINY = float(np.finfo(np.float64).tiny)
_PAIRS = 2**13  # integrated at a time: 4 MiB


class Activated:
    """X = φ(Z) = E[X] + unit · X̂, one layer of standardised Z. Vectors are float64."""

    def __init__(self, activation: Activation, z: Standardised, unit: float) -> None:
        self.activation = activation
        z = replace(z, mean=z.mean.astype(np.float64), spread=z.spread.astype(np.float64))
        self.coefficients = wick_coefficients(activation, z, unit, trust=TOLERANCE)
        rows = 1.0 if z.affine.rows is None else z.affine.rows.astype(np.float64)
        self._mean, self._sigma = z.mean, z.spread * unit * rows
        self.unit = self.coefficients.size
        self._constant = z.constant

    @cached_property
    def mean(self) -> Array:
        """The means E[X]."""
        mean: Array = expected(self.coefficients(0, 1), self.coefficients)
        return mean

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs(self.activation, self._mean, self._sigma, self.coefficients, self.mean)

    @property
    def precision(self) -> float:
        return max(self.coefficients.precision, self._pairs.precision)

    def cov(self, rho: Array, tolerance: float) -> Array:
        """The covariance of X̂, (n, n), from the correlations of Z, (n, n).

        Cov(X̂_i, X̂_j) = Σ_k ρ_ij^k a_k(i) a_k(j), a_k = a(k,1)/√k!. The tail after k terms is at
        most |ρ|^(k+1) √(R_i R_j), R = Var X̂ - Σ_m≤k a_m²; pairs with |ρ| ≤ `reach` are done when it
        is below the tolerance. The remainder of pairs that need more than 40 terms is computed in
        closed form (ReLU, steps), by further terms and integrals over nodes that neurons share
        (smooth functions), or by nested quadrature (custom functions with kinks).
        """
        if self._constant is not None:
            varies = np.where(self._constant, 0.0, 1.0).astype(rho.dtype)
            rho = rho * varies[:, None] * varies
        plain(rho)[np.diag_indices(len(rho))] = 0
        np.clip(plain(rho), -1, 1, out=plain(rho))
        largest = max(float(plain(rho).max()), -float(plain(rho).min()))

        nodes = self._nodes(tolerance)
        if nodes is not None and (largest > TYPICAL or not nodes.coarse):
            terms, reach = self._of_nodes(nodes, largest, tolerance)
        else:
            terms, reach = self.series(largest, tolerance)
        cov: Array = np.zeros_like(rho)
        for term in reversed(terms):
            a = term.astype(rho.dtype)
            cov += a[:, None] * a
            cov *= rho
        if reach < largest:
            polynomial = self._pairs.order == POLYNOMIAL  # the series of such neurons has ended
            unfinished = ~(polynomial[:, None] | polynomial)
            i, j = np.nonzero(np.triu((abs(plain(rho)) > reach) & unfinished))
            correlations = plain(rho)[i, j]
            if nodes is not None:
                exact = self._beyond(nodes, terms, i, j, correlations, tolerance)
            else:
                exact = np.empty(len(i))
                for start in range(0, len(i), _PAIRS):
                    part = slice(start, start + _PAIRS)
                    exact[part] = plain(
                        self._pairs.covariances(i[part], j[part], counted(correlations[part]))
                    )
            plain(cov)[i, j] = plain(cov)[j, i] = exact
        plain(cov)[np.diag_indices(len(cov))] = plain(self._variance)
        return cov

    def series(self, largest: float, tolerance: float) -> tuple[list[Array], float]:
        """The terms a_1, a_2, … that correlations up to `largest` need, and their reach."""

        def term(k: int) -> Array:
            found: Array = self.coefficients(k, 1) * (1 / math.sqrt(math.factorial(k)))
            return found

        return self._series(term, largest, tolerance)

    def _series(
        self, term: Callable[[int], Array], largest: float, tolerance: float
    ) -> tuple[list[Array], float]:
        terms: list[Array] = []
        tail = self._variance
        reach = 0.0
        while reach < largest and len(terms) < MAX_TERMS:
            k = len(terms) + 1
            terms.append(term(k))
            tail = tail - terms[-1] * terms[-1]
            ratio = max(float(np.max(tail / np.maximum(self._variance, _TINY))), _TINY)
            reach = min(1.0, (tolerance / ratio) ** (1 / (k + 1)))
        return terms, reach

    def _nodes(self, tolerance: float) -> HermiteSeries | None:
        """Values at nodes that neurons share, in the unit of X̂.

        None for polynomials, functions with jumps or kinks, which converge slowly, and neurons so
        nearly linear that a few terms suffice and values would lose digits.
        """
        kinds = self.activation.kinds
        if all(isinstance(kind, Monomial) for kind in kinds) or any(map(_is_kinked, kinds)):
            return None
        mean, variance = plain(self.mean) * (1 / self.unit), plain(self._variance)
        constant = np.zeros(len(mean), bool) if self._constant is None else plain(self._constant)
        nearly_linear = variance < NEARLY_LINEAR**2 * mean * mean
        if nearly_linear[~constant].any() or constant.all():
            return None

        def scaled(z: Array, neurons: Array) -> Array:
            return self.activation.of_neurons(z, neurons) * (1 / self.unit)

        function = self.activation.of_neurons if self.unit == 1 else scaled
        sigma = np.where(constant, 0.0, self._sigma)
        nodes = HermiteSeries(function, self._mean, sigma, mean, self._variance, tolerance)
        return nodes if nodes.converged else None

    def _of_nodes(
        self, nodes: HermiteSeries, largest: float, tolerance: float
    ) -> tuple[list[Array], float]:
        """The same as `series`, where tables of coefficients would take many nodes each."""
        known = list[Array]()

        def term(k: int) -> Array:
            if k > len(known):
                known.extend(nodes.terms(k, k + BLOCK))
            return known[k - 1]

        return self._series(term, largest, tolerance)

    def _beyond(
        self,
        nodes: HermiteSeries,
        terms: list[Array],
        i: Array,
        j: Array,
        rho: Array,
        tolerance: float,
    ) -> Array:
        """Covariances of pairs (i, j) that need more than these terms.

        Further terms are added until they have taken twice the FLOPs of the integrals of the pairs
        that are left, because either way may be the cheaper one.
        """
        rho, variance = rho.astype(np.float64), np.maximum(plain(self._variance), 0)
        sums = counted(np.zeros(len(rho)))
        for a in reversed(terms):
            sums = (sums + a[i] * a[j]) * rho
        cov: Array = plain(sums)
        tail = variance - sum(plain(a) * plain(a) for a in terms)
        k, spent = len(terms) + 1, 0.0
        left = np.arange(len(rho))
        while len(left):
            a, b, r = i[left], j[left], counted(rho[left])
            neurons = np.union1d(a, b)
            spent += nodes.flops_of_terms(neurons) + 3 * BLOCK * len(left)
            if spent > 2 * nodes.flops_of_pairs(a, b, plain(r)):
                break
            power = r**k
            for term in nodes.terms(k, k + BLOCK, neurons):
                cov[left] += plain(counted(term)[a] * term[b] * power)
                power = power * r
                tail = tail - plain(term) * plain(term)
                k += 1
            known = np.maximum(tail, nodes.resolution)
            size = np.sqrt(known[a] * known[b])
            allowed = tolerance * np.sqrt(variance[a] * variance[b])
            left = left[plain(np.abs(power)) * size > allowed]
        if len(left):
            cov[left] = nodes.pairs(i[left], j[left], rho[left])
        return cov

    @cached_property
    def _variance(self) -> Array:
        """The variances of X̂."""
        first = self.coefficients(0, 1)
        variance: Array = self.coefficients(0, 2) - first * first
        return variance


def _is_kinked(activation: Activation) -> bool:
    """Whether φ or φ' jumps at a breakpoint, or may do so."""
    at = np.array(activation.breakpoints)
    if not activation.differentiable:
        return bool(at.size)
    left, right = np.nextafter(at, -np.inf), np.nextafter(at, np.inf)
    functions = (activation.forward, activation.derivative)
    return not all(np.allclose(function(left), function(right)) for function in functions)


def typical_terms(name: str, rho: float, tolerance: float) -> tuple[int, float]:
    """Terms that correlations up to rho need, and FLOPs of the coefficients, where Z ~ N(0, 1)."""
    activation = stand_in(name)
    neurons = activation.neurons or 8
    with counting() as flops:
        mean, spread = counted(np.zeros(neurons)), counted(np.ones(neurons))
        z = Standardised(AffineMap(np.eye(neurons), None), mean, spread)
        activated = Activated(activation, z, 1.0)
        terms, _ = activated.series(rho, tolerance)
    return len(terms), flops.total / neurons
