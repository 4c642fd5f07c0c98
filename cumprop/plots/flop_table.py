"""A table: the polynomial that counted FLOPs are, beside the paper's (its Table 1)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cumprop.plots import style
from cumprop.plots.caption import words
from cumprop.results.flop_polynomials import Line, lines


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
