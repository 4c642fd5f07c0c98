"""Signs of a propagation's own errors (`cumprop.contract.Signs`), gathered layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import in_unit
from cumprop.contract import Signs
from cumprop.flops import component, counted, decided, has_numbers, not_counting, on_host, plain

from .batches import Number, applied, by_input, column, each, number, of_node, positive, ratio
from .neglected import Incoming, Table, common_bends, like, probes, unrecorded, without_gradients
from .standardised import AffineMap, Coefficients, Standardised, epsilon, variances

Array = NDArray[Any]

FEW_DIRECTIONS = 10.0
"""With fewer directions, the common part of the bends of a layer's neurons is computed."""
TRAINED = 0.6
"""The share of the directions of random weights that every random network exceeds."""


@dataclass
class Layer:
    """A hidden layer X̂ = centre + slope Ẑ + rest, with `variance`; `bent` is that of the rest.

    `squares` are the squares of the next map. `effect` is the shift of E[X̂] by cumulants beyond
    the second, `scattered` its square if neurons are independent, and `rounded` the expected
    squared error of arithmetic in E[X̂]. `before` is Cov[X̂_{l-1}], None for neurons that are
    `independent` with these variances (None: 1).
    """

    w: Table
    incoming: Incoming
    variance: Array
    bent: Array
    effect: Array
    scattered: Array
    rounded: Array
    squares: Array
    before: Array | None
    independent: Array | None


