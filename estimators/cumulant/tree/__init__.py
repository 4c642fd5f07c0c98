"""Order 3, kind tree, at n³: κ_3 and the trees of κ_4 as sums over sources (docs/tree.md).

Every layer is a source: it keeps the legs of what it adds to κ_3 and κ_4. Two sweeps over the
sources give all slices of a layer on one and two neurons; what κ_4 adds to κ_3 in an activation
changes the legs. Cost: 59 products of n×n at L=4, growing as L².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import component
from cumprop.networks import MLP

from ..kinds import Scheme
from ..propagation import Propagated, propagate
from ..standardised import Coefficients, Standardised, Wanted
from ..symmetric_tensors import Slices, diagonal, zero_coincidences
from .pair_slices import SlicesOfX
from .sources import Own, Reading, Source
from .sweeps import Swept, fourth_slices, sweep, third_slices

Array = NDArray[Any]

RANK_ONE = frozenset({"S"})
"""The legs of rank one from a source's second reading on."""


@dataclass(frozen=True)
class Tracked:
    """What is tracked of X̂_l: mean, C (None for I), the sources up to l, and Cov[Ẑ_1]."""

    mean: Array
    C: Array | None
    sources: tuple[Source, ...] = ()
    first_covariance: Array | None = None


@dataclass(frozen=True)
class PreActivation:
    """Ẑ_l: slices of κ_3 and κ_4 of one neuron, of pairs (and C) where wanted; the sources."""

    slices: Slices
    sources: Sequence[Swept]


def run(network: MLP, scheme: Scheme, cov: bool) -> Propagated:
    """Propagate κ_1, κ_2 and the sources of κ_3 and κ_4."""
    scales: list[float | None] = [None] * (network.depth + 1)
    return propagate(network, Tracked, partial(step, scheme=scheme), scales, cov)


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
        read = linear(x, z, wanted)
    with component("nonlinear"):
        return nonlinear(x, z, read, w, wanted, scheme, rank_one)


def linear(x: Tracked, z: Standardised, wanted: Wanted) -> PreActivation:
    """W on every leg, and all slices of κ_3 and κ_4; of pairs unless only the mean is wanted."""
    pairs = wanted != "mean"
    slices: dict[tuple[int, ...], Array] = {(1, 1): zero_coincidences(z.C)} if pairs else {}
    if not x.sources:
        return PreActivation(slices, ())
    assert x.first_covariance is not None
    readings = [Reading(source.transform(z.weight)) for source in x.sources]
    sources = sweep(readings, x.first_covariance)
    slices |= third_slices(readings, pairs)
    slices |= fourth_slices(sources, pairs)
    return PreActivation(slices, sources)


def nonlinear(
    x: Tracked,
    z: Standardised,
    read: PreActivation,
    w: Coefficients,
    wanted: Wanted,
    scheme: Scheme,
    rank_one: frozenset[str],
) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), the older sources, and a new one."""
    exact = SlicesOfX(read.slices, w, scheme)
    mean = exact.mean
    if wanted == "mean":
        return Tracked(mean, None)
    variance = exact.own(2)
    C = exact.C.copy()
    diagonal(C, (2,))[...] = variance
    if wanted == "covariance":
        return Tracked(mean, C)
    first = z.C if x.first_covariance is None else x.first_covariance
    variance_z = diagonal(z.C, (2,)).copy()
    incoming = z.weight if x.sources else None
    new = source_of(exact, read.slices, w, incoming, variance_z)
    del exact  # the expansion is large
    older = (s.reading.activate(w(1, 1), w(2, 1), s.A, s.K, rank_one) for s in read.sources)
    return Tracked(mean, C, (*older, new), first)


def source_of(
    x: SlicesOfX, slices: Slices, w: Coefficients, weight: Array | None, variance_z: Array
) -> Source:
    """The new source: its parts on repeated neurons are exact slices less what sources carry there.

    Rows are neurons i, columns j; i(v) stands for v_i.
    """
    C = slices[1, 1]
    zero = np.zeros_like(C)
    none = {(3,): zero[0], (2, 1): zero, (4,): zero[0], (3, 1): zero, (2, 2): zero}
    z = none | dict(slices)
    w1, w2, w3, mean, variance = w(1, 1), w(2, 1), w(3, 1), x.mean, x.own(2)
    tau = w(1, 2) - 2 * mean * w1
    rho = w(2, 2) - 2 * mean * w2 - 2 * w1 * w1
    delta = w(1, 3) - 3 * mean * w(1, 2) + 3 * (mean * mean - variance) * w1

    edge = i(w1) * C
    U = edge + i(0.5 * w2) * z[2, 1]
    V = (C * C * 0.5 + z[2, 2] * 0.25) * i(w2) * w3 + z[2, 1].T * (i(0.5 * w1) * w3)
    d3 = x.own(3) - w1 * w1 * (w1 * z[3,] + 1.5 * w2 * z[4,])
    d21 = x.k21 - i(w1 * w1) * (z[2, 1] * w1 + z[2, 2] * (0.5 * w2))
    d21 -= i(tau) * U.T + U * (U * w2 + 2 * V) + i(w1 * w2) * (z[3, 1] * w1)
    d4 = x.own(4) - w1 * w1 * (w1 * w1 * z[4,] + 6 * tau * z[3,])
    ends = i(0.5 * tau) * C * tau + i(w1 * w1) * z[2, 1] * tau + edge * edge * rho
    d22 = x.k22 - i(w1 * w1) * (z[2, 2] * (w1 * w1)) - (ends + ends.T)
    own = Own(
        weight, w1, w2, w3, tau, rho, delta, d3, d4, zero_coincidences(d22),
        variance_z, variance_x=variance,
    )  # fmt: skip
    return Source(own, None, U, V, zero_coincidences(3 * d21.T))


def i(vector: Array) -> Array:
    """A vector over rows."""
    return vector[:, None]
