"""The cumulant estimator against exact oracles and the symmetries of the problem."""

import numpy as np
import pytest
from helpers.plain_layers import layers as plain_layers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import cumprop
from cumprop.contract import shape_only_network
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import MANY_BYTES, STRUCTURED, Cumulant, order4
from cumprop.estimators.cumulant.kinds import KINDS, Scheme
from cumprop.flops import shape_only

DENSE_KINDS = [kind for kind in KINDS if kind != "tree"]
SCHEMES = [(order, kind) for order in (1, 2, 3, 4) for kind in DENSE_KINDS]
SCHEMES += [(5, "basic"), (3, "tree")]
MEMORY_SLACK = 200_000  # bytes of Python objects, beside the arrays


def network_of(widths, seed, activations="relu", biased=True, gaussian=True, dtype=np.float64):
    """A random network of any widths, in float64."""
    rng = np.random.default_rng(seed)
    maps = list(zip(widths[1:], widths[:-1], strict=True))
    root = rng.normal(size=(widths[0],) * 2) / np.sqrt(widths[0])
    return cumprop.MLP(
        [(rng.normal(size=m) * np.sqrt(2 / m[1])).astype(dtype) for m in maps],
        [rng.normal(size=m[0]).astype(dtype) * 0.3 for m in maps] if biased else None,
        activations,
        input_mean=rng.normal(size=widths[0]) if gaussian else None,
        input_cov=root @ root.T if gaussian else None,
        init_scale=rng.uniform(1, 3, size=len(maps)),
    )


@pytest.mark.thorough
@pytest.mark.parametrize(("order", "kind"), SCHEMES)
def test_linear_networks_are_exact(order, kind):
    network = network_of([4, 5, 3, 2], seed=order, activations="identity")
    cov = order > 1
    estimate = cumprop.estimate(network, "cumulant", cov=cov, order=order, kind=kind)
    assert np.allclose(estimate.mean, network.forward(network.input_mean[None])[0], atol=1e-12)
    if cov:
        matrix = np.linalg.multi_dot(network.weights[::-1])
        assert np.allclose(estimate.cov, matrix @ network.input_cov @ matrix.T, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_linear_networks_have_no_higher_cumulants(order):
    network = network_of([3, 3, 3, 3], seed=order, activations="identity")
    _, *later = plain_layers(network, Scheme(order, "basic"))
    for layer in later:
        for d in range(3, order + 1):
            assert np.abs(layer.z[d].core).max() < 1e-10


@pytest.mark.parametrize(("order", "kind"), [s for s in SCHEMES if s[0] > 1])
def test_one_hidden_layer_is_exact(order, kind):
    network = network_of([4, 6, 3], seed=7)
    w, b = network.weights, network.biases
    mu = w[0] @ network.input_mean + b[0]
    sigma = np.sqrt(np.diag(w[0] @ network.input_cov @ w[0].T))
    relu_mean = mu * norm.cdf(mu / sigma) + sigma * norm.pdf(mu / sigma)
    estimate = cumprop.estimate(network, "cumulant", order=order, kind=kind)
    assert np.allclose(estimate.mean, w[1] @ relu_mean + b[1], atol=1e-12)
    assert np.allclose(estimate.layer_means[0], relu_mean, atol=1e-12)


@pytest.mark.parametrize(("order", "sixth_moment"), [(2, 7), (3, 15), (4, 15), (5, 15)])
def test_square_then_cube_is_the_sixth_moment(order, sixth_moment):
    """E[x^6] = 15 needs κ_3 of x^2; order 2 misses its 8."""
    one = [[1.0]]
    network = cumprop.MLP([one, one, one], activations=["square", "cube"])
    estimate = cumprop.estimate(network, "cumulant", order=order)
    assert estimate.mean[0] == pytest.approx(sixth_moment, abs=1e-12)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_two_square_layers_are_exact(order):
    """E[(Σ_k v_k z_k² + b)²], z Gaussian, from Cov(z_i², z_j²) = 2 C² + 4 μ_i μ_j C."""
    network = network_of([3, 4, 4, 2], seed=3, activations="square")
    (w1, w2, w3), (b1, b2, b3) = network.weights, network.biases
    mu, c = w1 @ network.input_mean + b1, w1 @ network.input_cov @ w1.T
    cov = 2 * c**2 + 4 * np.outer(mu, mu) * c
    mean = w2 @ (mu**2 + np.diag(c)) + b2
    expected = w3 @ (mean**2 + np.diag(w2 @ cov @ w2.T)) + b3
    assert np.allclose(cumprop.estimate(network, "cumulant", order=order).mean, expected)


@pytest.mark.thorough
@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=3, max_size=7),
    st.integers(0, 99),
    st.sampled_from(["relu", "tanh", "heaviside", "square"]),
    st.booleans(),
    st.sampled_from(sorted(STRUCTURED)),
    st.sampled_from(["exact", "average"]),
)
def test_structured_is_dense(widths, seed, activation, cov, variant, metric):
    order, kind = variant
    network = network_of(widths, seed, activation)
    dense, structured = (
        cumprop.estimate(
            network, "cumulant", cov=cov, order=order, kind=kind, algorithm=algorithm, metric=metric
        )
        for algorithm in ("dense", "structured")
    )
    pairs = [(dense.mean, structured.mean)] + ([(dense.cov, structured.cov)] if cov else [])
    for a, b in [*pairs, *zip(dense.layer_means, structured.layer_means, strict=True)]:
        assert np.abs(a - b).max() <= 1e-10 * np.abs(a).max()


