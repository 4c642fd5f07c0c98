"""Runs on plain arrays beside counted ones (`cumprop.flops.by_shape`)."""

import numpy as np

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.cumulant.kinds import KINDS
from cumprop.flops import known_counts

KINDS_OF_ORDERS = [(order, kind) for order in (1, 2, 3) for kind in KINDS if kind != "tree"]
VARIANTS = [
    *(Cumulant(*variant) for variant in [*KINDS_OF_ORDERS, (3, "tree"), (4, "basic")]),
    *(Cumulant(order, algorithm="dense") for order in (2, 3)),
    Cumulant(3, truncation="published"),
    Cumulant(3, metric="average"),
    Cumulant(3, "augmented_factorised", algorithm="dense"),
    Cumulant(4, edgeworth=True),
    Cumulant(3, "tree", edges="full"),
]
WIDTHS = (4, 3, 5, 2)


def network_of(seed, activations="relu", size=1.0, cov=None, widths=WIDTHS, **others):
    rng = np.random.default_rng(seed)
    maps = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [size * rng.normal(size=m) / np.sqrt(m[1]) for m in maps]
    biases = [0.1 * rng.normal(size=n) for n, _ in maps[:-1]]
    if cov is not None:
        root = rng.normal(size=(widths[0],) * 2)
        others["input_cov"] = cov * (root @ root.T)
    return cumprop.MLP(
        weights, [*biases, None], activations, init_scale=(1.0,) * len(maps), **others
    )


def compare(estimator, network, cov):
    """Assert that an estimate equals one that counts every operation, and return it.

    Both are of one process, so that numbers are compared to the last bit.
    """
    found = estimator.estimate(network, cov=cov)
    known_counts._known.clear()
    counted = estimator.estimate(network, cov=cov)
    assert dict(found.flops) == dict(counted.flops)
    assert found.status == counted.status
    for name in ("mean", "layer_means", "cov", "half_width", "expected_error", "layer_variances"):
        np.testing.assert_equal(getattr(found, name), getattr(counted, name), err_msg=name)
    return found


def check(estimator, activation):
    """Compare estimates, with and without covariances, of the second network of a shape."""
    size = 0.3 if activation in ("exp", "cube") else 1.0
    unmeasured = estimator.order == 1 and estimator.scheme.unit_variance
    covs = {False, not unmeasured}
    for cov in covs:
        known_counts._known.clear()
        estimator.estimate(network_of(0, activation, size), cov=cov)
        compare(estimator, network_of(1, activation, size), cov)
    return len(covs)
