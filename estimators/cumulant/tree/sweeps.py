"""Slices of κ_3 and κ_4 of Z_t from all sources, in one sweep down and one up (docs/tree.md §3).

κ_4 of the sources is made of paths between pairs of neurons, which pass through any number of
layers, and of stars. All sources older than m reach Z_m through the same maps, and all younger ones
are read at X_m through one matrix, so that sums over pairs of sources are two recursions over m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import turned
from ..symmetric_tensors import Slices, diagonal, zero_coincidences
from .profiles import ThroughProfile, through_profiles
from .sources import Leg, Own, Reading, from_left, row_products, times_transpose, values

Array = NDArray[Any]


@dataclass(frozen=True)
class Swept:
    """A source in Z_t and the paths through it, matrices [i in Z_t, r in the layer of the source].

    `A` is what κ_ii changes with the mean of X_r through younger sources, None of the youngest;
    `a` what it changes with the mean of Z_r, and `K` = κ(Z_i, Z_i, Z_r) by all sources, without the
    terms that repeat r (None where it is not wanted).
    """

    reading: Reading
    A: Any
    a: Array
    K: Any = None


def sweep(readings: Sequence[Reading], first_covariance: Array, pairs: bool) -> Sequence[Swept]:
    """All sources, the oldest first, from Cov Z_1; K of the oldest alone unless pairs are wanted.

    Cost: 2 M products of n×n for M sources.
    """
    oldest, *younger = _down(readings)
    K = oldest.a @ first_covariance - oldest.a * oldest.reading.own.variance_z
    swept = [replace(oldest, K=K)]
    for source in younger:
        swept.append(replace(source, K=_up(swept[-1], source)) if pairs else source)
    return swept


def _down(readings: Sequence[Reading]) -> Sequence[Swept]:
    """a^m = Q^m + A^m w1 and A^{m-1} = a^m W_m, from the youngest source to the oldest."""
    swept = [Swept(readings[-1], None, readings[-1].Q)]
    for reading in readings[-2::-1]:
        A = swept[-1].a @ swept[-1].reading.own.weight
        swept.append(Swept(reading, A, reading.Q + A * reading.own.w1))
    return swept[::-1]


def _up(older: Swept, source: Swept) -> Any:
    """K^m = (K^{m-1} w1 + SP^{m-1} + A^{m-1} v) W_mᵀ − a^m σ²."""
    before, own = older.reading.own, source.reading.own
    K = older.K * before.w1 + older.reading.at_birth + by_fresh_noise(older.A, before)
    return K @ own.weight.T - source.a * own.variance_z


def by_fresh_noise(A: Array, own: Own) -> Array:
    """A diag(v): edges through what of X_m no Z_m explains, taken as independent neurons; with
    full edges, A (diag(v) + δC)."""
    edges: Array = A * own.variance_x
    if own.edges is not None:
        edges += ThroughProfile(A, own.edges.y, own.edges.dC_y).matrix()
    return edges


def third_slices(readings: Sequence[Reading], pairs: bool) -> Slices:
    """κ_iii, and κ_iij where pairs are wanted: the derivative of κ_iii in every leg times the leg
    at j."""
    if not pairs:
        return {(3,): _sum(_third(reading, row_products) for reading in readings)}
    k21 = _sum(_third(reading, times_transpose) for reading in readings)
    return {(3,): diagonal(k21, (2,)).copy(), (2, 1): zero_coincidences(k21)}


def _third(reading: Reading, times: Callable[[Array, Leg], Array]) -> Array:
    source = reading.source
    k21 = times(reading.SP, reading.P)
    k21 += times(reading.SU, reading.U)
    k21 += times(2 * reading.G, source.V)
    k21 += times(reading.P2 * (1 / 3), source.D)
    if source.S is not None:
        k21 += times(reading.U2, source.S)
    return k21


def fourth_slices(sources: Sequence[Swept], pairs: bool) -> Slices:
    """κ_iiii, and where pairs are wanted κ_iiij and the tree half of κ_iijj."""
    oldest = sources[0]
    K = oldest.K + oldest.a * oldest.reading.own.variance_z
    k4 = 3 * np.vecdot(K, oldest.a) + _sum(map(_fourth_alone, sources))
    if not pairs:
        return {(4,): k4}
    half = (0.5 * K) @ oldest.a.T
    half += _sum(map(_half_of_two_and_two, sources))
    k31 = _sum(map(_three_and_one, sources))
    return {
        (4,): k4,
        (3, 1): zero_coincidences(k31),
        (2, 2): zero_coincidences(half + turned(half)),
    }


def _fourth_alone(source: Swept) -> Array:
    """κ_iiii of one source, and of the paths from it to younger ones."""
    reading, A, a = source.reading, source.A, source.a
    own, G, P2, U2 = reading.own, reading.G, reading.P2, reading.U2
    k4: Array = np.vecdot(U2 * (6 * own.rho) + G * (4 * own.delta) + P2 * own.d4, P2)
    k4 += np.vecdot(U2 * (4 * own.w3), G) + 3 * np.vecdot(reading.R22.matrix(), P2)
    k4 -= 3 * np.vecdot(a * own.variance_z, a)
    if A is not None:
        k4 += 3 * np.vecdot(by_fresh_noise(A, own) + 2 * reading.at_birth, A)
    return k4


def _half_of_two_and_two(source: Swept) -> Any:
    """Z of one source, κ_iijj = Z + Zᵀ: its stars, and the paths from it to younger ones."""
    half = _stars(source.reading)
    if source.A is not None:
        own, A = source.reading.own, source.A
        ends = 0.5 * by_fresh_noise(A, own) + source.reading.at_birth
        ends -= (source.reading.Q + A * (0.5 * own.w1)) * (own.w1 * own.variance_z)
        half += ends @ A.T
    return half


def _stars(reading: Reading) -> Any:
    """Trees about one neuron of the source: exact at first, through profiles from then on."""
    own, G, P2, U2 = reading.own, reading.G, reading.P2, reading.U2
    if reading.is_new:
        repeated = reading.Q * own.variance_z
        stars = (G * (2 * own.rho) + U2 * (2 * own.w3) - repeated * own.w2) @ G.T
        squares = U2 * own.rho + P2 * (0.5 * own.d4) + G * (2 * own.delta)
        squares += 0.5 * (reading.R22.matrix() - repeated * own.tau)
        stars += squares @ P2.T
    else:
        stars = through_profiles(U2, own.rho, P2) + 0.5 * reading.R22.times_transpose()
        alone = 0.5 * (own.d4 - own.tau * own.tau * own.variance_z)
        stars += through_profiles(P2, alone, P2)
    return stars


def _three_and_one(source: Swept) -> Array:
    """κ_iiij of one source: ¼ of the derivative of κ_iiii in P and U, times their rows at j."""
    reading, A, K = source.reading, source.A, source.K
    own, P, U, G, P2, U2 = (
        reading.own, reading.P, reading.U, reading.G, reading.P2, reading.U2,
    )  # fmt: skip
    in_p = U2 * (3 * own.rho) + G * (3 * own.delta) + P2 * own.d4 + 3 * reading.R22.matrix()
    half_q = U * own.w2 + P * own.tau
    in_p = P * in_p + U * (U2 * own.w3) + 3 * (K * half_q)
    in_u = P * (K * (3 * own.w2) + G * (3 * own.rho) + U2 * (3 * own.w3) + P2 * own.delta)
    if A is not None:
        in_p += 3 * (A * (U * own.tau + P * own.d3))
        in_u += 3 * (A * half_q)
        if own.edges is not None:
            through_V = 3 * values(from_left(A, own.edges.V))
            in_p += U * through_V + P * values(from_left(A, own.edges.D))
            in_u += P * through_V
    k31: Array = in_p @ P.T
    k31 += in_u @ U.T
    return k31


def _sum(parts: Iterable[Array]) -> Array:
    return reduce(iadd, parts)
