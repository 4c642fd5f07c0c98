"""Estimates on plain arrays have the numbers and the FLOPs of those on counted arrays.

The first network of a shape is counted; the second then runs on plain arrays. Both runs are in one
process, so that their numbers may be compared to the last bit.
"""

import numpy as np
import pytest

import cumprop
from cumprop.activations import Activation, Custom, available, get
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.cumulant.kinds import KINDS
from cumprop.flops import known_counts
from cumprop.flops.numpy_arrays import Counted

KINDS_OF_ORDERS = [(order, kind) for order in (1, 2, 3) for kind in KINDS if kind != "tree"]
VARIANTS = [
    *(Cumulant(*variant) for variant in [*KINDS_OF_ORDERS, (3, "tree"), (4, "basic")]),
    *(Cumulant(order, algorithm="dense") for order in (2, 3)),
    Cumulant(3, truncation="published"),
    Cumulant(3, metric="average"),
    Cumulant(3, "augmented_factorised", algorithm="dense"),
    Cumulant(4, edgeworth=True),
]
FEW = [Cumulant(1), Cumulant(2), Cumulant(3), Cumulant(3, "tree"), Cumulant(4)]
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


@pytest.fixture
def operations(monkeypatch):
    """The number of operations of counted arrays so far."""
    done = [0]
    own = Counted.__array_ufunc__

    def spy(self, *args, **kwargs):
        done[0] += 1
        return own(self, *args, **kwargs)

    monkeypatch.setattr(Counted, "__array_ufunc__", spy)
    return done


def compared(estimator, network, operations, cov):
    """The share of operations that were counted, of an estimate that equals a counted one."""
    before = operations[0]
    found = estimator.estimate(network, cov=cov)
    between = operations[0]
    known_counts._known.clear()
    counted = estimator.estimate(network, cov=cov)
    assert dict(found.flops) == dict(counted.flops)
    assert found.status == counted.status
    for name in ("mean", "layer_means", "cov", "half_width", "expected_error", "layer_variances"):
        np.testing.assert_equal(getattr(found, name), getattr(counted, name), err_msg=name)
    return (between - before) / (operations[0] - between)


def check(estimator, activation, operations):
    size = 0.3 if activation in ("exp", "cube") else 1.0
    unmeasured = estimator.order == 1 and estimator.scheme.unit_variance
    for cov in {False, not unmeasured}:
        known_counts._known.clear()
        estimator.estimate(network_of(0, activation, size), cov=cov)
        compared(estimator, network_of(1, activation, size), operations, cov)


@pytest.mark.parametrize("activation", ["relu", "tanh", "hard_tanh", "square"])
@pytest.mark.parametrize("estimator", VARIANTS, ids=lambda e: e.label)
def test_every_kind(estimator, activation, operations):
    check(estimator, activation, operations)


@pytest.mark.parametrize("activation", available())
def test_every_activation(activation, operations):
    check(Cumulant(2), activation, operations)


@pytest.mark.slow
@pytest.mark.parametrize("activation", available())
def test_every_kind_and_activation(activation, operations):
    for estimator in VARIANTS:
        check(estimator, activation, operations)


@pytest.mark.parametrize("estimator", FEW, ids=lambda e: e.label)
def test_random_relu_networks_of_one_shape_are_counted_once(estimator, operations):
    networks = [cumprop.random_mlp(width=24, depth=3, seed=seed) for seed in range(2)]
    known_counts._known.clear()
    estimator.estimate(networks[0])
    assert compared(estimator, networks[1], operations, cov=False) == 0


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
def test_unusual_networks(others, estimator, operations):
    """Other units, centres, rows out of range, quadrature and few directions: work by numbers."""
    known_counts._known.clear()
    activations = others.get("activations", "relu")
    usual = {"cov": 1.0} if "cov" in others else {}
    estimator.estimate(network_of(0, activations, **usual), cov=True)
    for seed in range(2):
        compared(estimator, network_of(seed, **others), operations, cov=True)


def test_dead_neurons_extreme_rows_and_few_directions(operations):
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
            compared(estimator, network, operations, cov=True)


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
def test_activations_of_users(estimator, operations):
    known_counts._known.clear()
    own = Iterated()
    estimator.estimate(network_of(0, own))
    compared(estimator, network_of(1, own), operations, cov=False)


def test_shapes_that_differ_in_what_a_shape_does_not_tell(operations):
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
            compared(estimator, network, operations, cov)


def test_errors_are_those_of_counted_runs():
    usual, large = (network_of(0, "exp", size) for size in (0.3, 1e3))
    for _ in range(2):
        with pytest.raises(CumpropError, match=r"exp.* overflows"):
            Cumulant(2).estimate(large)
        Cumulant(2).estimate(usual)
