"""`adaptive` on networks of other kinds than its laws were fitted on."""

import warnings

import numpy as np
import pytest
from helpers.specs import dealt_out
from verify.test_adaptive import TOLERANCES, bound, fixed_choices, of_samples, of_truth, searched

import cumprop

pytestmark = pytest.mark.verify

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "abs")
"""Nothing was calibrated on the last two."""
N_TRUTH = {24: 4e6, 36: 4e6, 56: 4e6, 90: 2e6, 140: 2e6, 200: 1e6}


def tabular():
    """Networks trained on tables of 10 to 64 columns, of which there are 4 to 20 in effect."""
    datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    for seed, (name, kind, hidden, activation) in enumerate(
        [
            ("wine", MLPClassifier, (64, 64), "relu"),
            ("wine", MLPClassifier, (50, 50), "tanh"),
            ("breast_cancer", MLPClassifier, (64, 32), "relu"),
            ("breast_cancer", MLPClassifier, (40, 40), "logistic"),
            ("diabetes", MLPRegressor, (64, 64), "relu"),
            ("diabetes", MLPRegressor, (64, 64, 64), "tanh"),
            ("digits", MLPClassifier, (96, 96), "relu"),
            ("digits", MLPClassifier, (64, 64), "tanh"),
        ]
    ):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
        if kind is MLPRegressor:
            y = (y - y.mean()) / y.std()
        model = kind(hidden_layer_sizes=hidden, activation=activation, random_state=seed)
        with warnings.catch_warnings(action="ignore"):  # 200 epochs are given
            model.fit(x, y)
        network = cumprop.load(model, input_mean=x.mean(axis=0), input_cov=np.cov(x.T))
        yield of_samples(f"{name}, {activation}", network, 500_000)


@pytest.fixture(scope="module", params=["random", "trained on tables"])
def others(request, truths_of):
    """Kind, and the pairs of each network and tolerance, by network."""
    if request.param == "random":
        specs = dealt_out(ACTIVATIONS, [*N_TRUTH], 9000)
        networks = [*map(of_truth, truths_of(specs, [N_TRUTH[spec.width] for spec in specs]))]
    else:
        networks = [*tabular()]
    return request.param, [[searched(network, t) for t in TOLERANCES] for network in networks]


def test_tolerances_are_met(others, record):
    kind, found = others
    pairs = [pair for of_network in found for pair in of_network]
    missed = [str(pair) for pair in pairs if not pair.met]
    covered = np.concatenate([pair.known.covered(pair.estimate) for pair in pairs])
    record(
        f"`adaptive`: tolerances 0.1, 0.01, 0.001 on {len(found)} other networks, {kind}",
        f"{len(pairs) - len(missed)} of {len(pairs)} met, {covered.mean():.1%} of "
        f"{covered.size:,} outputs covered" + "".join(f"; missed: {pair}" for pair in missed),
        "≥ 90% met, 90% to 99% covered",
        len(missed) <= 0.1 * len(pairs) and 0.90 <= covered.mean() <= 0.99,
    )


def test_cost(others, record):
    """In the median: where few inputs are sampled in any case, an order may have done by luck."""
    kind, found = others
    ratios = []
    for pairs in found:
        choices = fixed_choices(pairs[0].known)
        for pair in pairs:
            flops = pair.estimate.flops.total - pair.estimate.flops.get("input", 0)
            ratios.append(flops / bound(choices, pair.tolerance))
    share = np.mean(np.array(ratios) <= 1)
    record(
        f"`adaptive`: FLOPs over the bound of `test_adaptive.py`, other networks, {kind}",
        f"median {np.median(ratios):.2f}, largest {max(ratios):.2f}, at most 1 in {share:.0%} of "
        f"{len(ratios)}",
        "median at most 1",
        np.median(ratios) <= 1,
    )
