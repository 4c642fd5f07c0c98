"""Order 3, kind tree, at n³: κ_3 and the trees of κ_4 as sums over sources (docs/tree.md).

Every layer is a source: it keeps the legs of what it adds to κ_3 and κ_4. Two sweeps over the
sources give all slices of a layer on one and two neurons; what κ_4 adds to κ_3 in an activation
changes the legs. Cost: 59 products of n×n at L=4, growing as L².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import power
from cumprop.contract import ThirdCumulants
from cumprop.flops import component, not_counting
from cumprop.networks import MLP

from ..batches import turned
from ..entrywise import entrywise
from ..kinds import Scheme
from ..propagation import Propagated, metric_scales, propagate
from ..standardised import Coefficients, Standardised, Wanted, scaled
from ..symmetric_tensors import Slices, diagonal, zero_coincidences
from .pair_slices import slices_of_x
from .sources import FullEdges, Own, Reading, Source
from .sweeps import Swept, fourth_slices, sweep, third_slices

Array = NDArray[Any]

RANK_ONE = frozenset({"S"})
"""The legs of rank one from a source's second reading on."""
FULL_FROM, FULL_PER_LAYER = 512, 64
"""Edges are full by default where every hidden layer has so many neurons, and so many a layer."""
SMALLEST_UNIT = 1e-6
"""The least unit of a neuron relative to the largest of its layer, for fourth powers in range."""


@dataclass(frozen=True)
class Tracked:
    """The tracked parts of X̂_l: mean, C (None for I), the sources up to l, and C° of Ẑ_1.

    Sources have X̂_l in `units` of its neurons.
    """

    mean: Array
    C: Array | None
    units: Array | None = None
    sources: tuple[Source, ...] = ()
    first_C: Array | None = None

    def third(self, weight: Array) -> ThirdCumulants | None:
        if not self.sources:
            return None
        legs = [source.transform(weight * self.units).third_legs() for source in self.sources]
        return ThirdCumulants(*map(np.hstack, zip(*legs, strict=True)))


def run(network: MLP, scheme: Scheme, cov: bool, third: bool) -> Propagated:
    """Propagate κ_1, κ_2 and the sources of κ_3 and κ_4."""
    scheme = replace(scheme, edges=scheme.edges or edges_of(network.widths[1:-1]))
    scales = metric_scales(network, scheme.order, "exact")
    return propagate(network, Tracked, partial(step, scheme=scheme), scales, cov, third)


def step(
    x: Tracked,
    z: Standardised,
    w: Coefficients,
    wanted: Wanted,
    scheme: Scheme,
    rank_one: frozenset[str] = RANK_ONE,
) -> Tracked:
    """X̂_l from X̂_{l-1}: all of it, or at the last layer what is `wanted` of it."""
    with component("linear"):
        weight = None if x.units is None else incoming(z, x.units)
        slices, sources = linear(x, z, weight, wanted)
    with component("nonlinear"):
        in_units = InUnits.of(z, w)
        older = activated(sources, in_units, rank_one) if wanted == "all" else ()
        del sources  # the expansion below is large
        return nonlinear(x, z, weight, in_units, wanted, slices, older, scheme)


def edges_of(hidden: Sequence[int]) -> str:
    """The better of leading and full edges for these widths, as measured (docs/tree.md §8)."""
    wide = min(hidden, default=0) >= max(FULL_FROM, FULL_PER_LAYER * len(hidden))
    return "full" if wide else "leading"


@dataclass(frozen=True)
class InUnits:
    """The Wick coefficients of X̂ in `units`: the standard deviations of Z, relative to the largest.

    Profiles weigh neurons by their units, so that a rescaled neuron of a ReLU layer keeps its
    weight. Constant neurons have the smallest units, so that profiles pass them over.
    """

    w: Coefficients
    units: Array
    known: dict[tuple[int, int], Array] = field(default_factory=dict)

    @classmethod
    def of(cls, z: Standardised, w: Coefficients) -> InUnits:
        sigma = z.spread if z.affine.rows is None else z.spread * z.affine.rows
        if z.constant is not None:
            with not_counting():
                sigma = np.where(z.constant, 0 * sigma, sigma)
        largest = float(sigma.max()) or 1.0
        return cls(w, np.maximum(sigma * (1 / largest), SMALLEST_UNIT))

    def __call__(self, k: int, p: int) -> Array:
        found = self.known.get((k, p))
        if found is None:
            found = self.known[k, p] = self.w(k, p) / self.powers[p]
        return found

    @cached_property
    def powers(self) -> dict[int, Array]:
        """The powers of the units."""
        return {p: power(self.units, p) for p in range(1, 5)}


def incoming(z: Standardised, units: Array) -> Array:
    """The map from X̂_{l-1} in units of its neurons to Ẑ_l; constant neurons have no cumulants."""
    weight: Array = scaled(z.affine.weight, i(z.inverse), units)
    if z.constant is None:
        return weight
    with not_counting():
        return np.where(z.constant[:, None], 0 * weight, weight)


