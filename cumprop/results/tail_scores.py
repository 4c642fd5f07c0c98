"""Relative errors of tail probabilities, by bucket of the true probability (mathematics §9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cumprop.sampling import BUCKET_COLUMNS

RESAMPLINGS = 2000

_POINT = ["neurons", "dropped", "networks", "relative_error", "per_neuron", "low", "high"]


def relative_errors(scores: pd.DataFrame, group: list[str]) -> pd.DataFrame:
    """One row per group and bucket of the tails among `cumprop.results.scores.score`'s rows.

    `relative_error` is √(Σ (e − p)² / Σ p²) over the neurons of all networks; it is 1 for the
    estimate 0. `low` and `high` are its 95% interval by resampling networks (percentiles; nan for
    one network). All three are 0 where the sum of squares is negative: not resolved from zero.
    `per_neuron` is √(mean (e − p)²/p²), with equal weights for all neurons. `neurons` and `dropped`
    count neurons, `networks` the networks that have any.
    """
    tails = scores[scores["buckets"].notna()] if "buckets" in scores else scores[:0]
    rows = []
    for key, found in tails.groupby(group, dropna=False):
        long = found[["seed", *BUCKET_COLUMNS]].explode(list(BUCKET_COLUMNS)).dropna()
        per_network = long.astype(float).groupby(["buckets", "seed"]).mean()
        for bucket in sorted(set(long["buckets"]), reverse=True):
            table = per_network.loc[bucket].reindex(sorted(set(found["seed"])), fill_value=0.0)
            row = dict(zip(group, key, strict=True)) | {"bucket": int(bucket)}
            rows.append(row | _point(table))
    return pd.DataFrame(rows, columns=[*group, "bucket", *_POINT])


def _point(table: pd.DataFrame) -> dict[str, Any]:
    """One bucket of one estimator from its sums by network."""
    neurons, dropped, squares, zero, relative = (
        table[name].to_numpy() for name in BUCKET_COLUMNS[1:]
    )
    point: dict[str, Any] = {
        "neurons": int(neurons.sum()),
        "dropped": int(dropped.sum()),
        "networks": int(np.sum(neurons > 0)),
    }
    if not neurons.any():
        return point | dict.fromkeys(["relative_error", "per_neuron", "low", "high"], np.nan)
    low = high = np.nan
    if len(table) > 1:
        chosen = np.random.default_rng(0).integers(len(table), size=(RESAMPLINGS, len(table)))
        some = neurons[chosen].any(axis=1)
        ratios = squares[chosen].sum(axis=1)[some] / zero[chosen].sum(axis=1)[some]
        low, high = _root(np.quantile(ratios, [0.025, 0.975]))
    return point | {
        "relative_error": _root(squares.sum() / zero.sum()),
        "per_neuron": _root(relative.sum() / neurons.sum()),
        "low": low,
        "high": high,
    }


def _root(square: Any) -> Any:
    return np.sqrt(np.maximum(square, 0))
