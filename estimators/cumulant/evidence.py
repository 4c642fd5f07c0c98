"""Signs of a propagation's own errors (`cumprop.contract.Signs`), gathered layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Signs
from cumprop.flops import component, counted, detached, has_numbers, not_counting, on_host, plain

from .standardised import AffineMap, Coefficients, Standardised
from .symmetric_tensors import diagonal

Array = NDArray[Any]

PROBES = 8
"""Sums of outputs with random signs, whose variances tell the sum of all output variances."""
FEW_DIRECTIONS = 10.0
"""With fewer, what the bends of a layer's neurons have in common is looked at."""
PAIR_PROBES = 2
"""Sums of pre-activations with random signs, for that."""
NO_SLOPE = 1e-6
"""A neuron whose linear part is a smaller share of its s.d. passes no covariance on."""


@dataclass(frozen=True)
class _Coefficients:
    """w(k,p) without gradients, in the type of the weights."""

    table: Coefficients
    dtype: Any

    @property
    def size(self) -> float:
        return self.table.size

    def __call__(self, k: int, p: int) -> Array:
        w: Array = detached(self.table(k, p)).astype(self.dtype)
        return w


@dataclass(frozen=True)
class _Layer:
    """A hidden layer: X̂ = centre + slope Ẑ + the rest, of `variance`, the rest's being `bent`.

    `weight` is the map to Ẑ, `squares` are those of the map behind. `effect` is the shift of E[X̂]
    by cumulants beyond the second, `scattered` its square were neurons independent, and `rounded`
    the squared error that arithmetic is expected to have made of E[X̂]. `before` is
    Cov[X̂_{l-1}], None for neurons that are `independent`, of these variances (None: 1).
    """

    w: _Coefficients
    weight: Array
    slope: Array
    variance: Array
    bent: Array
    effect: Array
    scattered: Array
    rounded: Array
    squares: Array
    before: Array | None
    independent: Array | None


