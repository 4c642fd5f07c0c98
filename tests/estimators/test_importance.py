"""Backend `importance` against exact probabilities and plain samples."""

import numpy as np
import pytest
from scipy.stats import norm

import cumprop
from cumprop.contract import build
from cumprop.errors import CumpropError


def test_tails_of_a_linear_network_are_those_of_a_gaussian():
    """1e-5 to 1e-17 within 5 standard errors, whatever the law and output weights: 2e-5 in all."""
    rng = np.random.default_rng(0)
    w, mean = rng.normal(size=(2, 8, 8)), rng.normal(size=8)
    root = rng.normal(size=(8, 8)) / 3
    line = cumprop.MLP(
        w, [None, rng.normal(size=8)], "identity", input_mean=mean, input_cov=root @ root.T
    )
    middle, sd = line.forward(mean[None])[0], np.linalg.norm(w[1] @ w[0] @ root, axis=1)
    z = np.linspace(4.3, 8.4, 8)
    tails = line.above(middle + z * sd)
    both = tails.replace(
        weights=[*tails.weights[:-1], np.ones((1, 8)) * 2],
        biases=[*tails.biases[:-1], np.array([1.0])],
    )
    found = cumprop.estimate(tails, "importance", n_samples=4000)
    assert (found.stderr < 0.1 * found.mean).all() and found.status == "ok"
    assert (abs(found.mean - norm.sf(z)) < 5 * found.stderr).all()
    summed = cumprop.estimate(both, "importance", n_samples=4000)
    assert summed.mean[0] == pytest.approx(1 + 2 * found.mean.sum())
    assert summed.stderr[0] == pytest.approx(2 * np.linalg.norm(found.stderr))


@pytest.mark.thorough
@pytest.mark.parametrize("depth", [1, 2])
def test_tails_agree_with_plain_samples(depth):
    """5 standard errors of both, 20 outputs each: a false alarm once in 40,000."""
    network = cumprop.random_mlp(width=20, depth=depth, seed=1)
    tails = network.above(1.5)
    found = cumprop.estimate(tails, "importance", n_samples=2000)
    plain = cumprop.estimate(tails, "monte_carlo", n_samples=200_000)
    error = np.hypot(found.stderr, np.sqrt(found.mean / 200_000))
    assert (abs(found.mean - plain.mean) < 5 * error).all()
    assert len(found.layer_means) == depth + 1
    assert build("importance", n_samples=2000).predict_cost(tails.shape).flops == found.flops.total


def test_a_step_that_no_input_reached_is_said():
    """|tanh| stays below 1, and 1.5 is reached by none."""
    bounded = cumprop.MLP([np.eye(3), np.eye(3)], activations="tanh").above([0.1, 1.5, 0.2])
    found = cumprop.estimate(bounded, "importance")
    assert found.mean[1] == 0 and "neuron 1; raise n_samples" in found.status


def test_networks_without_steps_and_covariances_are_refused():
    network = cumprop.random_mlp(width=4, depth=1, seed=0)
    for wanted, words in (
        ((network, {}), "importance samples steps"),
        ((network.above(1.0), {"cov": True}), "other inputs for each neuron"),
        ((network.above(1.0), {"n_samples": 1}), "n_samples is 1"),
    ):
        with pytest.raises(CumpropError, match=words):
            cumprop.estimate(wanted[0], "importance", **wanted[1])
