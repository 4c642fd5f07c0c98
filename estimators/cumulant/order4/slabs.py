"""The activation of order 4: κ_3 of X, κ_iijk and a source of κ_4, slab by slab in i (§4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import turned
from ..edges import Edges
from ..entrywise import entrywise
from ..standardised import Coefficients
from ..symmetric_tensors import diagonal, off_diagonal
from .sources import PreActivation

Array = NDArray[Any]


def distinct(k3: Array, i: int) -> Array:
    """The slab κ_ijk over j, k, zero where indices coincide."""
    slab = off_diagonal(k3)
    slab[i] = slab[:, i] = 0
    return slab


def with_coincidences(slab: Array, i: int, row: Array, diag: Array, corner: Array) -> Array:
    """A slab [i,j,k] over distinct indices, completed where k = j (diag), j or k = i (row)."""
    diagonal(slab, (2,))[...] = diag
    slab[i] = slab[:, i] = row
    slab[i, i] = corner
    return slab


class Triples:
    """The expansion (§3.1, budget 3) of κ_ijk and κ_iijk of X, i, j, k distinct, slab by slab in i.

    κ_iijk + 2 κ_ij κ_ik is the cumulant of X_i² − 2 E[X_i] X_i, X_j, X_k. Both are thus those of
    Y_i, X_j, X_k with a polynomial Y_i in X_i: they are Σ_m a_m D_m, a_m = E[∂^m Y_i].
    """

    def __init__(self, z: PreActivation, w: Coefficients, mean: Array, covariance: Array) -> None:
        b1, b2, b3 = (w(m, 1) for m in (1, 2, 3))
        C = off_diagonal(z.C)
        zero = np.zeros_like(C)
        k21 = zero if z.K3 is None else off_diagonal(diagonal(z.K3, (2, 1)))
        k22 = zero if z.T is None else off_diagonal(diagonal(z.T, (1, 2)))
        edges = Edges(C, k21, k22, w)
        chain = b2[:, None] * (edges.first + edges.second) + b3[:, None] * edges.third
        self.matrices, self.T = (C, chain, turned(chain)), z.T
        centre = edges.first * 0.5 + edges.second
        end, end2 = turned(k21) * (b3 * 0.5), k21 * (b2 * 0.5) + edges.pair * b3
        self.of_i = C, centre, edges.third, end, end2, covariance
        self.b = b1, b2
        value = [w(m, 1)[:, None] for m in (1, 2, 3)]
        square = [w(m, 2)[:, None] - 2 * mean[:, None] * a for m, a in enumerate(value, 1)]
        self.a = (*value, *square)

    def slabs(self, i: int, k_ijk: Array | None) -> tuple[Array, Array]:
        """The matrices over j, k, given κ_ijk of Z; entries at coinciding indices mean nothing."""
        T = self.T
        fourth = (None,) * 3 if T is None else (T[i], T[:, i, :], turned(T[:, i, :]))
        vectors = (*(v[i] for v in self.of_i), *self.b)
        slabs: tuple[Array, Array] = _triples(
            *self.matrices, k_ijk, *fourth, *(v[:, None] for v in vectors), *vectors,
            *(a[i : i + 1] for a in self.a),
        )  # fmt: skip
        return slabs


@entrywise
def _triples(
    C: Array, chain: Array, chain_kj: Array, k_ijk: Any, k_iijk: Any, k_ijjk: Any, k_ikkj: Any,
    C_i: Array, centre: Array, third: Array, end: Array, end2: Array, x: Array,
    b1: Array, b2: Array,
    C_ik: Array, centre_k: Array, third_k: Array, end_k: Array, end2_k: Array, x_k: Array,
    b1_k: Array, b2_k: Array,
    x1: Array, x2: Array, x3: Array, y1: Array, y2: Array, y3: Array,
) -> tuple[Any, Any]:  # fmt: skip
    """κ_ijk and κ_iijk of X, with a_m = x_m and y_m; D3 and a part of D2 are made of vectors."""
    leaf, leaf_k, path, path_k = C_i * b1, C_ik * b1_k, C_i * b2, C_ik * b2_k
    D1 = C_i * chain + C_ik * chain_kj
    D2 = (end2 * b1_k + b1 * end2_k + path * path_k) * C
    if k_ijk is not None:
        D1 = D1 + (end * b1_k + b1 * end_k) * C + (b1 * b1_k + b2 * b2_k * C) * k_ijk
        D2 = D2 + (path * b1_k + b1 * path_k) * k_ijk
    if k_iijk is not None:
        D1 = D1 + (0.5 * b2) * b1_k * k_ijjk + (0.5 * b1) * b2_k * k_ikkj
        D2 = D2 + (0.5 * b1) * b1_k * k_iijk
    found = []
    for a1, a2, a3 in ((x1, x2, x3), (y1, y2, y3)):
        by_leaf, by_leaf_k = a2 * centre + a3 * third, a2 * centre_k + a3 * third_k
        found.append(a1 * D1 + a2 * D2 + by_leaf * leaf_k + leaf * by_leaf_k)
    return found[0], found[1] - (2 * x) * x_k


class Trees:
    """This layer's κ_4 as a source with P = I: trees of pairs and κ_3 in B1, the rest in B2 (§4.2).

    Slab by slab: every entry of the slice κ_4[i,i,j,k] of B1 is a polynomial in C and κ_3.
    """

    def __init__(self, z: PreActivation, w: Coefficients) -> None:
        w1, w2, w3 = (w(m, 1) for m in (1, 2, 3))
        C = off_diagonal(z.C)
        self.C, self.T, self.w = C, z.T, tuple(v[:, None] for v in (w1, w2, w3))
        self.U = w1[:, None] * C
        self.of_i = C, C * w2, C * C * w3

    def slabs(self, i: int, exact: Array, k_ijk: Array | None) -> tuple[Array, Array]:
        """B1_i, and 6 times the exact slice κ_iijk of X less those of B1 and the older sources."""
        vectors = (*(v[i] for v in self.of_i), self.w[0][:, 0])
        slabs: tuple[Array, Array] = _trees(
            self.C, exact, k_ijk, None if self.T is None else self.T[i],
            *(v[:, None] for v in vectors), *vectors, *(w[i : i + 1] for w in self.w),
        )  # fmt: skip
        return slabs


@entrywise
def _trees(
    C: Array, exact: Array, k_ijk: Any, k_iijk: Any,
    C_i: Array, path: Array, star: Array, w1: Array,
    C_ik: Array, path_k: Array, star_k: Array, w1_k: Array,
    w1_i: Array, w2_i: Array, w3_i: Array,
) -> tuple[Any, Any]:  # fmt: skip
    """Paths, stars and κ_3 with an edge in B1_i, and 6 times what the slice κ_iijk has besides."""
    edge = (6 * w2_i * path) * w1_k + (6 * w2_i * w1) * path_k
    B1_i = edge * C + (4 * w3_i * (C_i * w1)) * (C_ik * w1_k)
    square = 6 * w1_i * w1_i
    trees = ((2 * square * path) * path_k + (square * star) * w1_k + (square * w1) * star_k) * C
    if k_ijk is not None:
        B1_i = B1_i + (12 * w2_i * w1) * w1_k * k_ijk
        trees = trees + ((2 * square * path) * w1_k + (2 * square * w1) * path_k) * k_ijk
    if k_iijk is not None:
        trees = trees + (square * w1) * w1_k * k_iijk
    return B1_i, 6 * exact - edge * ((2 * w1_i * C_i) * C_ik) - trees
