"""Cumulants of Ẑ at order 4: the sources of κ_4, their linear maps and the slice of κ_4 (§4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import alike

from ..batches import turned
from ..dense import Sliced
from ..diagrams import Block
from ..entrywise import entrywise
from ..symmetric_tensors import TracePart, diagonal

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Legs P (None for I) and U, (n, R), and matrices B1 and B2, (2, R, n, n), of one layer's κ_4.

    The source in X̂ is this one with diag(w1) on every leg (None for I).
    """

    P: Array | None
    U: Array
    B: Array
    w1: Array | None = None

    def transform(self, weight: Array) -> Source:
        weight = self._scaled(weight)
        B = transform_slabs(self.B.reshape(-1, *self.B.shape[2:]), weight)
        return Source(*self._legs(weight), B.reshape(*self.B.shape[:2], *B.shape[1:]))

    def diagonal_after(self, weight: Array) -> Array:
        """The slice κ_iiii of W X, without transforming the matrices in full."""
        weight = self._scaled(weight)
        P, U = self._legs(weight)
        B1_ii, B2_ii = (diagonals(B, weight) for B in self.B)
        k4: Array = (P * (U * B1_ii + P * B2_ii)).sum(axis=1)
        return k4

    def _scaled(self, weight: Array) -> Array:
        return weight if self.w1 is None else weight * self.w1

    def _legs(self, weight: Array) -> tuple[Array, Array]:
        return weight if self.P is None else weight @ self.P, weight @ self.U


def slice_211(sources: Sequence[Source]) -> Array:
    """The slice κ_4[i,i,j,k] of Z at all indices.

    It is (A_ii B_jk + A_jk B_ii + 2 A_ij B_ik + 2 A_ik B_ij) / 6, summed over r and sources.
    """
    T: Array | None = None
    legs, for_rows = [], []
    for source in sources:
        P, U = source.P, source.U
        assert P is not None
        n, R = P.shape
        A_ii = np.hstack([P * U, P * P]) * (1 / 6)
        product = A_ii @ source.B.reshape(2 * R, n * n)
        T = product if T is None else np.add(T, product, out=T)
        legs += [P, U]
        for_rows.append((turned(U), turned(P), U * (1 / 6), P * (1 / 6)))
    assert T is not None
    T, left = T.reshape(n, n, n), np.hstack(legs)
    for i in alike(n):
        right: list[Array] = []
        for source, (U_r, P_r, U_i, P_i) in zip(sources, for_rows, strict=True):
            B1_i, B2_i = source.B[0, :, i], source.B[1, :, i]
            columns = U_i[i], P_i[i], B1_i[:, i] * (1 / 12), B2_i[:, i] * (1 / 12)
            right += _with_P_and_U(B1_i, B2_i, U_r, P_r, *(v[:, None] for v in columns))
        half = left @ np.concatenate(right)
        T[i] += half + turned(half)
    return T


@entrywise
def _with_P_and_U(
    B1_i: Array, B2_i: Array, U: Array, P: Array, U_i: Array, P_i: Array, B1_ii: Array, B2_ii: Array
) -> tuple[Array, Array]:
    """The factors of P and U in half of κ_4[i,i,:,:]."""
    return U_i * B1_i + (2 * P_i) * B2_i + (B1_ii * U + B2_ii * P), P_i * B1_i


def diagonals(B: Array, weight: Array) -> Array:
    """The diagonals [i, r] of W B_r Wᵀ."""
    return np.stack([np.vecdot(weight @ slab, weight) for slab in B], axis=1)


def transform_slabs(B: Array, weight: Array) -> Array:
    """The products W B_r Wᵀ for every r, in place where W is square."""
    square = weight.shape[0] == weight.shape[1]
    out = B if square else np.empty_like(B, shape=(len(B), len(weight), len(weight)))
    for r in alike(len(B)):
        out[r] = (weight @ B[r]) @ weight.T
    return out


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
