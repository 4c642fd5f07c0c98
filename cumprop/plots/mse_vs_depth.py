"""Error against depth: vn-MSE over L, log-log, with fitted powers (the paper's Figure 8)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.plots import scaling


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per width and kind of network: vn-MSE of the cumulants over the depth.

    `scores` is one configuration's part of `results.scores.score`; the paper has L^K at order K.
    Raises CumpropError for a single depth.
    """
    about = "Networks of one seed are the same at all depths, read at different layers."
    return scaling.draw(scores, "depth", "depth L", float("inf"), about)
