"""Signs of a propagation's own errors (`cumprop.contract.Signs`), gathered layer by layer."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Signs
from cumprop.flops import (
    component,
    counted,
    decided,
    detached,
    has_numbers,
    is_foreign,
    not_counting,
    on_host,
    plain,
)

from .neglected import Detached, Layer, common_bends, like, probes, quotient, third_cumulants
from .standardised import AffineMap, Coefficients, Standardised
from .symmetric_tensors import diagonal

Array = NDArray[Any]

FEW_DIRECTIONS = 10.0
"""With fewer directions, the common part of the bends of a layer's neurons is computed."""
TRAINED = 0.6
"""The share of the directions of random weights that every random network exceeds."""


class Evidence:
    """Gathers signs; X̂, Ẑ and w(k,p) have the meaning of `propagation.propagate`.

    `leading` says that cumulants beyond the second are left out, so that their effect is computed
    here, from the κ_3 of each layer's own nonlinearity: with A = W diag(w1) C°, the coefficients w
    of the layer before and C its correlations,

        κ_iii ≈ Σ_r [W_ir³ κ_3(X_r) + 3 W_ir² τ_r A_ir + 3 W_ir w2_r A_ir²],  τ = w(1,2) - 2 w01 w1.

    Otherwise the effect is their change of E[X]. Cost: about 25 n² FLOPs per layer and 50 n² at the
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
        self._last: Layer | None = None
        self._participation, self._nonlinearity = list[float](), list[float]()
        self._cancellation, self._correction = list[float](), 0.0
        self._common, self._missed = list[float](), 0.0
        self.variances = list[Array]()
        """The variance Var[X_l] of every neuron."""

    def add(
        self,
        z: Standardised,
        table: Coefficients,
        mean: Array,
        C: Array | None,
        before: Array | None,
        half: Array | None = None,
    ) -> None:
        """Add layer l: Ẑ_l, its coefficients, E[X̂_l] less its centre, Cov[X̂_l] where known.

        `before` is Cov[X̂_{l-1}], None where it is I or not tracked, so that neurons count as
        independent; `half` is W · `before` where it is known.
        """
        with component("error"), np.errstate(over="ignore", invalid="ignore"):  # `trust` sees it
            if self._last is None and before is None:
                before = self._input
            weight = detached(z.weight)
            w = Detached(table, weight.dtype)
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
            self._nonlinearity.append(
                _ratio(float((share * quotient(bent, variance)).sum()), total)
            )
            common = 0.0
            if z.covariance is not None:
                correlations = detached(z.C)
                squares_of_C = correlations * correlations
                directions = _ratio(total * total, float(share @ (squares_of_C @ share)), 1.0)
                self._participation.append(directions)
                if self._few(directions, has_numbers(correlations)):
                    outward = detached(following.weight), squares @ variance
                    common = common_bends(w, correlations, squares_of_C, *outward)
            self._common.append(common)
            own = variance
            if C is not None:
                own = diagonal(detached(C), (2,)).copy()
                changes = share * quotient(np.abs(own - variance), variance)
                self._correction += _ratio(float(changes.sum()), total)
            self.variances.append(on_host(own).astype(np.float64) * (w.size * w.size))
            independent = None if self._last is None else self._last.variance
            self._last = Layer(
                w, weight, slope, variance, bent, effect, scattered, rounded, squares, before,
                independent,
            )  # fmt: skip

    def _rounding(self, z: Standardised, inward: Array | None, slope: Array) -> Array:
        """`rounded` of a layer: an ulp of each pre-activation, and errors of the layers before."""
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
        w: Detached,
        shift: Array,
        before: Array | None,
        half: Array | None,
    ) -> tuple[Array, Array]:
        """`effect` and `scattered` of a layer, including those of the layers before it.

        `inward` are the squares of the `weight`, None in the first layer.
        """
        last = self._last
        if last is None or inward is None:
            return np.zeros_like(shift), np.zeros_like(shift)
        self._cancellation.append(float((inward @ last.variance).sum()) / len(weight))
        if self._leading:
            third = third_cumulants(weight, inward, last, before, half)
            shift = third * w(3, 1) * (1 / 6)
            if self._diagonal:
                shift = shift + 0.5 * self._missing() * w(2, 1)
        effect = shift + slope * (weight @ last.effect)
        scattered = shift * shift + slope * slope * (inward @ last.scattered)
        return effect, scattered

    def _few(self, directions: float, known: bool) -> bool:
        """Whether the layer has few directions: by the shape of the network, or fewer than random.

        FLOPs of random networks therefore depend on their shape alone.
        """
        fan_in = [affine.weight.shape[1] for affine in self._maps[:-1]]
        layer, random = len(self._nonlinearity), 1 / sum(1 / n for n in fan_in)
        here = 1 / sum(1 / n for n in fan_in[:layer])
        few = known and directions < min(FEW_DIRECTIONS, TRAINED * here)
        return bool(decided(random < FEW_DIRECTIONS or few))

    def _missing(self) -> float:
        """The share of `common` that variances of the next layer lack.

        Maps that reinforce the variance reinforce this share more; the root is a compromise.
        """
        cancellation = self._cancellation[-1]
        if cancellation > 0:
            self._missed = self._missed / sqrt(cancellation) + self._common[-1] * cancellation
        return self._missed

    def signs(self, mean: Array, layer_mean: Array, unit: float) -> Signs:
        """The signs of the whole propagation, given E[Y], E[X_L] and the unit of X̂_L."""
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
            if self._diagonal:
                self._correction += abs(self._missing())
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
                max((_zeros(affine.weight) for affine in self._maps[:-1]), default=0.0),
            )

    def _sum_of_variances(self, weight: Array, scale: Array) -> float:
        """The sum of the output variances, from Var[gᵀY] of order 2 for a few vectors g."""
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


def _zeros(weight: Array) -> float:
    """The share of zeros in the rows of a map (n, m) that have more than one entry beside 0."""
    dense = not is_foreign(weight) and np.count_nonzero(plain(weight)) == weight.size
    if dense or not has_numbers(weight):
        return 0.0
    with not_counting():  # where the weights are: they may be on another device
        entries = on_host((detached(weight) != 0).sum(axis=1))
    several = entries[entries > 1]
    return 1 - float(several.mean()) / weight.shape[1] if len(several) else 0.0


def _influence(squares: Array, rows: Array | None) -> Array:
    """The relative influence of each input of a map on all results: sums over columns."""
    sums: Array = squares.sum(axis=0)
    if rows is None:
        return sums
    with not_counting():  # unusual: counts of FLOPs depend on shapes alone
        relative = detached(rows) * (1 / float(detached(rows).max()))
        weighted: Array = (relative * relative) @ squares
        return weighted


def _ratio(a: float, b: float, otherwise: float = 0.0) -> float:
    return a / b if b > 0 else otherwise


def _shares(variances: Array) -> NDArray[np.float64]:
    """The shares of variances in their sum."""
    host = plain(variances)
    total = host.sum()
    shares: NDArray[np.float64] = host / total if total > 0 else np.full(len(host), 1 / len(host))
    return shares
