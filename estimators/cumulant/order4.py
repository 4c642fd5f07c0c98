"""Order 4, kind basic, at n⁴: κ_4 as a sum over its sources, the layers that add to it (§4.2).

κ_3 is a dense tensor here, and with r running over the neurons of one source

    κ_4 = Sym Σ_sources Σ_r P_r ⊗ [U_r ⊗ B1_r + P_r ⊗ B2_r],

with a symmetric matrix B1_r and B2_r for every r. Only the slice T_ijk = κ_4[i,i,j,k] is ever
formed; at all indices, so that it holds the slices (4), (3,1) and (2,2) too. Everything n³ is done
one n×n slab at a time. The numbers are those of the dense algorithm. Cost: 16 n⁴ FLOPs per source
and layer, about 80 n⁴ at L=4; memory: two n³ arrays per source and some five more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import alike, component
from cumprop.networks import MLP

from .batches import turned
from .dense import PowerCumulants, Sliced, slice_of_x
from .diagrams import Block
from .edges import Edges
from .entrywise import entrywise
from .kinds import Scheme
from .propagation import KnownSlices, Propagated, metric_scales, propagate
from .standardised import Coefficients, Standardised, Wanted
from .symmetric_tensors import TracePart, diagonal, off_diagonal, transform_legs

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Legs P (None for I) and U, (n, R), and matrices B1, B2, (R, n, n), of one layer's κ_4."""

    P: Array | None
    U: Array
    B1: Array
    B2: Array

    def transform(self, weight: Array) -> Source:
        P = weight if self.P is None else weight @ self.P
        both = (transform_slabs(B, weight) for B in (self.B1, self.B2))
        return Source(P, weight @ self.U, *both)

    def diagonal_after(self, weight: Array) -> Array:
        """The slice κ_iiii of W X, without transforming the matrices in full."""
        P = weight if self.P is None else weight @ self.P
        U = weight @ self.U
        B1_ii, B2_ii = (
            np.stack([np.vecdot(weight @ slab, weight) for slab in B], axis=1)
            for B in (self.B1, self.B2)
        )
        k4: Array = (P * (U * B1_ii + P * B2_ii)).sum(axis=1)
        return k4

    def add_slice_to(self, T: Array) -> None:
        """Add κ_4[i,i,:,:] to T[i].

        The slice is (A_ii B_jk + A_jk B_ii + 2 A_ij B_ik + 2 A_ik B_ij) / 6, summed over r.
        """
        P, U, B1, B2 = self.P, self.U, self.B1, self.B2
        assert P is not None
        n, R = P.shape
        flat = T.reshape(n, n * n)
        flat += (P * U * (1 / 6)) @ B1.reshape(R, n * n)
        flat += (P * P * (1 / 6)) @ B2.reshape(R, n * n)
        left, P_r, U_r = np.hstack([P, U]), turned(P), turned(U)
        for i in alike(n):
            P_i, U_i = P[i, :, None] * (1 / 6), U[i, :, None] * (1 / 6)
            B1_i, B2_i = B1[:, i, :], B2[:, i, :]
            B1_ii, B2_ii = B1_i[:, i, None] * (1 / 12), B2_i[:, i, None] * (1 / 12)
            right = _with_P_and_U(B1_i, B2_i, U_r, P_r, U_i, P_i, B1_ii, B2_ii)
            half = left @ np.concatenate(right)
            T[i] += half + turned(half)

    def activate(self, w1: Array) -> Source:
        """The source with diag(w1) on the legs and on both legs of the matrices."""
        assert self.P is not None
        column = w1[:, None]
        for B in (self.B1, self.B2):
            B *= column * w1
        return Source(column * self.P, column * self.U, self.B1, self.B2)


@entrywise
def _with_P_and_U(
    B1_i: Array, B2_i: Array, U: Array, P: Array, U_i: Array, P_i: Array, B1_ii: Array, B2_ii: Array
) -> tuple[Array, Array]:
    """The factors of P and U in half of κ_4[i,i,:,:]."""
    return U_i * B1_i + (2 * P_i) * B2_i + (B1_ii * U + B2_ii * P), P_i * B1_i


