"""The polynomial in width n and depth L that counted FLOPs are, found exactly; beside the paper's.

Counts of ReLU networks with all widths equal are polynomials, so a few counts give them as
fractions, and all the others must agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from cumprop.errors import CumpropError
from cumprop.results.points import label

if TYPE_CHECKING:
    import pandas as pd

Monomial = tuple[int, int]
"""Powers of n and of L."""

DEPTH_DEGREE = 3
"""A cumulant of each layer is read in all layers above it, and in trees meets all older ones."""


@dataclass(frozen=True)
class Polynomial:
    """Σ coefficient · n^a L^b, and how many counts it was found to agree with."""

    coefficients: Mapping[Monomial, Fraction]
    n_counts: int = 0

    @classmethod
    def through(cls, counts: Mapping[tuple[int, int], int], degree: int) -> Self:
        """The polynomial of `counts[n, L]` on a full grid, of `degree` in n and at most 3 in L.

        Raises CumpropError where the grid is too small to leave counts that test it, or where one
        count disagrees.

        >>> law = Polynomial.through(
        ...     {(n, L): 2 * n**2 * L + n for n in (1, 2, 3, 4) for L in (3, 4, 5, 6, 7)}, degree=2)
        >>> str(law), law.n_counts
        ('2 n²L + n', 20)
        """
        widths, depths = (sorted({key[i] for key in counts}) for i in (0, 1))
        if (
            len(widths) < degree + 2
            or len(depths) < DEPTH_DEGREE + 2
            or len(counts) < len(widths) * len(depths)
        ):
            raise CumpropError(
                f"a FLOP polynomial needs {degree + 2} widths × {DEPTH_DEGREE + 2} depths, here "
                f"are {len(counts)} counts at {len(widths)} × {len(depths)}; "
                "sweep configs/flops.yaml"
            )
        rows = [
            _interpolate(widths[: degree + 1], [counts[n, depth] for n in widths[: degree + 1]])
            for depth in depths[: DEPTH_DEGREE + 1]
        ]
        columns = [
            _interpolate(depths[: DEPTH_DEGREE + 1], [row[a] for row in rows])
            for a in range(degree + 1)
        ]
        found = cls(
            {(a, b): c for a, column in enumerate(columns) for b, c in enumerate(column) if c},
            len(counts),
        )
        for (n, depth), count in counts.items():
            if found.at(n, depth) != count:
                raise CumpropError(
                    f"{count} FLOPs at width {n}, depth {depth} are not on the polynomial {found}; "
                    "count one estimator on plain ReLU networks"
                )
        return found

    def at(self, n: int, depth: int) -> Fraction:
        """Its value, exactly."""
        terms = (c * n**a * depth**b for (a, b), c in self.coefficients.items())
        return sum(terms, Fraction(0))

    @property
    def degree(self) -> int:
        """The highest power of n."""
        return max(a for a, _ in self.coefficients)

    @property
    def leading(self) -> Polynomial:
        """The terms of the highest power of n."""
        top = {key: c for key, c in self.coefficients.items() if key[0] == self.degree}
        return Polynomial(top, self.n_counts)

    def __str__(self) -> str:
        terms = [
            f"{'−' if c < 0 else '+'} {'' if abs(c) == 1 and a else f'{abs(c)} '}"
            f"{_power('n', a)}{_power('L', b)}".rstrip()
            for (a, b), c in sorted(self.coefficients.items(), reverse=True)
        ]
        return " ".join(terms).removeprefix("+ ") or "0"


PAPER = {
    (1, "basic", False): Polynomial({(2, 1): Fraction(4)}),
    (2, "basic", False): Polynomial({(3, 1): Fraction(3)}),
    (2, "augmented", False): Polynomial({(3, 1): Fraction(11)}),
    (3, "basic", False): Polynomial({(4, 1): Fraction(7, 3)}),
    (3, "basic", True): Polynomial({(3, 2): Fraction(12), (3, 1): Fraction(27)}),
    (3, "augmented_factorised", True): Polynomial({(3, 2): Fraction(108), (3, 1): Fraction(216)}),
    (4, "basic", False): Polynomial({(5, 1): Fraction(5, 4)}),
    (4, "basic", True): Polynomial({(4, 2): Fraction(16), (4, 1): Fraction(26)}),
}
"""Leading terms of the paper's Table 1, errata included, by order, kind and whether factorised.

Its convention discounts symmetric tensors as no kernel does: an order-d contraction counts
2d n^(d+1) β_d with β = 1, 3/4, 7/18, 5/32 (mathematics §6).
"""


def _interpolate(x: Sequence[int], y: Sequence[int | Fraction]) -> list[Fraction]:
    """Coefficients, constant first, of the polynomial through (x, y): Newton's, exactly."""
    differences = [Fraction(value) for value in y]
    for level in range(1, len(x)):
        for i in range(len(x) - 1, level - 1, -1):
            differences[i] = (differences[i] - differences[i - 1]) / (x[i] - x[i - level])
    coefficients = [Fraction(0)] * len(x)
    for at, difference in zip(reversed(x), reversed(differences), strict=True):
        shifted = [Fraction(0), *coefficients[:-1]]  # times x
        coefficients = [s - at * c for s, c in zip(shifted, coefficients, strict=True)]
        coefficients[0] += difference
    return coefficients


def _power(symbol: str, exponent: int) -> str:
    raised = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return {0: "", 1: symbol}.get(exponent, symbol + raised)


_CURVE = ["order", "kind", "algorithm"]


@dataclass(frozen=True)
class Line:
    """One estimator: its polynomial, and the leading terms the paper gives for it."""

    order: int
    kind: str
    structured: bool
    polynomial: Polynomial

    @property
    def paper(self) -> Polynomial | None:
        return PAPER.get((self.order, self.kind, self.structured))

    @property
    def fastest(self) -> bool:
        """Whether no other algorithm computes the same with a lower power of n."""
        return self.structured or self.order < 3

    @property
    def name(self) -> str:
        return label({"order": self.order, "kind": self.kind})


def lines(scores: pd.DataFrame) -> list[Line]:
    """The polynomials of all cumulant estimators with the exact metric and corrected truncation.

    Raises CumpropError where there are too few widths or depths, or the counts are no polynomial.
    """
    plain = (
        (scores["estimator"] == "cumulant")
        & scores["flops"].notna()
        & (scores["metric"] == "exact")
        & (scores["truncation"] == "corrected")
        & (scores["activation"] == "relu")
        & (scores["init"] == "he")
    )
    found = []
    for _, rows in scores[plain].groupby(_CURVE):
        order, kind, algorithm = rows[_CURVE].iloc[0]
        counts = {
            (int(n), int(depth)): int(flops)
            for n, depth, flops in rows[["width", "depth", "flops"]].to_numpy()
        }
        polynomial = Polynomial.through(counts, degree=int(order) + 1)
        structured = algorithm != "dense" and polynomial.degree <= order and order > 2
        found.append(Line(int(order), str(kind), structured, polynomial))
    if not found:
        raise CumpropError("no FLOPs of cumulants on ReLU networks; sweep configs/flops.yaml")
    return found
