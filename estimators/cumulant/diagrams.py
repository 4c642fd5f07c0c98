"""Diagrams: which products of cumulants enter a nonlinear step, and with what weight.

Everything here is symbolic and cached: integers and fractions, no arrays. A *block* u in N^m stands
for the cumulant slice in which neuron a (of m distinct ones) appears u_a times; a *diagram* is
a multiset of blocks (mathematics §3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from itertools import combinations_with_replacement, product
from math import comb, factorial, prod

Block = tuple[int, ...]


@dataclass(frozen=True)
class Diagram:
    """A weighted product of blocks; `blocks` lists each one as often as it occurs."""

    weight: Fraction
    blocks: tuple[Block, ...]
    neurons: int

    @cached_property
    def derivatives(self) -> Block:
        """k = Σ_u ν(u) u: how often each neuron's activation is differentiated."""
        return tuple(sum(u[a] for u in self.blocks) for a in range(self.neurons))

    @cached_property
    def factor(self) -> float:
        """The weight as a number."""
        return float(self.weight)

    @cached_property
    def orders(self) -> frozenset[int]:
        """The orders of the blocks."""
        return frozenset(map(sum, self.blocks))

    @cached_property
    def vectors_first(self) -> tuple[Block, ...]:
        """The blocks, those that do not touch all neurons first: their products are small."""
        return tuple(sorted(self.blocks, key=min))

    @cached_property
    def slices(self) -> tuple[tuple[tuple[int, ...], Block], ...]:
        """The neurons of each block, and the block without zeros."""
        return tuple((support(u), tuple(filter(None, u))) for u in self.blocks)


def support(u: Block) -> tuple[int, ...]:
    """The neurons a block touches.

    >>> support((2, 0, 1))
    (0, 2)
    """
    return tuple(a for a, count in enumerate(u) if count)


def cost(u: Block) -> int:
    """Powers of n^(-1/2) a block is worth: |u| - 1, one less if every neuron appears evenly often.

    >>> [cost(u) for u in [(1, 1), (3,), (2, 1), (4,), (2, 2), (3, 1), (1, 1, 1, 1)]]
    [1, 2, 2, 2, 2, 3, 3]
    """
    return sum(u) - 1 - all(count % 2 == 0 for count in u)