class Evidence:
    """Gathers signs; X̂, Ẑ and w(k,p) are those of `propagation.propagate`.

    `leading` says that cumulants beyond the second are left out, so that their effect is computed
    here, from the κ_3 of each layer's own nonlinearity: with A = W diag(w1) C°, the w's of the
    layer before and C its correlations,

        κ_iii ≈ Σ_r [W_ir³ κ_3(X_r) + 3 W_ir² τ_r A_ir + 3 W_ir w2_r A_ir²],  τ = w(1,2) - 2 w01 w1.

    Otherwise it is what they change of E[X]. Cost: about 25 n² FLOPs per layer and 50 n² at the
    end; no product of two n×n matrices.
    """

    def __init__(
        self,
        maps: list[AffineMap],
        input_cov: Array | None,
        unit: float,
        leading: bool,
        exact: bool = False,
    ) -> None:
        self._maps, self._input, self._unit, self._leading = maps, input_cov, unit, leading
        self._diagonal = leading and not exact
        self._last: _Layer | None = None
        self._participation, self._nonlinearity = list[float](), list[float]()
        self._cancellation, self._correction = list[float](), 0.0
        self._common, self._missed = list[float](), 0.0
        self.variances = list[Array]()
        """Var[X_l] of every neuron."""

    def add(
        self,
        z: Standardised,
        table: Coefficients,
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
            weight = detached(z.weight)
            w = _Coefficients(table, weight.dtype)
            centre, slope = w(0, 1), w(1, 1)
            variance = np.maximum(w(0, 2) - centre * centre, 0)
            shift = detached(mean).astype(weight.dtype) - centre
            if half is not None:
                half = detached(half) * detached(z.inverse)[:, None]
            inward = None if self._last is None else weight * weight
            effect, scattered = self._neglected(weight, inward, slope, w, shift, before, half)
            rounded = self._rounding(z, inward, slope)
            following = self._maps[len(self._nonlinearity) + 1]
            squares = detached(following.weight) * detached(following.weight)
            bent = np.maximum(variance - slope * slope, 0)
            share = _influence(squares, following.rows) * variance
            share = share * (1 / (float(share.max()) or 1.0))
            total = float(share.sum())
            self._nonlinearity.append(_ratio(float((share * _over(bent, variance)).sum()), total))
            common = 0.0
            if z.covariance is not None:
                correlations = detached(z.C)
                squares_of_C = correlations * correlations
                directions = _ratio(total * total, float(share @ (squares_of_C @ share)), 1.0)
                self._participation.append(directions)
                if directions < FEW_DIRECTIONS and has_numbers(correlations):
                    outward = detached(following.weight), squares @ variance
                    common = _common(w, correlations, squares_of_C, *outward)
            self._common.append(common)
            own = variance
            if C is not None:
                own = diagonal(detached(C), (2,)).copy()
                changes = share * _over(np.abs(own - variance), variance)
                self._correction += _ratio(float(changes.sum()), total)
            self.variances.append(on_host(own).astype(np.float64) * (w.size * w.size))
            independent = None if self._last is None else self._last.variance
            self._last = _Layer(
                w, weight, slope, variance, bent, effect, scattered, rounded, squares, before,
                independent,
            )  # fmt: skip

    def _rounding(self, z: Standardised, inward: Array | None, slope: Array) -> Array:
        """`rounded` of a layer: an ulp of each pre-activation, and what the layers before made."""
        unit = detached(z.spread) * (self._unit if self._last is None else self._last.w.size)
        if z.affine.rows is not None:
            unit = unit * detached(z.affine.rows)
        ulp = float(np.finfo(slope.dtype).eps) * (np.abs(detached(z.mean)) / unit + 1)
        squares = ulp * ulp
        if self._last is not None and inward is not None:
            squares = squares + inward @ self._last.rounded
        rounded: Array = slope * slope * squares
        return rounded

    def _neglected(
        self,
        weight: Array,
        inward: Array | None,
        slope: Array,
        w: _Coefficients,
        shift: Array,
        before: Array | None,
        half: Array | None,
    ) -> tuple[Array, Array]:
        """`effect` and `scattered` of a layer, those of the layers before it included.

        `inward` are the squares of the `weight`, None in the first layer.
        """
        last = self._last
        if last is None or inward is None:
            return np.zeros_like(shift), np.zeros_like(shift)
        self._cancellation.append(float((inward @ last.variance).sum()) / len(weight))
        if self._leading:
            third = _third_cumulants(weight, inward, last, before, half)
            shift = third * w(3, 1) * (1 / 6)
            if self._missing():
                shift = shift + 0.5 * self._missed * w(2, 1)
        effect = shift + slope * (weight @ last.effect)
        scattered = shift * shift + slope * slope * (inward @ last.scattered)
        return effect, scattered

    def _missing(self) -> bool:
        """Whether variances of the next layer lack a share, then `_missed`, of what is `common`.

        Where maps reinforce, they reinforce it by more than the rest: by the root is a compromise.
        """
        cancellation = self._cancellation[-1]
        if self._diagonal and cancellation > 0:
            self._missed = self._missed / sqrt(cancellation) + self._common[-1] * cancellation
        return self._missed != 0

    def signs(self, mean: Array, layer_mean: Array, unit: float) -> Signs:
        """Of the whole, given E[Y], E[X_L] and the unit of X̂_L."""
        with component("error"), np.errstate(invalid="ignore", over="ignore"):
            affine, last = self._maps[-1], self._last
            weight = detached(affine.weight)
            sizes = np.abs(weight) @ np.abs(detached(layer_mean))
            rows = counted(np.ones(len(weight)))  # in float64, which squares do not leave
            if affine.rows is not None:
                rows = rows * on_host(affine.rows)
            host, scale = on_host(detached(mean)).astype(np.float64), rows * unit
            total = self._sum_of_variances(weight, scale)
            sizes = np.abs(host) + on_host(sizes) * rows
            ulps = float(np.finfo(weight.dtype).eps) * sizes
            squares = ulps * ulps
            if last is not None:
                squares = squares + on_host(last.squares @ last.rounded) * (scale * scale)
            rounding = sqrt(float(squares.sum()))
            if last is None:
                return Signs((), (), (), (), 0.0, 0.0, rounding, total, _shares(rows))
            independent = on_host(last.squares @ last.variance) * (scale * scale)
            effect = on_host(weight @ last.effect) * scale
            scattered = on_host(last.squares @ last.scattered) * (scale * scale)
            neglected = float((effect * effect + scattered).sum())
            cancellation = (*self._cancellation, _ratio(float(independent.sum()), total, 1.0))
            common = [abs(s * c) for s, c in zip(self._common, cancellation, strict=True)]
            self._cancellation.append(cancellation[-1])
            if self._missing():
                self._correction += abs(self._missed)
            return Signs(
                tuple(self._participation),
                tuple(self._nonlinearity),
                cancellation,
                tuple(common),
                sqrt(_ratio(neglected, total)),
                sqrt(self._correction),
                rounding,
                total,
                _shares(independent),
            )

    def _sum_of_variances(self, weight: Array, scale: Array) -> float:
        """Of the outputs, from Var[gᵀY] as order 2 has it: products with vectors g alone."""
        last, (g, share) = self._last, probes(len(weight))
        largest = float(scale.max()) or 1.0
        g = (scale * (1 / largest))[:, None] * g
        v = weight.T @ like(weight, g)
        C, independent, own = self._input, None, 0.0
        if last is not None:
            own = float((last.bent[:, None] * (v * v)).sum())
            v = last.weight.T @ (last.slope[:, None] * v)
            C, independent = last.before, last.independent
        if C is not None:
            spread = v * (detached(C) @ v)
        else:
            spread = v * v if independent is None else independent[:, None] * (v * v)
        return max(float(spread.sum()) + own, 0.0) * share * largest * largest


def like(array: Array, host: Array) -> Any:
    """The numbers of `host` as an array of the kind, type and place of another."""
    like = np.zeros_like(array, shape=host.shape)
    return like + host.astype(array.dtype)


def probes(n: int) -> tuple[Array, float]:
    """Vectors g (n, m) of n outputs and a share, with Σ Var Y ≈ share · Σ_m Var[g_mᵀ Y].

    All unit vectors where that takes no more than `PROBES`, else random signs.
    """
    if n <= PROBES:
        return counted(np.eye(n)), 1.0
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (n, PROBES))
    return counted(signs), 1 / PROBES


