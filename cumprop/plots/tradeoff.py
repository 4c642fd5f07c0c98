"""Error against a cost, log-log, beside sampling, for the figures mse_vs_flops and mse_vs_time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cumprop.plots import caption, style
from cumprop.results.points import Point, front, label, points
from cumprop.results.scores import PROBLEM


@dataclass(frozen=True)
class Cost:
    """A column of the scores to draw errors over, with its label and the label of savings.

    `per_sample(points, design)` is the cost of one sample, None where it is not known.
    """

    column: str
    label: str
    less: str
    more: str
    per_sample: Callable[[list[Point], str], float | None]


BEST: dict[str, Any] = {"color": "#F0E442", "linewidth": 5.0, "solid_capstyle": "butt", "zorder": 0}
"""The line of the least error at every budget."""


def draw(
    scores: pd.DataFrame,
    cost: Cost,
    about: str,
    problem: Sequence[str] = PROBLEM,
    best: bool = False,
) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its cost, with 95% intervals.

    Sampling is a line, drawn from the cost of one sample: N iid samples have vn-MSE 1/N, N samples
    of an orthogonal truth `truth_gain`/N, other designs what was measured. The dotted line connects
    the resolved cumulants with the largest saving and iid sampling of the same error. `about` ends
    the caption. Panels are sorted by the columns of `problem`; with `best`, a broad line is the
    least error at every budget.
    """
    panels = [_panel(rows, cost) for _, rows in scores.groupby([*problem], dropna=False)]
    panels = [panel for panel in panels if panel.points]
    x_limits = _limits([x for panel in panels for x in panel.x_extent])
    y_limits = _limits([y for panel in panels for y in panel.y_extent])
    text = [caption.common(scores), _about(panels), caption.missing(scores), about]
    legend = _legend(panels, best)
    figure, axes = style.sheet(len(panels), cost.label, "vn-MSE", legend, " ".join(text))
    for panel, ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits)
        ax.set_title(caption.title(panel.points[0], scores))
        panel.draw(ax)
        if best:
            ax.plot(*np.transpose(panel.least_errors(x_limits)), **BEST)
    figure.draw_without_rendering()
    for panel, ax in zip(panels, axes, strict=True):
        cumulants = [point for point in panel.points if point["estimator"] == "cumulant"]
        style.label_points(
            ax, [(p["x"], p["y"], label(p, kind=False), style.look(p)) for p in cumulants]
        )
    return figure


@dataclass(frozen=True)
class _Panel:
    """One problem: its points; by design, vn-MSE × cost of sampling, and × samples if measured."""

    cost: Cost
    points: list[Point]
    sampling: dict[str, float]
    gains: dict[str, float]

    @property
    def best(self) -> Point | None:
        """The resolved point of the cumulants with the largest saving against sampling."""
        resolved = [p for p in self.points if p["estimator"] == "cumulant" and p["resolved"]]
        return min(resolved, key=lambda p: float(p["vn_mse"] * p["x"]), default=None)

    @property
    def x_extent(self) -> list[float]:
        compared = self.best and "iid" in self.sampling
        meets = [self.sampling["iid"] / self.best["vn_mse"]] if self.best and compared else []
        return [point["x"] for point in self.points] + meets

    @property
    def y_extent(self) -> list[float]:
        room_for_arrows = [point["y"] / 4 for point in self.points if not point["resolved"]]
        ends = [point[end] for point in self.points if point["resolved"] for end in ("low", "high")]
        return [y for y in [p["y"] for p in self.points] + ends + room_for_arrows if y > 0]

    def least_errors(self, budgets: tuple[float, float]) -> list[tuple[float, float]]:
        """The corners (x, y) of the least error of estimators and sampling between two budgets."""
        product, (first, last) = min(self.sampling.values()), budgets
        corners = [(first, product / first)]

        def go_to(x: float) -> None:
            """To budget x: level until sampling is better, then along its line."""
            y = corners[-1][1]
            corners.append((min(product / y, x), y))
            corners.append((x, min(product / x, y)))

        estimators = [point for point in self.points if point["estimator"] != "monte_carlo"]
        for point in front(estimators, self.cost.column):
            if point["y"] < product / point["x"]:
                go_to(point["x"])
                corners.append((point["x"], point["y"]))
        go_to(last)
        return corners

    def draw(self, ax: Axes) -> None:
        for design, product in self.sampling.items():
            look = style.look({"estimator": "monte_carlo", "design": design})
            x = np.array(ax.get_xlim())
            ax.plot(x, product / x, look.line, color=look.colour, zorder=1)
        for point in self.points:
            mark(ax, point["x"], point)
        if self.best and "iid" in self.sampling:
            self._draw_saving(ax, self.best)

    def _draw_saving(self, ax: Axes, best: Point) -> None:
        x, y = best["x"], best["vn_mse"]
        sampled = self.sampling["iid"] / y
        times = float(f"{max(sampled / x, x / sampled):.2g}")
        ax.plot([x, sampled], [y, y], ":", marker="|", color="0.3", linewidth=0.8, zorder=1)
        ax.text(
            0.99, 0.98,
            f"{label(best)}: {times:,.10g}× {self.cost.less if sampled > x else self.cost.more}",
            color=style.look(best).colour,
            transform=ax.transAxes, ha="right", va="top", fontsize=7, linespacing=1.3,
        )  # fmt: skip


