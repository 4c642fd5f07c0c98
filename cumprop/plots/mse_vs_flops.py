"""Error against cost: vn-MSE over FLOPs, log-log, beside sampling (mathematics §6, §7)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.contract import build
from cumprop.networks import Shape
from cumprop.plots import tradeoff
from cumprop.plots.tradeoff import Cost
from cumprop.results.scores import Point

_MANY_SAMPLES = 1_000_000  # makes what sampling does only once negligible


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its FLOPs, with 95% intervals.

    `scores` is one configuration's part of `results.scores.score`.
    """
    words = ("fewer\nFLOPs than iid", "more\nFLOPs than iid")
    return tradeoff.draw(scores, Cost("flops", "FLOPs", *words, flops_per_sample), "")


def flops_per_sample(points: list[Point], design: str) -> float:
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