def test_structured_order_three_counts_its_products():
    """§4.1: transports, slices and the covariance at n=128, L=4: 30.5 products of n×n."""
    n = 128
    network = cumprop.random_mlp(width=n, depth=4, seed=0)
    linear = cumprop.estimate(network, "cumulant", order=3).flops["linear"]
    assert linear == pytest.approx(30.5 * 2 * n**3, rel=0.03)


@pytest.mark.parametrize("cov", [False, True])
def test_structured_order_four_counts_its_products(cov):
    """§4.2 at n=48, L=4: per source and layer 8 n⁴ for T and 8 n⁴ for W B Wᵀ, 6 n⁴ for κ_3."""
    n = 48
    network = cumprop.random_mlp(width=n, depth=4, seed=0)
    flops = cumprop.estimate(network, "cumulant", order=4, cov=cov).flops
    full, last = 3 * 16 + 2 * 6, (3 * 16 + 6) if cov else (3 * 4 + 2)
    assert flops["linear"] == pytest.approx((full + last) * n**4, rel=0.1)
    assert flops["nonlinear"] < 500 * n**3


def test_even_basic_is_base():
    """To the rounding of sums of 5⁴ terms, which the two add up in different orders."""
    network = network_of([4, 5, 5, 2], seed=1)
    for order in (2, 4):
        basic, base = (
            cumprop.estimate(network, "cumulant", order=order, kind=kind).mean
            for kind in ("basic", "base")
        )
        rounding = 5**4 * np.finfo(float).eps * np.abs(base).max()
        np.testing.assert_allclose(basic, base, rtol=0, atol=rounding)


def test_what_is_not_repaired_is_ablated():
    """The ablation differs from base only where indices repeat, and that is not nothing."""
    network = network_of([6, 6, 6, 6], seed=1)
    for order in (2, 3):
        base, ablated = (
            cumprop.estimate(network, "cumulant", order=order, kind=kind).mean
            for kind in ("base", "ablated")
        )
        assert np.abs(base - ablated).max() > 1e-3


shapes = st.lists(st.integers(1, 5), min_size=3, max_size=5)
few_schemes = st.sampled_from([s for s in SCHEMES if s[0] < 4])
homogeneous = few_schemes.filter(lambda scheme: not Scheme(*scheme).unit_variance)