def _panel(scores: pd.DataFrame, cost: Cost) -> _Panel:
    found = [point | {"x": point[cost.column]} for point in points(scores)]
    drawn = [point for point in found if point["estimator"] == "monte_carlo"]
    gains = {}
    if set(scores["truth_design"]) == {"orthogonal"}:
        gains["orthogonal"] = float(scores["truth_gain"].mean())
    for design in sorted({point["design"] for point in drawn} - {"iid", *gains}):
        of_design = [point for point in drawn if point["design"] == design]
        gains[design] = float(np.mean([p["vn_mse"] * p["n_samples"] for p in of_design]))
    designs = {"iid": 1.0} | gains
    each = {design: cost.per_sample(found, design) for design in designs} if found else {}
    sampling = {name: designs[name] * one for name, one in each.items() if one is not None}
    return _Panel(cost, found, sampling, {name: gains[name] for name in gains if name in sampling})


def mark(ax: Axes, x: float, point: Point) -> None:
    """Draw a point with its interval, down to the end of the axis; or as an upper bound."""
    look = style.look(point)
    if point["resolved"]:
        ends = [max(point["low"], ax.get_ylim()[0]), point["high"]]
        ax.plot([x, x], ends, color=look.colour, zorder=2)
        ax.plot(x, point["y"], look.marker, color=look.colour, zorder=3)
    else:
        style.upper_bound(ax, x, point["y"], look)


def bounds(points: Iterable[Point]) -> str:
    """The words of a caption for points that are upper bounds, "" without such points."""
    if all(point["resolved"] for point in points):
        return ""
    return ". Open with arrow: upper bound, error not resolved from zero"


def _limits(values: list[float]) -> tuple[float, float]:
    return min(values) / 4, max(values) * 4


def _legend(panels: list[_Panel], best: bool) -> list[Line2D]:
    points = {style.look(point) for panel in panels for point in panel.points}
    lines = {
        style.look({"estimator": "monte_carlo", "design": design})
        for panel in panels
        for design in panel.sampling
    }
    entries = [
        Line2D(
            [], [], color=look.colour, label=look.label,
            marker=look.marker if look in points else "None",
            linestyle=look.line if look in lines else "none",
        )
        for look in style.ordered(points | lines)
    ]  # fmt: skip
    return [*entries, *([Line2D([], [], label="least error at a budget", **BEST)] if best else [])]


def _about(panels: list[_Panel]) -> str:
    if not any(panel.sampling for panel in panels):
        sentence = "No line of sampling: it was not run"
    else:
        sentence = "Lines: sampling, 1/N with N iid samples"
    for design in {name: None for panel in panels for name in panel.gains}:
        gains = sorted(f"{p.gains[design]:.2g}" for p in panels if design in p.gains)
        spread = "–".join(dict.fromkeys([gains[0], gains[-1]]))
        sentence += f", {spread}/N with an {design} design (measured)"
    return f"{sentence}{bounds(point for panel in panels for point in panel.points)}."
