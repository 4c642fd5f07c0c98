"""Expected errors, intervals and statuses on trained and random networks of kinds of their own."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed

import cumprop
from cumprop.results.provenance import cores

sys.path.insert(0, str(Path(__file__).parent))
import zoo
from calibrate import ESTIMATORS

pytestmark = pytest.mark.verify

TOLERANCES = (1e-1, 1e-2, 1e-3)
SMALL = 0.02
"""Output s.d.: estimates that are no further off should say ok."""
SIGNS = ("step", "bend", "blur", "nonlinear", "neglected", "correction")


def of_pair(name, network):
    """A row per estimate: what it says of its error, and the error."""
    truth, rows = zoo.truth_of(network), []
    for estimator, cov, found in estimates_of(network):
        row = std_row(found, truth) if cov else mean_row(found, truth)
        row |= {sign: getattr(found.signs, sign) for sign in SIGNS}
        rows.append({"network": name, "estimator": estimator, "status": found.status} | row)
    return rows


def estimates_of(network):
    """Name, whether standard deviations are asked for, and what each affordable estimator finds."""
    widest, depth = max(network.widths[1:-1]), network.depth
    dear = {"order 4": widest > 64 or depth > 6, "gaussian": widest > 128 or depth > 8}
    dear["order 3 tree"] = dear["order 3"] = widest > 256 and depth > 4
    for estimator, (backend, parameters) in ESTIMATORS.items():
        if dear.get(estimator):
            continue
        for cov in (False, True):
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    found = cumprop.estimate(network, backend, cov=cov, **parameters)
            except cumprop.CumpropError:
                continue
            yield estimator, cov, found


def mean_row(found, truth):
    square, noise = truth.error(found.mean)
    off, reach = np.abs(found.mean - truth.mean), np.nan  # no half width: variances were lost
    if found.half_width is not None:
        reach = np.hypot(found.half_width, 1.96 * np.sqrt(truth.noise)) + 1e-12
    return {
        "what": "means",
        "expected": found.expected_error,
        "true": np.sqrt(max(square, 0)),
        "noise": np.sqrt(noise),
        "covered": (off <= reach).mean(),
    }


def std_row(found, truth):
    """The truth's standard deviations are known to about 1/√N."""
    return {
        "what": "standard deviations",
        "expected": found.expected_std_error,
        "true": truth.std_error(found.cov),
        "noise": 1 / np.sqrt(truth.n_samples),
        "covered": np.nan,
    }


def of_recipe(rows_of, number):
    return [row for pair in zoo.trained_networks(number) for row in rows_of(*pair)]


def table_of(name, rows_of, others=()):
    """Rows of all trained networks and of the others, kept beside their truths."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    jobs = [delayed(of_recipe)(rows_of, number) for number in range(len(zoo.RECIPES))]
    found = Parallel(n_jobs=cores())(jobs + [delayed(rows_of)(*pair) for pair in others])
    table = pd.DataFrame([row for rows in found for row in rows])
    table.to_csv(zoo.FOLDER / f"{name}.csv", index=False)
    return table


@pytest.fixture(scope="module")
def measured():
    return table_of("measured", of_pair, zoo.random_networks())


@pytest.mark.parametrize("what", ["means", "standard deviations"])
def test_ok_is_a_statement_about_the_numbers(measured, record, what):
    """Errors count as far as they stand out from twice the truth's noise."""
    rows = measured[measured["what"] == what]
    n_networks = rows["network"].nunique()
    ok = rows[rows["status"] == "ok"]
    least = np.sqrt(np.maximum(ok["true"] ** 2 - (2 * ok["noise"]) ** 2, 0))
    ratio = least / ok["expected"]
    worst = ok.loc[ratio.idxmax()]
    record(
        f"{what} of {n_networks} networks, 8 estimators: where the status is ok, true errors are "
        "at most twice the expected ones",
        f"{(ratio <= 2).mean():.1%} of {len(ok)}",
        "≥ 97%",
        (ratio <= 2).mean() >= 0.97,
    )
    record(
        f"{what}: the largest true error over its expected one, where the status is ok",
        f"{ratio.max():.1f} ({worst['estimator']}, {worst['network']})",
        "≤ 5",
        ratio.max() <= 5,
    )
    small = rows[rows["true"] <= SMALL]
    said = (small["status"] == "ok").mean()
    record(
        f"{what}: estimates within {SMALL} (s.d., or relative) that say ok",
        f"{said:.0%} of {len(small)}",
        "≥ 60%",
        said >= 0.6,
    )


