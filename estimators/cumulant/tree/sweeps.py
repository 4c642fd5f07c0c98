"""Slices of κ_3 and κ_4 of Z_t from all sources, in one sweep down and one up (docs/tree.md §3).

κ_4 of the sources is made of paths between pairs of neurons, which pass through any number of
layers, and of stars. All sources older than m reach Z_m through the same maps, and all younger ones
are read at X_m through one matrix, so that sums over pairs of sources are two recursions over m.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import iadd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import turned
from ..entrywise import entrywise
from ..symmetric_tensors import Slices, diagonal, zero_coincidences
from .profiles import ThroughProfile, profile, summed, through_profiles
from .sources import Own, Reading, product, through_edges, times_transpose

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

    @cached_property
    def fresh(self) -> Array:
        """The edges by fresh noise of a source that has younger ones."""
        return by_fresh_noise(self.A, self.reading.own)


def sweep(readings: Sequence[Reading], first_C: Array, pairs: bool) -> Sequence[Swept]:
    """All sources, the oldest first, from C° of Z_1; K of the oldest alone unless pairs are wanted.

    Cost: 2 M products of n×n for M sources.
    """
    oldest, *younger = _down(readings)
    swept = [replace(oldest, K=oldest.a @ first_C)]
    for source in younger:
        swept.append(replace(source, K=_up(swept[-1], source)) if pairs else source)
    return swept


def _down(readings: Sequence[Reading]) -> Sequence[Swept]:
    """a^m = Q^m + A^m w1 and A^{m-1} = a^m W_m, from the youngest source to the oldest."""
    swept = [Swept(readings[-1], None, readings[-1].Q)]
    for reading in readings[-2::-1]:
        A = swept[-1].a @ swept[-1].reading.own.weight
        swept.append(Swept(reading, A, _plus(reading.Q, A, reading.own.w1)))
    return swept[::-1]


def _up(older: Swept, source: Swept) -> Any:
    """K^m = (K^{m-1} w1 + SP^{m-1} + A^{m-1} v) W_mᵀ − a^m σ²."""
    before, own = older.reading.own, source.reading.own
    K = _plus(older.reading.at_birth, older.K, before.w1, older.fresh)
    return _less(K @ own.weight.T, source.a, own.variance_z)


@entrywise
def _plus(total: Array, matrix: Array, row: Array, other: Array | None = None) -> Any:
    total = total + matrix * row
    return total if other is None else total + other


@entrywise
def _less(total: Array, matrix: Array, row: Array) -> Any:
    return total - matrix * row


def by_fresh_noise(A: Array, own: Own) -> Array:
    """A diag(v): edges through what of X_m no Z_m explains, taken as independent neurons; with
    full edges, A (diag(v) + δC)."""
    through: tuple[Any, ...] = (None,) * 4
    if own.edges is not None:
        through = ThroughProfile(A, own.edges.y, own.edges.dC_y).factors
    edges: Array = _by_noise(A, own.variance_x, *through)
    return edges


@entrywise
def _by_noise(A: Array, variance_x: Array, shared: Any, dc: Any, rest: Any, c: Any) -> Any:
    edges = A * variance_x
    return edges if shared is None else edges + (shared * dc + rest * c)


def third_slices(readings: Sequence[Reading], pairs: bool) -> Slices:
    """κ_iii, and where pairs are wanted κ_iij, in both orders of i and j."""
    if not pairs:
        return {(3,): _sum(reading.third_alone() for reading in readings)}
    k21 = _sum(_two_and_one(reading) for reading in readings)
    own = diagonal(k21, (2,)).copy()
    return {(3,): own, (2, 1): zero_coincidences(k21), (1, 2): turned(k21)}


def _two_and_one(reading: Reading) -> Array:
    """κ_iij of one source: a third of the derivative of κ_iii in every leg, times the leg at j."""
    source, (in_U, in_V, in_D) = reading.source, reading.derivatives()
    k21 = times_transpose(reading.SP, source.P)
    k21 += times_transpose(in_U, source.U)
    k21 += times_transpose(in_V, source.V)
    k21 += times_transpose(in_D, source.D)
    if source.S is not None:
        k21 += times_transpose(reading.U2, source.S)
    return k21


def fourth_slices(sources: Sequence[Swept], pairs: bool) -> Slices:
    """κ_iiii, and where pairs are wanted κ_iiij and the tree half of κ_iijj."""
    oldest = sources[0]
    half_K = _half_sum(oldest.K, oldest.a, oldest.reading.own.variance_z)
    k4 = 6 * np.vecdot(half_K, oldest.a) + _sum(map(_fourth_alone, sources))
    if not pairs:
        return {(4,): k4}
    half = half_K @ oldest.a.T
    half += _sum(map(_half_of_two_and_two, sources))
    k31 = _sum(map(_three_and_one, sources))
    return {
        (4,): k4,
        (3, 1): zero_coincidences(k31),
        (2, 2): zero_coincidences(half + turned(half)),
    }


@entrywise
def _half_sum(total: Array, matrix: Array, row: Array) -> Any:
    return 0.5 * (total + matrix * row)


def _fourth_alone(source: Swept) -> Array:
    """κ_iiii of one source, and of the paths from it to younger ones."""
    x, A, own = source.reading, source.A, source.reading.own
    to_younger = (None, None, None) if A is None else (A, source.fresh, x.at_birth)
    shares = _four(
        x.P, x.U, source.a, *to_younger,
        own.rho, own.delta, own.d4, own.w3, own.variance_z, *x.R22.factors,
    )  # fmt: skip
    k4: Array = shares.sum(axis=-1)
    return k4


@entrywise
def _four(
    P: Array, U: Array, a: Array, A: Any, fresh: Any, at_birth: Any,
    rho: Array, delta: Array, d4: Array, w3: Array, variance_z: Array,
    shared: Array, dc: Array, rest: Array, c: Array,
) -> Any:  # fmt: skip
    """The share in κ_iiii of each neuron r of the source."""
    G, P2, U2 = P * U, P * P, U * U
    in_P2 = 3 * (shared * dc + rest * c) + U2 * (6 * rho) + G * (4 * delta) + P2 * d4
    share = in_P2 * P2 + U2 * (4 * w3) * G - a * (3 * variance_z) * a
    return share if A is None else share + 3 * ((fresh + 2 * at_birth) * A)


def _half_of_two_and_two(source: Swept) -> Any:
    """Z of one source, κ_iijj = Z + Zᵀ: its stars, and the paths from it to younger ones."""
    half = _stars(source.reading)
    if source.A is not None:
        own, A, x = source.reading.own, source.A, source.reading
        half += _ends(x.at_birth, source.fresh, x.Q, A, own.w1, own.variance_z) @ A.T
    return half


@entrywise
def _ends(at_birth: Array, fresh: Array, Q: Array, A: Array, w1: Array, variance_z: Array) -> Any:
    return 0.5 * fresh + at_birth - (Q + A * (0.5 * w1)) * (w1 * variance_z)


def _stars(reading: Reading) -> Any:
    """Trees about one neuron of the source: exact at first, through profiles from then on."""
    x, own = reading, reading.own
    if reading.is_new:
        G, in_G, in_P2 = _in_G_and_P2(
            x.P, x.U, x.Q, own.rho, own.w3, own.w2, own.tau, own.delta, own.d4,
            own.variance_z, *x.R22.factors,
        )  # fmt: skip
        stars = in_G @ G.T
        stars += in_P2 @ x.P2.T
        return stars
    half_R22 = [(0.5 * column, row) for column, row in x.R22.times_transpose()]
    alone = 0.5 * (own.d4 - own.tau * own.tau * own.variance_z)
    return summed(
        [
            *through_profiles(x.U2, profile(x.U2), own.rho, x.P2, x.profile),
            *half_R22,
            *through_profiles(x.P2, x.profile, alone, x.P2, x.profile),
        ]
    )


@entrywise
def _in_G_and_P2(
    P: Array, U: Array, Q: Array,
    rho: Array, w3: Array, w2: Array, tau: Array, delta: Array, d4: Array, variance_z: Array,
    shared: Array, dc: Array, rest: Array, c: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """G, and the factors of G and of P2 in the stars of a new source."""
    G, P2, U2 = P * U, P * P, U * U
    repeated, R22 = Q * variance_z, shared * dc + rest * c
    in_G = G * (2 * rho) + U2 * (2 * w3) - repeated * w2
    in_P2 = U2 * rho + P2 * (0.5 * d4) + G * (2 * delta) + 0.5 * (R22 - repeated * tau)
    return G, in_G, in_P2


def _three_and_one(source: Swept) -> Array:
    """κ_iiij of one source: ¼ of the derivative of κ_iiii in P and U, times their rows at j."""
    x, A, own = source.reading, source.A, source.reading.own
    in_P, in_U = _in_P_and_U(
        x.P, x.U, source.K, A,
        own.rho, own.delta, own.d4, own.w2, own.tau, own.w3, own.d3, *x.R22.factors,
        *through_edges(A, own),
    )  # fmt: skip
    k31: Array = in_P @ x.P.T
    k31 += in_U @ x.U.T
    return k31


@entrywise
def _in_P_and_U(
    P: Array, U: Array, K: Array, A: Any,
    rho: Array, delta: Array, d4: Array, w2: Array, tau: Array, w3: Array, d3: Array,
    shared: Array, dc: Array, rest: Array, c: Array,
    V: Any, V_row: Array | None, D: Any, D_row: Array | None,
) -> tuple[Array, Array]:  # fmt: skip
    """¼ of the derivatives of κ_iiii; the last arguments are those of edges through V and D."""
    G, P2, U2 = P * U, P * P, U * U
    R22, half_Q = shared * dc + rest * c, U * w2 + P * tau
    in_P = P * (U2 * (3 * rho) + G * (3 * delta) + P2 * d4 + 3 * R22)
    in_P = in_P + U * (U2 * w3) + 3 * (K * half_Q)
    in_U = P * (K * (3 * w2) + G * (3 * rho) + U2 * (3 * w3) + P2 * delta)
    if A is not None:
        in_P = in_P + 3 * (A * (U * tau + P * d3))
        in_U = in_U + 3 * (A * half_Q)
    if V is not None:
        through_V = 3 * product(V, V_row)
        in_P = in_P + (U * through_V + P * product(D, D_row))
        in_U = in_U + P * through_V
    return in_P, in_U


def _sum(parts: Iterable[Array]) -> Array:
    return reduce(iadd, parts)
