"""Quantiles from estimated tails: mixed laws, and tails that never cross."""

import numpy as np
import pytest
from scipy.stats import norm

from cumprop import MLP, CumpropError, Estimate, estimate, random_mlp
from cumprop.contract import build
from cumprop.functionals import order_statistics, quantiles, standardised
from cumprop.functionals.quantiles import tail_quantiles
from cumprop.sampling import Inputs


def exact(network):
    """The tails of one hidden layer and one map behind it, Y = relu(z), from the normal law."""
    bias, scale = network.biases[1], network.weights[1][:, 0]
    return Estimate(mean=norm.sf(-bias / scale) * (bias < 0) + (bias >= 0), layer_means=())


@pytest.mark.parametrize("q", [0.6, 0.9, 0.999])
def test_a_law_with_an_atom(q):
    """relu(z) is 0 half of the time; above 0.5 its quantiles are those of z."""
    network = MLP([[[1.0]], [[1.0], [3.0]]])
    found, taken = tail_quantiles(exact, network, q, np.array([0.4, 1.2]), np.array([0.58, 1.75]))
    np.testing.assert_allclose(found, norm.ppf(q) * np.array([1, 3]), atol=4e-6)
    assert 4 <= len(taken) <= 26


def test_at_an_atom():
    """Below 0.5 the quantile is the atom itself."""
    network = MLP([[[1.0]], [[1.0], [3.0]]])
    found, _ = tail_quantiles(exact, network, 0.3, np.array([0.4, 1.2]), np.array([0.58, 1.75]))
    np.testing.assert_allclose(found, 0, atol=4e-6)


def test_a_constant_output_is_its_mean():
    network = MLP([[[3.0, 4.0], [0.0, 0.0]]], [[1.0, 7.0]], [])
    found, _ = tail_quantiles(
        lambda tail: estimate(tail, "cumulant", order=2),
        network, 0.975, np.array([1.0, 7.0]), np.array([5.0, 0.0]),
    )  # fmt: skip
    np.testing.assert_allclose(found, [1 + 5 * norm.ppf(0.975), 7], atol=1e-5)


def test_tails_that_do_not_cross():
    network = MLP(np.eye(3)[None], None, [])
    stuck = Estimate(mean=np.array([0.5, 0.5, 0.5]), layer_means=())
    with pytest.raises(CumpropError, match=r"no 0.9 quantile of output 0, 2: .* take monte_carlo"):
        tail_quantiles(lambda _: stuck, network, 0.9, np.zeros(3), np.array([1.0, 0.0, 1.0]))


def test_standardised():
    rng = np.random.default_rng(0)
    network = MLP([rng.normal(size=(4, 3)), rng.normal(size=(2, 4))], [None, [1.0, 2.0]], "tanh")
    x, std = rng.normal(size=(5, 3)), np.array([2.0, -0.5])
    unit = standardised(network, [3.0, 4.0], std)
    np.testing.assert_allclose(unit.forward(x), (network.forward(x) - [3, 4]) / std, rtol=1e-12)


# --- of samples --------------------------------------------------------------------------------


def outputs_of(network, n_samples, seed):
    """What `monte_carlo` sees from this seed."""
    batches = Inputs(network).batches(np.random.default_rng(seed), n_samples)
    return np.concatenate([network.forward(batch.x) for batch in batches])


@pytest.mark.parametrize("stored", [2**25, 3000])
@pytest.mark.parametrize("probabilities", [[0.5], [0.01, 0.9, 0.999]])
def test_quantiles_of_samples_are_order_statistics(monkeypatch, stored, probabilities):
    """Of the very samples, whether all are kept or those near the quantile alone; atoms too."""
    monkeypatch.setattr(order_statistics, "STORED", stored)
    hidden = random_mlp(width=6, depth=2, seed=1)
    network = MLP(hidden.weights, activations=["relu", "relu"])
    clipped = MLP([*network.weights, np.eye(6)], activations=["relu"] * 3)  # 0 half of the time
    for one in (network, clipped):
        found, cost = order_statistics.sampled_quantiles(
            one, probabilities, 20_000, np.random.default_rng(3)
        )
        y = np.sort(outputs_of(one, 20_000, 3), axis=0)
        for three, q in zip(found, probabilities, strict=True):
            places = order_statistics.ranks(q, 20_000)
            assert places.middle == round(20_000 * q) - 1
            np.testing.assert_array_equal(three, y[list(places)])
        passes = 20_000 * sum(2 * w.size for w in one.weights)
        assert passes <= cost.flops.total <= 1.3 * passes
        assert cost.n_samples == 20_000


@pytest.mark.thorough
@pytest.mark.parametrize("q", [0.03, 0.5, 0.99])
def test_intervals_of_samples_cover(q):
    """Of 400 intervals of 500 samples 95% cover the quantile of the normal law, or a few more."""
    line = MLP([[[1.0]]])
    rng, exact = np.random.default_rng(5), norm.ppf(q)
    covered = []
    for _ in range(400):
        (found,), _ = order_statistics.sampled_quantiles(line, [q], 500, rng)
        covered.append(found[0, 0] <= exact <= found[2, 0])
    assert 0.95 - 3 * 0.011 <= np.mean(covered) <= 1.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("design", ["iid", "orthogonal", "sobol"])
def test_quantiles_of_every_design_are_those_of_the_law(design, seed):
    """Y is normal, so that fixed radii of homogeneous networks would show."""
    network = MLP([np.ones((1, 4))])
    backend = build("monte_carlo", n_samples=20_000, design=design)
    outputs, rng = backend.estimate(network), np.random.default_rng(seed)
    found = quantiles(
        backend.estimate, network, [0.9], outputs, backend.independent_samples(outputs), rng
    )
    assert len(found.estimates) == 1
    low, high = found.intervals[0][:, 0]
    assert abs(found.thresholds[0][0] - 2 * norm.ppf(0.9)) < 2 * (high - low)
    assert high - low < 0.12


def test_adaptive_takes_one_set_where_it_samples():
    """Two inputs are too few for orders; 3.84/ε² samples know a tail to ε of its s.d."""
    backend = build("adaptive", tolerance=0.02)
    few, wide = random_mlp(width=4, depth=2, seed=0), random_mlp(width=64, depth=1, seed=0)
    assert backend.independent_samples(backend.estimate(few)) == 9604
    assert backend.independent_samples(backend.estimate(wide)) is None
    assert (
        build("monte_carlo", extrapolate="gaussian").independent_samples(Estimate([], ())) is None
    )


def test_too_few_samples_for_a_quantile():
    message = r"the 0.999 quantile can lie beyond 1,000 samples: take n_samples of 3,688"
    with pytest.raises(CumpropError, match=message):
        order_statistics.ranks(0.999, 1000)
    assert order_statistics.ranks(0.999, 3688).high == 3687


def test_memory_of_quantiles_is_bounded(monkeypatch):
    monkeypatch.setattr(order_statistics, "free_memory", lambda: 10**6)
    with pytest.raises(CumpropError, match=r"quantiles of 1,000,000,000 samples take .* GB"):
        order_statistics.sampled_quantiles(
            MLP(np.eye(3)[None]), [0.9], 10**9, np.random.default_rng(0)
        )