def transform_slabs(B: Array, weight: Array) -> Array:
    """The products W B_r Wᵀ for every r, in place where W is square."""
    square = weight.shape[0] == weight.shape[1]
    out = B if square else np.empty_like(B, shape=(len(B), len(weight), len(weight)))
    for r in alike(len(B)):
        out[r] = (weight @ B[r]) @ weight.T
    return out


@dataclass(frozen=True)
class Tracked:
    """The tracked parts of X̂_l: mean, C (None for I), dense κ_3 (None for 0), sources of κ_4."""

    mean: Array
    C: Array | None
    K3: Array | None = None
    sources: tuple[Source, ...] = ()

    def third(self, weight: Array) -> ThirdCumulants | None:
        return (
            None if self.K3 is None else ThirdCumulants.of_tensor(transform_legs(self.K3, weight))
        )


@dataclass(frozen=True)
class PreActivation:
    """Cumulants of Ẑ_l; T is the slice κ_4[i,i,j,k] at all indices; None stands for 0."""

    C: Array
    K3: Array | None
    T: Array | None
    sources: tuple[Source, ...]

    @property
    def slices(self) -> dict[int, Sliced]:
        """The slices of one and of two neurons that the expansion reads."""
        known: dict[int, Sliced] = {2: TracePart(self.C)}
        if self.K3 is not None:
            known[3] = TracePart(self.K3)
        if self.T is not None:
            known[4] = _PairSlices(self.T)
        return known


class _PairSlices:
    """The slices (4), (3,1) and (2,2) of κ_4 that T holds."""

    def __init__(self, T: Array) -> None:
        self._T = T

    def slice(self, u: Block) -> Array:
        if u == (1, 3):
            return self.slice((3, 1)).T
        return diagonal(self._T, {(4,): (3,), (3, 1): (2, 1), (2, 2): (1, 2)}[u])


def run(network: MLP, scheme: Scheme, metric: str, cov: bool, third: bool) -> Propagated:
    """Propagate κ_1, κ_2, κ_3 and the sources of κ_4; no `metric`: nothing radial is tracked."""
    scales = metric_scales(network, scheme.order, "exact")
    return propagate(network, Tracked, partial(_step, scheme=scheme), scales, cov, third)


