"""Order 3, kind augmented_factorised, at n³: §4.1 with κ_4 kept as Sym(A ⊗ I), A of order 2.

The diagrams this kind keeps are those with O(n)-rank forms (§4.3), so κ_3 remains a sum

    κ_3 = Sym Σ_r [3 P_r ⊗ U_r ⊗ Y_r + D_r ⊗ P_r ⊗ P_r],

to which every layer adds four families: its chains, and three ways to hang the slice (2,1,1) of
Sym(A ⊗ M) on its neurons. The numbers are those of the dense algorithm. Cost: about 30 products of
n×n per earlier layer and layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import component
from cumprop.networks import MLP

from .batches import turned
from .dense import PowerCumulants, Sliced, slice_of_x
from .edges import Edges
from .kinds import Scheme
from .propagation import KnownSlices, Propagated, metric_scales, propagate
from .standardised import Coefficients, Standardised, Wanted
from .symmetric_tensors import (
    DiagonalMetric,
    Metric,
    TracePart,
    diagonal,
    from_left,
    off_diagonal,
    radial_core,
    zero_coincidences,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Legs:
    """κ_3 = Sym Σ_r [3 P_r ⊗ U_r ⊗ Y_r + D_r ⊗ P_r ⊗ P_r]; each leg (n, R), a column an r.

    A linear map and an activation act on each leg alike, from the left.
    """

    P: Array
    U: Array
    Y: Array
    D: Array

    def scaled(self, left: Array) -> Legs:
        """The legs times a matrix, or the diagonal of one, from the left."""
        return Legs(*(from_left(left, leg) for leg in vars(self).values()))

    def joined(self, other: Legs) -> Legs:
        return Legs(*map(np.hstack, zip(vars(self).values(), vars(other).values(), strict=True)))

    def slice_21(self) -> Array:
        """The slice κ_iij as an (i, j) matrix; its diagonal is κ_iii."""
        P, U, Y, D = self.P, self.U, self.Y, self.D
        k21: Array = (U * Y + D * P * (2 / 3)) @ P.T
        k21 += (P * Y) @ U.T
        k21 += (P * U) @ Y.T
        k21 += (P * P * (1 / 3)) @ D.T
        return k21

    def contracted(self, v: Legs) -> Array:
        """The sum Σ_k v_k κ_kij, from the products of v with the legs, each (R,)."""
        P, U, Y, D = self.P, self.U, self.Y, self.D
        half: Array = (U * v.P + P * v.U) @ Y.T
        half += P @ (U * v.Y + P * (v.D * (1 / 3)) + D * (v.P * (2 / 3))).T
        return (half + turned(half)) * 0.5


@dataclass(frozen=True)
class Tracked:
    """The tracked parts of X̂_l: mean, C (None for I), κ_3, and A of κ_4 = Sym(A ⊗ I); None is 0."""

    mean: Array
    C: Array | None
    legs: Legs | None = None
    A: Array | None = None

    def third(self, weight: Array) -> ThirdCumulants | None:
        if self.legs is None:
            return None
        x = self.legs.scaled(weight)
        return ThirdCumulants(*map(np.hstack, ((3 * x.P, x.D), (x.U, x.P), (x.Y, x.P))))


def run(network: MLP, scheme: Scheme, metric: str, cov: bool, third: bool) -> Propagated:
    """Propagate κ_1, κ_2, the legs of κ_3 and the core of κ_4 through the layers."""
    scales = metric_scales(network, scheme.order, metric)
    return propagate(network, Tracked, partial(_step, scheme=scheme), scales, cov, third)


def _step(x: Tracked, z: Standardised, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    with component("linear"):
        known = linear(x, z)
    with component("nonlinear"):
        return nonlinear(known, w, wanted, scheme)


@dataclass(frozen=True)
class PreActivation:
    """Cumulants of Ẑ_l: κ_4 = Sym(A ⊗ M), M = root rootᵀ, A of order 2; None is 0, or unread."""

    C: Array | None
    legs: Legs | None
    A: Array | None
    metric: Metric | DiagonalMetric
    root: Array

    @property
    def slices(self) -> dict[int, Sliced]:
        """The slices of one and of two neurons that the expansion reads."""
        known: dict[int, Sliced] = {} if self.C is None else {2: TracePart(self.C)}
        if self.legs is not None:
            k21 = self.legs.slice_21()
            known[3] = KnownSlices({(3,): diagonal(k21, (2,)), (2, 1): k21})
        if self.A is not None:
            known[4] = TracePart(self.A, 1, self.metric)
        return known


def linear(x: Tracked, z: Standardised) -> PreActivation:
    """The linear map: W on every leg; the identity factor becomes the metric."""
    weight, scale = z.weight, z.affine.scale
    return PreActivation(
        C=None if z.covariance is None else z.C,
        legs=None if x.legs is None else x.legs.scaled(weight),
        A=None if x.A is None else weight @ x.A @ weight.T,
        metric=z.metric,
        root=weight if scale is None else np.diag(z.inverse * scale**0.5),
    )


def nonlinear(z: PreActivation, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), new legs of κ_3, the core of κ_4."""
    slices = z.slices
    power = PowerCumulants(slices, w, scheme)
    mean = power[(1,)]
    if wanted == "mean":
        return Tracked(mean, None)
    C = slice_of_x(power, (1, 1))
    k2, k3, k4 = (slice_of_x(power, (p,)) for p in (2, 3, 4))
    diagonal(C, (2,))[...] = k2
    if wanted != "all":
        return Tracked(mean, C)
    zero = np.zeros_like(C)
    own = {(d,): slices[d].slice((d,)) if d in slices else zero[0] for d in (3, 4)}
    pairs = {
        u: off_diagonal(slices[sum(u)].slice(u)) if sum(u) in slices else zero
        for u in [(1, 1), (2, 1), (2, 2), (3, 1)]
    }
    edges = Edges(pairs[1, 1], pairs[2, 1], pairs[2, 2], w)

    w1, w2 = w(1, 1), w(2, 1)
    U, Y = turned(edges.first), turned(edges.chains(w2, w(3, 1)))
    # new slices less those that older legs and the new ones have at repeated indices already
    d3 = k3 - w1 * w1 * (w1 * own[3,] + w2 * own[4,] * 1.5)
    d21 = slice_of_x(power, (2, 1)) - (w1 * w1)[:, None] * (pairs[2, 1] * w1) - U * Y
    d21 -= (w1 * w1)[:, None] * pairs[2, 2] * (0.5 * w2) + (w1 * w2)[:, None] * pairs[3, 1] * w1
    D = 3 * turned(d21)
    diagonal(D, (2,))[...] = d3
    legs = Legs(np.eye(len(mean), dtype=C.dtype) + zero, U, Y, D)
    if z.A is not None:
        legs = legs.joined(_hung(z, w1, w2))
    if z.legs is not None:
        legs = legs.joined(z.legs.scaled(w1))
    trace = _trace(z, w, mean, edges, pairs, C)
    k31, k22 = slice_of_x(power, (3, 1)), slice_of_x(power, (2, 2))
    trace += k31 + turned(k31)
    diagonal(trace, (2,))[...] = k4 + k22.sum(axis=1)
    return Tracked(mean, C, legs, radial_core(trace, 4, 1, len(mean)))