@settings(max_examples=25, deadline=None)
@given(shapes, few_schemes, st.integers(0, 99), st.sampled_from(["relu", "tanh", "square"]))
def test_order_of_neurons_does_not_matter(widths, scheme, seed, activation):
    order, kind = scheme
    network = network_of(widths, seed, activation)
    rng = np.random.default_rng(seed)
    orders = [np.arange(widths[0]), *map(rng.permutation, widths[1:])]
    shuffled = cumprop.MLP(
        [w[np.ix_(a, b)] for w, a, b in zip(network.weights, orders[1:], orders, strict=False)],
        [b[a] for b, a in zip(network.biases, orders[1:], strict=True)],
        activation,
        network.input_mean,
        network.input_cov,
    )
    first, second = (
        cumprop.estimate(n, "cumulant", order=order, kind=kind) for n in (network, shuffled)
    )
    assert np.allclose(first.mean[orders[-1]], second.mean, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(shapes, homogeneous, st.integers(0, 99), st.floats(0.1, 10))
def test_relu_is_homogeneous(widths, scheme, seed, factor):
    """Scaling one layer up and the next down by the same factor changes nothing."""
    order, kind = scheme
    network = network_of(widths, seed, biased=False)
    weights = [network.weights[0] * factor, network.weights[1] / factor, *network.weights[2:]]
    scaled = cumprop.MLP(weights, None, "relu", network.input_mean, network.input_cov)
    first, second = (
        cumprop.estimate(n, "cumulant", order=order, kind=kind) for n in (network, scaled)
    )
    assert np.allclose(first.mean, second.mean, rtol=1e-8, atol=1e-8)


def test_cumulants_are_symmetric():
    network = network_of([4, 5, 5, 5, 3], seed=2)
    _, *later = plain_layers(network, Scheme(4, "augmented"))
    for layer in later:
        for d in (2, 3, 4):
            core = layer.z[d].core
            assert np.allclose(core, core.swapaxes(0, 1), atol=1e-12)
            assert np.allclose(core, core.swapaxes(0, -1), atol=1e-12)


@pytest.mark.thorough
def test_float32_stays_float32():
    network = cumprop.random_mlp(width=12, depth=3, seed=0, dtype="float32")
    double = cumprop.random_mlp(width=12, depth=3, seed=0, dtype="float64")
    for order, kind in SCHEMES:
        estimate = cumprop.estimate(network, "cumulant", order=order, kind=kind)
        assert estimate.mean.dtype == np.float32
        exact = cumprop.estimate(double, "cumulant", order=order, kind=kind)
        assert np.allclose(estimate.mean, exact.mean, atol=1e-4), (order, kind)


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["relu", "square", "tanh"])
@pytest.mark.parametrize(
    ("order", "kind"),
    [(1, "basic"), (2, "augmented"), (3, "basic"), (3, "ablated"), (4, "basic"), (4, "augmented")],
)
def test_predicted_cost_is_what_runs(activation, order, kind):
    import tracemalloc

    network = network_of([16, 20, 24, 12, 8], seed=0, activations=activation)
    estimator = Cumulant(order=order, kind=kind)
    cost = estimator.predict_cost(network.shape)
    estimator.estimate(network)
    tracemalloc.start()
    counted = estimator.estimate(network).flops.total
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if activation == "tanh":  # how many nodes a neuron needs is not known beforehand
        assert 0.3 * counted <= cost.flops <= counted
    else:
        assert cost.flops == counted
    assert abs(cost.bytes - peak) <= 0.1 * peak + MEMORY_SLACK


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_two_passes_of_a_loop_tell_what_all_cost(activation, monkeypatch):
    shape = network_of([9, 12, 7, 10, 8], seed=0, activations=activation).shape
    found = []
    for loop in (shape_only.alike, range):
        for module in (order4, order4.sources):
            monkeypatch.setattr(module, "alike", loop)
        with shape_only.arena() as memory:
            flops = Cumulant(order=4).estimate(shape_only_network(shape)).flops
        found.append((dict(flops), memory.peak, memory.work(flops.total)))
    quick, plain = found
    assert quick == plain


def test_order_one_costs_n_squared():
    """FLOPs of the maps at order 1: 2n² for the means, and for the variances where φ follows."""
    network = cumprop.random_mlp(width=64, depth=4, seed=0)
    flops = cumprop.estimate(network, "cumulant", order=1).flops
    assert (5 + 4) * 2 * 64**2 <= flops["linear"] < (5 + 4) * 2 * 64**2 + 4 * 10 * 64
    assert flops["nonlinear"] < 4 * 300 * 64


def test_order_from_tolerance():
    shape = cumprop.random_mlp(width=256, depth=2, seed=0).shape
    orders = [Cumulant.from_tolerance(eps, shape).order for eps in (0.1, 0.01, 1e-3, 1e-6)]
    assert orders == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"order": 9}, "order 9: choose 1 to 5"),
        ({"kind": "basics"}, "kind 'basics': choose one of basic, augmented"),
        ({"metric": "mean"}, "metric 'mean'"),
        ({"truncation": "none"}, "truncation 'none'"),
        ({"power": 2}, "no parameter 'power'; it takes order, kind"),
    ],
)
def test_wrong_parameters_name_the_remedy(parameters, message):
    network = cumprop.random_mlp(width=4, depth=1, seed=0)
    with pytest.raises(CumpropError, match=message):
        cumprop.estimate(network, "cumulant", **parameters)


