"""Order 3, kind tree, at width 1024 and depth 16: two networks, an hour of truths."""

import time

import numpy as np
import pytest

from cumprop.estimators.cumulant import Cumulant
from cumprop.results.scores import mse_between

pytestmark = pytest.mark.verify

TREE = Cumulant(3, "tree")
DEEP = {"w_var": 2.0, "b_var": 0.0, "b_mean": 0.0}


def test_deep_and_wide(sampled, record):
    """Width 1024, depth 16, all maps N(0, 2/n), post-ReLU means: two networks."""
    truths, mse, times, flops = sampled(2_800_000, 1024, 16, [0, 1], init=DEEP), [], [], 0
    for truth in truths:
        start = time.perf_counter()
        estimate = TREE.estimate(truth.spec.network)
        times.append(time.perf_counter() - start)
        flops = estimate.flops.total
        mse.append(mse_between(estimate.layer_means[-1], truth.groups("post", 16)))
    value = np.mean([m for m, _ in mse])
    noise = np.sqrt(np.sum([se**2 for _, se in mse])) / 2
    record("raw MSE of order 3 tree, n=1024, L=16, post-ReLU, 2 networks",
           f"{value:.3g} ± {1.96 * noise:.1g} (truth noise)", "meets ≤ 9e-9",
           value - 1.96 * noise <= 9e-9)  # fmt: skip
    predicted = TREE.predict_cost(truths[0].spec.network.shape).bytes / 1e9
    record("one such run", f"{flops:.3g} FLOPs, {max(times):.0f} s, {predicted:.1f} GB",
           "≤ 3.7e12 FLOPs, ≤ 4 GB", flops <= 3.7e12 and predicted <= 4)  # fmt: skip