def _hung(z: PreActivation, w1: Array, w2: Array) -> Legs:
    """The sum of ½ w2_i w1_j w1_k κ_iijk and its two permutations, κ_4 = Sym(A ⊗ M):

    Sym [¼ (w2 A_··) ⊗ w1 M w1 + ¼ (w2 M_··) ⊗ w1 A w1 + Σ_i w2_i e_i ⊗ (w1 A)_i ⊗ (w1 M)_i].
    """
    assert z.A is not None
    A, M = w1[:, None] * z.A, w1[:, None] * z.metric.matrix
    root = w1[:, None] * z.root
    zero, nothing = np.zeros_like(A), np.zeros_like(root)
    one = np.eye(len(w1), dtype=A.dtype) + zero
    v = (0.25 * w2 * z.A.diagonal())[:, None] + nothing
    u = (w2 * z.metric.diagonal)[:, None] + zero
    with_M = Legs(root, nothing, nothing, v)
    with_A = Legs(one, u, (A * w1) * (1 / 12), zero)
    return with_M.joined(with_A).joined(Legs(one, A, M * (w2 * (1 / 3)), zero))


def _trace(
    z: PreActivation,
    w: Coefficients,
    mean: Array,
    edges: Edges,
    pairs: dict[tuple[int, int], Array],
    C_x: Array,
) -> Array:
    """The sum of κ_kkij(X) over k ≠ i, j: the expansion of κ(X_k² - 2 E[X_k] X_k, X_i, X_j)."""
    a1, a2, a3 = (w(k, 2) - 2 * mean * w(k, 1) for k in (1, 2, 3))
    b1, b2, b3 = (w(k, 1)[:, None] for k in (1, 2, 3))
    C, k21 = edges.C, edges.k21
    half = edges.chains(a2, a3).T @ edges.first * 0.5  # centre k
    end, end2 = C * a1, turned(k21) * (0.5 * a2)  # [i, k]: centre i, ends k and j
    end3 = edges.pair * a2 + k21 * (0.5 * a1)
    half += _others(b2 * (end + end2) + b3 * end3) * edges.first
    half += _others(b2 * end) * edges.second + _others(b3 * end) * edges.third
    if z.legs is not None:  # κ_kij
        half += (z.legs.contracted(z.legs.scaled(a1[None])) * 0.5 - a1[:, None] * k21) * (b1 * b1.T)
    if z.A is not None:  # κ_kkij and κ_iikj
        A, M, m = z.A, z.metric.matrix, z.metric.diagonal
        both = A @ (a2[:, None] * M)
        kkij = (a2 @ A.diagonal()) * M + (a2 @ m) * A + 2 * (both + both.T)
        half += (kkij * (1 / 12) - a2[:, None] * pairs[3, 1]) * (b1 * b1.T) * 0.5
        Aa, Ma = A @ a1, M @ a1
        iikj = (
            A.diagonal()[:, None] * Ma + m[:, None] * Aa + 2 * (Ma[:, None] * A + Aa[:, None] * M)
        )
        iikj = iikj * (1 / 6) - a1[:, None] * pairs[3, 1] - a1 * pairs[2, 2]
        half += iikj * (b2 * b1.T) * 0.5
    triangle = (C @ (w(2, 2)[:, None] * C)) * C * (b2 * b2.T)
    C_x = off_diagonal(C_x)
    return zero_coincidences(half + half.T + triangle - 2 * (C_x @ C_x.T))


def _others(ends: Array) -> Array:
    """The matrix [i, j] of sums over k ≠ j of ends [i, k]."""
    others: Array = ends.sum(axis=1)[:, None] - ends
    return others
