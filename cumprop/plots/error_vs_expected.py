"""True error of each estimate over the error it expects of itself, log-log."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.plots import caption, style
from cumprop.results.points import Point, records

LINES = {1: "-", 2: "--", 5: ":"}
"""Times the expected error, and how the line there is drawn."""


def draw(scores: pd.DataFrame) -> Figure:
    """One point per estimate of outputs: √vn-MSE over `expected_error`, both in output s.d.

    `scores` is one configuration's part of `results.scores.score`. Points above the dotted line are
    more than 5 times as wrong as they say. Raises CumpropError where no row has an expected error.
    """
    points = _points(scores)
    if points.empty:
        raise CumpropError(
            "no row has both a score and an expected error; sweep outputs with an estimator that "
            "gives one, as cumulant"
        )
    legend = style.legend(map(style.look, records(points)), ls="none")
    if points["unreliable"].any():
        legend.append(Line2D([], [], color="0", marker="x", ls="none", label="“unreliable”"))
    legend += [
        Line2D([], [], color="0.4", ls=line, label=_line_label(times))
        for times, line in LINES.items()
    ]
    figure, (ax,) = style.sheet(
        1, "expected error / output s.d.", "true error / output s.d.", legend, _caption(points)
    )
    every = points[["expected_error", "error", "high"]].to_numpy()
    limits = (every[every > 0].min() / 4, every.max() * 4)
    ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for times, line in LINES.items():
        ax.plot(limits, times * np.array(limits), line, color="0.4", linewidth=0.8, zorder=1)
    for point in records(points):
        _mark(ax, point)
    return figure


def _points(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows with a score and an expected error, and the ends of the true error's interval."""
    known = scores["mse"].notna() & (scores["expected_error"] > 0)
    points = scores[known]
    low, high = (points[f"noise_{end}"].clip(lower=0) ** 0.5 for end in ("low", "high"))
    error = (points["mse"] / points["variance"]).clip(lower=0) ** 0.5
    return points.assign(
        error=error.where(points["resolved"].astype(bool), high),
        low=low,
        high=high,
        unreliable=points["status"].map(is_unreliable),
    )


def _mark(ax: Axes, point: Point) -> None:
    look, x = style.look(point), point["expected_error"]
    if not point["resolved"]:
        style.upper_bound(ax, x, point["error"], look)
        return
    low = max(point["low"], ax.get_ylim()[0])
    ax.plot([x, x], [low, point["high"]], color=look.colour, linewidth=0.6, zorder=2)
    marker = "x" if point["unreliable"] else look.marker
    ax.plot(x, point["error"], marker, color=look.colour, zorder=3)


def _line_label(times: int) -> str:
    return "as expected" if times == 1 else f"{times} times as much"


def _caption(points: pd.DataFrame) -> str:
    """How many are right, and what was compared."""
    trusted = points[points["resolved"].astype(bool) & ~points["unreliable"]]
    ratio = trusted["error"] / trusted["expected_error"]
    beyond = {times: int((ratio > times).sum()) for times in (2, 5)}
    return " ".join(
        [
            f"One point per network and estimator: {len(points)} estimates of the mean",
            f"{caption.words(points['readout'])}, widths {caption.words(points['width'])}, depths",
            f"{caption.words(points['depth'])}. True error: √vn-MSE against",
            f"{caption.samples(points['truth_n_samples'])} sampled passes; bars: 95% intervals for",
            "the truth's noise. Open with arrow: upper bound, error not resolved from zero.",
            f"Of {len(trusted)} resolved errors not called unreliable, {beyond[2]} are over 2 and",
            f"{beyond[5]} over 5 times the expected one.",
        ]
    )
