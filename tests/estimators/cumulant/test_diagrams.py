"""Term counts, truncation and the cumulant algebra (mathematics §3)."""

from fractions import Fraction
from math import factorial, prod

import numpy as np
import pytest

from cumprop.estimators.cumulant.diagrams import (
    cumulant_diagrams,
    dealings,
    diagrams,
    partitions,
    support,
)
from cumprop.estimators.cumulant.kinds import Scheme


def counted_partitions(scheme):
    """The p of §3.1: |p| ≤ highest tracked order and Σ ⌈p_a / 2⌉ ≤ K."""
    return [
        p
        for d in range(1, max(scheme.tracked) + 1)
        for p in partitions(d)
        if sum((a + 1) // 2 for a in p) <= scheme.order
    ]


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "truncation", "counts"),
    [
        ("basic", "corrected", [2, 3, 40, 171]),
        ("augmented", "corrected", [2, 27, 142, 2950]),
        ("basic", "published", [2, 3, 256, 3377]),
        ("augmented", "published", [2, 24, 256, 13314]),
    ],
)
def test_number_of_diagrams(kind, truncation, counts):
    schemes = [Scheme(order, kind, truncation) for order in (1, 2, 3, 4)]
    found = [sum(len(s.diagrams(p)) for p in counted_partitions(s)) for s in schemes]
    assert found == counts


def test_number_of_factorised_diagrams():
    totals = []
    for order in (3, 4):
        scheme = Scheme(order, "augmented_factorised")
        totals.append(sum(len(scheme.diagrams(p)) for p in counted_partitions(scheme)))
    assert totals == [135, 2863]
    kept = {p: len(Scheme(len(p), "augmented_factorised").diagrams(p))
            for p in [(1, 1, 1), (2, 1, 1), (1,) * 4, (2, 1, 1, 1), (2, 2, 1, 1)]}  # fmt: skip
    assert list(kept.values()) == [31, 32, 309, 378, 378]


@pytest.mark.parametrize(
    ("order", "kind", "by_neurons"),
    [(3, "basic", [3, 5, 4, 0]), (3, "augmented", [3, 15, 35, 29]),
     (4, "augmented", [8, 49, 187, 384])],
)  # fmt: skip
def test_number_of_diagrams_by_neurons(order, kind, by_neurons):
    scheme = Scheme(order, kind)
    assert [len(scheme.diagrams((1,) * m)) for m in (1, 2, 3, 4)] == by_neurons


def test_order_three_pairs_are_those_written_out():
    """κ^P_pq of mathematics §3.4, with its coefficients."""
    found = {d.blocks: d.weight for d in Scheme(3).diagrams((1, 1))}
    assert found == {
        ((1, 1),): Fraction(1),
        ((1, 1), (1, 1)): Fraction(1, 2),
        ((1, 2),): Fraction(1, 2),
        ((2, 1),): Fraction(1, 2),
        ((2, 2),): Fraction(1, 4),
    }


def test_chains_have_three_centres():
    chains = [d for d in Scheme(3).diagrams((1, 1, 1)) if len(d.blocks) == 2]
    assert sorted(d.derivatives for d in chains) == [(1, 1, 2), (1, 2, 1), (2, 1, 1)]


def test_diagrams_are_connected_and_within_budget():
    from cumprop.estimators.cumulant.diagrams import cost

    for diagram in diagrams(3, frozenset({2, 3, 4}), 3):
        assert sum(map(cost, diagram.blocks)) <= 3
        assert {a for u in diagram.blocks for a in support(u)} == {0, 1, 2}


def moments(samples, u):
    """Joint cumulant of repeated variables, from sample moments, by set partitions (exact)."""
    labels = [a for a, count in enumerate(u) for _ in range(count)]

    def blocks(items):
        if not items:
            yield []
            return
        for rest in blocks(items[1:]):
            yield [[items[0]], *rest]
            for i in range(len(rest)):
                yield [*rest[:i], [items[0], *rest[i]], *rest[i + 1 :]]

    return sum(
        (-1) ** (len(p) - 1)
        * factorial(len(p) - 1)
        * prod(np.prod(samples[:, b], axis=1).mean() for b in p)
        for p in blocks(labels)
    )


@pytest.mark.parametrize("part", [p for d in range(1, 7) for p in partitions(d) if len(p) <= 4])
def test_power_cumulants_to_cumulants_is_an_identity(part):
    """§3.2 holds for any distribution whatever: check on a small discrete one, to rounding."""
    x = np.random.default_rng(len(part)).normal(size=(7, len(part)))

    def power_cumulant(u):
        powers = np.stack([x[:, a] ** count for a, count in enumerate(u) if count], axis=1)
        return moments(powers, (1,) * powers.shape[1])

    expanded = sum(
        float(d.weight) * prod(power_cumulant(u) for u in d.blocks) for d in cumulant_diagrams(part)
    )
    assert expanded == pytest.approx(moments(x, part), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("u", "r"), [((4,), 2), ((3, 1), 1), ((2, 1, 1), 1), ((2, 2, 1, 1), 3)])
def test_dealings_average_over_all_ways(u, r):
    assert sum(d.weight for d in dealings(u, r)) == 1
    assert all(sum(d.core) == sum(u) - 2 * r for d in dealings(u, r))
