"""Order 3, kind tree: its error, cost and speed at width 256, depth 4, and at width 1024."""

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.monte_carlo import MonteCarlo
from cumprop.flops.numpy_arrays import Counted
from cumprop.memory import traced_peak
from cumprop.results.scores import mse_between

pytestmark = pytest.mark.verify

SEEDS = range(5)
N_TRUTH = 40_000_000
TREE = Cumulant(3, "tree")
DEEP = {"w_var": 2.0, "b_var": 0.0, "b_mean": 0.0}


def network(seed):
    return cumprop.random_mlp(256, 4, seed)


@pytest.fixture(scope="module")
def truths(sampled):
    return sampled(N_TRUTH, 256, 4, SEEDS)


@pytest.fixture(scope="module")
def errors(truths, vn_mse):
    """errors(estimator): vn-MSE, total interval, and the vn-MSE of each network."""
    return lambda estimator: vn_mse(truths, [estimator.estimate(network(s)).mean for s in SEEDS])


def test_error(errors, record):
    value, (low, high), _ = errors(TREE)
    record("vn-MSE of order 3 tree, n=256, L=4, 5 networks, truth 40,000,000 orthogonal",
           f"{value:.3g} ({low:.3g} to {high:.3g})", "total interval contains 2.5e-08",
           low <= 2.5e-8 <= high)  # fmt: skip


def test_every_network_gains_a_factor_of_ten(errors, record):
    *_, trees = errors(TREE)
    *_, basic = errors(Cumulant(3))
    ratios = trees / basic
    record("vn-MSE of order 3 tree over basic, each of 5 networks",
           ", ".join(f"{ratio:.3f}" for ratio in ratios), "each ≤ 0.1",
           ratios.max() <= 0.1)  # fmt: skip


@pytest.mark.parametrize(("change", "claim"), [
    ({"edgeworth": False}, "without edgeworth"),
    ({"mixed": False}, "without mixed"),
    ({"window": 1}, "window 1"),
    ({"window": 1, "response_window": 2}, "window 1, response window 2"),
])  # fmt: skip
def test_each_part_earns_its_cost(errors, record, change, claim):
    """Paired over networks: the error is no lower without it, to the precision of the truth."""
    whole, _, each = errors(TREE)
    part, _, without = errors(Cumulant(3, "tree", **change))
    rise = without - each
    spread = rise.std(ddof=1) / np.sqrt(len(SEEDS))
    record(f"vn-MSE of order 3 tree {claim}, over the same with it ({whole:.3g})",
           f"{part:.3g}, {rise.mean():+.1e} ± {2.78 * spread:.0e}", "not lower",
           rise.mean() + 2.78 * spread >= 0)  # fmt: skip


def test_edgeworth_helps_order_four(errors, record):
    plain, _, each = errors(Cumulant(4))
    better, _, with_it = errors(Cumulant(4, edgeworth=True))
    record("vn-MSE of order 4 with edgeworth, n=256, L=4, 5 networks", f"{better:.3g}",
           f"below that without ({plain:.3g})", np.mean(with_it - each) < 0)  # fmt: skip


def test_flops_and_memory(record):
    flops = TREE.estimate(network(0)).flops.total
    record("FLOPs of order 3 tree, n=256, L=4", f"{flops:.4g}", "≤ 4.5e9", flops <= 4.5e9)
    memory = traced_peak(lambda: TREE.estimate(network(0))) / 4 / 256**2
    record("memory of order 3 tree beside the weights, n=256, L=4", f"{memory:.0f} n² numbers",
           "≤ 100", memory <= 100)  # fmt: skip


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_time_is_that_of_matrix_products(record, monkeypatch):
    """The products of one estimate, with the operands they had, timed by turns with all of it."""
    mlp, products = network(0), []
    counted = Counted.__array_ufunc__

    def listening(self, ufunc, method, *inputs, **kwargs):
        if ufunc is np.matmul and min(np.ndim(x) for x in inputs) == 2:
            products.append([np.asarray(x) for x in inputs])
        return counted(self, ufunc, method, *inputs, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Counted, "__array_ufunc__", listening)
        TREE.estimate(mlp)
    with threadpool_limits(1):
        alone = lambda: [a @ b for a, b in products]  # noqa: E731
        ratio = np.median([seconds(lambda: TREE.estimate(mlp)) / seconds(alone) for _ in range(31)])
    record(f"time of order 3 tree over its {len(products)} matrix products, n=256, L=4, one thread",
           f"{ratio:.2f}", "≤ 2.3", ratio <= 2.3)  # fmt: skip


@pytest.mark.parametrize(
    ("estimator", "least"),
    [(Cumulant(2), 40), (Cumulant(3), 500), (Cumulant(4), 30), (TREE, 1500)],
    ids=["2", "3", "4", "tree"],
)
def test_sampling_takes_longer(errors, record, estimator, least):
    """Seconds of iid Monte Carlo to the same vn-MSE over those of the estimate, by turns."""
    value, *_ = errors(estimator)
    mlp, n_samples = network(0), 32_768
    with threadpool_limits(1):
        ratio = np.median([
            seconds(lambda: MonteCarlo(n_samples).estimate(mlp))
            / seconds(lambda: estimator.estimate(mlp))
            for _ in range(5 if estimator.order == 4 else 31)
        ])  # fmt: skip
    times = ratio / n_samples / value
    name = f"order {estimator.order} {estimator.kind}"
    record(
        f"time of iid Monte Carlo to the vn-MSE of {name} over its own, n=256, L=4, one thread",
        f"{times:,.0f}",
        f"≥ {least:,}",
        times >= least,
    )


def test_deep_and_wide(sampled, record):
    """Width 1024, depth 16, all maps N(0, 2/n), post-ReLU means: two networks."""
    estimator = Cumulant(3, "tree", window=3, mixed=False)
    truths, mse, times = sampled(2_800_000, 1024, 16, [0, 1], init=DEEP), [], []
    for truth in truths:
        start = time.perf_counter()
        mean = estimator.estimate(truth.spec.network).layer_means[-1]
        times.append(time.perf_counter() - start)
        mse.append(mse_between(mean, truth.groups("post", 16)))
    value = np.mean([m for m, _ in mse])
    noise = np.sqrt(np.sum([se**2 for _, se in mse])) / 2
    record("raw MSE of order 3 tree, window 3, n=1024, L=16, post-ReLU, 2 networks",
           f"{value:.3g} ± {1.96 * noise:.1g} (truth noise)", "≤ 1e-8", value <= 1e-8)  # fmt: skip
    predicted = estimator.predict_cost(truths[0].spec.network.shape).bytes / 1e9
    record("one such run", f"{max(times):.0f} s, {predicted:.1f} GB", "≤ 240 s, ≤ 4 GB",
           max(times) <= 240 and predicted <= 4)  # fmt: skip
