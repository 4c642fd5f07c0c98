"""Backend `gaussian` against closed forms, two-dimensional integrals and linear algebra."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special

from cumprop import MLP, CumpropError, activations, estimate, random_mlp
from cumprop.activations import Custom, HermiteSeries
from cumprop.contract import build
from cumprop.estimators.cumulant.standardised import AffineMap, Standardised
from cumprop.estimators.gaussian import Gaussian
from cumprop.estimators.gaussian.activated import Activated
from cumprop.flops import counted

FORWARD = {
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu(0.2)": lambda z: np.where(z > 0, z, 0.2 * z),
    "abs": np.abs,
    "heaviside": lambda z: (z > 0) * 1.0,
    "sign": np.sign,
    "tanh": np.tanh,
    "gelu": lambda z: z * special.ndtr(z),
    "cube": lambda z: z**3,
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "sin": np.sin,
    "softplus": lambda z: np.log1p(np.exp(z)),
}
CORRELATIONS = [0.0, 0.3, -0.6, 0.9, -0.99, 1 - 1e-6, -1 + 1e-9, 1.0, -1.0]


def pair_cov(activation, mean, sigma, rho):
    """Cov(X_1, X_2) of one pair by the backend: Z = diag(σ) (g, ρg + √(1-ρ²)h) + mean."""
    root = np.diag(sigma) @ [[1, 0], [rho, math.sqrt(1 - rho**2)]]
    network = MLP([root, np.eye(2)], [mean, None], activation)
    return Gaussian().estimate(network, cov=True)


def reference_cov(function, mean, sigma, rho):
    """The same by adaptive integration over g, and over h in three pieces around the kink."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    spread = math.sqrt(1 - rho**2)

    def inner(g, power):
        centre = mean[1] + sigma[1] * rho * g
        if spread == 0:
            return function(np.array(centre)) ** power
        kink = np.clip(-centre / (sigma[1] * spread), -10, 10)
        total = 0.0
        for a, b in ((-10, kink), (kink, 10)):
            h = a + (b - a) * (nodes + 1) / 2
            density = np.exp(-(h**2) / 2) / math.sqrt(2 * math.pi)
            z = centre + sigma[1] * spread * h
            total += (b - a) / 2 * weights @ (function(z) ** power * density)
        return total

    def expectation(f):
        kinks = [-mean[0] / sigma[0]]
        if rho:
            kinks += [
                -mean[1] / (sigma[1] * rho) + width * spread / abs(rho)
                for width in (-6, -2, 0, 2, 6)
            ]
        edges = np.unique(np.clip([-10, *kinks, 10], -10, 10))
        return sum(
            integrate.quad(
                lambda g: f(g) * math.exp(-g * g / 2) / math.sqrt(2 * math.pi),
                a,
                b,
                epsabs=1e-14,
                epsrel=1e-13,
                limit=200,
            )[0]
            for a, b in pairwise(edges)
        )

    def first(g):
        return function(np.array(mean[0] + sigma[0] * g))

    product = expectation(lambda g: first(g) * inner(g, 1))
    return product - expectation(first) * expectation(lambda g: inner(g, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["elu", "celu(2.0)"])
def test_functions_with_a_continuous_slope_use_shared_nodes(activation):
    """Their covariances are those of nested quadrature, split at the kinks of the slope."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, 4)) / 4 + rng.normal(size=4) / 2
    w[1] = w[0]
    sigma = np.linalg.norm(w, axis=1)
    rho = w @ w.T / np.outer(sigma, sigma)
    mean = counted(0.3 * rng.normal(size=6))
    z = Standardised(AffineMap(np.eye(6), None), mean, counted(sigma))
    activated = Activated(activations.get(activation), z, 1.0)
    assert activated._nodes(1e-10) is not None
    cov = np.asarray(activated.cov(counted(rho.copy()), 1e-10))
    sd = np.sqrt(np.diag(cov))
    for i, j in zip(*np.triu_indices(6, 1), strict=True):
        exact = activated._pairs._by_conditioning(i, j, float(rho[i, j]))
        assert cov[i, j] == pytest.approx(exact, abs=1e-9 * sd[i] * sd[j])


@pytest.mark.thorough
@pytest.mark.parametrize("rho", CORRELATIONS)
@pytest.mark.parametrize("activation", FORWARD)
def test_covariance_of_a_pair_matches_the_double_integral(activation, rho):
    sigma = np.array([0.8, 1.7])
    for mean in (np.zeros(2), np.array([0.5, -0.4]), np.array([0.8, 1.7]) * 0.6):
        result = pair_cov(activation, mean, sigma, rho)
        expected = reference_cov(FORWARD[activation], mean, sigma, rho)
        scale = math.sqrt(result.cov[0, 0] * result.cov[1, 1])
        # at |ρ| = 1 - 1e-9 a rounding of ρ moves the arcsine by 3e-12 / 1e-5
        assert result.cov[0, 1] == pytest.approx(expected, abs=1e-8 * scale)
        assert result.cov[1, 0] == pytest.approx(result.cov[0, 1], abs=1e-14 * scale)
        assert result.status == "ok"


def test_relu_layer_is_the_arc_cosine_kernel():
    """Duplicate, opposite and nearly equal neurons included."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((12, 6))
    w[1], w[2], w[3] = w[0], -2 * w[0], w[0] + 1e-5 * w[4]
    network = MLP([w, np.eye(12)])
    norms = np.linalg.norm(w, axis=1)
    cos = np.clip(w @ w.T / np.outer(norms, norms), -1, 1)
    theta = np.arccos(cos)
    kernel = np.outer(norms, norms) * (np.sin(theta) + (math.pi - theta) * cos) / (2 * math.pi)
    mean = norms / math.sqrt(2 * math.pi)
    result = Gaussian().estimate(network, cov=True)
    np.testing.assert_allclose(result.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(
        result.cov, kernel - np.outer(mean, mean), atol=1e-10 * norms.max() ** 2
    )


@pytest.mark.parametrize("activation", ["relu", "tanh", "sign"])
def test_duplicate_neurons_have_the_covariance_of_one(activation):
    network = MLP([[[1.0, 2.0]] * 2, np.eye(2)], [[0.3, 0.3], None], activation)
    cov = Gaussian().estimate(network, cov=True).cov
    np.testing.assert_allclose(cov, cov[0, 0], rtol=1e-9)


def test_linear_networks_are_exact():
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(shape) for shape in ((7, 4), (3, 7), (5, 3))]
    biases = [rng.standard_normal(7), None, rng.standard_normal(5)]
    root = rng.standard_normal((4, 2))
    network = MLP(weights, biases, "identity", rng.standard_normal(4), root @ root.T)
    result = Gaussian().estimate(network, cov=True)
    product = weights[2] @ weights[1] @ weights[0]
    np.testing.assert_allclose(result.mean, network.forward(network.input_mean[None])[0])
    np.testing.assert_allclose(result.cov, product @ root @ root.T @ product.T, atol=1e-10)
    assert [len(m) for m in result.layer_means] == [7, 3]


def test_square_then_cube_is_exact():
    """X_1 = g², Gaussian Z_2 = g² with mean 1 and variance 2: E[Z³] = 1 + 3·2."""
    network = MLP([[[1.0]]] * 3, activations=["square", "cube"])
    assert Gaussian().estimate(network).mean[0] == pytest.approx(7)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_mean_alone_costs_less_and_is_the_same(activation):
    network = random_mlp(16, 3, 0, activation, dtype="float64")
    mean, both = Gaussian().estimate(network), Gaussian().estimate(network, cov=True)
    np.testing.assert_allclose(mean.mean, both.mean, atol=1e-14)
    assert mean.cov is None and both.cov.shape == (16, 16)
    moments = [found.flops.total - found.flops["error"] for found in (mean, both)]
    assert moments[0] < 0.83 * moments[1]
    np.testing.assert_allclose(both.cov, both.cov.T, atol=1e-14)
    assert np.linalg.eigvalsh(both.cov).min() > 0


@pytest.mark.thorough
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_series_tolerance_is_kept(tolerance):
    w = np.random.default_rng(0).standard_normal((30, 8))
    network = MLP([w, np.eye(30)], [0.3 * w[:, 0], None], "gelu")
    exact = Gaussian(1e-13).estimate(network, cov=True)
    rough = Gaussian(tolerance).estimate(network, cov=True)
    sd = np.sqrt(np.diag(exact.cov))
    assert (abs(rough.cov - exact.cov) < 1.01 * tolerance * np.outer(sd, sd)).all()
    assert rough.flops["nonlinear"] < exact.flops["nonlinear"]


def test_float32_follows_float64():
    single, double = (random_mlp(64, 4, 0, dtype=d) for d in ("float32", "float64"))
    a, b = (Gaussian().estimate(n, cov=True) for n in (single, double))
    assert a.mean.dtype == a.cov.dtype == np.float32
    np.testing.assert_allclose(a.mean, b.mean, atol=3e-6)
    np.testing.assert_allclose(a.cov, b.cov, atol=3e-6)


def test_user_functions_with_kinks():
    network = MLP([np.eye(2) + 0.9, np.eye(2)], activations=Custom(np.abs, breakpoints=[0.0]))
    twin = MLP([np.eye(2) + 0.9, np.eye(2)], activations="abs")
    a, b = (Gaussian().estimate(n, cov=True) for n in (network, twin))
    np.testing.assert_allclose(a.cov, b.cov, rtol=1e-8)


@pytest.mark.parametrize(
    ("activation", "low", "high", "slope"),
    [("hard_tanh", -1, 1, 1), ("relu6", 0, 6, 1), ("hard_sigmoid", -2.5, 2.5, 0.2)],
)
def test_a_clip_is_the_difference_of_two_relus(activation, low, high, slope):
    """Correlations up to ±1 included; ReLU pairs are tested against double integrals."""
    rng = np.random.default_rng(3)
    w, b = rng.normal(size=(6, 3)) + 1, rng.normal(size=6)
    w[1], w[2] = w[0], -w[3]
    clipped = MLP([w, np.eye(6)], [b, None], activation)
    both = np.concatenate([b - low, b - high])
    difference = slope * np.concatenate([np.eye(6), -np.eye(6)], axis=1)
    relus = MLP([np.concatenate([w, w]), difference], [both, None])
    found, expected = (Gaussian().estimate(network, cov=True).cov for network in (clipped, relus))
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.diag(expected).max())


