"""Exact slices of κ(X) on one and two neurons: all that n³ engines ever form of a layer (§3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import chain
from operator import add, mul
from typing import Any

from numpy.typing import NDArray

from ..batches import turned
from ..dense import PowerCumulants, slice_of_x
from ..diagrams import Block
from ..entrywise import entrywise
from ..kinds import Scheme
from ..propagation import KnownSlices
from ..standardised import Wanted
from ..symmetric_tensors import Slices, zero_coincidences

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
    value = [w(k, 1) for k in DERIVATIVES]
    own: dict[Block, Array] = {(1,): mean, (2,): slice_of_x(power, (2,))}
    expansion = expansion_of(scheme, frozenset(known))
    if wanted == "covariance":
        return own | {(1, 1): covariance(*expansion.halves(known, value))}
    square = [w(k, 2) - 2 * mean * w(k, 1) for k in DERIVATIVES]
    vv, vs, sv, ss = expansion.halves(known, value, square)
    C = covariance(vv)
    k22 = covariance(ss) - 2 * (C * C)
    own |= {(p,): slice_of_x(power, (p,)) for p in (3, 4)}
    return own | {(1, 1): C, (2, 1): covariance(sv, vs), (2, 2): k22}


@cache
def expansion_of(scheme: Scheme, known: frozenset[Block]) -> Expansion:
    """The expansion of a scheme by the slices of Z that are known."""
    return Expansion(scheme, known)


class Expansion:
    """Σ_ab M_ab ∘ (f_a g_bᵀ) is Cov[f(X_i), g(X_j)] (§3.1), with matrices M_ab by diagrams.

    A function f of X_i is given by f_a = E[∂^a f(φ(Z_i))]. M_ba is the transpose of M_ab, so half
    of them, a ≥ b, are enough.
    """

    def __init__(self, scheme: Scheme, known: frozenset[Block]) -> None:
        diagrams = [
            diagram
            for diagram in scheme.diagrams((1, 1))
            if diagram.derivatives[0] >= diagram.derivatives[1]
            and all(partition(u) in known for u in diagram.blocks)
        ]
        self._diagrams = diagrams
        blocks = {u for diagram in diagrams for u in diagram.blocks}
        self._blocks = sorted(blocks, key=lambda u: (u != (1, 1), u))  # a matrix first
        self._formula = entrywise(self._halves)

    def halves(self, known: Slices, *functions: Sequence[Array]) -> tuple[Array, ...]:
        """The terms with a ≥ b of Cov[f(X_i), g(X_j)] for each f, and for each g."""
        slices = [self._on_pairs(known, u) for u in self._blocks]
        columns = [f[a][:, None] for f in functions for a in DERIVATIVES]
        found: tuple[Array, ...] = self._formula(*slices, *columns, *chain(*functions))
        return found

    def _on_pairs(self, known: Slices, u: Block) -> Array:
        """A slice of Z over rows i and columns j."""
        if 0 in u:
            return known[partition(u)][:, None] if u[1] == 0 else known[partition(u)]
        return known[u] if u in known else turned(known[partition(u)])

    def _halves(self, *arrays: Any) -> tuple[Any, ...]:
        slices = dict(zip(self._blocks, arrays, strict=False))
        given = arrays[len(slices) :]
        size = len(DERIVATIVES)
        each = [given[start : start + size] for start in range(0, len(given), size)]
        columns, rows = each[: len(each) // 2], each[len(each) // 2 :]
        M: dict[int, dict[int, Any]] = defaultdict(dict)
        for diagram in self._diagrams:
            a, b = diagram.derivatives
            weight = diagram.factor * (0.5 if a == b else 1)
            first, *others = (slices[u] for u in sorted(diagram.blocks, key=min))
            term = reduce(mul, others, first if weight == 1 else first * weight)
            M[a][b] = M[a][b] + term if b in M[a] else term
        by_row = [
            {a: reduce(add, (M_ab * g[b] for b, M_ab in row.items())) for a, row in M.items()}
            for g in rows
        ]
        return tuple(
            reduce(add, (f[a] * row for a, row in of_g.items())) for f in columns for of_g in by_row
        )


def covariance(half: Array, other: Array | None = None) -> Array:
    """Cov[f(X_i), g(X_j)] over i ≠ j from half its terms, and half of Cov[g(X_i), f(X_j)] where g
    is not f; the diagonal is zero."""
    return zero_coincidences(half + turned(half if other is None else other))


def partition(u: Block) -> Block:
    """A block's counts, falling, without zeros."""
    return tuple(sorted(filter(None, u), reverse=True))