def published_cost(u: Block) -> int:
    """The looser rule behind the figures of the May 2026 paper, since retracted (§3.1)."""
    return max(sum((count + 1) // 2 for count in u) - 1, 1)


@cache
def blocks(m: int, orders: frozenset[int]) -> tuple[Block, ...]:
    """All blocks on m neurons of the given orders, bar a neuron's own mean and variance (rule i).

    >>> blocks(2, frozenset({2, 3}))
    ((1, 1), (0, 3), (1, 2), (2, 1), (3, 0))
    """
    return tuple(
        u
        for order in sorted(orders)
        for u in product(range(order + 1), repeat=m)
        if sum(u) == order and (len(support(u)) > 1 or order > 2)
    )


def connects(supports: Sequence[tuple[int, ...]], m: int) -> bool:
    """Whether the supports join all m neurons into one component (rule ii).

    >>> connects([(0, 1), (1, 2)], 3), connects([(0, 1)], 3), connects([], 1)
    (True, False, True)
    """
    reached = {0}
    for _ in supports:
        reached.update(*(s for s in supports if reached.intersection(s)))
    return len(reached) == m


@cache
def diagrams(
    m: int, orders: frozenset[int], budget: int, cost: Callable[[Block], int] = cost
) -> tuple[Diagram, ...]:
    """The diagrams of a power cumulant of m distinct neurons, Σ cost ≤ budget (§3.1).

    The weight is Π_u 1 / (ν(u)! (u!)^ν(u)); the Wick coefficients w(k_a, p_a) are the caller's.

    >>> [d.blocks for d in diagrams(2, frozenset({2, 3}), 2)]
    [((1, 1),), ((1, 2),), ((2, 1),), ((1, 1), (1, 1))]
    """
    found = [
        Diagram(_symmetry(chosen), chosen, m)
        for chosen in _within(blocks(m, orders), budget, cost)
        if connects([support(u) for u in chosen], m)
    ]
    return tuple(sorted(found, key=lambda d: (len(d.blocks), d.blocks)))


def _within(
    candidates: Sequence[Block], budget: int, cost: Callable[[Block], int]
) -> Iterator[tuple[Block, ...]]:
    """Multisets of the candidates whose costs add up to at most the budget."""
    yield ()
    for i, u in enumerate(candidates):
        if cost(u) <= budget:
            for rest in _within(candidates[i:], budget - cost(u), cost):
                yield (u, *rest)


def _symmetry(chosen: tuple[Block, ...]) -> Fraction:
    repeats = prod(factorial(nu) for nu in Counter(chosen).values())
    return Fraction(1, repeats * prod(factorial(count) for u in chosen for count in u))


def is_hypertree(diagram: Diagram) -> bool:
    """Whether the distinct supports form a hypertree: no two share a pair, no cycle (§4.3)."""
    supports = {support(u) for u in diagram.blocks if len(support(u)) > 1}
    shared = max((len({*s} & {*t}) for s in supports for t in supports if s != t), default=0)
    return shared <= 1 and sum(len(s) - 1 for s in supports) == diagram.neurons - 1


@cache
def cumulant_diagrams(part: Block) -> tuple[Diagram, ...]:
    """A slice of κ(X) as a polynomial in power cumulants (§3.2, exact).

    >>> [(str(d.weight), d.blocks) for d in cumulant_diagrams((2, 1))]
    [('-2', ((1, 0), (1, 1))), ('1', ((2, 1),))]
    """
    found = []
    for chosen in _vector_partitions(part):
        ways = Fraction(prod(map(factorial, part))) * _symmetry(chosen)
        weight = ways * _disjointness(chosen)
        if weight:
            found.append(Diagram(weight, chosen, len(part)))
    return tuple(found)


def _vector_partitions(part: Block, least: Block = ()) -> Iterator[tuple[Block, ...]]:
    """Multisets of nonzero blocks adding up to `part`, listed in non-decreasing order."""
    if not any(part):
        yield ()
    for u in product(*(range(count + 1) for count in part)):
        if any(u) and u >= least:
            rest = tuple(count - taken for count, taken in zip(part, u, strict=True))
            for others in _vector_partitions(rest, u):
                yield (u, *others)


def _disjointness(chosen: tuple[Block, ...]) -> int:
    """c_ν: Σ_ω (-1)^(|ω|-1) (|ω|-1)! over groupings ω of blocks with disjoint supports."""
    return sum(
        (-1) ** (len(groups) - 1) * factorial(len(groups) - 1)
        for groups in _disjoint_groupings([frozenset(support(u)) for u in chosen])
    )


def _disjoint_groupings(supports: list[frozenset[int]]) -> Iterator[list[frozenset[int]]]:
    """Set partitions of the blocks, each part given by the union of its disjoint supports."""
    if not supports:
        yield []
        return
    first, *others = supports
    for groups in _disjoint_groupings(others):
        yield [first, *groups]
        for i, group in enumerate(groups):
            if not first & group:
                yield [*groups[:i], group | first, *groups[i + 1 :]]


@dataclass(frozen=True)
class Dealing:
    """One way to deal the legs of a slice to a core A and r factors M_ab of a metric."""

    weight: Fraction
    core: Block
    pairs: tuple[tuple[int, int], ...]


@cache
def dealings(u: Block, r: int) -> tuple[Dealing, ...]:
    """Slice u of Sym(A ⊗ M^r): the average over the ways to deal its legs (§3.3).

    >>> [(str(d.weight), d.pairs) for d in dealings((2, 2), 2)]
    [('1/3', ((0, 0), (1, 1))), ('2/3', ((0, 1), (0, 1)))]
    """
    every_pair = combinations_with_replacement(range(len(u)), 2)
    found = []
    for pairs in combinations_with_replacement(tuple(every_pair), r):
        used = Counter(a for pair in pairs for a in pair)
        core = tuple(count - used[a] for a, count in enumerate(u))
        if min(core, default=0) >= 0:
            ordered = factorial(r) // prod(map(factorial, Counter(pairs).values()))
            ways = multinomial(core) * ordered * 2 ** sum(a != b for a, b in pairs)
            found.append(Dealing(Fraction(ways, multinomial(u)), core, pairs))
    return tuple(found)


def multinomial(parts: Sequence[int]) -> int:
    """The number of distinct orderings of a word with the given letter counts."""
    return prod(comb(sum(parts[: i + 1]), count) for i, count in enumerate(parts))


@cache
def partitions(d: int, largest: int | None = None) -> tuple[Block, ...]:
    """Partitions of d, parts falling.

    >>> partitions(4)
    ((4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1))
    """
    if d == 0:
        return ((),)
    return tuple(
        (first, *rest)
        for first in range(min(d, largest or d), 0, -1)
        for rest in partitions(d - first, first)
    )
