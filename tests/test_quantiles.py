"""Quantiles from estimated tails: mixed laws, and tails that never cross."""

import numpy as np
import pytest
from scipy.stats import norm

from cumprop import MLP, CumpropError, Estimate, estimate
from cumprop.quantiles import quantiles, standardised


def exact(network):
    """The tails of one hidden layer and one map behind it, Y = relu(z), from the normal law."""
    bias, scale = network.biases[1], network.weights[1][:, 0]
    return Estimate(mean=norm.sf(-bias / scale) * (bias < 0) + (bias >= 0), layer_means=())


@pytest.mark.parametrize("q", [0.6, 0.9, 0.999])
def test_a_law_with_an_atom(q):
    """relu(z) is 0 half of the time; above 0.5 its quantiles are those of z."""
    network = MLP([[[1.0]], [[1.0], [3.0]]])
    found, taken = quantiles(exact, network, q, np.array([0.4, 1.2]), np.array([0.58, 1.75]))
    np.testing.assert_allclose(found, norm.ppf(q) * np.array([1, 3]), atol=4e-6)
    assert 4 <= len(taken) <= 26


def test_at_an_atom():
    """Below 0.5 the quantile is the atom itself."""
    network = MLP([[[1.0]], [[1.0], [3.0]]])
    found, _ = quantiles(exact, network, 0.3, np.array([0.4, 1.2]), np.array([0.58, 1.75]))
    np.testing.assert_allclose(found, 0, atol=4e-6)


def test_a_constant_output_is_its_mean():
    network = MLP([[[3.0, 4.0], [0.0, 0.0]]], [[1.0, 7.0]], [])
    found, _ = quantiles(
        lambda tail: estimate(tail, "cumulant", order=2),
        network, 0.975, np.array([1.0, 7.0]), np.array([5.0, 0.0]),
    )  # fmt: skip
    np.testing.assert_allclose(found, [1 + 5 * norm.ppf(0.975), 7], atol=1e-5)


def test_tails_that_do_not_cross():
    network = MLP(np.eye(3)[None], None, [])
    stuck = Estimate(mean=np.array([0.5, 0.5, 0.5]), layer_means=())
    with pytest.raises(CumpropError, match=r"no 0.9 quantile of output 0, 2: .* take monte_carlo"):
        quantiles(lambda _: stuck, network, 0.9, np.zeros(3), np.array([1.0, 0.0, 1.0]))


def test_standardised():
    rng = np.random.default_rng(0)
    network = MLP([rng.normal(size=(4, 3)), rng.normal(size=(2, 4))], [None, [1.0, 2.0]], "tanh")
    x, std = rng.normal(size=(5, 3)), np.array([2.0, -0.5])
    unit = standardised(network, [3.0, 4.0], std)
    np.testing.assert_allclose(unit.forward(x), (network.forward(x) - [3, 4]) / std, rtol=1e-12)
