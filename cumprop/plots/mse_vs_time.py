"""Error against the clock: vn-MSE over seconds, log-log, beside sampling (mathematics §6, §7)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cumprop.errors import CumpropError
from cumprop.plots import tradeoff
from cumprop.plots.tradeoff import Cost
from cumprop.results.points import seconds_per_sample


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per problem: the vn-MSE of every estimator at its seconds, with 95% intervals.

    `scores` is one configuration's part of `results.scores.score`. The lines of sampling go at the
    speed of its fastest run. Raises CumpropError where times were taken under different conditions
    (processor, BLAS, threads, workers): such seconds cannot be compared.
    """
    conditions = sorted(set(scores.loc[scores["mse"].notna(), "conditions"]))
    if len(conditions) > 1:
        raise CumpropError(
            f"seconds were measured under different conditions ({'; '.join(conditions)}) and "
            "cannot be compared; remove the rows of all but one and sweep again"
        )
    about = "Seconds: one estimate, median over networks; sampling at the speed of its fastest run."
    cost = Cost("seconds", "seconds", "faster\nthan iid", "slower\nthan iid", seconds_per_sample)
    return tradeoff.draw(scores, cost, about)
