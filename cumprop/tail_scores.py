"""Relative errors of tail probabilities, by bucket of the true probability (mathematics §8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cumprop.tails import TailTruth

Array = NDArray[Any]

WORST = 0.2
"""Neurons whose truth has a larger relative standard error are dropped, and counted."""

COLUMNS = ("buckets", "bucket_neurons", "bucket_dropped", "bucket_squares")
"""Columns of a score, lists of one length; null where the readout is no tail."""

RESAMPLINGS = 2000


def bucket_columns(estimate: ArrayLike, truth: TailTruth) -> dict[str, list[Any]]:
    """Sums of squared relative errors of an estimate, shape (n,), by bucket of the truth.

    The first half of the truth gives p_0: it chooses the bucket k, [10^(k-½), 10^(k+½)), the
    neurons that are kept, and the denominator. The groups of the second half, taken by turns, give
    independent p_1 and p_2. So (e − p_1)(e − p_2) is an unbiased (e − p)² whatever p_0 chose, and
    divided by p_0² too large by 1 + 3v on average, v < `WORST`² the relative variance of p_0.
    """
    readout, depth = truth.spec.readout, truth.spec.depth
    choosing = truth.mean(readout, depth)[0]
    second = truth.groups(readout, depth)[1]
    e = np.asarray(estimate, dtype=np.float64)
    errors = [e - second[turn::2].mean(axis=0) for turn in (0, 1)]
    seen = choosing > 0
    kept = truth.relative_error[0] <= WORST
    bucket = np.floor(np.log10(np.where(seen, choosing, 1.0)) + 0.5).astype(int)
    squares = errors[0] * errors[1] / np.where(seen, choosing, 1.0) ** 2
    found = sorted(set(bucket[seen].tolist()), reverse=True)
    inside = [seen & (bucket == k) for k in found]
    return {
        "buckets": found,
        "bucket_neurons": [int(np.sum(kept & part)) for part in inside],
        "bucket_dropped": [int(np.sum(~kept & part)) for part in inside],
        "bucket_squares": [float(np.sum(squares[kept & part])) for part in inside],
    }


def relative_errors(scores: pd.DataFrame, group: list[str]) -> pd.DataFrame:
    """One row per group and bucket of the tails among `cumprop.scores.score`'s rows.

    `relative_error` is √(mean (e − p)²/p²) over the neurons of all networks, `low` and `high` its
    95% interval by resampling networks (percentiles; nan for one network), both 0 where the mean
    is negative; `neurons` and `dropped` count neurons, `networks` those that have any.
    """
    tails = scores[scores["buckets"].notna()] if "buckets" in scores else scores[:0]
    rows = []
    for key, found in tails.groupby(group, dropna=False):
        long = found[["seed", *COLUMNS]].explode(list(COLUMNS)).dropna()
        per_network = long.astype(float).groupby(["buckets", "seed"]).mean()
        for bucket in sorted(set(long["buckets"]), reverse=True):
            table = per_network.loc[bucket].reindex(sorted(set(found["seed"])), fill_value=0.0)
            row = dict(zip(group, key, strict=True)) | {"bucket": int(bucket)}
            rows.append(row | _point(table))
    return pd.DataFrame(rows)


def _point(table: pd.DataFrame) -> dict[str, Any]:
    """One bucket of one estimator: columns of `COLUMNS` by network."""
    neurons = table["bucket_neurons"].to_numpy()
    squares = table["bucket_squares"].to_numpy()
    point: dict[str, Any] = {
        "neurons": int(neurons.sum()),
        "dropped": int(table["bucket_dropped"].sum()),
        "networks": int(np.sum(neurons > 0)),
    }
    if not neurons.any():
        return point | dict.fromkeys(["relative_error", "low", "high"], np.nan)
    low = high = np.nan
    if len(table) > 1:
        rng = np.random.default_rng(0)
        chosen = rng.integers(len(table), size=(RESAMPLINGS, len(table)))
        totals = neurons[chosen].sum(axis=1)
        means = squares[chosen].sum(axis=1)[totals > 0] / totals[totals > 0]
        low, high = np.sqrt(np.maximum(np.quantile(means, [0.025, 0.975]), 0))
    mean = squares.sum() / neurons.sum()
    return point | {"relative_error": np.sqrt(max(mean, 0)), "low": low, "high": high}