def test_half_widths_cover(measured, record):
    ok = measured[(measured["what"] == "means") & (measured["status"] == "ok")]
    by = ok.groupby("estimator")["covered"].mean()
    each = ", ".join(f"{name} {share:.1%}" for name, share in by.items())
    record(
        "half widths of deterministic estimates that say ok hold the truth, outputs of a network "
        "counting as one",
        f"{ok['covered'].mean():.1%} ({each})",
        "≥ 90%",
        ok["covered"].mean() >= 0.9,
    )


# --- adaptive ----------------------------------------------------------------------------------

RESULTS = 60
"""Outputs times seeds per network and tolerance, at least, so that coverage has a meaning."""
PASSES = 5e10
"""FLOPs that the seeds of one network and tolerance may take together; one seed always runs."""


def runs_of(name, network):
    """A row per tolerance and seed: the error, how many outputs are covered, and the cost."""
    truth, rows = zoo.truth_of(network), []
    for tolerance in TOLERANCES:
        seeds, spent = max(4, -(-RESULTS // network.widths[-1])), 0.0
        for seed in range(seeds):
            if spent > PASSES:
                break
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = cumprop.estimate(network, "adaptive", tolerance=tolerance, seed=seed)
            spent += found.flops.total
            square, noise = truth.error(found.mean)
            off = np.abs(found.mean - truth.mean)
            half = np.hypot(found.half_width, 1.96 * np.sqrt(truth.noise))
            rows.append(
                {
                    "network": name,
                    "tolerance": tolerance,
                    "seed": seed,
                    "status": found.status,
                    "error": np.sqrt(max(square, 0)),
                    "noise": np.sqrt(noise),
                    "covered": (off <= half).sum(),
                    "outputs": len(off),
                    "sampling": sampling_share(found.flops),
                }
            )
    return rows


def sampling_share(flops):
    """Of the FLOPs beside those that reading the input's covariance takes sampling, too."""
    return flops.get("sampling", 0) / (flops.total - flops.get("input", 0))


@pytest.fixture(scope="module")
def runs():
    return table_of("runs", runs_of)


def test_adaptive_meets_tolerances_on_trained_networks(runs, record):
    """Sampling stops where 95% of draws are within the tolerance; 1.1 allows for the truth's noise.

    A run is met if its error, less twice the truth's noise, is at most 1.1 tolerances.
    """
    least = np.sqrt(np.maximum(runs["error"] ** 2 - (2 * runs["noise"]) ** 2, 0))
    met = least <= 1.1 * runs["tolerance"]
    each = ", ".join(f"{met[runs['tolerance'] == t].mean():.1%} at {t:g}" for t in TOLERANCES)
    orders = ~runs["status"].str.startswith("sampled")
    record(
        f"`adaptive` on {runs['network'].nunique()} trained networks: tolerances met",
        f"{met.mean():.1%} of {len(runs)} runs ({each}); by an order {met[orders].mean():.1%} of "
        f"{orders.sum()}",
        "≥ 97%",
        met.mean() >= 0.97,
    )


def test_adaptive_covers_on_trained_networks(runs, record):
    share = runs["covered"].sum() / runs["outputs"].sum()
    by = runs.groupby("network")[["covered", "outputs"]].sum()
    lowest = (by["covered"] / by["outputs"]).sort_values()
    record(
        "`adaptive` on trained networks: 95% intervals hold the truth",
        f"{share:.1%} of {runs['outputs'].sum():,} outputs",
        "93% to 99%",
        0.93 <= share <= 0.99,
    )
    record(
        "`adaptive` on trained networks: coverage within every single network",
        ", ".join(f"{v:.0%} {k}" for k, v in lowest.head(3).items()),
        "≥ 80%",
        lowest.min() >= 0.8,
    )


def test_adaptive_that_samples_costs_what_sampling_costs(runs, record):
    """FLOPs of everything over those of samples, where samples answered."""
    sampled = runs[runs["status"].str.startswith("sampled")]
    ratio = 1 / sampled["sampling"]
    record(
        "`adaptive` on trained networks, where it samples: FLOPs over those of its samples",
        f"median {ratio.median():.3f}, 97% below {ratio.quantile(0.97):.2f}, "
        f"largest {ratio.max():.2f}",
        "97% below 1.15",
        ratio.quantile(0.97) <= 1.15,
    )
