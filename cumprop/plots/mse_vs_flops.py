"""Error against cost: vn-MSE over FLOPs, log-log, beside sampling (mathematics §6, §7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cumprop.estimator import Shape, build
from cumprop.plots import caption, style
from cumprop.scores import PROBLEM, summary

_MANY_SAMPLES = 1_000_000  # makes what sampling does only once negligible

_USUAL = {"engine": "auto", "metric": "exact", "truncation": "corrected"}

Point = dict[str, Any]


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its FLOPs, with 95% intervals.

    `scores` is one configuration's part of `cumprop.scores.score`. Sampling is a line, drawn from
    the FLOPs of one sample: N iid ones have vn-MSE 1/N, N of an orthogonal truth `truth_gain`/N.
    The dotted line runs from the most accurate resolved cumulants to iid sampling as accurate.
    """
    panels = [_Panel.of(rows) for _, rows in scores.groupby(PROBLEM, dropna=False)]
    panels = [panel for panel in panels if panel.points]
    x_limits = _limits([x for panel in panels for x in panel.x_extent])
    y_limits = _limits([y for panel in panels for y in panel.y_extent])
    text = [caption.common(scores), _about(panels), caption.missing(scores)]
    figure, axes = style.sheet(len(panels), "FLOPs", "vn-MSE", _legend(panels), " ".join(text))
    for panel, ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits)
        ax.set_title(caption.title(panel.points[0], scores))
        panel.draw(ax)
    figure.draw_without_rendering()
    for panel, ax in zip(panels, axes, strict=True):
        cumulants = [point for point in panel.points if point["estimator"] == "cumulant"]
        style.label_points(ax, [(p["flops"], p["y"], _label(p), style.look(p)) for p in cumulants])
    return figure


@dataclass(frozen=True)
class _Panel:
    """One problem: its points, vn-MSE × FLOPs of sampling by design, and the design's gain."""

    points: list[Point]
    sampling: dict[str, float]
    gain: float

    @classmethod
    def of(cls, scores: pd.DataFrame) -> Self:
        records = summary(scores).to_dict("records")
        points = [
            {str(name): value for name, value in record.items()} | _interval(record)
            for record in records
            if record["n_seeds"] > 0
        ]
        gain = float(scores["truth_gain"].mean())
        designs = {"iid": 1.0}
        if set(scores["truth_design"]) == {"orthogonal"}:
            designs["orthogonal"] = gain
        sampling = {
            design: factor * _flops_per_sample(points, design)
            for design, factor in designs.items()
            if points
        }
        return cls(points, sampling, gain)

    @property
    def best(self) -> Point | None:
        """The resolved point of the cumulants that saves most against sampling."""
        resolved = [p for p in self.points if p["estimator"] == "cumulant" and p["resolved"]]
        return min(resolved, key=lambda p: float(p["vn_mse"] * p["flops"]), default=None)

    @property
    def x_extent(self) -> list[float]:
        meets = [self.sampling["iid"] / self.best["vn_mse"]] if self.best else []
        return [point["flops"] for point in self.points] + meets

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
            look = style.look(point)
            if point["resolved"]:
                ends = [max(point["low"], ax.get_ylim()[0]), point["high"]]
                ax.plot([point["flops"]] * 2, ends, color=look.colour, zorder=2)
                ax.plot(point["flops"], point["y"], look.marker, color=look.colour, zorder=3)
            else:
                style.upper_bound(ax, point["flops"], point["y"], look)
        if self.best:
            self._draw_saving(ax, self.best)

    def _draw_saving(self, ax: Axes, best: Point) -> None:
        x, y = best["flops"], best["vn_mse"]
        sampled = self.sampling["iid"] / y
        times = float(f"{max(sampled / x, x / sampled):.2g}")
        ax.plot([x, sampled], [y, y], ":", marker="|", color="0.3", linewidth=0.8, zorder=1)
        ax.text(
            0.99, 0.98,
            f"{_label(best)}: {times:,.10g}× {'fewer' if sampled > x else 'more'}\n"
            "FLOPs than iid", color=style.look(best).colour,
            transform=ax.transAxes, ha="right", va="top", fontsize=7, linespacing=1.3,
        )  # fmt: skip


def _interval(point: dict[Any, Any]) -> Point:
    """What is drawn: the total interval, of one network the noise interval, or an upper bound."""
    kind = "total" if point["n_seeds"] > 1 else "noise"
    low, high, vn_mse = point[f"{kind}_low"], point[f"{kind}_high"], point["vn_mse"]
    # an estimate of the error below zero does not lower what the truth could have resolved
    bound = high - min(vn_mse, 0.0)
    return {"low": low, "high": high, "y": vn_mse if point["resolved"] else bound}


def _label(point: Point) -> str:
    """The order K of cumulants, and what is not as usual about them."""
    said = {name: point[name] for name in _USUAL if isinstance(point[name], str)}
    unusual = [value for name, value in said.items() if value != _USUAL[name]]
    return " ".join([f"K={point['order']:.0f}", *unusual])


def _flops_per_sample(points: list[Point], design: str) -> float:
    """Measured at the most samples that were drawn by `design`, else predicted."""
    drawn = [p for p in points if p["estimator"] == "monte_carlo" and p["design"] == design]
    if drawn:
        most = max(drawn, key=lambda point: int(point["n_samples"]))
        return float(most["flops"] / most["n_samples"])
    problem = points[0]
    hidden = problem["depth"] - (problem["readout"] == "pre")
    shape = Shape(
        widths=(problem["width"],) * (hidden + 2),
        activations=(problem["activation"],) * hidden,
        biased=problem["init"] != "he",
        dtype=problem["dtype"],
    )
    sampling = build("monte_carlo", n_samples=_MANY_SAMPLES, design=design)
    return sampling.predict_cost(shape).flops / _MANY_SAMPLES


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
    sentence = "Lines: sampling, 1/N with N iid samples"
    gains = sorted(f"{panel.gain:.2g}" for panel in panels if "orthogonal" in panel.sampling)
    if gains:
        spread = "–".join(dict.fromkeys([gains[0], gains[-1]]))
        sentence += f", {spread}/N with an orthogonal design (measured)"
    if not all(point["resolved"] for panel in panels for point in panel.points):
        sentence += ". Open with arrow: upper bound, error not resolved from zero"
    return sentence + "."
