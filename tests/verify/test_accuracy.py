"""Width 256, depth 4, five networks: do errors and variances land where others found them?"""

import numpy as np
import pytest
from scipy.stats import t as student

import cumprop
from cumprop import streams
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.monte_carlo import MonteCarlo
from cumprop.results.scores import mse_between

pytestmark = pytest.mark.verify

WIDTH, DEPTH, SEEDS = 256, 4, range(5)
N_TRUTH = 4_000_000


def network(seed):
    return cumprop.random_mlp(WIDTH, DEPTH, seed)


def widened(mlp):
    """The same network in float64."""
    return cumprop.MLP([weights.astype(np.float64) for weights in mlp.weights])


@pytest.fixture(scope="module")
def truths(sampled):
    return sampled(N_TRUTH, WIDTH, DEPTH, SEEDS)


def mean_and_half_width(values, level):
    """The mean and the half-width of its t-interval."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values), student.ppf((1 + level) / 2, len(values) - 1) * error


RANGES = [
    (1, "basic", 1.5e-3, 1.9e-3),
    (2, "basic", 3.4e-5, 4.8e-5),
    (3, "basic", 4.0e-7, 5.5e-7),
    (4, "basic", 1.1e-8, 1.8e-8),
    (3, "augmented", 1.4e-7, 1.5e-7),
    (3, "base", 3.1e-6, 3.1e-6),
]
NETWORKS_BEHIND_A_VALUE = 2


def claim(order, kind, truths):
    n_samples = f"{truths[0].n_samples:,}"
    return f"vn-MSE of order {order} {kind}, n=256, L=4, 5 networks, truth {n_samples} orthogonal"


def estimates(order, kind):
    return [Cumulant(order, kind).estimate(network(seed)).mean for seed in SEEDS]


@pytest.mark.parametrize(("order", "kind", "low", "high"), RANGES)
def test_cumulants_land_in_the_reported_range(truths, vn_mse, record, order, kind, low, high):
    value, (left, right), _ = vn_mse(truths, estimates(order, kind))
    measured = f"{value:.3g} ({left:.3g} to {right:.3g})"
    span = f"contains {low:.3g}" if low == high else f"meets {low:.3g} to {high:.3g}"
    holds = left <= high and right >= low
    record(claim(order, kind, truths), measured, f"total interval {span}", holds)


def test_order_two_augmented_lands_near_the_reported_value(truths, vn_mse, record):
    """95% prediction interval, as if the value were a mean of two networks.

    How many networks are behind it is not reported, so two is an assumption; the row says as well
    whether the total interval of ours contains the value.
    """
    reported = 1.07e-5
    value, (left, right), _ = vn_mse(truths, estimates(2, "augmented"))
    half = (right - left) / 2 * np.sqrt(1 + len(SEEDS) / NETWORKS_BEHIND_A_VALUE)
    contained = "contains" if left <= reported <= right else "does not contain"
    measured = f"{value:.4g} ({left:.4g} to {right:.4g}), which {contained} {reported:.3g}"
    required = f"{reported:.3g} ± {half:.1g}, assuming that it is the mean of two networks"
    record(claim(2, "augmented", truths), measured, required, abs(value - reported) <= half)


def test_float32_is_enough_for_order_three(truths, vn_mse, record):
    """vn-MSE to 4 digits, the same weights in both."""
    networks = [network(seed) for seed in SEEDS]
    single, double = (
        vn_mse(truths, [Cumulant(3).estimate(mlp).mean for mlp in mlps])[0]
        for mlps in (networks, map(widened, networks))
    )
    change = abs(single / double - 1)
    record(
        "vn-MSE of order 3 in float32 relative to float64, n=256, L=4",
        f"1 ± {change:.1e}",
        "1 ± 1e-4",
        change <= 1e-4,
    )


@pytest.mark.parametrize("n_samples", [100, 1000, 10_000])
def test_monte_carlo_lands_on_one_over_n(truths, record, n_samples):
    """N · vn-MSE = 1; 20 repeats of 5 networks; one false alarm in a thousand other seeds."""
    ratios = []
    for seed, truth in zip(SEEDS, truths, strict=True):
        errors = []
        for repeat in range(20):
            rng = streams.sampling(seed, WIDTH, 1000 + repeat)
            mean = MonteCarlo(n_samples).estimate(network(seed), rng=rng).mean
            errors.append(mse_between(mean, truth.groups("output", DEPTH))[0])
        ratios += [n_samples * error / truth.variance("output", DEPTH) for error in errors]
    value, half = mean_and_half_width(ratios, 0.999)
    record(
        f"N · vn-MSE of iid Monte Carlo, N = {n_samples}, 5 networks × 20 repeats",
        f"{value:.3f} ± {half:.3f} (99.9%)",
        "interval contains 1",
        abs(value - 1) <= half,
    )


def test_orthogonal_design_has_a_fifth_of_the_variance(truths, record):
    """Variance per sample relative to iid, from the scatter of the truth's groups."""
    gains = []
    for truth in truths:
        groups = truth.groups("output", DEPTH)
        size = truth.n_samples / groups.shape[0] / groups.shape[1]
        scatter = groups.var(axis=1, ddof=1).mean()
        gains.append(size * scatter / truth.variance("output", DEPTH))
    value, half = mean_and_half_width(gains, 0.95)
    record(
        "variance per sample of the orthogonal design, iid = 1, n=256, L=4, 5 networks",
        f"{value:.3f} ± {half:.3f}",
        "interval within 0.20 to 0.24",
        value - half >= 0.20 and value + half <= 0.24,
    )
