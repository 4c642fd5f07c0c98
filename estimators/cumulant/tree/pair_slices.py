"""Exact slices of κ(X) on one and two neurons: all that n³ engines ever form of a layer (§3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import chain, product
from operator import add, mul
from typing import Any

from numpy.typing import NDArray

from ..batches import turned
from ..diagrams import Block, Diagram, cumulant_diagrams
from ..entrywise import entrywise
from ..kinds import Scheme
from ..standardised import Wanted
from ..symmetric_tensors import Slices, zero_coincidences

Array = NDArray[Any]
Powers = Callable[[int, int], Array]
"""w(k,p), the Wick coefficients."""
DERIVATIVES = range(6)
HIGHEST: dict[Wanted, int] = {"mean": 1, "covariance": 2, "all": 4}
"""The highest cumulant of one neuron that is needed."""


def slices_of_x(known: Slices, w: Powers, scheme: Scheme, wanted: Wanted) -> Slices:
    """κ(X) of one neuron, (1,) to (4,), and of pairs, (1,1), (2,1), (2,2), as far as `wanted`.

    `known` are slices of Z: (3,), (4,), and of pairs (1,1), (2,1), (3,1), (2,2). Joint cumulants of
    powers of X_i and X_j are those of polynomials in both: `value` and `square` below give the
    slices with one and two of X_i. Pairs are zero on the diagonal.
    """
    expansion = expansion_of(scheme, frozenset(known))
    own = expansion.cumulants(known, w, HIGHEST[wanted])
    if wanted == "mean":
        return own
    value = [w(k, 1) for k in DERIVATIVES]
    if wanted == "covariance":
        (C,) = expansion.covariances(known, value)
        return {**own, (1, 1): C}
    square = [w(k, 2) - 2 * own[1,] * w(k, 1) for k in DERIVATIVES]
    C, k21, of_squares = expansion.covariances(known, value, square)
    return {**own, (1, 1): C, (2, 1): k21, (2, 2): _less_squares(of_squares, C)}


@entrywise
def _less_squares(matrix: Array, C: Array) -> Any:
    return matrix - 2 * (C * C)


@cache
def expansion_of(scheme: Scheme, known: frozenset[Block]) -> Expansion:
    """The expansion of a scheme by the slices of Z that are known."""
    return Expansion(scheme, known)


class Expansion:
    """The diagrams of one neuron and of two whose slices of Z are known.

    Σ_ab M_ab ∘ (f_a g_bᵀ) is Cov[f(X_i), g(X_j)] (§3.1), with matrices M_ab by diagrams. A function
    f of X_i is given by f_a = E[∂^a f(φ(Z_i))]. M_ba is the transpose of M_ab, so that halves of
    the sums, a ≥ b, are enough; without diagrams of a > b they are formed at once.
    """

    def __init__(self, scheme: Scheme, known: frozenset[Block]) -> None:
        alone, pairs = (
            [d for d in scheme.diagrams(p) if all(partition(u) in known for u in d.blocks)]
            for p in ((1,), (1, 1))
        )
        self._alone = [diagram for diagram in alone if diagram.blocks]
        self._pairs = [d for d in pairs if d.derivatives[0] >= d.derivatives[1]]
        self._by_halves = any(a > b for a, b in (d.derivatives for d in self._pairs))
        blocks = {u for diagram in self._pairs for u in diagram.blocks}
        self._blocks = sorted(blocks, key=lambda u: (u != (1, 1), u))  # a matrix first
        self._formula = entrywise(self._sums)

    def cumulants(self, known: Slices, w: Powers, highest: int) -> Slices:
        """κ_1(X_i) to κ_highest(X_i), from power cumulants, whose diagrams are the same."""
        factors = [(d.derivatives[0], _product(d, known)) for d in self._alone]
        powers: dict[Block, Array] = {
            (p,): reduce(add, (factor * w(k, p) for k, factor in factors), w(0, p))
            for p in range(1, highest + 1)
        }
        return {u: reduce(add, (_product(d, powers) for d in cumulant_diagrams(u))) for u in powers}

    def covariances(self, known: Slices, *functions: Sequence[Array]) -> list[Array]:
        """Cov[f(X_i), g(X_j)] over i ≠ j for each of the functions f, and g up to f."""
        slices = [self._on_pairs(known, u) for u in self._blocks]
        columns = [f[a][:, None] for f in functions for a in DERIVATIVES]
        found = self._formula(*slices, *columns, *chain(*functions))
        sums = dict(zip(self._sides(len(functions)), found, strict=True))
        if self._by_halves:
            sums = {(f, g): sums[f, g] + turned(sums[g, f]) for f, g in sums if f >= g}
        return [zero_coincidences(covariance) for covariance in sums.values()]

    def _sides(self, functions: int) -> list[tuple[int, int]]:
        """The functions f of X_i and g of X_j that are summed over diagrams."""
        sides = product(range(functions), repeat=2)
        return [(f, g) for f, g in sides if f >= g or self._by_halves]

    def _on_pairs(self, known: Slices, u: Block) -> Array:
        """A slice of Z over rows i and columns j."""
        if 0 in u:
            return known[partition(u)][:, None] if u[1] == 0 else known[partition(u)]
        return known[u] if u in known else turned(known[partition(u)])

    def _sums(self, *arrays: Any) -> tuple[Any, ...]:
        slices = dict(zip(self._blocks, arrays, strict=False))
        given = arrays[len(slices) :]
        size = len(DERIVATIVES)
        each = [given[start : start + size] for start in range(0, len(given), size)]
        columns, rows = each[: len(each) // 2], each[len(each) // 2 :]
        M: dict[int, dict[int, Any]] = defaultdict(dict)
        for diagram in self._pairs:
            a, b = diagram.derivatives
            term = _product(diagram, slices, 0.5 if a == b and self._by_halves else 1)
            M[a][b] = M[a][b] + term if b in M[a] else term
        by_row = [
            {a: reduce(add, (M_ab * g[b] for b, M_ab in row.items())) for a, row in M.items()}
            for g in rows
        ]
        return tuple(
            reduce(add, (columns[f][a] * row for a, row in by_row[g].items()))
            for f, g in self._sides(len(columns))
        )


def _product(diagram: Diagram, slices: Slices, share: float = 1) -> Any:
    """The weighted product of the diagram's slices, or a share of it."""
    weight = diagram.factor * share
    first, *others = [slices[u] for u in diagram.vectors_first]
    return reduce(mul, others, first if weight == 1 else first * weight)


def partition(u: Block) -> Block:
    """A block's counts, falling, without zeros."""
    return tuple(sorted(filter(None, u), reverse=True))
