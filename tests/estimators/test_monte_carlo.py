"""Backend `monte_carlo` against exact means, and its costs against what is executed."""

import math
import tracemalloc

import numpy as np
import pytest

from cumprop import MLP, CumpropError, estimate, random_mlp, streams
from cumprop.contract import build
from cumprop.estimators.monte_carlo import MonteCarlo
from cumprop.networks import Shape
from cumprop.sampling import Inputs
from cumprop.sampling.designs import DESIGNS, rounded

NETWORKS = {
    "relu": random_mlp(8, 3, 0),
    "biased": random_mlp(16, 2, 1, "tanh", "critical", "float64"),
    "gaussian": MLP(
        np.random.default_rng(0).standard_normal((3, 5, 5)),
        activations=["gelu", "leaky_relu"],
        input_mean=np.ones(5),
        input_cov=np.diag([1.0, 2, 3, 4, 5]) + 0.5,
    ),
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_plain_forward_passes(name, design):
    """Every moment equals the one computed from all outputs at once."""
    network = NETWORKS[name]
    result = MonteCarlo(3000, design).estimate(network, cov=True, rng=np.random.default_rng(7))
    inputs = Inputs(network, design)
    blocks, outputs = [], []
    posts = [[] for _ in range(network.depth)]
    open_block = 0.0
    for batch in inputs.batches(np.random.default_rng(7), 3000):
        for layer, (z, x) in enumerate(network.layers(batch.x)):
            if x is None:
                outputs.append(z.astype(np.float64))
            else:
                posts[layer].append(x.astype(np.float64))
        open_block = open_block + outputs[-1].reshape(-1, batch.blocks, z.shape[1]).sum(axis=0)
        if batch.complete:
            blocks.append(open_block)
            open_block = 0.0
    y, sums = np.concatenate(outputs), np.concatenate(blocks)
    tolerance = 1e-5 if network.dtype == np.float32 else 1e-12
    assert result.n_samples == len(y) == rounded(design, network.widths[0], 3000)
    np.testing.assert_allclose(result.mean, y.mean(axis=0), atol=tolerance)
    for mean, post in zip(result.layer_means, posts, strict=True):
        np.testing.assert_allclose(mean, np.concatenate(post).mean(axis=0), atol=tolerance)
    means = sums / (len(y) / len(sums))
    np.testing.assert_allclose(
        result.stderr, means.std(axis=0, ddof=1) / math.sqrt(len(sums)), rtol=1e-3
    )
    cov = inputs.second_moment * y.T @ y / len(y) - np.outer(y.mean(axis=0), y.mean(axis=0))
    np.testing.assert_allclose(result.cov, cov, atol=50 * tolerance)


@pytest.mark.parametrize("design", DESIGNS)
def test_standard_errors_are_honest(design):
    """(mean - exact)/stderr over 60 repeats and 8 outputs of a one-hidden-layer network.

    Its root mean square is 1 within 0.2 (sobol: 8 blocks, Student's t with 7 degrees of freedom has
    1.18). The spread of the rms over seeds is 0.035 (sobol 0.05): false alarms below 1e-4.
    """
    network = random_mlp(8, 1, 3)
    exact = network.weights[1] @ (
        np.linalg.norm(network.weights[0], axis=1) / math.sqrt(2 * math.pi)
    )
    scores = []
    for repeat in range(60):
        result = MonteCarlo(512, design).estimate(network, rng=streams.sampling(0, 8, repeat))
        scores.append((result.mean - exact) / result.stderr)
    rms = math.sqrt(np.mean(np.square(scores)))
    assert abs(rms - (1.18 if design == "sobol" else 1)) < 0.2


def test_cov_of_a_linear_network_is_found_under_every_design():
    """Fixed radius included; 5 standard errors of 100,000 pairs: false alarms 1e-4."""
    w = np.random.default_rng(0).standard_normal((4, 4))
    network = MLP([w, np.eye(4)], activations="identity")
    exact = w @ w.T
    for design in DESIGNS:
        cov = MonteCarlo(200_000, design).estimate(network, cov=True).cov
        bound = 5 * np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / 100_000)
        assert (abs(cov - exact) < bound).all(), design


def test_centring_keeps_float32_digits():
    network = MLP(
        [np.float32([[1.0]]), np.float32([[1.0]])],
        [np.float32([1000.0]), None],
        activations="identity",
    )
    result = MonteCarlo(20_000).estimate(network, cov=True)
    assert result.stderr[0] == pytest.approx(1 / math.sqrt(20_000), rel=0.05)
    assert result.cov[0, 0] == pytest.approx(1, rel=0.05)


def test_repeats_are_independent_and_reproducible():
    network = NETWORKS["relu"]
    first, again = (MonteCarlo(100).estimate(network).mean for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = MonteCarlo(100).estimate(network, rng=streams.sampling(0, 8, 1))
    assert (other.mean != first).all()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("n_samples", [1, 700, 5000])
@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_flops_are_those_counted(name, n_samples, design):
    network = NETWORKS[name]
    estimator = MonteCarlo(n_samples, design)
    counted = estimator.estimate(network).flops.total
    assert estimator.predict_cost(network.shape).flops == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_diagonal_covariance_takes_less_than_predicted(design):
    for cov in (2.0, [1.0, 2, 3, 4, 5]):
        network = NETWORKS["gaussian"].replace(input_cov=cov)
        estimator = MonteCarlo(700, design)
        counted = estimator.estimate(network).flops.total
        assert counted < estimator.predict_cost(network.shape).flops < 2 * counted


def test_flops_by_hand():
    """8 inputs of widths 2-3-1: products 8·(2·2·3 + 2·3·1), relu 8·3; the rest are statistics."""
    network = MLP([np.ones((3, 2)), np.ones((1, 3))])
    flops = MonteCarlo(8).estimate(network).flops
    assert flops["forward"] == 8 * (12 + 6) + 24
    assert flops["statistics"] > 0 and set(flops) == {"forward", "statistics"}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("width", "activation"), [(64, "relu"), (256, "gelu")])