def _step(x: Tracked, z: Standardised, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    if wanted == "mean":
        return _last_step(x, z, w, scheme)
    with component("linear"):
        known = linear(x, z)
    with component("nonlinear"):
        return nonlinear(known, w, wanted, scheme)


def _last_step(x: Tracked, z: Standardised, w: Coefficients, scheme: Scheme) -> Tracked:
    """The mean E[φ(Z)], from single-neuron cumulants alone."""
    with component("linear"):
        slices: dict[int, Sliced] = {2: KnownSlices({(2,): np.ones_like(z.mean)})}
        if x.K3 is not None:
            slices[3] = KnownSlices({(3,): _third(x.K3, z.weight)})
        if x.sources:
            fourth = (source.diagonal_after(z.weight) for source in x.sources)
            slices[4] = KnownSlices({(4,): reduce(add, fourth)})
    with component("nonlinear"):
        return Tracked(PowerCumulants(slices, w, scheme)[(1,)], None)


def _third(K3: Array, weight: Array) -> Array:
    """The slice κ_iii of W X."""
    n, m = weight.shape
    once = (weight @ K3.reshape(m, m * m)).reshape(n, m, m)
    return np.stack([w @ (slab @ w) for w, slab in zip(weight, once, strict=True)])


def linear(x: Tracked, z: Standardised) -> PreActivation:
    """The linear map: W on every leg, and the slice T of κ_4."""
    weight = z.weight
    sources = tuple(source.transform(weight) for source in x.sources)
    T = None
    if sources:
        T = np.zeros_like(weight, shape=(len(weight),) * 3)
        for source in sources:
            source.add_slice_to(T)
    K3 = None if x.K3 is None else transform_legs(x.K3, weight)
    return PreActivation(z.C, K3, T, sources)


def nonlinear(z: PreActivation, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), κ_3 in full and a new source for κ_4."""
    power = PowerCumulants(z.slices, w, scheme)
    mean = power[(1,)]
    C = slice_of_x(power, (1, 1))
    diagonal(C, (2,))[...] = slice_of_x(power, (2,))
    if wanted == "covariance":
        return Tracked(mean, C)
    triples = Triples(z, w)
    value = [w(k, 1) for k in (1, 2, 3)]
    square = [w(k, 2) - 2 * mean * w(k, 1) for k in (1, 2, 3)]  # of X_i² less 2 E[X_i] X_i
    k3, k21 = slice_of_x(power, (3,)), slice_of_x(power, (2, 1))
    k4, k31, k22 = (slice_of_x(power, u) for u in ((4,), (3, 1), (2, 2)))

    n = len(mean)
    K3, E = (np.empty_like(C, shape=(n, n, n)) for _ in range(2))
    C_ij = off_diagonal(C)
    for i in alike(n):
        K3[i] = _with_coincidences(triples.slab(i, value), i, k21[i], k21[:, i], k3[i])
        iijk = triples.slab(i, square)
        iijk -= 2 * C_ij[i, :, None] * C_ij[i]
        E[i] = _with_coincidences(iijk, i, k31[i], k22[i], k4[i])
    source = new_source(z, triples, value, E)
    return Tracked(mean, C, K3, (*(old.activate(value[0]) for old in z.sources), source))


def _with_coincidences(slab: Array, i: int, row: Array, diag: Array, corner: Array) -> Array:
    """A slab [i,j,k] over distinct indices, completed where k = j (diag), j or k = i (row)."""
    diagonal(slab, (2,))[...] = diag
    slab[i] = slab[:, i] = row
    slab[i, i] = corner
    return slab


class Triples:
    """The expansion (§3.1, budget 3) of κ(Y_i, X_j, X_k), i, j, k distinct, slab by slab in i.

    Y_i is X_i itself or a polynomial in it, given by its three coefficients a_k = E[∂^k Y_i].
    """

    def __init__(self, z: PreActivation, w: Coefficients) -> None:
        n = len(z.C)
        b1, b2, b3 = (w(k, 1) for k in (1, 2, 3))
        C = off_diagonal(z.C)
        zero = np.zeros_like(C)
        k21 = zero if z.K3 is None else off_diagonal(diagonal(z.K3, (2, 1)))
        k22 = zero if z.T is None else off_diagonal(diagonal(z.T, (1, 2)))
        self.edges = Edges(C, k21, k22, w)
        self.b22C = C * (b2[:, None] * b2)
        self.b, self.C, self.K3, self.T, self.n = (b1, b2, b3), C, z.K3, z.T, n

    def slab(self, i: int, a: Sequence[Array]) -> Array:
        """The matrix over j, k; entries at coinciding indices mean nothing."""
        a1, a2, a3 = (coefficient[i] for coefficient in a)
        b1, b2, b3 = self.b
        edges = self.edges
        c = self.C[i] * b2
        # chains with centre i, then with centre j and ends i, k (and so with centre k, transposed)
        centre = edges.first[i] * (0.5 * a2) + edges.second[i] * a2 + edges.third[i] * a3
        end, end2 = self.C[i] * a1, edges.k21[i] * (0.5 * a2)
        end3 = edges.pair[i] * a2 + edges.k21[:, i] * (0.5 * a1)
        by_first, by_second, by_third = b2 * (end + end2) + b3 * end3, b2 * end, b3 * end
        k_ijjk, k_iijk = (None, None) if self.T is None else (self.T[:, i, :], self.T[i])
        half = _chains(
            edges.first, edges.second, edges.third, k_ijjk, edges.first[i],
            *(v[:, None] for v in (centre, by_first, by_second, by_third, (0.5 * a1) * b2)), b1,
        )  # fmt: skip
        edge = (0.5 * a1) * b1 + a2 * c
        slab: Array = _slab(
            half, turned(half), self.C, None if self.K3 is None else self.K3[i], k_iijk,
            self.b22C, *(v[:, None] for v in (a[0][i : i + 1], c, edge, b1, (0.5 * a2) * b1)),
            c * a2, edge, b1,
        )  # fmt: skip
        return slab


@entrywise
def _chains(
    first: Array, second: Array, third: Array, k_ijjk: Any, first_i: Array,
    centre: Array, by_first: Array, by_second: Array, by_third: Array, b2: Array, b1_k: Array,
) -> Any:  # fmt: skip
    """Half of the chains of three neurons, and κ_ijjk; `b2` is that of j times ½ a1."""
    half = centre * first_i + by_first * first + by_second * second + by_third * third
    return half if k_ijjk is None else half + b2 * b1_k * k_ijjk


@entrywise
def _slab(
    half: Array, half_kj: Array, C: Array, k_ijk: Any, k_iijk: Any, b22C: Array,
    a1: Array, c: Array, edge: Array, b1: Array, half_b1: Array,
    c_k: Array, edge_k: Array, b1_k: Array,
) -> Any:  # fmt: skip
    """Chains from both halves, triangles, κ_ijk alone and with an edge, and κ_iijk."""
    slab = half + half_kj + c * c_k * C
    if k_ijk is not None:
        slab = slab + (edge * b1_k + edge_k * b1 + b22C * a1) * k_ijk
    return slab if k_iijk is None else slab + half_b1 * b1_k * k_iijk


def new_source(z: PreActivation, triples: Triples, w: Sequence[Array], E: Array) -> Source:
    """κ_4 of this layer as a source, P = I: trees of pairs and κ_3 in B1, corrections in B2 (§4.2).

    E[i,j,k] is the exact κ_4[i,i,j,k] of X at all indices; it is used up.
    """
    w1, w2, w3 = w
    C, n = triples.C, triples.n
    U = w1[:, None] * C
    B1 = np.empty_like(E)
    for r in alike(n):
        k3 = None
        if z.K3 is not None:
            k3 = off_diagonal(z.K3[r])
            k3[r] = k3[:, r] = 0
        path, leaf = C[r] * w2 * (6 * w2[r]), C[r] * w1
        columns = (v[:, None] for v in (path, w1, leaf, w1 * (12 * w2[r])))
        B1[r] = _trees(C, k3, *columns, path, w1, leaf * (4 * w3[r]))
    U_r = turned(U)
    for r in alike(n):
        # less the same slice of the source without B2, and of the older sources after diag(w1)
        B1_r, T_r = B1[:, r, :], None if z.T is None else z.T[r]
        columns = (v[:, None] for v in (U[:, r], U[r] * (1 / 6), B1_r[:, r] * (1 / 12)))
        half = _half_slice(B1_r, U_r, *columns, B1[r, r] * (1 / 6))
        correction: Array = _less(E[r], half, turned(half), T_r, w1[:, None], w1 * (w1[r] * w1[r]))
        row, diag, corner = correction[r] * 2, diagonal(correction, (2,)) * 3, correction[r, r] * 1
        correction *= 6
        E[r] = _with_coincidences(correction, r, row, diag, corner)
    return Source(None, U, B1, E)


@entrywise
def _trees(
    C: Array, k3: Any, path: Array, w1: Array, leaf: Array, by_k3: Array,
    path_k: Array, w1_k: Array, leaf_k: Array,
) -> Any:  # fmt: skip
    """B1_r: trees of pairs with r at an end or in the middle, and κ_3."""
    B1_r = C * (path * w1_k + path_k * w1) + leaf * leaf_k
    return B1_r if k3 is None else B1_r + by_k3 * w1_k * k3


@entrywise
def _half_slice(B1_r: Array, U: Array, U_r: Array, row: Array, B1_rr: Array, column: Array) -> Any:
    """Half of κ_4[r,r,:,:] of the new source without B2."""
    return U_r * column + row * B1_r + B1_rr * U


@entrywise
def _less(exact: Array, half: Array, half_kj: Array, T_r: Any, w1: Array, w1_k: Array) -> Any:
    """The exact slice less those of the new source and of the older ones."""
    rest = exact - (half + half_kj)
    return rest if T_r is None else rest - w1 * w1_k * T_r
