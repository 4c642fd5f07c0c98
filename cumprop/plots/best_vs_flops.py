"""The least error at every budget: the figure mse_vs_flops with a row of widths for every depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.plots import mse_vs_flops, tradeoff
from cumprop.results.scores import PROBLEM


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem, a shallow one first: mse_vs_flops with a line of the least error.

    `scores` is one configuration's part of `results.scores.score`. An error that is not resolved
    counts with its upper bound.
    """
    depth_first = ["depth", *(name for name in PROBLEM if name != "depth")]
    return tradeoff.draw(scores, mse_vs_flops.COST, "", depth_first, best=True)