def test_predicted_bytes_are_those_allocated(width, activation, design):
    network = random_mlp(width, 2, 0, activation)
    peaks = []
    for n_samples in (4000, 16_000):
        estimator = MonteCarlo(n_samples, design)
        estimator.estimate(network)  # imports and caches
        tracemalloc.start()
        estimator.estimate(network)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]  # streaming
    assert estimator.predict_cost(network.shape).bytes == pytest.approx(peaks[1], rel=0.2)


def test_from_tolerance():
    shape = Shape((8, 8, 8), ("relu",))
    sizes = [MonteCarlo.from_tolerance(e, shape).n_samples for e in (1, 0.3, 0.1, 0.03, 0.01)]
    assert sizes == [1, 12, 100, 1112, 10_000]
    assert MonteCarlo.from_tolerance(0.1, shape, design="sobol").design == "sobol"
    with pytest.raises(CumpropError, match="tolerance"):
        MonteCarlo.from_tolerance(-1, shape)


@pytest.mark.parametrize("parameters", [{"n_samples": 0}, {"n_samples": 1.5}, {"design": "grid"}])
def test_bad_parameters_give_one_clear_line(parameters):
    with pytest.raises(CumpropError) as error:
        build("monte_carlo", **parameters)
    assert "\n" not in str(error.value)


def test_overflow_is_an_error_with_a_remedy():
    network = MLP([np.float32([[1e30]])] * 3, activations="square")
    with pytest.raises(CumpropError, match="float64"):
        estimate(network, "monte_carlo", n_samples=10)


def test_one_sample_has_no_standard_error():
    assert MonteCarlo(1).estimate(NETWORKS["relu"]).stderr is None


def test_extrapolations_by_hand():
    """From all Z_L at once: w(0,1) at their mean and variance, and κ_3/6 w(3,1) beside it."""
    network = random_mlp(16, 3, 1, dtype="float64")
    n_samples = 3000
    results = {
        kind: MonteCarlo(n_samples, extrapolate=kind).estimate(
            network, rng=np.random.default_rng(7)
        )
        for kind in ("none", "gaussian", "cumulant")
    }
    x = np.concatenate([b.x for b in _copies(Inputs(network), n_samples)])
    z = network.prefix(2).forward(x)
    centred = z - z.mean(axis=0)
    w = network.activations[-1].wick_table(z.mean(axis=0), z.var(axis=0))
    kappa3 = (centred**3).mean(axis=0)
    last = {"gaussian": w(0, 1), "cumulant": w(0, 1) + kappa3 / 6 * w(3, 1)}
    for kind, expected in last.items():
        np.testing.assert_allclose(results[kind].layer_means[-1], expected, rtol=1e-10)
        np.testing.assert_allclose(results[kind].mean, network.weights[-1] @ expected, atol=1e-12)
        for a, b in zip(results[kind].layer_means[:-1], results["none"].layer_means, strict=False):
            np.testing.assert_array_equal(a, b)
        assert results[kind].stderr is None and results[kind].n_samples == n_samples


def _copies(inputs, n_samples):
    for batch in inputs.batches(np.random.default_rng(7), n_samples):
        yield batch._replace(x=batch.x.copy())


def test_extrapolation_sees_what_no_sample_does():
    """P(Y > 6) = 1e-9 of a normal Y from 5,000 samples: within a factor e, averaging says 0.

    log p has the s.e. √((6²/√10000)² + (6/√5000)²) = 0.37 or so; the seed is fixed.
    """
    network = MLP([np.eye(1), np.eye(1)], [np.array([-6.0]), None], "heaviside")
    exact = 9.866e-10
    averaged = MonteCarlo(5000).estimate(network).layer_means[-1]
    gaussian = MonteCarlo(5000, extrapolate="gaussian").estimate(network).layer_means[-1]
    assert averaged[0] == 0 and abs(np.log(gaussian[0] / exact)) < 1


@pytest.mark.parametrize("extrapolate", ["gaussian", "cumulant"])
@pytest.mark.parametrize("n_samples", [1, 700, 5000])
@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_flops_of_extrapolations(name, n_samples, extrapolate):
    """But for the Wick coefficients, which is all that one sample does."""
    network = NETWORKS[name]
    estimator = MonteCarlo(n_samples, extrapolate=extrapolate)
    flops = estimator.estimate(network).flops.total
    coefficients = MonteCarlo(1, extrapolate=extrapolate).estimate(network).flops.total
    predicted = estimator.predict_cost(network.shape).flops
    assert predicted == pytest.approx(flops, rel=0.02, abs=coefficients)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"extrapolate": "normal"}, "none, gaussian, cumulant"),
     ({"extrapolate": "gaussian", "design": "orthogonal"}, "design iid")],
)  # fmt: skip
def test_bad_extrapolations_give_one_clear_line(parameters, message):
    with pytest.raises(CumpropError, match=message):
        build("monte_carlo", **parameters)


def test_extrapolation_needs_an_activation_and_gives_no_covariance():
    sampler = MonteCarlo(10, extrapolate="gaussian")
    assert "activation" in sampler.supports(MLP([np.eye(2)]))
    with pytest.raises(CumpropError, match="covariance"):
        sampler.estimate(NETWORKS["relu"], cov=True)
