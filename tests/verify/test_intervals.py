"""Intervals cover: truths simulated for networks of one hidden layer, where order 2 is exact."""

import numpy as np
import pytest
from scipy.stats import binom

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.results.scores import mse_between, noise_interval, total_interval

pytestmark = pytest.mark.verify

RUNS, GROUPS, PER_GROUP = 2000, 16, 40


def simulated(width, seed, *key):
    """A network, its exact mean, a truth of 1,280 samples in groups, and the output variance."""
    network = cumprop.random_mlp(width, 1, seed, dtype="float64")
    rng = np.random.default_rng([seed, *key])
    y = network.forward(rng.standard_normal((2 * GROUPS * PER_GROUP, width)))
    exact = Cumulant(2).estimate(network).mean
    groups = y.reshape(2, GROUPS, PER_GROUP, width).mean(axis=2)
    return network, exact, groups, y.var(axis=0).mean()


def record_coverage(record, claim, hits, low, high):
    left, right = binom.interval(0.95, RUNS, hits / RUNS)
    measured = f"{hits / RUNS:.1%} ({left / RUNS:.1%} to {right / RUNS:.1%})"
    record(claim, measured, f"{low:.0%} to {high:.0%}", low <= hits / RUNS <= high)


@pytest.mark.parametrize(("error", "high"), [(0, 1), (0.03, 1), (0.3, 0.97), (1, 0.97)])
def test_noise_interval_covers(record, error, high):
    """2,000 truths of 50 networks; an error of 0.04 output s.d. is as large as the noise.

    Below that the jackknife is conservative by design: 93% or more is all that is required.
    """
    width, hits = 24, 0
    for run in range(RUNS):
        _, exact, groups, variance = simulated(width, run % 50, 7, run)
        direction = np.random.default_rng([run, 8]).standard_normal(width)
        direction *= error * np.sqrt(variance * width) / np.linalg.norm(direction)
        mse, se = mse_between(exact + direction, groups)
        low_end, high_end = noise_interval([mse], [se], GROUPS)
        hits += low_end <= error**2 * variance <= high_end
    claim = f"coverage of the 95% noise interval, RMS error {error:g} output s.d., {RUNS} truths"
    record_coverage(record, claim, hits, 0.93, high)


@pytest.mark.parametrize("width", [16, 64])
def test_total_interval_covers(record, width):
    """2,000 groups of 5 networks, estimated by order 1 with the variance taken as 1."""
    scored = []
    for seed in range(5 * RUNS):
        network, exact, groups, variance = simulated(width, seed, 9)
        estimate = Cumulant(1, "base").estimate(network).mean
        scored.append(
            (mse_between(estimate, groups)[0], variance, np.mean((estimate - exact) ** 2))
        )
    mse, variance, error = np.transpose(scored)
    expected = error.mean() / variance.mean()  # over 10,000 networks: known to 0.5%
    hits = 0
    for group in np.arange(5 * RUNS).reshape(RUNS, 5):
        low_end, high_end = total_interval(mse[group], variance[group])
        hits += low_end <= expected <= high_end
    spread = np.std(error / variance) / np.mean(error / variance)
    claim = (
        f"coverage of the 95% total interval, {RUNS} groups of 5 networks, n={width}, L=1, "
        f"errors vary by {spread:.0%}"
    )
    record_coverage(record, claim, hits, 0.93, 0.97)
