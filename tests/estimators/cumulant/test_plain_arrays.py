"""Estimates on plain arrays have the numbers and the FLOPs of those on counted arrays.

The first network of a shape is counted; the second then runs on plain arrays.
"""

import numpy as np
import pytest
from helpers.plain_runs import VARIANTS, check, compare, network_of

import cumprop
from cumprop import available as estimators
from cumprop.activations import Activation, Custom, available, get
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant
from cumprop.flops import known_counts
from cumprop.flops.numpy_arrays import Counted

FEW = [Cumulant(1), Cumulant(2), Cumulant(3), Cumulant(3, "tree"), Cumulant(4)]


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["relu", "tanh", "hard_tanh", "square"])
@pytest.mark.parametrize("estimator", VARIANTS, ids=lambda e: e.label)
def test_every_kind(estimator, activation):
    check(estimator, activation)


@pytest.mark.thorough
@pytest.mark.parametrize("activation", available())
def test_every_activation(activation):
    check(Cumulant(2), activation)


@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.label)
def test_random_relu_networks_of_one_shape_are_counted_once(estimator, monkeypatch):
    networks = [cumprop.random_mlp(width=24, depth=3, seed=seed) for seed in range(2)]
    known_counts._known.clear()
    estimator.estimate(networks[0])

    def count(self, *args, **kwargs):
        raise AssertionError("an operation was counted")

    with monkeypatch.context() as patched:
        patched.setattr(Counted, "__array_ufunc__", count)
        estimator.estimate(networks[1])
    compare(estimator, networks[1], cov=False)


@pytest.mark.parametrize("name", sorted({*estimators()} - {"cumulant"}))
def test_other_estimators_have_the_flops_of_a_first_run(name):
    """Of which some run orders of `cumulant`, and all others count every operation."""
    network = cumprop.random_mlp(width=8, depth=2, seed=0)
    if name == "importance":
        network = network.above(0.5)
    known_counts._known.clear()
    first, second = (cumprop.estimate(network, name) for _ in range(2))
    assert dict(first.flops) == dict(second.flops) and first.flops.total > 0
    np.testing.assert_equal(first.mean, second.mean)


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.label)
@pytest.mark.parametrize(
    "others",
    [
        {"cov": 1.0},
        {"cov": 1e9},
        {"size": 1e6},
        {"size": 1e-60},
        {"input_mean": 30.0},
        {"activations": [["relu", "tanh", "identity"], "cos"]},
        {"activations": Custom(lambda z: np.maximum(z, 0.1), breakpoints=[0.1])},
    ],
    ids=str,
)
def test_unusual_networks(others, estimator):
    """Other units, centres, rows out of range, quadrature and few directions: work by numbers."""
    known_counts._known.clear()
    activations = others.get("activations", "relu")
    usual = {"cov": 1.0} if "cov" in others else {}
    estimator.estimate(network_of(0, activations, **usual), cov=True)
    for seed in range(2):
        compare(estimator, network_of(seed, **others), cov=True)


def test_dead_neurons_extreme_rows_and_few_directions():
    usual = network_of(0, widths=(40, 36, 36, 2))
    first, second, last = usual.weights
    scales = np.ones((36, 1)), np.ones((36, 1)), 0.2 + np.eye(36)[0]
    scales[0][:3], scales[1][5] = 0, 1e140
    unusual = [usual.replace(weights=[scale * first, second, last]) for scale in scales[:2]]
    unusual.append(usual.replace(weights=[first, second * scales[2], last]))
    for estimator in FEW:
        for network in unusual:
            known_counts._known.clear()
            estimator.estimate(usual, cov=True)
            compare(estimator, network, cov=True)


class Iterated(Activation):
    """A user's closed form, whose work depends on the means and says so to nobody."""

    name = "iterated"

    def forward(self, z):
        return np.maximum(z, 0)

    def derivative(self, z):
        return np.heaviside(z, 0.5)

    def coefficients(self, mean, sigma, trust=0.0):
        for _ in range(int(np.abs(mean).max() * 10)):
            mean = mean + 0.0
        return get("relu").coefficients(mean, sigma)


@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.label)
def test_activations_of_users(estimator):
    known_counts._known.clear()
    own = Iterated()
    estimator.estimate(network_of(0, own))
    compare(estimator, network_of(1, own), cov=False)


def test_shapes_that_differ_in_what_a_shape_does_not_tell():
    """Which of the maps have a bias, and whether the input has a mean, a covariance, or both."""
    estimator, plain = Cumulant(3), network_of(0)
    bias = plain.biases[0]
    networks = [
        plain,
        plain.replace(biases=[bias, None, None]),
        plain.replace(biases=[bias, plain.biases[1], np.ones(2)]),
        plain.replace(input_mean=1.0),
        plain.replace(input_cov=2.0),
        plain.replace(input_mean=1.0, input_cov=2.0),
        plain.replace(init_scale=None),
    ]
    for network in networks:
        for cov in (False, True):
            known_counts._known.clear()
            for other in networks:
                if other is not network:
                    estimator.estimate(other, cov=cov)
            compare(estimator, network, cov)


def test_errors_are_those_of_counted_runs():
    usual, large = (network_of(0, "exp", size) for size in (0.3, 1e3))
    for _ in range(2):
        with pytest.raises(CumpropError, match=r"exp.* overflows"):
            Cumulant(2).estimate(large)
        Cumulant(2).estimate(usual)
