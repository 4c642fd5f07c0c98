"""Error against width: vn-MSE over n, log-log, with fitted powers (the paper's Figures 3 and 9)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.plots import scaling
from cumprop.results.power_laws import ASYMPTOTIC


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per depth and kind of network: vn-MSE of the cumulants over the width.

    `scores` is one configuration's part of `results.scores.score`. Theory has n^-K at order K for
    large widths, so that smaller widths are drawn and not fitted. Raises CumpropError for a single
    width.
    """
    about = f"Fitted from a curve's largest resolved width down to 1/{ASYMPTOTIC} of it."
    return scaling.draw(scores, "width", "width n", ASYMPTOTIC, about)
