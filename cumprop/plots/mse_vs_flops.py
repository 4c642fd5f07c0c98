"""Error against cost: vn-MSE over FLOPs, log-log, beside sampling (mathematics §6, §7)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.plots import tradeoff
from cumprop.plots.tradeoff import Cost
from cumprop.results.points import flops_per_sample

COST = Cost("flops", "FLOPs", "fewer\nFLOPs than iid", "more\nFLOPs than iid", flops_per_sample)


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its FLOPs, with 95% intervals.

    `scores` is one configuration's part of `results.scores.score`.
    """
    return tradeoff.draw(scores, COST, "")