def test_a_dead_neuron_is_exact():
    network = MLP([[[1.0], [0.0]], [[1.0, 1.0]]])
    estimate = Gaussian().estimate(network)
    assert (estimate.mean[0], estimate.status) == (pytest.approx(1 / np.sqrt(2 * np.pi)), "ok")


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("width", "depth"), [(128, 4), (256, 2)])
def test_predicted_cost(width, depth, activation):
    network = random_mlp(width, depth, 0, activation)
    estimator = Gaussian()
    flops = estimator.estimate(network).flops.total
    tracemalloc.start()
    estimator.estimate(network)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cost = estimator.predict_cost(network.shape)
    assert cost.flops == pytest.approx(flops, rel=0.1)
    assert cost.bytes == pytest.approx(peak, rel=0.25)


def test_flops_of_the_linear_part_by_hand():
    """W_1 W_1ᵀ symmetric (4·3·2), two matrix-vector products, the last without a matrix."""
    network = MLP([np.ones((3, 2)) + np.eye(3, 2), np.ones((1, 3))], activations="square")
    flops = Gaussian().estimate(network, cov=True).flops
    assert flops["linear"] == (2 * 3 * 2 + 4 * 3 * 2) + (2 * 3 + 2 * 3 * 3 + 2 * 3)


def test_bad_parameters_give_one_clear_line():
    for value in (0, -1, 2, float("nan")):
        with pytest.raises(CumpropError, match="series_tolerance"):
            build("gaussian", series_tolerance=value)
    assert estimate(random_mlp(8, 1, 0), "gaussian").mean.shape == (8,)


