"""Backend `gaussian`: every pre-activation vector is taken as Gaussian (mathematics §3.5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cumprop import activations
from cumprop.activations import Activation, Heaviside, LeakyReLU, Sign, WickTable
from cumprop.errors import CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, register
from cumprop.flops import component, counted, counting, plain
from cumprop.hermite_series import BLOCK, HermiteSeries
from cumprop.networks import MLP
from cumprop.quadrature import QuadratureTable

Array = NDArray[Any]

MIN_VARIANCE = 1e-10  # below it, variances are raised for the Wick coefficients
TYPICAL = 0.7  # no correlation of random networks is larger
MAX_TERMS = 40  # of the series in C_ij; pairs that need more are integrated
NODES = 64  # of the integral over C_ij
_TINY = float(np.finfo(np.float64).tiny)
_PAIRS = 2**13  # integrated at a time: 4 MiB


@register("gaussian")
@dataclass(frozen=True)
class Gaussian(Estimator):
    """Moment matching: means and covariances of each layer, higher cumulants left out.

    Covariances behind an activation are right to `series_tolerance` times the standard deviations
    (to rounding in float32). Exact for linear networks, for the mean behind one hidden layer and,
    to that tolerance, for its covariance.

    >>> network = MLP([[[3.0, 4.0]], [[1.0]]])                              # relu(3 x_1 + 4 x_2)
    >>> estimate = Gaussian().estimate(network, cov=True)
    >>> float(estimate.mean[0].round(6)), float(estimate.cov[0, 0].round(6))
    (1.994711, 8.521126)
    """

    version: ClassVar[int] = 1
    series_tolerance: float = 1e-10

    def __post_init__(self) -> None:
        if not 0 < self.series_tolerance < 1:
            raise CumpropError(
                f"gaussian: series_tolerance is {self.series_tolerance!r}; "
                "give a number between 0 and 1"
            )

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """There is one cost for all tolerances."""
        return cls(**parameters)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        precision, clamped = 0.0, False
        layer_means = []
        with counting() as flops:
            mean, c = _input(network)
            for layer, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
                last_hidden = layer == network.depth - 1 and not cov
                with component("linear"):
                    mean = w @ mean if b is None else w @ mean + b
                    if layer == network.depth:
                        c = _propagated(w, c) if cov else None
                        break
                    if last_hidden:
                        wc = counted(w) if c is None else w @ c
                        variance = np.vecdot(wc, w).astype(np.float64)
                    else:
                        c = _propagated(w, c)
                        variance = np.diagonal(c).astype(np.float64)
                with component("nonlinear"):
                    clamped |= bool((variance < MIN_VARIANCE).any())
                    activated = _Activated(network.activations[layer], mean, variance)
                    if not last_hidden:
                        assert c is not None
                        c = activated.cov(c, self._tolerance(network.dtype))
                    mean = activated.mean.astype(network.dtype)
                    layer_means.append(plain(mean))
                    precision = max(precision, activated.precision)
        notes = []
        if clamped:
            notes.append(f"variances below {MIN_VARIANCE:g} were raised to it")
        if precision:
            notes.append(f"quadrature is stable to {precision:.1e} only")
        return Estimate(
            mean=plain(mean),
            layer_means=tuple(layer_means),
            cov=None if c is None or not cov else plain(c),
            flops=flops,
            status="; ".join(notes) or "ok",
        )

    def _tolerance(self, dtype: Any) -> float:
        return max(self.series_tolerance, float(np.finfo(dtype).eps))

    def predict_cost(self, shape: Shape) -> Cost:
        """Within about 5% on random networks: the terms depend on the largest correlation.

        It is taken as that of independent weight rows, √(4 ln n / fan-in), and no pair of neurons
        as so close to ±1 that it is integrated. Smooth functions of pre-activations of s.d. 6 take
        up to 3 times as many in networks of few inputs, of s.d. 20 up to 11 times; if most pairs of
        64 neurons are nearly the same, 16 and 110 times.
        """
        widths = shape.widths
        flops = 2.0 * sum(a * b for a, b in pairwise(widths))
        for layer, name in enumerate(shape.activations):
            fan_in, n = widths[layer : layer + 2]
            last = layer == shape.depth - 1
            products = 2 * n * fan_in * (fan_in + (1 if last else n))
            if layer == 0 and not shape.gaussian_input:
                products = 2 * n * fan_in if last else (n + 1) * n * fan_in
            rho = 0.0 if last else min(TYPICAL, math.sqrt(4 * math.log(max(n, 2)) / fan_in))
            terms, per_neuron = _typical(name, rho, self._tolerance(shape.dtype))
            flops += products + n * per_neuron + (0 if last else (3 * terms + 2) * n**2)
        itemsize = np.dtype(shape.dtype).itemsize
        peak = 4 * itemsize * max(widths) ** 2 + 1000 * max(widths)
        return Cost(int(flops), peak)


class _Activated:
    """X = φ(Z), Z ~ N(mean, C), one layer. Vectors are float64, matrices of C's type."""

    def __init__(self, activation: Activation, mean: Array, variance: Array) -> None:
        self.activation = activation
        self._mean = mean.astype(np.float64)
        self._sigma = np.sqrt(np.maximum(variance, MIN_VARIANCE))
        self._table: WickTable = activation.wick_table(self._mean, self._sigma * self._sigma)
        self._pairs_precision = 0.0

    @property
    def mean(self) -> Array:
        return self._table(0, 1)

    @property
    def precision(self) -> float:
        return max(self._table.precision, self._pairs_precision)

    def cov(self, c: Array, tolerance: float) -> Array:
        """Cov(X_i, X_j) = Σ_k ρ_ij^k a_k(i) a_k(j), with a_k = σ^k w(k,1)/√k!.

        The tail after k terms is at most |ρ|^(k+1) √(R_i R_j), R = Var X - Σ_m≤k a_m²: pairs with
        |ρ| ≤ `reach` are done when that is below the tolerance. Those not done by 40 terms have
        remainders of their own: in closed form (ReLU, steps), by further terms and integrals over
        nodes that neurons share (smooth functions), or by nested quadrature (kinks of one's own).
        """
        inverse = (1 / self._sigma).astype(c.dtype)
        rho = c * inverse[:, None]
        rho *= inverse
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
            a = term.astype(c.dtype)
            cov += a[:, None] * a
            cov *= rho
        if reach < largest:
            i, j = np.nonzero(np.triu(abs(plain(rho)) > reach))
            correlations = plain(rho)[i, j]
            if nodes is not None:
                exact = self._beyond(nodes, terms, i, j, correlations, tolerance)
            else:
                exact = np.empty(len(i))
                for start in range(0, len(i), _PAIRS):
                    part = slice(start, start + _PAIRS)
                    exact[part] = plain(self._slow(i[part], j[part], counted(correlations[part])))
            plain(cov)[i, j] = plain(cov)[j, i] = exact
        plain(cov)[np.diag_indices(len(cov))] = plain(self._variance)
        return cov

    def series(self, largest: float, tolerance: float) -> tuple[list[Array], float]:
        """The terms a_1, a_2, … that correlations up to `largest` need, and their reach."""
        scale = np.ones_like(self._sigma)

        def term(k: int) -> Array:
            nonlocal scale
            scale = scale * (self._sigma / math.sqrt(k))
            found: Array = self._table(k, 1) * scale
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
        """Values at nodes that neurons share; None for closed forms and functions with kinks."""
        if not isinstance(self._table, QuadratureTable) or self.activation.breakpoints:
            return None
        nodes = HermiteSeries(
            self.activation.forward, self._mean, self._sigma, self.mean, self._variance, tolerance
        )
        return nodes if nodes.converged else None

    def _of_nodes(
        self, nodes: HermiteSeries, largest: float, tolerance: float
    ) -> tuple[list[Array], float]:
        """As `series`, where tables of coefficients would take many nodes each."""
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

        Further terms are added as long as they take less than the integrals of the pairs that are
        left, within a factor of two: either may be the better way for all of them.
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
        variance: Array = self._table(0, 2) - self.mean * self.mean
        return variance

    def _slow(self, i: Array, j: Array, rho: Array) -> Array:
        """Covariances of pairs (i, j), whatever their correlation."""
        rho = rho.astype(np.float64)
        if isinstance(self.activation, LeakyReLU):
            a: Array = self._table(1, 1) * self._sigma
            jump = 1 - self.activation.slope
            remainder = self._density_integral(i, j, rho, order=2)
            return a[i] * a[j] * rho + jump**2 * remainder
        if isinstance(self.activation, Heaviside | Sign):
            jump = 1 if isinstance(self.activation, Heaviside) else 2
            return jump**2 * self._density_integral(i, j, rho, order=1)
        return counted([self._by_conditioning(*pair) for pair in zip(i, j, rho, strict=True)])

    def _density_integral(self, i: Array, j: Array, rho: Array, order: int) -> Array:
        """∫_0^C (C - c)^(order-1) p(0, 0; c) dc, p the density of (Z_i, Z_j) at covariance c.

        This is the remainder of Price's identity ∂^k Cov/∂C^k = E[φ^(k)(Z_i) φ^(k)(Z_j)] taken up
        to k = order, where φ^(order) is a delta at 0. With c = σ_i σ_j sin t, t = θ(1 - s³), the
        nodes crowd where ρ → ±1 makes the density steep.
        """
        s, weights = np.polynomial.legendre.leggauss(NODES)
        s, weights = (s + 1) / 2, weights / 2
        sign, rho = np.sign(rho)[:, None], abs(rho)[:, None]  # Z_j may change its sign
        alpha = self._mean / self._sigma
        a, b = alpha[i][:, None], sign * alpha[j][:, None]
        t = np.arcsin(rho) * (1 - s**3)
        sin, cos = np.sin(t), np.cos(t)
        exponent = 0.5 * ((a - b) / cos) ** 2 + a * b / (1 + sin)
        integrand = np.exp(-exponent) * (np.arcsin(rho) * (3 * s**2 * weights / (2 * math.pi)))
        if order == 1:
            integrand *= sign
        else:
            integrand *= (rho - sin) * (self._sigma[i] * self._sigma[j])[:, None]
        total: Array = np.add.reduce(integrand, axis=1)
        return total

    def _by_conditioning(self, i: int, j: int, rho: float) -> float:
        """E[φ(Z_i) E[φ(Z_j) | Z_i]] - E[X_i] E[X_j] by nested quadrature."""
        rho = float(rho)
        slope = rho * self._sigma[j] / self._sigma[i]
        variance = max(1 - rho * rho, 1e-14) * self._sigma[j] ** 2
        kinks = self.activation.breakpoints

        def product(z: Array) -> Array:
            mean = self._mean[j] + slope * (z - self._mean[i])
            inner = self.activation.wick_table(mean, np.full_like(z, variance))(0, 1)
            return self.activation.forward(z) * inner

        outer = QuadratureTable(
            product,
            self._mean[i : i + 1],
            self._sigma[i : i + 1] ** 2,
            (*kinks, *(float(self._mean[i] + (b - self._mean[j]) / slope) for b in kinks)),
        )
        second_moment = float(outer(0, 1)[0])
        self._pairs_precision = max(self._pairs_precision, outer.precision)
        return second_moment - float(self.mean[i] * self.mean[j])


def _input(network: MLP) -> tuple[Array, Array | None]:
    """Mean and covariance of the input, the identity being None."""
    mean = network.input_mean
    zero = np.zeros(network.widths[0], network.dtype)
    c = network.input_cov
    return counted(zero if mean is None else mean), None if c is None else counted(c)


def _propagated(w: Array, c: Array | None) -> Array:
    """W C Wᵀ."""
    return counted(w) @ w.T if c is None else w @ c @ w.T


def _typical(name: str, rho: float, tolerance: float) -> tuple[int, float]:
    """Terms that correlations up to rho need, and FLOPs of the coefficients, where Z ~ N(0, 1)."""
    try:
        activation = activations.get(name)
    except CumpropError:
        activation = activations.get("tanh")
    neurons = 8
    with counting() as flops:
        activated = _Activated(activation, counted(np.zeros(neurons)), counted(np.ones(neurons)))
        terms, _ = activated.series(rho, tolerance)
    return len(terms), flops.total / neurons
