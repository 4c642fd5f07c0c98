"""P(Y > 3) at width 256, depth 3, five networks: is the truth true, and are cumulants near it?"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.truths import load_or_extend
from joblib import Parallel, delayed

from cumprop import streams
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.monte_carlo import EXTRAPOLATIONS, MonteCarlo
from cumprop.results.provenance import cores
from cumprop.results.tail_scores import relative_errors
from cumprop.sampling import TailSpec, tail_network
from cumprop.sampling.designs import normals

pytestmark = pytest.mark.verify

SEEDS = range(5)
N_TRUTH = 24_000
EQUAL_COST = 1966
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def truths():
    """Shared with the sweep of configs/low_probability.yaml; sampled where it is not there yet."""
    folder = ROOT / "results" / "truth"
    specs = [TailSpec(256, 3, "relu", "he", seed, threshold=3.0) for seed in SEEDS]
    pool = Parallel(n_jobs=cores())
    return pool(delayed(load_or_extend)(folder, spec, N_TRUTH) for spec in specs)


def test_truth_agrees_with_plain_sampling(truths, record):
    """All neurons of p ≥ 1e-4 by 10⁶ plain samples; their misses in standard errors of both."""
    misses = []
    for truth in truths:
        rng, hits, batches = streams.sampling(truth.spec.seed, 256, repeat=1), np.zeros(256), 50
        x = np.empty((20_000, 256), np.float32)
        for _ in range(batches):
            normals(rng, x)
            hits += (truth.spec.network.forward(x) > 3).sum(axis=0)
        n_samples = batches * len(x)
        frequent = hits >= 1e-4 * n_samples
        p, plain = truth.mean("tail(3)", 3)[:, frequent], hits[frequent] / n_samples
        error = np.sqrt(((p * truth.relative_error[:, frequent]) ** 2).sum(axis=0)) / 2
        total = np.hypot(error, np.sqrt(plain * (1 - plain) / n_samples))
        misses += list((p.mean(axis=0) - plain) / total)
    rms, mean = np.sqrt(np.mean(np.square(misses))), np.mean(misses)
    n = len(misses)
    record(
        f"importance against plain sampling, {n} tails of p ≥ 1e-4, n=256, L=3, in standard errors",
        f"mean {mean:.2f}, rms {rms:.2f}",
        f"mean 0 ± {3 / np.sqrt(n):.2f}, rms 1 ± 0.15",
        abs(mean) <= 3 / np.sqrt(n) and abs(rms - 1) <= 0.15,
    )


@pytest.mark.parametrize("bucket", [-4, -5, -6])
def test_order_three_is_nearer_than_sampling_at_equal_cost(truths, record, bucket):
    """The best of averaging, Gaussian and third-cumulant extrapolation is what it must halve."""
    sampling = {e: MonteCarlo(EQUAL_COST, extrapolate=e) for e in EXTRAPOLATIONS}
    estimators = {"order 3": Cumulant(3), **sampling}
    rows = [
        {"name": name, "seed": truth.spec.seed}
        | truth.buckets(
            estimator.estimate(
                tail_network(truth.spec.network, 3.0), rng=streams.sampling(truth.spec.seed, 256)
            ).layer_means[-1]
        )
        for truth in truths
        for name, estimator in estimators.items()
    ]
    found = relative_errors(pd.DataFrame(rows), ["name"])
    point = found[found["bucket"] == bucket].set_index("name")
    order3 = point.loc["order 3"]
    rival = point.drop("order 3")["relative_error"].min()
    record(
        f"relative error of order 3 at p = 1e{bucket}, {order3['neurons']:.0f} tails of 5 networks",
        f"{order3['relative_error']:.2f} ({order3['low']:.2f} to {order3['high']:.2f})",
        f"half of {rival:.2f}, the best sampling mode's at equal FLOPs",
        order3["relative_error"] <= rival / 2,
    )
