"""Backends `linearized` and `unscented`: exact cases, finite differences, definitions, costs."""

import math
import tracemalloc

import numpy as np
import pytest

from cumprop import MLP, CumpropError, estimate, random_mlp
from cumprop.activations import Custom
from cumprop.contract import build

RNG = np.random.default_rng(0)
SETTINGS = [{}, {"alpha": 1e-3, "beta": 2.0}, {"alpha": 0.5, "kappa": 1.0}]
BACKENDS = [("linearized", {}), *(("unscented", given) for given in SETTINGS)]
SMOOTH = ["tanh", "gelu", "sigmoid", "square", "cube"]


def covariances(n):
    """Of full rank, of rank two, of rank two with a constant input, tiny, and none at all."""
    root = RNG.normal(size=(n, 2))
    full = root @ root.T + np.diag(RNG.uniform(0.5, 1, n))
    dead = root @ root.T
    dead[1] = dead[:, 1] = 0
    return [full, root @ root.T, dead, 1e-14 * full, 0 * full, None]


def weights(*widths, dtype="float64"):
    shapes = zip(widths[1:], widths[:-1], strict=True)
    return [(RNG.normal(size=s) / math.sqrt(s[1])).astype(dtype) for s in shapes]


@pytest.mark.parametrize(("name", "given"), BACKENDS, ids=str)
@pytest.mark.parametrize("case", range(6))
def test_linear_networks_are_exact(name, given, case):
    maps, b = weights(5, 7, 3), RNG.normal(size=7)
    cov, mean = covariances(5)[case], RNG.normal(size=5)
    network = MLP(maps, [b, None], "identity", mean, cov)
    product = maps[1] @ maps[0]
    expected = product @ (np.eye(5) if cov is None else cov) @ product.T
    found = estimate(network, name, cov=True, **given)
    np.testing.assert_allclose(found.mean, product @ mean + maps[1] @ b, rtol=1e-9)
    rounding = 1e-8 / given.get("alpha", 1)  # of points that are close to each other
    np.testing.assert_allclose(found.cov, expected, rtol=rounding, atol=1e-9 * abs(expected).max())
    np.testing.assert_allclose(found.layer_means[0], maps[0] @ mean + b, rtol=1e-9, atol=1e-10)
    assert found.status == "ok"


@pytest.mark.parametrize("given", SETTINGS, ids=str)
@pytest.mark.parametrize("case", range(6))
def test_unscented_mean_of_squares_is_exact(given, case):
    """E[W_2 (W_1 x + b)²] = W_2 ((W_1 μ + b)² + diag W_1 Σ W_1ᵀ)."""
    maps, b = weights(5, 7, 3), RNG.normal(size=7)
    cov, mean = covariances(5)[case], RNG.normal(size=5)
    variance = np.diag(maps[0] @ (np.eye(5) if cov is None else cov) @ maps[0].T)
    expected = (maps[0] @ mean + b) ** 2 + variance
    found = estimate(MLP(maps, [b, None], "square", mean, cov), "unscented", **given)
    np.testing.assert_allclose(found.layer_means[0], expected, rtol=1e-8)
    np.testing.assert_allclose(found.mean, maps[1] @ expected, rtol=1e-8, atol=1e-8)


def test_beta_two_is_right_for_the_variance_of_a_square():
    """Var g² = 2, whatever alpha."""
    for alpha in (1e-2, 0.7, 1.0):
        network = MLP([[[1.0]], [[1.0]]], activations="square")
        found = estimate(network, "unscented", cov=True, alpha=alpha, beta=2.0)
        assert found.cov[0, 0] == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("activation", [*SMOOTH, "relu", "leaky_relu(0.2)", "abs"])
def test_linearized_is_the_tangent(activation):
    """Against central differences, of a network with a kink almost nowhere."""
    maps, biases = weights(4, 9, 8, 3), [RNG.normal(size=n) for n in (9, 8, 3)]
    mean, cov = RNG.normal(size=4), covariances(4)[0]
    network = MLP(maps, biases, activation, mean, cov)
    found = estimate(network, "linearized", cov=True)
    h = 1e-5
    ahead, behind = (network.forward(mean + sign * h * np.eye(4)) for sign in (1, -1))
    jacobian = (ahead - behind).T / (2 * h)
    np.testing.assert_allclose(found.mean, network.forward(mean[None])[0], rtol=1e-12)
    np.testing.assert_allclose(found.cov, jacobian @ cov @ jacobian.T, rtol=1e-6, atol=1e-8)
    for means, (_, x) in zip(found.layer_means, network.layers(mean[None]), strict=False):
        np.testing.assert_allclose(means, x[0], rtol=1e-12)


@pytest.mark.parametrize("given", SETTINGS, ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sign"])
def test_unscented_is_its_definition(activation, given):
    """Weights and points as Wan and van der Merwe have them, summed one by one."""
    n = 4
    maps, mean, cov = weights(n, 9, 3), RNG.normal(size=n), covariances(n)[0]
    network = MLP(maps, None, activation, mean, cov)
    alpha, beta, kappa = ({"alpha": 1.0, "beta": 0.0, "kappa": 0.0} | given).values()
    lam = alpha**2 * (n + kappa) - n
    root = np.linalg.cholesky((n + lam) * cov)
    points = [mean, *(mean + s for s in root.T), *(mean - s for s in root.T)]
    of_mean = [lam / (n + lam)] + [1 / (2 * (n + lam))] * 2 * n
    of_cov = [of_mean[0] + 1 - alpha**2 + beta, *of_mean[1:]]
    y = network.forward(points)
    expected = sum(w * row for w, row in zip(of_mean, y, strict=True))
    found = estimate(network, "unscented", cov=True, **given)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-7, atol=1e-7)
    centred = [row - expected for row in y]
    expected = sum(w * np.outer(row, row) for w, row in zip(of_cov, centred, strict=True))
    np.testing.assert_allclose(found.cov, expected, rtol=1e-6, atol=1e-6)
    assert found.n_samples == 2 * n + 1


