"""Error against some cost, log-log, beside sampling: what the figures mse_vs_* share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cumprop.plots import caption, style
from cumprop.results.points import Point, label, points
from cumprop.results.scores import PROBLEM


@dataclass(frozen=True)
class Cost:
    """A column of the scores to draw errors over, what it is called, and what saving it is called.

    `per_sample(points, design)` is the cost of one sample, None where that is not known.
    """

    column: str
    label: str
    less: str
    more: str
    per_sample: Callable[[list[Point], str], float | None]


def draw(scores: pd.DataFrame, cost: Cost, about: str) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its cost, with 95% intervals.

    Sampling is a line, drawn from the cost of one sample: N iid ones have vn-MSE 1/N, N of an
    orthogonal truth `truth_gain`/N. The dotted line runs from the resolved cumulants that save
    most to iid sampling as accurate. `about` ends the caption.
    """
    panels = [_panel(rows, cost) for _, rows in scores.groupby(PROBLEM, dropna=False)]
    panels = [panel for panel in panels if panel.points]
    x_limits = _limits([x for panel in panels for x in panel.x_extent])
    y_limits = _limits([y for panel in panels for y in panel.y_extent])
    text = [caption.common(scores), _about(panels), caption.missing(scores), about]
    figure, axes = style.sheet(len(panels), cost.label, "vn-MSE", _legend(panels), " ".join(text))
    for panel, ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits)
        ax.set_title(caption.title(panel.points[0], scores))
        panel.draw(ax)
    figure.draw_without_rendering()
    for panel, ax in zip(panels, axes, strict=True):
        cumulants = [point for point in panel.points if point["estimator"] == "cumulant"]
        style.label_points(
            ax, [(p["x"], p["y"], label(p, kind=False), style.look(p)) for p in cumulants]
        )
    return figure


@dataclass(frozen=True)
class _Panel:
    """One problem: its points, vn-MSE × cost of sampling by design, and the design's gain."""

    cost: Cost
    points: list[Point]
    sampling: dict[str, float]
    gain: float

    @property
    def best(self) -> Point | None:
        """The resolved point of the cumulants that saves most against sampling."""
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
    gain = float(scores["truth_gain"].mean())
    designs = {"iid": 1.0}
    if set(scores["truth_design"]) == {"orthogonal"}:
        designs["orthogonal"] = gain
    each = {design: cost.per_sample(found, design) for design in designs} if found else {}
    sampling = {name: designs[name] * one for name, one in each.items() if one is not None}
    return _Panel(cost, found, sampling, gain)


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
    """The words of a caption where a point is an upper bound."""
    if all(point["resolved"] for point in points):
        return ""
    return ". Open with arrow: upper bound, error not resolved from zero"


def _limits(values: list[float]) -> tuple[float, float]:
    return min(values) / 4, max(values) * 4


def _legend(panels: list[_Panel]) -> list[Line2D]:
    points = {style.look(point) for panel in panels for point in panel.points}
    lines = {
        style.look({"estimator": "monte_carlo", "design": design})
        for panel in panels
        for design in panel.sampling
    }
    return [
        Line2D(
            [], [], color=look.colour, label=look.label,
            marker=look.marker if look in points else "None",
            linestyle=look.line if look in lines else "none",
        )
        for look in style.ordered(points | lines)
    ]  # fmt: skip


def _about(panels: list[_Panel]) -> str:
    if not any(panel.sampling for panel in panels):
        sentence = "No line of sampling: it was not run"
    else:
        sentence = "Lines: sampling, 1/N with N iid samples"
    gains = sorted(f"{panel.gain:.2g}" for panel in panels if "orthogonal" in panel.sampling)
    if gains:
        spread = "–".join(dict.fromkeys([gains[0], gains[-1]]))
        sentence += f", {spread}/N with an orthogonal design (measured)"
    return f"{sentence}{bounds(point for panel in panels for point in panel.points)}."