def linear(
    x: Tracked, z: Standardised, weight: Array | None, wanted: Wanted
) -> tuple[Slices, Sequence[Swept]]:
    """W on every leg; slices of κ(Ẑ) of one neuron, of pairs unless only the mean is wanted.

    `weight` is the map from X̂_{l-1} in units of its neurons, None at the input.
    """
    pairs = wanted != "mean"
    C: Slices = {(1, 1): zero_coincidences(z.C)} if pairs else {}
    if weight is None:
        return C, ()
    assert x.first_C is not None
    readings = [Reading(source.transform(weight)) for source in x.sources]
    sources = sweep(readings, x.first_C, pairs)
    return {**C, **third_slices(readings, pairs), **fourth_slices(sources, pairs)}, sources


def activated(sources: Sequence[Swept], w: InUnits, rank_one: frozenset[str]) -> tuple[Source, ...]:
    """The older sources in X̂_l."""
    w1, w2 = w(1, 1), w(2, 1)
    return tuple(
        source.reading.activate(w1, w2, source.A, source.K, rank_one) for source in sources
    )


def nonlinear(
    x: Tracked,
    z: Standardised,
    weight: Array | None,
    w: InUnits,
    wanted: Wanted,
    slices: Slices,
    older: tuple[Source, ...],
    scheme: Scheme,
) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), and a new source beside the `older` ones."""
    exact, units = slices_of_x(slices, w, scheme, wanted), w.units
    mean = exact[1,] * units
    if wanted == "mean":
        return Tracked(mean, None)
    C = scaled(exact[1, 1], i(units), units)
    diagonal(C, (2,))[...] = exact[2,] * units * units
    if wanted == "covariance":
        return Tracked(mean, C)
    first = slices[1, 1] if x.first_C is None else x.first_C
    new = source_of(exact, slices, w, z.variance, weight, scheme.edges == "full")
    return Tracked(mean, C, units, (*older, new), first)


def source_of(
    x: Slices, known: Slices, w: InUnits, variance_z: Array, weight: Array | None, full_edges: bool
) -> Source:
    """The new source, of slices of X and `known` ones of Z; what it has of repeated neurons are
    exact slices less what sources carry there. Rows are neurons i, columns j; i(v) stands for v_i.
    """
    C, mean, variance = known[1, 1], x[1,], x[2,]
    w1, w2, w3 = w(1, 1), w(2, 1), w(3, 1)
    tau = w(1, 2) - 2 * mean * w1
    rho = w(2, 2) - 2 * mean * w2 - 2 * w1 * w1
    delta = w(1, 3) - 3 * mean * w(1, 2) + 3 * (mean * mean - variance) * w1

    higher = map(known.get, ((2, 1), (1, 2), (2, 2), (3, 1)))  # None in the first layer
    U, V, d21, d22, rest = _pairs(
        C, *higher, x[1, 1], x[2, 1], x[2, 2],
        *map(i, (w1, w2, tau, rho)), w1, w2, w3, tau, rho,
    )  # fmt: skip
    d3, d4 = x[3,], x[4,]
    if weight is not None:
        z3, z4 = known[3,], known[4,]
        d3 = d3 - w1 * w1 * (w1 * z3 + 1.5 * w2 * z4)
        d4 = d4 - w1 * w1 * (w1 * w1 * z4 + 6 * tau * z3)
    d22 = zero_coincidences(d22)
    D = zero_coincidences(turned(d21))
    edges = FullEdges.of(rest, V, D) if full_edges else None
    own = Own(weight, w1, w2, w3, tau, rho, delta, d3, d4, d22, variance_z, variance, edges)
    return Source(own, None, U, V, D)


@entrywise
def _pairs(
    C: Array, z21: Any, z12: Any, z22: Any, z31: Any, x11: Array, x21: Array, x22: Array,
    w1: Array, w2: Array, tau: Array, rho: Array,
    w1_j: Array, w2_j: Array, w3_j: Array, tau_j: Array, rho_j: Array,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    """U, V, 3 δ_iij, δ_iijj, and what w1 C w1 leaves of Cov X."""
    U, U_j = edge, edge_j = w1 * C, w1_j * C
    V = (C * C * 0.5) * w2 * w3_j
    d22 = x22 - (tau * C * tau_j + edge * edge * rho_j + edge_j * edge_j * rho)
    if z21 is not None:
        U, U_j = edge + (0.5 * w2) * z21, edge_j + (0.5 * w2_j) * z12
        V = V + ((0.5 * w1) * z12 + (0.25 * w2) * z22) * w3_j
        x21 = x21 - (w1 * w1) * (z21 * w1_j + z22 * (0.5 * w2_j)) - (w1 * w2) * (z31 * w1_j)
        d22 = d22 - (w1 * w1) * (z21 * tau_j + z22 * (w1_j * w1_j)) - (w1_j * w1_j) * z12 * tau
    d21 = x21 - (tau * U_j + U * (U * w2_j + 2 * V))
    return U, V, 3 * d21, d22, x11 - edge * w1_j


def i(vector: Array) -> Array:
    """A vector over rows."""
    return vector[:, None]
