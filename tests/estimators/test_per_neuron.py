"""Networks with activations per neuron: exact oracles for every estimator."""

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers.estimators import CUMULANT
from scipy.special import ndtr

import cumprop
from cumprop.contract import build
from cumprop.networks import MLP

RUNS = [
    *CUMULANT,
    ("cumulant", {"order": 3, "kind": "augmented"}),
    ("cumulant", {"order": 3, "kind": "augmented_factorised"}),
    ("gaussian", {}),
    ("conditional", {"directions": "leading"}),
    ("linearized", {}),
    ("unscented", {}),
    ("monte_carlo", {"n_samples": 500}),
]
IDS = [" ".join([name, *map(str, options.values())]) for name, options in RUNS]
SAME = [RUNS[1], RUNS[3], *RUNS[7:11]]


def weights_of(widths):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(m, n)) / math.sqrt(n) for n, m in pairwise(widths)]


@pytest.mark.parametrize(("name", "options"), SAME, ids=[*map(str, SAME)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_carried_neurons_change_nothing(name, options, activation):
    """A layer of identity neurons beside a dead ReLU is no layer.

    Orders 1 and 3 are left out: the metric of their radial parts is that of each map.
    """
    first, second, last = weights_of([5, 8, 7, 3])
    bias = np.linspace(-1, 1, 7)
    plain = MLP([first, second, last], [None, bias, None], activation)
    carried = np.concatenate([np.eye(8), np.zeros((1, 8))])
    again = np.concatenate([second, np.zeros((7, 1))], axis=1)
    longer = MLP(
        [first, carried, again, last],
        [None, None, bias, None],
        [activation, ["identity"] * 8 + ["relu"], activation],
    )
    expected, found = (cumprop.estimate(n, name, cov=True, **options) for n in (plain, longer))
    scale = np.abs(expected.mean).max()
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12 * scale)
    np.testing.assert_allclose(found.cov, expected.cov, atol=1e-12 * np.abs(expected.cov).max())


@pytest.mark.parametrize(("name", "options"), RUNS[1:], ids=IDS[1:])
def test_order_of_neurons_changes_nothing(name, options):
    first, second, last = weights_of([5, 8, 7, 3])
    kinds = ["relu", "identity", "tanh", "relu", "identity", "tanh", "heaviside", "relu"]
    order = np.array([3, 6, 1, 0, 2, 7, 4, 5])
    one = MLP([first, second, last], activations=[kinds, "tanh"])
    other = MLP(
        [first[order], second[:, order], last], activations=[[kinds[i] for i in order], "tanh"]
    )
    a, b = (cumprop.estimate(n, name, cov=True, **options) for n in (one, other))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-9 * np.abs(a.mean).max())
    np.testing.assert_allclose(a.cov, b.cov, atol=1e-9 * np.abs(a.cov).max())


@pytest.mark.parametrize("order", [2, 3, 4])
def test_structured_is_dense(order):
    weights = weights_of([4, 7, 6, 5, 2])
    kinds = [["relu"] * 4 + ["identity"] * 3, ["tanh"] * 2 + ["identity"] * 4, "relu"]
    network = MLP(weights, [None, np.ones(6), None, np.ones(2)], kinds)
    fast, dense = (
        cumprop.estimate(network, "cumulant", cov=True, order=order, algorithm=algorithm)
        for algorithm in ("structured", "dense")
    )
    np.testing.assert_allclose(fast.mean, dense.mean, atol=1e-10 * np.abs(dense.mean).max())
    np.testing.assert_allclose(fast.cov, dense.cov, atol=1e-10 * np.abs(dense.cov).max())


@pytest.mark.thorough
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95, 1.0, -1.0])
@pytest.mark.parametrize("other", ["identity", "square", "heaviside", "leaky_relu(0.2)", "tanh"])
def test_gaussian_covariance_of_two_kinds(rho, other):
    """Cov(relu(Z_1), φ(Z_2)) by a sum over a grid of two independent normals."""
    mean, sigma = np.array([0.3, -0.2]), np.array([1.0, 0.8])
    root = sigma[:, None] * np.array([[1.0, 0.0], [rho, math.sqrt(1 - rho**2)]])
    network = MLP([root, np.eye(2)], [mean, None], [["relu", other]])
    found = cumprop.estimate(network, "gaussian", cov=True).cov[0, 1]

    x = (np.arange(4001) - 2000) / 250  # ±8 s.d.
    edges = ndtr(np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]]))
    weight = np.diff(edges)
    a = np.maximum(mean[0] + sigma[0] * x, 0)
    phi = cumprop.activations.get(other).forward
    z = mean[1] + sigma[1] * (rho * x[:, None] + math.sqrt(1 - rho**2) * x[None])
    b = phi(z) @ weight
    expected = (weight * a) @ b - (weight @ a) * (weight @ b)
    assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("name", "options"), RUNS, ids=IDS)
def test_predicted_flops_are_those_of_the_shape(name, options):
    """Costs of mixed layers lie between those of layers of one kind."""
    estimator = build(name, **options)
    weights = weights_of([40, 40, 40, 40])
    costs = [
        estimator.predict_cost(MLP(weights, activations=kinds).shape).flops
        for kinds in ("identity", [["relu"] * 20 + ["identity"] * 20] * 2, "relu")
    ]
    assert costs[0] <= costs[1] * (1 + 1e-9) and costs[1] <= costs[2] * (1 + 1e-9)


def test_tensors_and_their_gradients():
    torch = pytest.importorskip("torch")
    weights = weights_of([4, 6, 5, 2])
    kinds = [["relu"] * 3 + ["identity"] * 3, ["tanh"] * 2 + ["identity"] * 3]
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    found = cumprop.estimate(MLP(tensors, activations=kinds), "cumulant", order=3).mean
    expected = cumprop.estimate(MLP(weights, activations=kinds), "cumulant", order=3).mean
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10)
    found.sum().backward()
    step = 1e-6
    moved = [w.copy() for w in weights]
    ends = []
    for sign in (1, -1):
        moved[0] = weights[0].copy()
        moved[0][1, 2] += sign * step
        ends.append(cumprop.estimate(MLP(moved, activations=kinds), "cumulant", order=3).mean.sum())
    slope = (ends[0] - ends[1]) / (2 * step)
    assert float(tensors[0].grad[1, 2]) == pytest.approx(slope, rel=1e-6)
