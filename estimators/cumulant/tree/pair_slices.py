"""Exact slices of κ(X) on one and two neurons: all that n³ engines ever form of a layer (§3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import iadd
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..batches import turned
from ..dense import PowerCumulants, evaluate, slice_of_x
from ..diagrams import Block
from ..kinds import Scheme
from ..propagation import KnownSlices
from ..standardised import Wanted
from ..symmetric_tensors import Slices, lookup, zero_coincidences

Array = NDArray[Any]
Powers = Callable[[int, int], Array]
"""w(k,p), the Wick coefficients."""
DERIVATIVES = range(6)


def slices_of_x(known: Slices, w: Powers, scheme: Scheme, wanted: Wanted) -> Slices:
    """κ(X) of one neuron, (1,) to (4,), and of pairs, (1,1), (2,1), (2,2), as far as `wanted`.

    `known` are slices of Z: (3,), (4,), and of pairs (1,1), (2,1), (3,1), (2,2). Joint cumulants of
    powers of X_i and X_j are those of polynomials in both: `value` and `square` below give the
    slices with one and two of X_i. Pairs are zero on the diagonal.
    """
    power = PowerCumulants({sum(u): KnownSlices(known) for u in known}, w, scheme)
    mean = power[(1,)]
    if wanted == "mean":
        return {(1,): mean}
    expansion = Expansion(known, scheme)
    value = expansion.polynomial([w(k, 1) for k in DERIVATIVES])
    C = covariance(value, value)
    own: dict[Block, Array] = {(1,): mean, (2,): slice_of_x(power, (2,)), (1, 1): C}
    if wanted == "covariance":
        return own
    square = expansion.polynomial([w(k, 2) - 2 * mean * w(k, 1) for k in DERIVATIVES])
    k22 = covariance(square, square) - 2 * (C * C)
    own |= {(p,): slice_of_x(power, (p,)) for p in (3, 4)}
    return own | {(2, 1): covariance(square, value), (2, 2): k22}


class Polynomial(NamedTuple):
    """A function f of X_i, by f_a = E[∂^a f(φ(Z_i))], and its rows Σ_b M_ab f_b (a: matrix)."""

    coefficients: Sequence[Array]
    rows: Mapping[int, Array]


class Expansion:
    """Σ_ab M_ab ∘ (f_a g_bᵀ) is Cov[f(X_i), g(X_j)] (§3.1), with matrices M_ab by diagrams.

    M_ba is the transpose of M_ab, so half of them are enough.
    """

    def __init__(self, known: Slices, scheme: Scheme) -> None:
        half: dict[int, dict[int, Array]] = defaultdict(dict)
        for diagram in scheme.diagrams((1, 1)):
            a, b = diagram.derivatives
            if a >= b and all(partition(u) in known for u in diagram.blocks):
                term = evaluate(diagram, lambda u: lookup(known, u))
                term = term * 0.5 if a == b else term
                half[a][b] = half[a][b] + term if b in half[a] else term
        self._half = half

    def polynomial(self, f: Sequence[Array]) -> Polynomial:
        rows = {
            a: reduce(iadd, (M * f[b] for b, M in row.items())) for a, row in self._half.items()
        }
        return Polynomial(f, rows)


def covariance(f: Polynomial, g: Polynomial) -> Array:
    """Cov[f(X_i), g(X_j)] over i ≠ j; the diagonal is zero."""
    half = _half(f, g)
    return zero_coincidences(half + turned(half if f is g else _half(g, f)))


def _half(f: Polynomial, g: Polynomial) -> Array:
    return reduce(iadd, (f.coefficients[a][:, None] * row for a, row in g.rows.items()))


def partition(u: Block) -> Block:
    """A block's counts, falling, without zeros."""
    return tuple(sorted(filter(None, u), reverse=True))