def _common(
    w: _Coefficients, C: Array, squares: Array, outward: Array, independent: Array
) -> float:
    """What the bends of any two neurons have in common, of the variance of the next layer.

    Cov[X_i, X_k] = w1 w1 C + w2 w2 C²/2 + w3 w3 C³/6 + …: the terms beyond the first, i ≠ k, add up
    where few directions carry Ẑ. Their sum is relative to the variance of the next layer, were
    neurons `independent`, on average over its neurons; `outward` are the weights to them. Cost:
    about 25 n² FLOPs.
    """
    n = len(independent)
    signs = counted(np.random.default_rng(0).choice((-1.0, 1.0), (n, PAIR_PROBES)))
    rows = np.sqrt(_over(np.ones_like(independent), independent))[:, None]
    v = outward.T @ (rows * like(outward, signs))
    total = 0.0
    for k, powers in ((2, squares), (3, squares * C)):
        bends = w(k, 1)[:, None] * v
        total += float((bends * (powers @ bends) - bends * bends).sum()) / factorial(k)
    return total / (n * PAIR_PROBES)


def _third_cumulants(
    weight: Array, squares: Array, last: _Layer, before: Array | None, half: Array | None
) -> Array:
    """κ_iii of Ẑ, of weights W, from the nonlinearity that made X̂."""
    first, second, third = (last.w(0, p) for p in (1, 2, 3))
    cubes: Array = (squares * weight) @ (third - 3 * second * first + 2 * first**3)
    if before is None:
        return cubes
    half = weight @ detached(before) if half is None else half
    with not_counting():
        linear = last.slope * last.slope > NO_SLOPE**2 * last.variance
        inverse = np.where(linear, 1 / np.where(linear, last.slope, 1), 0)
    A = (half - weight * diagonal(detached(before), (2,))) * inverse
    tau = last.w(1, 2) - 2 * first * last.slope
    pairs = (squares * tau + weight * (last.w(2, 1) * A)) * A
    found: Array = cubes + 3 * pairs.sum(axis=1)
    return found


def _influence(squares: Array, rows: Array | None) -> Array:
    """Of each input of a map on its results together, relative: the sums over its columns."""
    sums: Array = squares.sum(axis=0)
    if rows is None:
        return sums
    with not_counting():  # unusual: counts of FLOPs depend on shapes alone
        relative = detached(rows) * (1 / float(detached(rows).max()))
        weighted: Array = (relative * relative) @ squares
        return weighted


def _over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    quotient: Array = a / np.where(b > 0, b, np.inf)
    return quotient


def _ratio(a: float, b: float, otherwise: float = 0.0) -> float:
    return a / b if b > 0 else otherwise


def _shares(variances: Array) -> NDArray[np.float64]:
    """Parts of a sum."""
    host = plain(variances)
    total = host.sum()
    shares: NDArray[np.float64] = host / total if total > 0 else np.full(len(host), 1 / len(host))
    return shares