def test_a_singular_input_has_fewer_points():
    """x = μ + A g: the same as a network of W_0 A, along the principal axes of A."""
    axes = np.linalg.qr(RNG.normal(size=(6, 2)))[0] * [2.0, 0.5]
    maps, mean = weights(6, 8, 3), RNG.normal(size=6)
    found = estimate(MLP(maps, None, "tanh", mean, axes @ axes.T), "unscented", cov=True)
    small = MLP([maps[0] @ axes, maps[1]], [maps[0] @ mean, None], "tanh")
    expected = estimate(small, "unscented", cov=True)
    assert found.n_samples == expected.n_samples == 5
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(found.cov, expected.cov, rtol=1e-9, atol=1e-12)
    single = MLP([w.astype(np.float32) for w in maps], None, "tanh", mean, axes @ axes.T)
    rounded = estimate(single, "unscented")
    assert rounded.n_samples == 5
    np.testing.assert_allclose(rounded.mean, expected.mean, atol=1e-5)


@pytest.mark.parametrize(("name", "given"), BACKENDS, ids=str)
def test_float32_follows_float64(name, given):
    """Textbook points are 1e-3 apart, with weights of 1e6."""
    double = random_mlp(16, 3, 0, "tanh", dtype="float64")
    single = MLP([w.astype(np.float32) for w in double.weights], activations="tanh")
    a, b = (estimate(n, name, cov=True, **given) for n in (single, double))
    assert a.mean.dtype == a.cov.dtype == a.layer_means[0].dtype == np.float32
    np.testing.assert_allclose(a.mean, b.mean, atol=3e-6)
    np.testing.assert_allclose(a.cov, b.cov, atol=1e-6 * abs(b.cov).max())


@pytest.mark.parametrize(("name", "given"), BACKENDS[:3], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh", "abs", "gelu", "sigmoid", "cube"])
@pytest.mark.parametrize("gaussian_input", [False, True])
def test_predicted_cost_is_exact_but_for_quadrature(name, given, activation, gaussian_input):
    cov = np.eye(30) + 0.5 if gaussian_input else None
    maps = weights(30, 50, 40, 20, dtype="float32")
    mean = np.full(30, 0.3) if gaussian_input else None
    network = MLP(maps, [w[:, 0] for w in maps], activation, mean, cov)
    cost = build(name, **given).predict_cost(network.shape)
    flops = estimate(network, name, **given).flops.total
    more_nodes = {"sigmoid": 3, "tanh": 1.05, "gelu": 1.05}.get(activation, 1)  # of quadrature
    assert cost.flops <= flops <= more_nodes * cost.flops


def test_predicted_memory():
    network = random_mlp(256, 3, 0)
    estimator = build("unscented")
    estimator.estimate(network)
    tracemalloc.start()
    estimator.estimate(network)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert estimator.predict_cost(network.shape).bytes == pytest.approx(peak, rel=0.25)


def test_flops_by_hand():
    """Two products a layer of 2·2+1 points; forward alone, and the Jacobian from the outputs."""
    maps = [np.ones((3, 2)), np.ones((4, 3))]
    forward = 2 * 3 * 2 + 3 + 2 * 4 * 3  # ReLU is 1
    tangent = estimate(MLP(maps), "linearized").flops
    assert tangent["forward"] == forward
    with_cov = estimate(MLP(maps), "linearized", cov=True).flops
    slopes, scaled, back, symmetric = 3, 4 * 3, 2 * 4 * 3 * 2, 5 * 4 * 2
    assert with_cov["jacobian"] == slopes + scaled + back + symmetric
    assert tangent["jacobian"] == slopes
    points = estimate(MLP(maps), "unscented").flops
    assert points["forward"] == 5 * forward


def test_kinks_and_steps_are_told():
    """At the origin every neuron of a network without biases is on its kink."""
    found = estimate(random_mlp(8, 2, 0), "linearized", cov=True)
    assert found.status.startswith("unreliable: 16 neurons are on a kink at the mean input; ")
    assert "kink" not in estimate(random_mlp(8, 2, 0, "tanh"), "linearized", cov=True).status
    with pytest.raises(CumpropError, match="heaviside has no slope"):
        estimate(random_mlp(8, 2, 0, "tanh").above(1.0), "linearized")
    without = MLP([[[1.0]], [[1.0]]], None, Custom(np.sin), input_mean=1.0)
    with pytest.raises(CumpropError, match="has no derivative"):
        estimate(without, "linearized", cov=True)
    assert estimate(without, "linearized").mean[0] == pytest.approx(np.sin(1.0))


def test_negative_variances_are_told():
    """|x| summed over many inputs bends upward everywhere: small points see it at their middle."""
    network = MLP([np.eye(30), np.ones((1, 30))], None, "abs")
    found = estimate(network, "unscented", cov=True, alpha=0.1)
    assert found.cov[0, 0] < 0 and found.status.startswith(
        "unreliable: some variances are negative"
    )


@pytest.mark.parametrize(
    "given", [{"alpha": 0}, {"alpha": math.nan}, {"beta": math.inf}, {"kappa": -1}], ids=str
)
def test_bad_parameters_give_one_clear_line(given):
    with pytest.raises(CumpropError, match=f"unscented: {next(iter(given))} is"):
        build("unscented", **given)
