"""Order 3, kind basic, at n³: κ_3 as a sum over its sources, the layers that add to it (§4.1).

With r running over the neurons of all sources so far,

    κ_3 = Sym Σ_r [3 w2_r P_r ⊗ U_r ⊗ U_r + D_r ⊗ P_r ⊗ P_r],

and a layer acts on every leg P, U, D alike: W in a linear map, diag(w1) in an activation. The
numbers are those of the dense algorithm. Cost: 6 products of n×n per source and layer, about 30 at
L=4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import iadd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import component
from cumprop.networks import MLP

from .batches import applied, transposed, turned
from .kinds import Scheme
from .propagation import Propagated, metric_scales, propagate
from .standardised import Coefficients, Standardised, Wanted, variances

Array = NDArray[Any]


@dataclass(frozen=True)
class Sources:
    """The legs P, U, D of κ_3, each (…, n, R), and its weights w2 (…, R)."""

    P: Array
    U: Array
    D: Array
    w2: Array

    def transform(self, weight: Array) -> Sources:
        """The sources with W on every leg; the last still has P = I, which is not stored."""
        P = np.concatenate([weight @ self.P, weight], axis=-1)
        return Sources(P, weight @ self.U, weight @ self.D, self.w2)

    def slice_21(self) -> Array:
        """The slice κ_iij as an (i, j) matrix; its diagonal is κ_iii."""
        k21: Array = reduce(iadd, (left @ transposed(leg) for left, leg in self._derivatives()))
        return k21

    def slice_3(self) -> Array:
        """The slice κ_iii alone, for n² FLOPs a source."""
        k3: Array = reduce(iadd, ((left * leg).sum(axis=-1) for left, leg in self._derivatives()))
        return k3

    def _derivatives(self) -> Iterator[tuple[Array, Array]]:
        """A third of the derivatives of κ_iii in the legs U, P and D, with these legs."""
        P, U, D, w2 = self.P, self.U, self.D, self.w2[..., None, :]
        yield 2 * (U * P) * w2, U
        yield (U * U) * w2 + (D * P) * (2 / 3), P
        yield (P * P) * (1 / 3), D

    def activate(self, w1: Array, U: Array, D: Array, w2: Array) -> Sources:
        """The sources with diag(w1) on every leg, and a new source with P = I."""
        w1 = w1[..., None]
        return Sources(
            w1 * self.P,
            np.concatenate([w1 * self.U, U], axis=-1),
            np.concatenate([w1 * self.D, D], axis=-1),
            np.concatenate([self.w2, w2], axis=-1),
        )


@dataclass(frozen=True)
class Own:
    """Cumulants of single pre-activations: κ_iii, κ_iiii."""

    k3: Array
    k4: Array


@dataclass(frozen=True)
class Pairs:
    """Cumulants of pairs i ≠ j, zero on the diagonal: κ_ij, κ_iij, κ_iijj."""

    C: Array
    k21: Array
    k22: Array


@dataclass(frozen=True)
class Hidden:
    """The tracked parts of X̂_l: mean, C (None: I), sources, and A (…, 1) of κ_4 = Sym(A ⊗ I²)."""

    mean: Array
    C: Array | None
    sources: Sources | None = None
    A: Array | None = None

    def third(self, weight: Array) -> ThirdCumulants | None:
        if self.sources is None:
            return None
        x = self.sources
        P, U, D = np.hstack([weight @ x.P, weight]), weight @ x.U, weight @ x.D
        return ThirdCumulants(*map(np.hstack, ((3 * x.w2 * P, D), (U, P), (U, P))))


def run(
    network: MLP, scheme: Scheme, metric: str, cov: bool, third: bool, means: Array | None = None
) -> Propagated:
    """Propagate κ_1, κ_2, the sources of κ_3 and the trace of κ_4 through the layers.

    Of a batch of inputs if `means` (B, n_0) are given: arrays then have one more axis, the first.
    """
    scales = metric_scales(network, scheme.order, metric)
    return propagate(network, Hidden, _step, scales, cov, third, means=means)


def _step(x: Hidden, z: Standardised, w: Coefficients, wanted: Wanted) -> Hidden:
    with component("linear"):
        sources = x.sources.transform(z.weight) if x.sources else None
        own, pairs = linear(x, sources, z, wanted)
    with component("nonlinear"):
        return nonlinear(own, pairs, sources, w)


def linear(
    x: Hidden, sources: Sources | None, z: Standardised, wanted: Wanted
) -> tuple[Own, Pairs | None]:
    """Slices of κ(Ẑ), given the sources in Ẑ; no pairs where only E[φ(Z)] is wanted."""
    zero = np.zeros_like(z.mean)
    k4 = zero if x.A is None else x.A * z.metric.diagonal * z.metric.diagonal
    if wanted == "mean":
        return Own(sources.slice_3() if sources else zero, k4), None
    C, M = z.C, z.metric
    k21 = sources.slice_21() if sources else np.zeros_like(C)
    own = Own(variances(k21).copy(), k4)
    k22 = np.zeros_like(C)
    if x.A is not None:
        diagonals = M.diagonal[..., None] * M.diagonal[..., None, :]
        k22 = (diagonals + 2 * (M.matrix * M.matrix)) * (x.A[..., None] / 3)
    for pair in (C, k21, k22):
        variances(pair)[...] = 0
    return own, Pairs(C, k21, k22)


def nonlinear(own: Own, pairs: Pairs | None, sources: Sources | None, w: Coefficients) -> Hidden:
    """Cumulants of φ(Z): §3.4 for the power cumulants, §3.2 from there, and a new source."""
    P1, P2, P3, P4 = (
        w(0, p) + own.k3 * (1 / 6) * w(3, p) + own.k4 * (1 / 24) * w(4, p) for p in (1, 2, 3, 4)
    )
    if pairs is None:
        return Hidden(P1, None)
    k2 = P2 - P1 * P1
    k3 = P3 - 3 * P2 * P1 + 2 * P1 * P1 * P1
    k4 = P4 - 4 * P3 * P1 - 3 * P2 * P2 + 12 * P2 * P1 * P1 - 6 * P1 * P1 * P1 * P1

    value = w(1, 1), w(2, 1)  # the coefficients of X and, less 2 E[X] times those, of X²
    square = tuple(w(k, 2) - 2 * P1 * value[k - 1] for k in (1, 2))
    S, T = (pairs.C * pairs.C + pairs.k22 * 0.5) * 0.5, pairs.k21 * 0.5
    rows = _rows(value, pairs.C, S, T)
    C, k21 = _pair(value, rows), _pair(square, rows)
    k22_sum = (
        _form(square[0], pairs.C, square[0])
        + _form(square[1], S, square[1])
        + 2 * _form(square[1], T, square[0])
        - 2 * (C * C).sum(axis=(-2, -1))
    )
    n = P1.shape[-1]
    A = (k4.sum(axis=-1) + k22_sum)[..., None] * (3 / (n * (n + 2)))

    w1, w2 = value
    U = w1[..., None] * pairs.C
    d3 = k3 - w1 * w1 * w1 * own.k3
    d21 = k21 - (w1 * w1)[..., None] * pairs.k21 * w1[..., None, :] - U * U * w2[..., None, :]
    D = 3 * turned(d21)
    variances(D)[...] = d3
    variances(C)[...] = k2
    return Hidden(P1, C, _add_source(sources, w1, U, D, w2), A)


def _pair(left: Sequence[Array], rows: Sequence[Array]) -> Array:
    """The power cumulants κ^P_pq of §3.4, of the coefficients of p and the rows of q."""
    product: Array = left[0][..., None] * rows[0] + left[1][..., None] * rows[1]
    return product


def _rows(right: Sequence[Array], C: Array, S: Array, T: Array) -> Sequence[Array]:
    """Matrices (i, j) with the coefficients of q on j, for both derivatives at i."""
    first, second = (w[..., None, :] for w in right)
    return (first * C + second * turned(T)), (first * T + second * S)


def _form(left: Array, matrix: Array, right: Array) -> Array:
    """The bilinear form leftᵀ matrix right."""
    form: Array = np.vecdot(left, applied(matrix, right))
    return form


def _add_source(sources: Sources | None, w1: Array, U: Array, D: Array, w2: Array) -> Sources:
    if sources is None:
        return Sources(U[..., :0], U, D, w2)
    return sources.activate(w1, U, D, w2)
