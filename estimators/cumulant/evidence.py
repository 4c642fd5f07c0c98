"""Signs of a propagation's own errors (`cumprop.trust.Signs`), gathered layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.cumulants import diagonal
from cumprop.flops import component, counted, detached, not_counting, on_host, plain
from cumprop.trust import Signs

from .standardised import AffineMap, Coefficients, Standardised

Array = NDArray[Any]

PROBES = 8
"""Sums of outputs with random signs, whose variances tell the sum of all output variances."""
NO_SLOPE = 1e-6
"""A neuron whose linear part is a smaller share of its s.d. passes no covariance on."""


@dataclass(frozen=True)
class _Layer:
    """A hidden layer: X̂ = centre + slope Ẑ + the rest, of `variance` and `bent` = that of the rest.

    `effect` is the shift of E[X̂] by cumulants beyond the second, `scattered` the square of it were
    neurons independent. `gain` is the slope in W X̂_{l-1}, `before` Cov[X̂_{l-1}] (None for
    `independent` neurons of such variances, or of 1) and `squares` those of the next map.
    """

    w: Coefficients
    weight: Array
    slope: Array
    gain: Array
    variance: Array
    bent: Array
    effect: Array
    scattered: Array
    squares: Array
    before: Array | None
    independent: Array | None


class Evidence:
    """Gathers signs; X̂, Ẑ and w(k,p) are those of `engine.propagate`.

    `leading` says that cumulants beyond the second are left out, so that their effect is computed
    here, from the κ_3 of each layer's own nonlinearity: with A = W diag(w1) C°, the w's of the
    layer before and C its correlations,

        κ_iii ≈ Σ_r [W_ir³ κ_3(X_r) + 3 W_ir² τ_r A_ir + 3 W_ir w2_r A_ir²],  τ = w(1,2) - 2 w01 w1.

    Otherwise it is what they change of E[X]. Cost: about 25 n² FLOPs per layer and 50 n² at the
    end; no product of two n×n matrices.
    """

    def __init__(self, maps: list[AffineMap], input_cov: Array | None, leading: bool) -> None:
        self._maps, self._input, self._leading = maps, input_cov, leading
        self._last: _Layer | None = None
        self._participation, self._nonlinearity = list[float](), list[float]()
        self._cancellation, self._correction = list[float](), 0.0
        self.variances = list[Array]()
        """Var[X_l] of every neuron."""

    def add(
        self,
        z: Standardised,
        w: Coefficients,
        mean: Array,
        C: Array | None,
        before: Array | None,
        half: Array | None = None,
    ) -> None:
        """Take layer l: Ẑ_l, its coefficients, E[X̂_l] less its centre, Cov[X̂_l] where known.

        `before` is Cov[X̂_{l-1}], None where it is I or not tracked, so that neurons count as
        independent; `half` is W · `before` where it is known.
        """
        with component("error"):
            if self._last is None and before is None:
                before = self._input
            weight, inverse = detached(z.affine.weight), 1 / detached(z.spread)
            centre, slope = detached(w(0, 1)), detached(w(1, 1))
            variance = np.maximum(detached(w(0, 2)) - centre * centre, 0)
            gain = slope * inverse
            effect, scattered = self._neglected(
                weight, inverse, gain, w, detached(mean) - centre, before, half
            )
            following = detached(self._maps[len(self._nonlinearity) + 1].weight)
            squares = following * following
            bent = np.maximum(variance - slope * slope, 0)
            share = squares.sum(axis=0) * variance
            total = float(share.sum())
            self._nonlinearity.append(_ratio(float((share * _over(bent, variance)).sum()), total))
            if z.covariance is not None:
                covariance, weights = detached(z.covariance), share * inverse * inverse
                squared = float(weights @ ((covariance * covariance) @ weights))
                self._participation.append(_ratio(total * total, squared, 1.0))
            own = variance
            if C is not None:
                own = diagonal(detached(C), (2,)).copy()
                changes = share * _over(np.abs(own - variance), variance)
                self._correction += _ratio(float(changes.sum()), total)
            self.variances.append(plain(own * (w.size * w.size)))
            independent = None if self._last is None else self._last.variance
            self._last = _Layer(
                w, weight, slope, gain, variance, bent, effect, scattered, squares, before,
                independent,
            )  # fmt: skip

    def _neglected(
        self,
        weight: Array,
        inverse: Array,
        gain: Array,
        w: Coefficients,
        shift: Array,
        before: Array | None,
        half: Array | None,
    ) -> tuple[Array, Array]:
        """`effect` and `scattered` of a layer, those of the layers before it included."""
        last = self._last
        if last is None:
            return np.zeros_like(shift), np.zeros_like(shift)
        independent = last.squares @ last.variance
        ratios = independent * (inverse * inverse)
        self._cancellation.append(float(ratios.sum()) / len(ratios))
        if self._leading:
            third = _third_cumulants(weight, last, before, half)
            shift = third * inverse**3 * detached(w(3, 1)) * (1 / 6)
        effect = shift + gain * (weight @ last.effect)
        scattered = shift * shift + gain * gain * (last.squares @ last.scattered)
        return effect, scattered

    def signs(self, mean: Array, layer_mean: Array, unit: float, cov: Array | None) -> Signs:
        """Of the whole, given E[Y], E[X_L], the unit of X̂_L and Cov[Y] where it is known."""
        with component("error"), np.errstate(invalid="ignore", over="ignore"):
            affine, last = self._maps[-1], self._last
            weight = detached(affine.weight)
            terms = np.abs(weight) @ np.abs(detached(layer_mean))
            rows = np.ones_like(terms) if affine.rows is None else detached(affine.rows)
            sizes, scale = np.abs(detached(mean)) + terms * rows, rows * unit
            total = self._sum_of_variances(weight, scale, cov)
            rounding = float(np.finfo(sizes.dtype).eps) * sqrt(float((sizes * sizes).sum()))
            rounding = _ratio(rounding, sqrt(total))
            if last is None:
                return Signs((), (), (), 0.0, 0.0, rounding, total, _shares(rows))
            squares = last.squares * (scale * scale)[:, None]
            independent = squares @ last.variance
            effect = (weight @ last.effect) * scale
            neglected = float((effect * effect).sum()) + float((squares @ last.scattered).sum())
            return Signs(
                tuple(self._participation),
                tuple(self._nonlinearity),
                (*self._cancellation, _ratio(float(independent.sum()), total, 1.0)),
                sqrt(_ratio(neglected, total)),
                sqrt(self._correction),
                rounding,
                total,
                _shares(independent),
            )

    def _sum_of_variances(self, weight: Array, scale: Array, cov: Array | None) -> float:
        """Of the outputs, as order 2 has them where their covariance is not known.

        Var[gᵀY] takes products with one vector, where Cov[Y] takes products of matrices.
        """
        if cov is not None:
            return float(np.maximum(diagonal(detached(cov), (2,)), 0).sum())
        last, (g, share) = self._last, probes(len(weight), scale.dtype)
        v = weight.T @ (scale[:, None] * g)
        C, independent, own = self._input, None, 0.0
        if last is not None:
            own = float((last.bent[:, None] * (v * v)).sum())
            v = last.weight.T @ (last.gain[:, None] * v)
            C, independent = last.before, last.independent
        if C is not None:
            spread = v * (detached(C) @ v)
        else:
            spread = v * v if independent is None else independent[:, None] * (v * v)
        return (float(spread.sum()) + own) * share


def probes(n: int, dtype: Any) -> tuple[Array, float]:
    """Vectors g (n, m) of n outputs and a share, with Σ Var Y ≈ share · Σ_m Var[g_mᵀ Y].

    All unit vectors where that takes no more than `PROBES`, else random signs.
    """
    if n <= PROBES:
        return counted(np.eye(n, dtype=dtype)), 1.0
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (n, PROBES))
    return counted(signs.astype(dtype)), 1 / PROBES


def _third_cumulants(
    weight: Array, last: _Layer, before: Array | None, half: Array | None
) -> Array:
    """κ_iii of W X̂, from the nonlinearity that made X̂."""
    first, second, third = (detached(last.w(0, p)) for p in (1, 2, 3))
    cubes: Array = (last.squares * weight) @ (third - 3 * second * first + 2 * first**3)
    if before is None:
        return cubes
    half = weight @ detached(before) if half is None else detached(half)
    with not_counting():
        linear = last.slope * last.slope > NO_SLOPE**2 * last.variance
        inverse = np.where(linear, 1 / np.where(linear, last.slope, 1), 0)
    A = (half - weight * diagonal(detached(before), (2,))) * inverse
    tau = detached(last.w(1, 2)) - 2 * first * last.slope
    pairs = (last.squares * tau + weight * (detached(last.w(2, 1)) * A)) * A
    found: Array = cubes + 3 * pairs.sum(axis=1)
    return found


def _over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    quotient: Array = a / np.where(b > 0, b, np.inf)
    return quotient


def _ratio(a: float, b: float, otherwise: float = 0.0) -> float:
    return a / b if b > 0 else otherwise


def _shares(variances: Array) -> NDArray[np.float64]:
    """Parts of a sum."""
    host = on_host(variances).astype(np.float64)
    total = host.sum()
    shares: NDArray[np.float64] = host / total if total > 0 else np.full(len(host), 1 / len(host))
    return shares