def test_average_metric_needs_the_design_variances():
    network = cumprop.MLP(np.ones((3, 2, 2)))
    with pytest.raises(CumpropError, match="init_scale"):
        cumprop.estimate(network, "cumulant", metric="average")


def test_what_does_not_fit_is_refused_with_the_number():
    """1024^4 float32 numbers are 4.4 TB, times the tensors alive at once."""
    rows = np.broadcast_to(np.float32(0.01), (1024, 1024))
    network = cumprop.MLP([rows, rows, rows])
    with pytest.raises(CumpropError, match=r"needs \d{4,}\.\d GB here, .* take a lower order"):
        cumprop.estimate(network, "cumulant", order=4, kind="augmented")


@pytest.mark.parametrize(
    "parameters",
    [
        {"order": 2},
        {"order": 3, "kind": "augmented"},
        {"order": 4},
        {"order": 4, "algorithm": "dense"},
    ],
)
def test_small_networks_need_no_prediction(parameters):
    """What `MANY_BYTES` promises, where arrays are most against n^order."""
    estimator = Cumulant(**parameters)
    shape = cumprop.random_mlp(width=24, depth=6, seed=0).shape
    assert estimator.predict_cost(shape).bytes < MANY_BYTES * 24**estimator.order


def test_untracked_covariance_is_refused():
    network = cumprop.random_mlp(width=4, depth=1, seed=0)
    with pytest.raises(CumpropError, match="tracks no covariance"):
        cumprop.estimate(network, "cumulant", cov=True, order=1, kind="base")


@pytest.mark.thorough
@pytest.mark.parametrize("variant", [*sorted(STRUCTURED), (3, "tree")])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_predicted_flops_are_those_counted(variant, activation):
    order, kind = variant
    network = cumprop.random_mlp(12, 5, 0, activation)
    estimator = Cumulant(order, kind)
    predicted = estimator.predict_cost(network.shape).flops
    counted = estimator.estimate(network).flops.total
    # arrays without numbers take quadrature as converged at once
    assert predicted == counted if activation == "relu" else predicted <= counted


def test_negative_output_variances_are_named():
    """Ten inputs of correlation 1: one in truth, which order 3 takes for many."""
    rng = np.random.default_rng(0)
    maps = [(32, 10), (32, 32), (3, 32)]
    weights = [rng.normal(size=shape) * np.sqrt(2 / shape[1]) for shape in maps]
    network = cumprop.MLP(weights, input_cov=np.ones((10, 10)))
    estimate = cumprop.estimate(network, "cumulant", order=3, cov=True)
    below = int((np.diag(estimate.cov) < 0).sum())
    assert below and f"the variances of {below} outputs came out negative" in estimate.status


@pytest.mark.thorough
@pytest.mark.parametrize("variant", [*sorted(STRUCTURED), (3, "augmented"), (3, "tree")])
def test_counts_depend_on_the_shape_alone(variant):
    """Also where an order breaks down: some variances at width 8 and depth 8 are negative."""
    estimator = Cumulant(*variant)
    network = cumprop.random_mlp(8, 8, 0)
    estimate = estimator.estimate(network)
    assert variant[0] <= 2 or "came out negative" in estimate.status
    assert estimate.flops.total == estimator.predict_cost(network.shape).flops


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_neurons_that_see_only_dead_neurons(order):
    """As in convolutions: variances of 1e-43 beside 1, whose reciprocals overflow float32."""
    rng = np.random.default_rng(0)
    block = np.kron(np.eye(2), np.ones((6, 6)))
    weights = [rng.normal(size=(12, 12)) * block / np.sqrt(6) for _ in range(3)]
    bias = np.repeat([0.0, -13.0], 6)
    half = cumprop.MLP([np.float32(w) for w in weights], [np.float32(bias), None, None])
    full = half.replace(weights=[w.astype(np.float64) for w in half.weights])
    found, exact = (cumprop.estimate(n, "cumulant", order=order, cov=True) for n in (half, full))
    seen = slice(None if order < 3 else 6)  # orders 3 and 4 break down on the dead ones in float64
    np.testing.assert_allclose(found.mean[seen], exact.mean[seen], atol=2e-6)
    np.testing.assert_allclose(found.cov[seen, seen], exact.cov[seen, seen], atol=2e-5)
    assert np.isfinite(found.expected_error)
    assert order < 3 or exact.status.startswith("unreliable")
