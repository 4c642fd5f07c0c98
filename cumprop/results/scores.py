"""Scores: stored estimates against stored truths, with intervals for the noise of the truths.

Rows are estimates, truths are sample means; a score joins the two, so that scoring everything again
when a truth has grown takes seconds (mathematics §7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.experiments.columns import failed, failure
from cumprop.results import store
from cumprop.results.provenance import conditions
from cumprop.sampling import BUCKET_COLUMNS, Truth, load

Array = NDArray[np.float64]
Interval = tuple[float, float]

PROBLEM = ["config", "width", "depth", "readout", "activation", "init", "dtype"]
"""Columns that define the problem of an estimate; a panel of a figure holds one problem."""

GROUP = [
    *PROBLEM, "estimator", "order", "kind", "algorithm", "metric", "truncation",
    "design", "tolerance", "n_samples", "parameters", "truth_design", "flops_convention",
]  # fmt: skip
"""Columns equal within a group: one point of a figure, averaged over seeds."""

SCORES = "scores.parquet"
"""File in a configuration's folder, written by `score_and_store`."""

_COPIED = [
    "cell_key", "truth_key", *GROUP, "seed", "repeat", "flops", "seconds", "expected_error",
    "outcome", "note", "status",
]  # fmt: skip
TRUST = ["expected_error", "n_unreliable"]
"""Columns of a summary with the errors that estimates expect of themselves."""
_INTERVALS = ["noise_low", "noise_high", "total_low", "total_high"]
_NUMBERS = ["mse", "mse_se", "variance", "vn_mse", "truth_gain", *_INTERVALS]


def mse_between(estimate: ArrayLike, groups: ArrayLike) -> tuple[float, float]:
    """The mean squared error of `estimate` (n,) against a truth in `groups` (2, B, n), and its s.e.

    The halves are independent, so that mse = (e−m1)·(e−m2)/n is unbiased for any noise of the
    truth, and may be negative. The s.e. is the jackknife over the 2B groups, valid for any
    correlation of the outputs: correct where the error is well above the noise, elsewhere up to √2
    too large, and on average never too small. Cost: O(B n). Source: mathematics §7.

    >>> mse_between([1.0, 2.0], [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    (2.5, 0.0)
    """
    samples = np.asarray(groups, dtype=np.float64)
    _, n_groups, n = samples.shape
    means = samples.mean(axis=1)
    errors = np.asarray(estimate, dtype=np.float64) - means
    # leaving out group b of a half moves mse by influence / (B − 1)
    influence = np.einsum("hbi,hi->hb", samples - means[:, None], errors[::-1]) / n
    mse_se = np.sqrt(np.sum(influence**2) / (n_groups * (n_groups - 1)))
    return float(errors[0] @ errors[1] / n), float(mse_se)


def noise_interval(mse: ArrayLike, mse_se: ArrayLike, n_groups: int) -> Interval:
    """The 95% t-interval of the mean `mse` of S networks, for the noise of their truths alone.

    `mse` and `mse_se` have shape (S,); each s.e. has 2(B − 1) degrees of freedom, B = `n_groups`,
    and their mean those of Welch and Satterthwaite. Simulated coverage is 91 to 100%, least for a
    single network whose truth's noise has few directions and about the size of the error.

    >>> low, high = noise_interval([2.0], [0.1], 16)
    >>> round(low, 3), round(high, 3)
    (1.796, 2.204)
    """
    variances = np.asarray(mse_se, dtype=np.float64) ** 2
    total = variances.sum()
    freedom = 2 * (n_groups - 1) * (total**2 / np.sum(variances**2) if total else 1.0)
    half_width = stdtrit(freedom, 0.975) * np.sqrt(total) / variances.size
    middle = np.mean(np.asarray(mse, dtype=np.float64))
    return float(middle - half_width), float(middle + half_width)


