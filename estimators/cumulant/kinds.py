"""The cumulants that each order and kind tracks, and its diagrams (mathematics §3.3, §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .diagrams import Block, Diagram, cost, diagrams, is_hypertree, published_cost, support

KINDS = ("basic", "augmented", "augmented_factorised", "base", "ablated", "tree")
TRUNCATIONS = ("corrected", "published")
EDGES = ("leading", "full")
THIRD = frozenset({3})


@dataclass(frozen=True)
class Scheme:
    """Order K and kind: the cumulants tracked and the truncation of the expansion.

    `edgeworth` adds the diagrams of two κ_3 blocks: of one neuron, and for trees of two. `edges`
    names what edges of a tree's κ_4 carry; None leaves it to the widths.

    >>> Scheme(3, "basic").tracked, Scheme(4, "augmented").tracked
    ({1: 0, 2: 0, 3: 0, 4: 2}, {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 3})
    """

    order: int
    kind: str = "basic"
    truncation: str = "corrected"
    edgeworth: bool = False
    edges: str | None = None

    @property
    def tracked(self) -> dict[int, int]:
        """The tracked orders d with r: κ_d is kept as Sym(A ⊗ I^r), in full where r = 0."""
        k = self.order
        full = dict.fromkeys(range(1, k + 1), 0)
        if self.kind == "basic":
            return full | ({k + 1: (k + 1) // 2} if k % 2 else {})
        if self.kind == "tree":
            return full | {k + 1: 0}
        if self.kind in ("augmented", "augmented_factorised"):
            return full | {k + 1: 1} | ({} if k % 2 else {k + 2: (k + 2) // 2})
        return full

    @property
    def budget(self) -> int:
        """The largest total cost of a diagram."""
        loose = self.kind.startswith("augmented") and self.truncation == "corrected"
        return self.order if loose or self.kind == "tree" else self.order - 1

    @property
    def unit_variance(self) -> bool:
        """Whether no variance is tracked and every pre-activation is given variance 1."""
        return 2 not in self.tracked

    @cache  # noqa: B019  (schemes are few, small and equal by value)
    def diagrams(self, powers: Block) -> tuple[Diagram, ...]:
        """The diagrams of the power cumulant κ^P_p, p = `powers`."""
        rule = cost if self.truncation == "corrected" else published_cost
        orders = frozenset(self.tracked) - {1}
        kept = diagrams(len(powers), orders, self.budget, rule)
        if self.edgeworth and len(powers) <= (2 if self.kind == "tree" else 1):
            kept += tuple(d for d in diagrams(len(powers), THIRD, 4) if len(d.blocks) == 2)
        if self.kind != "augmented_factorised" or len(powers) != self.order:
            return kept
        if set(powers) == {1}:
            return tuple(d for d in kept if is_hypertree(d))
        return tuple(d for d in kept if not _doubles_the_all_distinct_block(d))


def _doubles_the_all_distinct_block(diagram: Diagram) -> bool:
    """Whether ν = {(1,)*K, (1,1)}, the only product with the all-distinct block of κ_K."""
    return len(diagram.blocks) > 1 and any(
        set(u) == {1} and len(support(u)) == diagram.neurons > 2 for u in diagram.blocks
    )
