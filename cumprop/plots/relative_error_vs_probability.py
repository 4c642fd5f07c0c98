"""Relative error of tail probabilities over the probability, log-log (mathematics §9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cumprop.errors import CumpropError
from cumprop.plots import caption, style
from cumprop.results.points import label, records
from cumprop.results.scores import GROUP, PROBLEM
from cumprop.results.tail_scores import relative_errors
from cumprop.sampling import WORST

_HIGHEST = 30.0
"""The largest relative error in the figure; curves leave it there."""


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem and number of samples: √(Σ (e − p)²/Σ p²) by bucket of p.

    `scores` is one configuration's part of `results.scores.score`. Buckets of which most neurons
    were dropped are left out. Numbers above are neurons in a bucket, the dashed line is 1/N, and
    the estimate 0 has relative error 1. Raises CumpropError where no readout is a tail.
    """
    points = relative_errors(scores, GROUP)
    if points.empty:
        raise CumpropError("no readout is a tail; sweep a config with network.readout: tail(t)")
    shown = points[(points["neurons"] > 0) & (points["neurons"] >= points["dropped"])]
    if shown.empty:
        raise CumpropError("no tail's truth is good enough to score; raise truth.n_samples")
    panels = list(_panels(shown))
    legend = style.legend(map(style.look, records(shown)))
    legend.append(Line2D([], [], color="0.4", linestyle=":", label="the estimate 0"))
    figure, axes = style.sheet(
        len(panels), "true probability p", "relative error", legend, _caption(scores, points)
    )
    x_limits = 10.0 ** np.array([shown["bucket"].min() - 0.7, shown["bucket"].max() + 0.7])
    resolved = _resolved(shown)
    lowest = shown["low"].fillna(shown["relative_error"]).where(resolved, shown["high"] / 4)
    y_limits = (float(lowest[lowest > 0].min()) / 1.5, _HIGHEST)
    for (title, n_samples, panel), ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits)
        ax.set_title(title, pad=14)
        _draw_panel(ax, n_samples, panel)
    figure.draw_without_rendering()
    for (_, _, panel), ax in zip(panels, axes, strict=True):
        style.label_points(ax, list(_labels(panel)))
    return figure


def _panels(points: pd.DataFrame) -> Any:
    """Title, number of samples (None without sampling) and points of each panel with cumulants."""
    for _, problem in points.groupby(PROBLEM, dropna=False):
        sampled = problem["estimator"] == "monte_carlo"
        first = problem.iloc[0]
        name = f"{first['readout']}, width {first['width']}, depth {first['depth']}"
        for n in sorted(problem.loc[sampled, "n_samples"].unique(), reverse=True) or [None]:
            title = name if n is None else f"{name}, N = {n:,.0f} samples"
            yield title, n, problem[~sampled | (problem["n_samples"] == n)]


def _draw_panel(ax: Axes, n_samples: float | None, points: pd.DataFrame) -> None:
    ax.axhline(1, color="0.4", linestyle=":", zorder=1)
    if n_samples is not None:
        ax.axvline(1 / n_samples, color="0.4", linestyle="--", linewidth=0.8, zorder=1)
        ax.annotate(
            "1/N", (1 / n_samples, 0.02), (2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=7, color="0.4",
        )  # fmt: skip
    counts = points.groupby("bucket")["neurons"].max()
    for x, neurons in zip(10.0 ** counts.index.to_numpy(float), counts, strict=True):
        ax.annotate(
            f"{neurons}", (x, 1), (0, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", fontsize=7, color="0.4",
        )  # fmt: skip
    curves = [curve for _, curve in points.groupby(GROUP, dropna=False)]
    for place, curve in enumerate(curves):
        beside = 10.0 ** (0.05 * (place - (len(curves) - 1) / 2))  # bars beside each other
        _draw_curve(ax, curve.sort_values("bucket"), beside)


def _draw_curve(ax: Axes, curve: pd.DataFrame, beside: float) -> None:
    look = style.look(records(curve)[0])
    x = 10.0 ** curve["bucket"].to_numpy(float) * beside
    y, low, high = (curve[name].to_numpy(float) for name in ("relative_error", "low", "high"))
    resolved = _resolved(curve).to_numpy()
    ax.plot(x[resolved], y[resolved], color=look.colour, marker=look.marker, zorder=3)
    ax.vlines(x[resolved], low[resolved], high[resolved], color=look.colour, zorder=2)
    for at, bound in zip(x[~resolved], high[~resolved], strict=True):
        if bound > 0:
            style.upper_bound(ax, at, bound, look)


def _labels(points: pd.DataFrame) -> Any:
    """The order of each curve of cumulants, at its most probable resolved bucket."""
    cumulants = points[(points["estimator"] == "cumulant") & _resolved(points)]
    for _, curve in cumulants.groupby(GROUP, dropna=False):
        (row,) = records(curve.nlargest(1, "bucket"))
        yield 10.0 ** row["bucket"], row["relative_error"], label(row, kind=False), style.look(row)


def _resolved(points: pd.DataFrame) -> pd.Series[bool]:
    """Whether the error is resolved from zero, also where a single network has no interval."""
    return (points["relative_error"] > 0) & ~(points["low"] <= 0)


def _caption(scores: pd.DataFrame, points: pd.DataFrame) -> str:
    """The problem, the truth, and the neurons left out."""
    counts = points.groupby("bucket")[["neurons", "dropped"]].max().sum()
    kept, dropped = int(counts["neurons"]), int(counts["dropped"])
    networks = scores["seed"].nunique()
    whole = networks * int(scores["width"].iloc[0])
    return " ".join(
        [
            f"Relative error √(Σ(e − p)²/Σp²) of p = P(output > threshold), {networks}",
            f"networks of seeds {caption.runs(sorted(set(scores['seed'])))};",
            "buckets of p half a decade to either side. Truth: importance sampling,",
            f"{caption.samples(scores['truth_n_samples'])} inputs for every neuron; one half",
            "chooses the bucket, the other scores.",
            f"Above: neurons in the bucket, {kept} of {whole} in all; {dropped} whose truth has a",
            f"relative standard error over {WORST:.0%} and {whole - kept - dropped} never seen in",
            "the tail are dropped, and buckets where these are most.",
            "Bars: 95% intervals, resampling networks; open with arrow: not resolved from zero.",
            "Dashed: 1/N.",
            f"FLOPs of a network: {'; '.join(_costs(scores))}.",
            f"Run on {caption.conditions(scores)}.",
        ]
    )


def _costs(scores: pd.DataFrame) -> Iterator[str]:
    """The FLOPs of every curve in words; extrapolations cost what their samples do."""
    found = scores.groupby(GROUP, dropna=False)["flops"].median().reset_index()
    costs = dict[str, float]()
    for row in records(found):
        words = {"monte_carlo": f"{row['n_samples']:,.0f} samples", "cumulant": label(row)}.get(
            row["estimator"], style.look(row).label
        )
        costs[words] = min(row["flops"], costs.get(words, row["flops"]))
    for words, flops in costs.items():
        yield f"{words} {caption.power_of_ten(flops)}"
