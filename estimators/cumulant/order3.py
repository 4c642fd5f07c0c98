"""Order 3, kind basic, at n³: κ_3 as a sum over its sources, the layers that add to it (§4.1).

With r running over the neurons of all sources so far,

    κ_3 = Sym Σ_r [3 w2_r P_r ⊗ U_r ⊗ U_r + D_r ⊗ P_r ⊗ P_r],

and a layer acts on every leg P, U, D alike: W in a linear map, diag(w1) in an activation. The rows
of the arrays are the vectors P_r, U_r, D_r, so that W acts as Wᵀ from the right; BLAS is slower at
small products with a transpose on the right. The numbers are those of the dense algorithm. Cost: 6
products of n×n per source and layer, about 30 at L=4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import component
from cumprop.networks import MLP

from .batches import applied, below, transposed, turned
from .entrywise import entrywise
from .kinds import Scheme
from .propagation import Propagated, metric_scales, propagate
from .standardised import Coefficients, Standardised, Wanted, variances

Array = NDArray[Any]


@dataclass(frozen=True)
class Sources:
    """The legs P, U, D of κ_3(Ẑ), each (…, R, n), and its weights w2 (…, R)."""

    P: Array
    U: Array
    D: Array
    w2: Array

    def slice_21(self) -> Array:
        """The slice κ_iij as an (i, j) matrix; its diagonal is κ_iii."""
        in_P, in_U, in_D = _derivatives(self.P, self.U, self.D, self.w2[..., None])
        k21: Array = transposed(in_P) @ self.P
        k21 += transposed(in_U) @ self.U
        k21 += transposed(in_D) @ self.D
        return k21

    def slice_3(self) -> Array:
        """The slice κ_iii alone, for n² FLOPs a source."""
        k3: Array = _slice_3(self.P, self.U, self.D, 3 * self.w2[..., None]).sum(axis=-2)
        return k3


@entrywise
def _derivatives(P: Array, U: Array, D: Array, w2: Array) -> tuple[Array, Array, Array]:
    """A third of the derivatives of κ_iii in the legs P, U and D."""
    return (U * U) * w2 + (D * P) * (2 / 3), 2 * (U * P) * w2, (P * P) * (1 / 3)


@entrywise
def _slice_3(P: Array, U: Array, D: Array, w2: Array) -> Any:
    return (U * U * w2 + D * P) * P


@dataclass(frozen=True)
class Activated:
    """The sources in X̂_l: the `older` ones in Ẑ_l, times diag(w1) on every leg, and a new one with
    P = I, U, D and w2."""

    older: Sources | None
    w1: Array
    U: Array
    D: Array
    w2: Array

    def transform(self, back: Array) -> Sources:
        """The sources with W on every leg, given Wᵀ; diag(w1) is taken into W."""
        old = self.older
        if old is None:
            return Sources(back, self.U @ back, self.D @ back, self.w2)
        scaled = self.w1[..., None] * back
        return Sources(
            below((old.P, scaled), (None, back)),
            below((old.U, scaled), (self.U, back)),
            below((old.D, scaled), (self.D, back)),
            np.concatenate([old.w2, self.w2], axis=-1),
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
    sources: Activated | None = None
    A: Array | None = None

    def third(self, weight: Array) -> ThirdCumulants | None:
        if self.sources is None:
            return None
        x = self.sources.transform(weight.T)
        legs = (3 * x.w2[:, None] * x.P, x.D), (x.U, x.P), (x.U, x.P)
        return ThirdCumulants(*(np.concatenate(pair).T for pair in legs))


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
        sources = x.sources.transform(z.weight_T) if x.sources else None
        own, pairs = linear(x, sources, z, wanted)
    with component("nonlinear"):
        return nonlinear(own, pairs, sources, w)


def linear(
    x: Hidden, sources: Sources | None, z: Standardised, wanted: Wanted
) -> tuple[Own, Pairs | None]:
    """Slices of κ(Ẑ), given the sources in Ẑ; no pairs where only E[φ(Z)] is wanted."""
    zero, inverse, metric = np.zeros_like(z.mean), z.inverse, z.affine.metric
    d = zero if x.A is None else metric.diagonal * inverse * inverse
    k4 = zero if x.A is None else x.A * d * d
    if wanted == "mean":
        return Own(sources.slice_3() if sources else zero, k4), None
    C, shape = z.C, (*zero.shape, zero.shape[-1])
    k21 = sources.slice_21() if sources else np.zeros_like(C, shape=shape)
    own = Own(variances(k21).copy(), k4)
    if x.A is None:
        k22 = np.zeros_like(C, shape=shape)
    else:
        columns = (v[..., None] for v in (inverse, d, x.A / 3))
        k22 = _metric_22(metric.matrix, *columns, inverse[..., None, :], d[..., None, :])
    for pair in (C, k21, k22):
        variances(pair)[...] = 0
    return own, Pairs(C, k21, k22)


def nonlinear(own: Own, pairs: Pairs | None, sources: Sources | None, w: Coefficients) -> Hidden:
    """Cumulants of φ(Z): §3.4 for the power cumulants, §3.2 from there, and a new source."""
    third, fourth = own.k3 * (1 / 6), own.k4 * (1 / 24)
    powers = (w(0, p) + third * w(3, p) + fourth * w(4, p) for p in (1, 2, 3, 4))
    P1 = next(powers)
    if pairs is None:
        return Hidden(P1, None)
    P2, P3, P4 = powers
    P11 = P1 * P1
    k2 = P2 - P11
    k3 = P3 - P1 * (3 * P2 - 2 * P11)
    k4 = P4 - 4 * P3 * P1 - 3 * P2 * P2 + P11 * (12 * P2 - 6 * P11)

    w1, w2 = w(1, 1), w(2, 1)
    square = tuple(w(k, 2) - 2 * P1 * w(k, 1) for k in (1, 2))
    columns = (v[..., None] for v in (*square, w1, w2))
    rows = (v[..., None, :] for v in (w1, w2))
    slices = pairs.C, pairs.k22, pairs.k21, turned(pairs.k21)
    C, U, D, S = _expansion(*slices, *columns, *rows)
    k22_sum = (
        _form(square[0], pairs.C, square[0])
        + _form(square[1], S, square[1])
        + _form(square[1], pairs.k21, square[0])
        - 2 * np.vecdot(C, C).sum(axis=-1)
    )
    n = P1.shape[-1]
    A = (k4.sum(axis=-1) + k22_sum)[..., None] * (3 / (n * (n + 2)))

    variances(D)[...] = k3 - w1 * w1 * w1 * own.k3
    variances(C)[...] = k2
    return Hidden(P1, C, Activated(sources, w1, U, D, w2), A)


@entrywise
def _expansion(
    C: Array, k22: Array, k21: Array, k12: Array,
    s1: Array, s2: Array, w1: Array, w2: Array, w1_j: Array, w2_j: Array,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """κ_11 of X̂, the legs U and D = 3 δ_iij, and the part S of κ_11 in both second derivatives
    (§3.4).

    `s1`, `s2` are the coefficients of X², less 2 E[X] times those of X.
    """
    squares = C * C
    S = (squares + k22 * 0.5) * 0.5
    first, second = w1_j * C + w2_j * (k12 * 0.5), w1_j * (k21 * 0.5) + w2_j * S
    d21 = s1 * first + s2 * second - (w1 * w1) * (k21 * w1_j + squares * w2_j)
    return w1 * first + w2 * second, C * w1_j, 3 * d21, S


@entrywise
def _metric_22(
    M: Array, inverse: Array, d: Array, third: Array, inverse_j: Array, d_j: Array
) -> Any:  # fmt: skip
    """κ_iijj of Sym(A ⊗ M²), given W Wᵀ, M = inverse W Wᵀ inverse, its diagonal and A/3."""
    M = inverse * M * inverse_j
    return (d * d_j + 2 * (M * M)) * third


def _form(left: Array, matrix: Array, right: Array) -> Array:
    """The bilinear form leftᵀ matrix right."""
    form: Array = np.vecdot(left, applied(matrix, right))
    return form