class Evidence:
    """Gathers signs; X̂, Ẑ and w(k,p) have the meaning of `propagation.propagate`.

    `leading` says that cumulants beyond the second are left out, so that their effect is computed
    here, from the κ_3 of each layer's own nonlinearity: with A = W diag(w1) C°, the coefficients w
    of the layer before and C its correlations,

        κ_iii ≈ Σ_r [W_ir³ κ_3(X_r) + 3 W_ir² τ_r A_ir + 3 W_ir w2_r A_ir²],  τ = w(1,2) - 2 w01 w1.

    Otherwise the effect is their change of E[X]. Under a batch of inputs, arrays and numbers have
    one more axis, the first. Cost: about 25 n² FLOPs per layer and 50 n² at the end; no product of
    two n×n matrices.
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
        fan_in = [1 / affine.weight.shape[1] for affine in maps[:-1]]
        self._random = [1 / total for total in accumulate(fan_in)]
        self._last: Layer | None = None
        self._participation, self._nonlinearity = list[Number](), list[Number]()
        self._cancellation, self._common = list[Number](), list[Number]()
        self._correction: Number = 0.0
        self._missed: Number = 0.0
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
        with component("error"):
            if self._last is None and before is None:
                before = self._input
            last = self._last
            incoming = Incoming.of(z, None if last is None else last.squares)
            w = without_gradients(table, incoming.weight.dtype)
            centre, slope = w(0, 1), w(1, 1)
            variance = np.maximum(w(0, 2) - centre * centre, 0)
            linear = slope * slope
            bent = np.maximum(variance - linear, 0)
            if last is None:
                effect = scattered = np.zeros_like(slope)
            else:
                reached = incoming.variances(last.variance)
                self._cancellation.append(number(reached.sum(axis=-1)) / reached.shape[-1])
                if self._leading:
                    shift = self._left_out(incoming, last, w, before, half)
                else:
                    shift = unrecorded(mean).astype(slope.dtype, copy=False) - centre
                effect = shift + slope * incoming.means(last.effect)
                scattered = shift * shift + linear * incoming.variances(last.scattered)
            rounded = linear * self._rounding(z, incoming)
            if w.tolerance > 0:
                rounded = rounded + w.tolerance**2 * w(0, 2)
            following = self._maps[len(self._nonlinearity) + 1]
            squares = unrecorded(following.weight) * unrecorded(following.weight)
            influence = _influence(squares, following.rows)
            total = number(variance @ influence)
            self._nonlinearity.append(ratio(number(bent @ influence), total))
            common: Number = 0.0
            if z.covariance is not None:
                share = variance * influence * column(1 / positive(total), variance)
                common = self._find_directions(unrecorded(z.C), w, share, variance, squares)
            self._common.append(common)
            own = variance
            if C is not None and not self._leading:
                own = variances(unrecorded(C))
                changes = number(np.abs(own - variance) @ influence)
                self._correction = self._correction + ratio(changes, total)
            self.variances.append(in_unit(on_host(own).astype(np.float64), w.size * w.size))
            independent = None if last is None else last.variance
            self._last = Layer(
                w, incoming, variance, bent, effect, scattered, rounded, squares, before,
                independent,
            )  # fmt: skip

    def _rounding(self, z: Standardised, incoming: Incoming) -> Array:
        """The squared errors of Ẑ: an ulp of each neuron, and `rounded` of the layer before."""
        size = self._unit if self._last is None else self._last.w.size
        unit = in_unit(unrecorded(z.spread), size)
        if z.affine.rows is not None:
            unit = unit * unrecorded(z.affine.rows)
        eps = epsilon(unit.dtype)
        ulp = eps * (np.abs(unrecorded(z.mean)) / unit + 1)
        squares: Array = ulp * ulp
        if self._last is not None:
            squares = squares + incoming.variances(self._last.rounded)
        return squares

    def _left_out(
        self, incoming: Incoming, last: Layer, w: Table, before: Array | None, half: Array | None
    ) -> Array:
        """The shift of E[X̂] by the cumulants beyond the second that the order leaves out."""
        third = incoming.third_cumulants(last.w, last.variance, before, half)
        shift: Array = third * w(3, 1) * (1 / 6)
        if self._diagonal:
            shift = shift + column(0.5 * self._missing(), shift) * w(2, 1)
        return shift

    def _find_directions(
        self, C: Array, w: Table, share: Array, variance: Array, next_squares: Array
    ) -> Number:
        """Add the directions of a layer, and return the `common` part of its bends."""
        squares = C * C
        directions = ratio(1.0, number(np.vecdot(share, applied(squares, share))), 1.0)
        self._participation.append(directions)
        few = self._few(directions, has_numbers(C))
        if not any(few):
            return 0.0 * directions
        outward = unrecorded(self._maps[len(self._nonlinearity)].weight)
        w2, w3, independent = w(2, 1), w(3, 1), applied(next_squares, variance)
        if w2.ndim == 1:
            return common_bends(w2, w3, C, squares, outward, independent)
        return np.array(
            [
                common_bends(
                    w2[b], w3[b], of_node(C, b, 2), of_node(squares, b, 2), outward, independent[b]
                )
                if few_here
                else 0.0
                for b, few_here in enumerate(few)
            ]
        )

    def _few(self, directions: Number, known: bool) -> Sequence[bool]:
        """Whether the layer has few directions: by the shape of the network, or fewer than random.

        FLOPs of random networks therefore depend on their shape alone.
        """
        random = self._random[len(self._nonlinearity) - 1]
        always, least = self._random[-1] < FEW_DIRECTIONS, min(FEW_DIRECTIONS, TRAINED * random)
        few: Sequence[bool] = decided(
            tuple(always or (known and found < least) for found in each(directions))
        )
        return few

    def _missing(self) -> Number:
        """The share of `common` that variances of the next layer lack.

        Maps that reinforce the variance reinforce this share more; the root is a compromise.
        """
        cancellation = self._cancellation[-1]
        grown = self._missed / positive(cancellation) ** 0.5
        self._missed = grown + self._common[-1] * cancellation
        return self._missed

    def signs(self, mean: Array, layer_mean: Array, unit: float) -> list[Signs]:
        """The signs for each input, one unless for a batch, given E[Y], E[X_L], the unit of X̂_L."""
        with component("error"):
            affine, last = self._maps[-1], self._last
            weight = unrecorded(affine.weight)
            sizes = on_host(applied(np.abs(weight), np.abs(unrecorded(layer_mean))))
            rows = counted(np.ones(len(weight)))  # in float64, which squares do not leave
            if affine.rows is not None:
                rows = rows * on_host(affine.rows)
            host, scale = on_host(unrecorded(mean)).astype(np.float64), rows * unit
            total = self._sum_of_variances(affine, unit)
            ulps = epsilon(weight.dtype) * (np.abs(host) + sizes * rows)
            squares, independent, neglected = ulps * ulps, rows, 0.0
            if last is not None:
                area = scale * scale
                independent = on_host(applied(last.squares, last.variance)) * area
                self._cancellation.append(ratio(number(independent.sum(axis=-1)), total, 1.0))
                if self._diagonal:
                    self._correction = self._correction + abs(self._missing())
                effect = on_host(applied(weight, last.effect)) * scale
                scattered = on_host(applied(last.squares, last.scattered)) * area
                neglected = number((effect * effect + scattered).sum(axis=-1))
                rounded = on_host(applied(last.squares, last.rounded))
                squares = squares + rounded * area
            off = ratio(neglected, total) ** 0.5
            errors = (off, self._correction**0.5, number(squares.sum(axis=-1)) ** 0.5, total)
            common = [abs(a * b) for a, b in zip(self._common, self._cancellation, strict=True)]
            lists = (self._participation, self._nonlinearity, self._cancellation, common, errors)
            layers = [by_input(numbers, host.shape[:-1]) for numbers in lists]
            shares = _shares(independent)
            dealt = shares if shares.ndim > 1 else [shares] * len(layers[0])
            maps = [affine for affine in self._maps[:-1] if not affine.dense]
            zeros = max((_zeros(affine.weight) for affine in maps), default=0.0)
            return [
                Signs(p, nu, c, both, *error, share, zeros)  # type: ignore[call-arg]
                for p, nu, c, both, error, share in zip(*layers, dealt, strict=True)
            ]

    def _sum_of_variances(self, affine: AffineMap, unit: float) -> Number:
        """The sum of the output variances, from Var[gᵀY] of order 2 for a few vectors g."""
        weight = unrecorded(affine.weight)
        last, (g, share) = self._last, probes(len(weight))
        if affine.rows is not None:
            rows = on_host(affine.rows)
            largest = float(rows.max())
            g, unit = (rows * (1 / largest))[:, None] * g, unit * largest
        v = weight.T @ like(weight, g)
        C, independent, own = self._input, None, 0.0
        if last is not None:
            own = last.bent @ (v * v).sum(axis=1)
            v = last.incoming.transposed(last.w(1, 1), v)
            C, independent = last.before, last.independent
        if C is not None:
            spread = v * (unrecorded(C) @ v)
        else:
            spread = v * v if independent is None else independent[..., None] * (v * v)
        total = number(spread.sum(axis=(-2, -1)) + own)
        return np.maximum(total, 0.0) * (share * unit * unit)


def _zeros(weight: Array) -> float:
    """The share of zeros in the rows of a map (n, m) that have more than one entry beside 0."""
    if not has_numbers(weight):
        return 0.0
    with not_counting():  # where the weights are: they may be on another device
        entries = on_host((unrecorded(weight) != 0).sum(axis=1))
    several = entries[entries > 1]
    return 1 - float(several.mean()) / weight.shape[1] if len(several) else 0.0


def _influence(squares: Array, rows: Array | None) -> Array:
    """The relative influence of each input of a map on all results: sums over columns."""
    sums: Array = squares.sum(axis=0)
    if rows is None:
        return sums
    with not_counting():  # unusual: counts of FLOPs depend on shapes alone
        relative = unrecorded(rows) * (1 / float(unrecorded(rows).max()))
        weighted: Array = (relative * relative) @ squares
        return weighted


def _shares(variances: Array) -> Any:
    """The shares of variances in their sum, all equal where it is 0."""
    shares: Array = plain(variances)
    totals = shares.sum(axis=-1, keepdims=True)
    if not totals.all():
        shares = np.where(totals > 0, shares, 1.0)
        totals = np.where(totals > 0, totals, float(shares.shape[-1]))
    return shares / totals
