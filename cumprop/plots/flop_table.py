"""A table: the polynomial that counted FLOPs are, beside the paper's (its Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cumprop.errors import CumpropError
from cumprop.plots import style
from cumprop.plots.caption import words
from cumprop.results.flop_polynomials import PAPER, Polynomial

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
        return f"K={self.order} {self.kind.replace('_', ' ')}"


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


def draw(scores: pd.DataFrame) -> Figure:
    """The table of `lines` as a figure; raises CumpropError as it does."""
    found = lines(scores)
    head = ("estimator", "algorithm", "FLOPs as executed, leading terms", "the paper's convention")
    body = [
        (
            line.name,
            "structured" if line.structured else "dense",
            str(line.polynomial.leading),
            str(line.paper or "not given"),
        )
        for line in found
    ]
    figure, (ax,) = style.sheet(1, "", "", [], _caption(scores, found), width=style.PAGE)
    ax.axis("off")
    ax.set_ylim(0, 1)
    table = ax.table([*map(list, body)], colLabels=head, loc="upper left", cellLoc="left",
                     colWidths=[0.26, 0.14, 0.34, 0.26])  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, _), cell in table.get_celld().items():
        cell.visible_edges = "B" if row == 0 else ""
        cell.set_edgecolor("0.3")
    return figure


def _caption(scores: pd.DataFrame, found: list[Line]) -> str:
    counts: Any = sorted({line.polynomial.n_counts for line in found})
    return (
        f"ReLU MLPs of width {words(scores['width'])} and depth {words(scores['depth'])}, He "
        f"init, {words(scores['dtype'])}. FLOPs as executed ({words(scores['flops_convention'])})"
        ", multiply-add = 2: polynomials in width n and depth L with exact coefficients, terms of "
        f"the highest power of n; all {', '.join(map(str, counts))} counts of an estimator agree "
        "with its polynomial to the last digit. The paper discounts symmetric tensors (β = 1, 3/4, "
        "7/18, 5/32 at orders 1 to 4), which no kernel here does, and counts its own factorised "
        "algorithms."
    )
