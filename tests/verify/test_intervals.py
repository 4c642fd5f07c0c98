"""Intervals cover: simulated, with the exact mean known."""

import numpy as np
import pytest
from scipy.stats import binom

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.scores import mse_between, noise_interval, total_interval

pytestmark = pytest.mark.verify

GROUPS, PER_GROUP, N_OUT = 16, 40, 24


def simulated(seed, error):
    """Truth of a one-hidden-layer network (order 2 is exact), and an estimate off by `error`."""
    network = cumprop.random_mlp(N_OUT, 1, seed % 50, dtype="float64")
    rng = np.random.default_rng([seed, 7])
    y = network.forward(rng.standard_normal((2 * GROUPS * PER_GROUP, N_OUT)))
    exact = Cumulant(2).estimate(network).mean
    direction = np.random.default_rng([seed, 8]).standard_normal(N_OUT)
    direction *= error * np.sqrt(y.var(axis=0).mean() * N_OUT) / np.linalg.norm(direction)
    return exact + direction, y.reshape(2, GROUPS, PER_GROUP, N_OUT).mean(axis=2), y


@pytest.mark.parametrize("error", [0.0, 0.03, 0.3])
def test_noise_interval_covers(record, error):
    """2,000 truths; required 93% or more (the jackknife is conservative where noise dominates)."""
    hits = 0
    for seed in range(2000):
        estimate, groups, y = simulated(seed, error)
        variance = y.var(axis=0).mean()
        mse, se = mse_between(estimate, groups)
        low, high = noise_interval(mse, se, GROUPS)
        hits += low <= error**2 * variance <= high
    low, high = binom.interval(0.95, 2000, hits / 2000)
    record(
        f"coverage of the 95% noise interval at RMS error {error} output s.d.",
        f"{hits / 20:.1f}% ({low / 20:.1f} to {high / 20:.1f})",
        "≥ 93%",
        hits / 2000 >= 0.93,
    )


def test_total_interval_covers(record):
    """5 networks a group, errors varying from network to network; 2,000 groups."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        variances = 0.3 * np.exp(0.1 * rng.standard_normal(5))
        errors = 1e-6 * rng.gamma(20, 1 / 20, 5) * variances + 1e-8 * rng.standard_normal(5)
        low, high = total_interval(errors, variances)
        hits += low <= 1e-6 <= high
    record("coverage of the 95% total interval, 5 networks", f"{hits / 20:.1f}%", "93 to 97%",
           0.93 <= hits / 2000 <= 0.97)  # fmt: skip