def total_interval(mse: ArrayLike, variance: ArrayLike) -> Interval:
    """The 95% interval of vn_mse = mean(mse)/mean(variance) over S networks, both of shape (S,).

    The spread over networks includes their differences and the noise of truths. The s.e. of the
    ratio is that of the residuals mse − vn_mse·variance (delta method); h is Student's quantile
    times it. Errors of networks are skewed, so that above vn_mse = v the interval extends by
    h + h²/2v, the second order of v·exp(h/v), and at most by 2h. The result is (nan, nan) for a
    single network.

    >>> low, high = total_interval([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 6.027)
    """
    errors, variances = np.asarray(mse, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    seeds = errors.size
    if seeds < 2:
        return np.nan, np.nan
    ratio = errors.mean() / variances.mean()
    residuals = errors - ratio * variances
    se = np.sqrt(np.sum(residuals**2) / (seeds * (seeds - 1))) / variances.mean()
    half_width = stdtrit(seeds - 1, 0.975) * se
    skew = min(half_width / 2 / ratio, 1.0) if ratio > 0 else 1.0
    return float(ratio - half_width), float(ratio + half_width * (1 + skew))


def score(results: Path) -> pd.DataFrame:
    """Score every row below `results`: one configuration's folder, or a folder of such.

    One row per (cell_key, truth_key, truth_n_samples): the columns of `GROUP`, seed, repeat, cost,
    `expected_error`, `conditions`, then `mse`, `mse_se`, `variance`, `vn_mse`, `truth_gain`
    (variance per sample of the truth's design in units of the iid one), for tails the columns of
    `results.tail_scores`, null for others, 95% intervals in units of vn_mse, `noise_low` and
    `noise_high` of the row, `total_low` and `total_high` of its group over seeds, and `resolved`
    (the noise interval is above zero). Failed rows, and rows without a stored truth, have outcome
    "failed", the reason as `note` and null scores. Only the newest version of an estimator is
    scored. A folder without rows has the scores of its `scores.parquet`. No file is written. Raises
    CumpropError where nothing can be scored. Source: mathematics §7.
    """
    return _together(results, [_score_config(folder) for folder in config_folders(results)])


def score_and_store(results: Path) -> pd.DataFrame:
    """Score as `score`, and write `scores.parquet` into each configuration's folder."""
    tables = []
    for folder in config_folders(results):
        tables.append(_score_config(folder))
        if _has_rows(folder):
            store.write_parquet(tables[-1], folder / SCORES)
    return _together(results, tables)


def _together(results: Path, tables: list[pd.DataFrame]) -> pd.DataFrame:
    if not tables:
        raise CumpropError(f"{results}: no results here; run `cumprop sweep CONFIG` first")
    return pd.concat(tables, ignore_index=True)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """The points of figures: one row per group of `GROUP` columns.

    Repeats of a seed are averaged first. `vn_mse` is mean(mse)/mean(variance) over `n_seeds`
    networks, `noise_*` and `total_*` are its 95% intervals, `resolved` says that the noise interval
    is above zero; `expected_error` is the root mean square over rows, NaN where no row has one;
    `flops` and `seconds` are medians, `n_failed` counts rows without a score, `n_unreliable` rows
    with the status "unreliable", and `conditions` lists all conditions.
    """
    records = [
        dict(zip(GROUP, key, strict=True)) | _point(group)
        for key, group in scores.groupby(GROUP, dropna=False)
    ]
    return pd.DataFrame(records)


def _point(group: pd.DataFrame) -> dict[str, Any]:
    seeds = by_seed(group)
    scored = group[group["mse"].notna()]
    point: dict[str, Any] = {
        "n_seeds": len(seeds),
        "n_failed": len(group) - len(scored),
        "n_unreliable": sum(map(is_unreliable, scored["status"])),
        "expected_error": _root_mean_square(group),
        "flops": scored["flops"].median(),
        "seconds": scored["seconds"].median(),
        "conditions": "; ".join(sorted(set(scored["conditions"]))),
    }
    if seeds.empty:
        return point | dict.fromkeys(["vn_mse", *_INTERVALS], np.nan) | {"resolved": False}
    variance = seeds["variance"].mean()
    noise = noise_interval(seeds["mse"], seeds["mse_se"], int(scored["n_groups"].min()))
    total = total_interval(seeds["mse"], seeds["variance"])
    ends = (noise[0] / variance, noise[1] / variance, *total)
    return (
        point
        | {"vn_mse": seeds["mse"].mean() / variance}
        | dict(zip(_INTERVALS, ends, strict=True))
        | {"resolved": noise[0] > 0}
    )


def _root_mean_square(group: pd.DataFrame) -> float:
    known = group["expected_error"].astype(float).dropna()
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def by_seed(group: pd.DataFrame) -> pd.DataFrame:
    """The columns mse, mse_se and variance of each seed with scores, as means over its repeats.

    Repeats share a truth, so that the mean s.e. bounds the s.e. of the mean.
    """
    scored = group[group["mse"].notna()]
    return scored.groupby("seed")[["mse", "mse_se", "variance"]].mean()


def config_folders(results: Path) -> list[Path]:
    """`results` itself, or the folders in it that hold rows or scores, without `reference`."""
    return store.folders(results, lambda folder: _has_rows(folder) or _has_scores(folder))


def _has_rows(folder: Path) -> bool:
    return store.has_rows(folder) and store.is_sweep(folder)


def _has_scores(folder: Path) -> bool:
    return (folder / SCORES).is_file()


def _score_config(folder: Path) -> pd.DataFrame:
    if not _has_rows(folder):
        return pd.read_parquet(folder / SCORES)
    rows = store.read_rows(folder)
    newest = rows.groupby("estimator")["estimator_version"].transform("max")
    rows = rows[rows["estimator_version"] == newest]
    scores = pd.DataFrame(_score_rows(rows, store.truth_folder(folder)))
    if scores.empty or scores["mse"].isna().all():
        reason = "no sound row" if scores.empty else scores["note"].iloc[0]
        raise CumpropError(f"{folder}: nothing to score ({reason}); run its sweep again")
    for _, group in scores.groupby(GROUP, dropna=False):
        seeds = by_seed(group)
        total = total_interval(seeds["mse"], seeds["variance"])
        scores.loc[group.index, ["total_low", "total_high"]] = total
    return scores


def _score_rows(rows: pd.DataFrame, truths: Path) -> Iterator[dict[str, Any]]:
    for _, alike in rows.groupby(["truth_key", "readout", "depth"], sort=False):
        key, readout, depth = alike[["truth_key", "readout", "depth"]].iloc[0]
        try:
            answer, problem = _Answer.of(load(truths, key), readout, depth), {}
        except CumpropError as error:
            answer, problem = None, failure(str(error))
        for row in alike.to_dict("records"):
            yield _score_row({**row, **problem}, answer)


def _score_row(row: dict[Any, Any], answer: _Answer | None) -> dict[str, Any]:
    scored = {name: row[name] for name in _COPIED} | {"conditions": conditions(row)}
    scored |= {"truth_n_samples": 0, "n_groups": 0, "resolved": False}
    scored |= dict.fromkeys(BUCKET_COLUMNS) | dict.fromkeys(_NUMBERS, np.nan)
    if answer is None or failed(row):
        return scored
    mse, mse_se = mse_between(row["mean"], answer.groups)
    n_groups = answer.groups.shape[1]
    low, high = noise_interval([mse], [mse_se], n_groups)
    scored |= answer.truth.buckets(row["mean"])
    if row["stderr"] is not None and pd.isna(row["expected_error"]):
        noise = np.mean(np.square(row["stderr"], dtype=np.float64))
        scored["expected_error"] = float(np.sqrt(noise / answer.variance))
    return scored | {
        "truth_n_samples": answer.truth.n_samples,
        "n_groups": n_groups,
        "mse": mse,
        "mse_se": mse_se,
        "variance": answer.variance,
        "vn_mse": mse / answer.variance,
        "truth_gain": answer.gain,
        "noise_low": low / answer.variance,
        "noise_high": high / answer.variance,
        "resolved": low > 0,
    }


@dataclass(frozen=True, eq=False)
class _Answer:
    """The truth of one readout: group means (2, B, n) and the iid variance."""

    truth: Truth
    groups: Array
    variance: float
    gain: float

    @classmethod
    def of(cls, truth: Truth, readout: str, depth: int) -> _Answer:
        groups, variance = truth.groups(readout, depth), truth.variance(readout, depth)
        per_group = truth.n_samples / (2 * groups.shape[1])
        gain = float(groups.var(axis=1, ddof=1).mean()) * per_group / variance
        return cls(truth, groups, variance, gain)
