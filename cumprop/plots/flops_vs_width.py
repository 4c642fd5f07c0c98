"""Cost against width: counted FLOPs with fitted power laws, log-log (mathematics §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cumprop.errors import CumpropError
from cumprop.plots import scaling, style
from cumprop.plots.caption import title, words
from cumprop.results.points import label, records
from cumprop.results.power_laws import PowerLaw

LEAST_WIDTHS = 3

_PANEL = ["depth", "readout", "activation", "init", "dtype"]
_CURVE = ["estimator", "order", "kind", "algorithm", "metric", "truncation", "design", "variant"]


def draw(rows: pd.DataFrame) -> Figure:
    """One panel per depth and kind of network: FLOPs of every estimator over the width.

    `rows` are scores, or `benchmark.rows` of a benchmark. Sampling is shown by the FLOPs of one
    forward pass. The lines are least squares in log-log. Raises CumpropError for fewer than three
    widths.
    """
    rows = rows[rows["flops"].notna()]
    widths = sorted(set(rows["width"]))
    if len(widths) < LEAST_WIDTHS:
        raise CumpropError(
            f"a power law needs {LEAST_WIDTHS} widths, here are {widths}; "
            "sweep with --set network.width=[64,128,256], or bench with --width three times"
        )
    sampled = rows["estimator"] == "monte_carlo"  # a curve of one pass, whatever their number
    rows = rows.assign(variant=rows["parameters"].mask(sampled))
    panels = [
        (table.iloc[0], [_Curve.of(one) for _, one in table.groupby(_CURVE, dropna=False)])
        for _, table in rows.groupby(_PANEL, dropna=False)
    ]
    legend = style.legend((one.look for _, curves in panels for one in curves), linewidth=0.8)
    figure, axes = style.sheet(len(panels), "width n", "FLOPs", legend, _caption(rows))
    for (first, curves), ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=(widths[0] / 1.25, widths[-1] * 1.25))
        ax.set_title(title(first, rows, ["depth"]))
        for curve in curves:
            curve.draw(ax)
    figure.draw_without_rendering()
    for (_, curves), ax in zip(panels, axes, strict=True):
        scaling.annotate(ax, [curve.note for curve in curves])
        scaling.name_ticks(ax, widths)
    return figure


@dataclass(frozen=True)
class _Curve:
    """One estimator: its name, look, FLOPs at each width, and the law where three are known."""

    name: str
    look: style.Look
    points: pd.Series[float]
    law: PowerLaw | None

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Self:
        (first,) = records(rows[:1])
        flops, name = rows["flops"], ""
        if first["estimator"] == "cumulant":
            name = label(first, kind=False)
        if first["estimator"] == "monte_carlo":
            most = rows.groupby("width")["n_samples"].transform("max")
            rows = rows[rows["n_samples"] == most]
            flops, name = rows["flops"] / rows["n_samples"], "one pass"
        points = flops.groupby(rows["width"]).median()
        law = PowerLaw.fit(points.index, points) if len(points) >= LEAST_WIDTHS else None
        return cls(name, style.look(first), points, law)

    @property
    def note(self) -> scaling.Note:
        text = "  ".join(filter(None, [self.name, str(self.law or "")]))
        return float(self.points.index[-1]), float(self.points.iloc[-1]), text, self.look.colour

    def draw(self, ax: Axes) -> None:
        x, y = self.points.index.to_numpy(float), self.points.to_numpy(float)
        ax.plot(x, y, self.look.marker, color=self.look.colour, zorder=3)
        if self.law:
            ax.plot(x, self.law.at(x), color=self.look.colour, linewidth=0.8)


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"{words(rows['activation'])} MLPs, {words(rows['init'])} init, {words(rows['dtype'])}. "
        f"FLOPs as executed ({words(rows['flops_convention'])}), multiply-add = 2, random numbers "
        "free. Lines: least squares in log-log over the widths shown; beside them the order K and "
        "the exponent of n, ± 95% interval of the fit. At small widths terms of lower order count."
    )