# --- strong correlations -----------------------------------------------------------------------


SWISH = Custom(lambda z: z * special.expit(z), name="swish")
BUMP = Custom(lambda z: np.exp(-z * z), name="bump")


def few_inputs(gain, widths, activation):
    """Large pre-activations of few inputs: many correlations near 1."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(o, i)) * gain / np.sqrt(i) for i, o in pairwise(widths)]
    return MLP([w.astype(np.float32) for w in weights], None, activation)


@pytest.mark.thorough
@pytest.mark.parametrize("widths", [(4, 16, 16, 1), (4, 64, 64, 1), (8, 128, 128, 128, 3)])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", SWISH], ids=str)
@pytest.mark.parametrize("gain", [1, 6])
def test_large_correlated_pre_activations_take_what_is_predicted(widths, activation, gain):
    network = few_inputs(gain, widths, activation)
    found = Gaussian().estimate(network)
    assert found.flops.total <= 6 * Gaussian().predict_cost(network.shape).flops
    assert "negative" not in found.status and "quadrature" not in found.status


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", BUMP], ids=str)
@pytest.mark.parametrize("gain", [1, 20])
@pytest.mark.parametrize("nearly", [0.1, 1e-6])
def test_covariances_of_strongly_correlated_neurons(activation, gain, nearly):
    """Equal, opposite, nearly equal and scaled neurons; the oracle is nested quadrature."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(8, 4)) * gain / 2
    w[1], w[2], w[3] = -w[0], w[0] * (1 + nearly), w[0] + nearly * w[5]
    w[4], w[6] = 2 * w[0] + nearly * w[5], -w[0] / 2 + 10 * nearly * w[5]
    mean = 0.3 * gain * rng.normal(size=8)
    c = w @ w.T
    z = Standardised(AffineMap(w, None), mean, np.sqrt(np.diag(c)), counted(c))
    activated = Activated(MLP([w, w.T], None, activation).activations[0], z, 1.0)
    assert activated.unit == 1
    cov = activated.cov(z.C, 1e-10)
    sd, sigma = np.sqrt(np.diag(cov)), np.sqrt(np.diag(c))
    for i, j in [(0, 1), (0, 3), (4, 6)]:
        rho = np.clip(c[i, j] / sigma[i] / sigma[j], -1, 1)
        exact = activated._pairs._by_conditioning(i, j, float(rho))
        assert cov[i, j] == pytest.approx(exact, abs=1e-8 * sd[i] * sd[j])
    np.testing.assert_allclose(cov, cov.T, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 15.0])
def test_terms_from_shared_nodes_are_those_of_the_tables(activation, sigma):
    mean, sigmas = np.array([-0.4, 0.0, 1.1]) * sigma, sigma * np.array([0.5, 1.0, 1.3])
    phi = activations.get(activation)
    table = phi.wick_table(mean, sigmas**2)
    variance = table(0, 2) - table(0, 1) ** 2
    series = HermiteSeries(phi.of_neurons, mean, sigmas, table(0, 1), variance, 1e-10)
    assert series.converged and (series.coarse or sigma > 0.3) and not (series.coarse and sigma > 2)
    terms = series.terms(1, 15)
    np.testing.assert_allclose(series.terms(5, 9), terms[4:8], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(series.terms(1, 15, np.array([2]))[:, :2], 0)
    for k in (1, 2, 7, 14):
        expected = table(k, 1) * sigmas**k / math.sqrt(math.factorial(k))
        np.testing.assert_allclose(terms[k - 1], expected, atol=1e-8 * np.sqrt(variance).max())
