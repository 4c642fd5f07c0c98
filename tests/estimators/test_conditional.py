"""Conditional propagation: exact along its directions, and equal to its base across them."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtr

import cumprop
from cumprop.contract import build, check_estimator
from cumprop.errors import CumpropError
from cumprop.estimators.conditional import Conditional, Rule, interval, whole
from cumprop.estimators.conditional.directions import Whitened, nearest_points, orthonormal

ACTIVATIONS = ["relu", "tanh", "gelu", "heaviside", "square", "relu[4]+identity[2]"]


def network_of(activation="relu", widths=(5, 6, 6, 3), seed=0, dtype=np.float64):
    """A network with biases under a Gaussian input with a full covariance."""
    rng = np.random.default_rng(seed)
    maps = list(zip(widths[1:], widths[:-1], strict=True))
    return cumprop.MLP(
        [(rng.normal(size=m) / np.sqrt(m[1])).astype(dtype) for m in maps],
        [(0.3 * rng.normal(size=m[0])).astype(dtype) for m in maps],
        activation,
        rng.normal(size=widths[0]),
        np.cov(rng.normal(size=(widths[0], 3 * widths[0]))),
    )


def parts_of(found):
    return [found.mean, found.cov, *found.layer_means, *found.layer_variances]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_batch_has_the_numbers_of_its_inputs_one_by_one(activation, order):
    network, means = network_of(activation), np.random.default_rng(1).normal(size=(4, 5))
    batch = cumprop.estimate_batch(network, means, order=order, cov=True)
    for mean, found in zip(means, batch, strict=True):
        one = cumprop.estimate(network.replace(input_mean=mean), order=order, cov=True)
        for a, b in zip(parts_of(found), parts_of(one), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        for name, value in vars(one.signs).items():
            np.testing.assert_allclose(getattr(found.signs, name), value, rtol=1e-9, atol=1e-12)
        assert found.expected_error == pytest.approx(one.expected_error, rel=1e-6)
        assert found.status.split(":")[0] == one.status.split(":")[0]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_batch_counts_shared_work_once_and_everything_else_for_each_input(order):
    """Shared are the covariance of the first layer, at order 3 six terms of it alone, and for signs
    the powers of its maps."""
    widths, b = (5, 6, 6, 3), 4
    network = network_of(widths=widths)
    means = np.random.default_rng(1).normal(size=(b, 5))
    one = cumprop.estimate(network, order=order).flops.total
    batch = sum(found.flops.total for found in cumprop.estimate_batch(network, means, order=order))
    first = 0 if order == 1 else 2 * 6 * 5 * 5 + 2 * 6 * 6 * 5  # W Σ and (W Σ) Wᵀ
    alone = 6 * 6 * 6 if order == 3 else 0
    shared = first + alone + sum(8 * n * m for n, m in pairwise(widths))
    assert (b - 1) * first <= b * one - batch <= (b - 1) * shared


def test_bends_in_common_are_those_of_each_input():
    """Under the second mean three neurons of the first layer are alive, so that signs look."""
    network = cumprop.random_mlp(width=40, depth=3, seed=0)
    dead = np.where(np.arange(40) < 3, 0.0, -9.0)
    means = np.stack([np.zeros(40), np.linalg.solve(network.weights[0], dead)])
    common = [found.signs.common for found in cumprop.estimate_batch(network, means, order=2)]
    for mean, found in zip(means, common, strict=True):
        one = cumprop.estimate(network.replace(input_mean=mean), order=2).signs.common
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-9)
    assert common[0][1] == 0 != common[1][1]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_batch_on_plain_arrays_has_the_counts_and_numbers_of_the_first(activation):
    network, means = (
        network_of(activation, (5, 7, 6, 3)),
        np.random.default_rng(1).normal(size=(3, 5)),
    )
    first, second = (cumprop.estimate_batch(network, means, order=2, cov=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.flops == other.flops and one.signs.neglected == other.signs.neglected
        for a, b in zip(parts_of(one), parts_of(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_constant_neurons_of_a_batch_are_those_of_each_input():
    network = cumprop.MLP(
        [np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]]), np.ones((1, 3))],
        [[0.0, -1e3, 0.2], [0.0, 0.0, 0.5], None],
    )
    means = np.array([[0.0, 0, 0], [0.0, 1e3, 0], [5.0, 0, 0]])
    for mean, found in zip(means, cumprop.estimate_batch(network, means, order=2), strict=True):
        one = cumprop.estimate(network.replace(input_mean=mean), order=2)
        np.testing.assert_allclose(found.mean, one.mean, rtol=1e-12)


@pytest.mark.parametrize("means", [np.zeros(5), np.zeros((2, 4)), [[0.0] * 5, [0.0] * 4]])
def test_means_of_another_shape_are_refused(means):
    with pytest.raises(CumpropError, match=r"means (have|is)"):
        cumprop.estimate_batch(network_of(), means)


def test_a_batch_of_probabilities_is_unreliable():
    tail = cumprop.random_mlp(width=8, depth=2, seed=0).above(1.0)
    for found in cumprop.estimate_batch(tail, np.zeros((2, 8)), order=2):
        assert found.status.startswith("unreliable: a tail probability")


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize(
    "parameters",
    [{}, {"order": 1}, {"order": 3, "nodes": 4}, {"directions": "leading", "n_directions": 2}],
)
def test_the_contract_holds(parameters):
    check_estimator(Conditional(**parameters))


def test_linear_networks_are_exact():
    network = network_of(widths=(5, 3), activation=[])
    found = cumprop.estimate(network, "conditional", n_directions=2, cov=True)
    w = network.weights[0]
    np.testing.assert_allclose(found.mean, w @ network.input_mean + network.biases[0], rtol=1e-12)
    np.testing.assert_allclose(found.cov, w @ network.input_cov @ w.T, rtol=1e-11)
    assert found.expected_error < 1e-10


@pytest.mark.parametrize("directions", ["leading", "gradient"])
def test_a_network_of_one_direction_is_an_integral(directions):
    u, w = np.array([0.6, 0.0, 0.8]), np.array([0.5, -1.0, 0.3])
    last = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 0.5]])
    network = cumprop.MLP([np.outer(w, u), np.eye(3), last], [w, -w, None], "tanh")
    s = np.linspace(-9, 9, 721)
    y, weights = network.forward(s[:, None] * u), np.exp(-s * s / 2)
    weights = weights / weights.sum()
    found = cumprop.estimate(network, "conditional", directions=directions, nodes=96, cov=True)
    np.testing.assert_allclose(found.mean, weights @ y, atol=1e-7)
    np.testing.assert_allclose(found.cov, np.cov(y.T, aweights=weights, ddof=0), atol=1e-7)
    assert found.expected_error < 1e-4


def test_as_many_directions_as_inputs_are_quadrature():
    network = network_of("tanh", widths=(2, 6, 5, 3))
    network = network.replace(weights=[w / 2 for w in network.weights])
    s = np.linspace(-8, 8, 161)
    z = np.stack(np.meshgrid(s, s), axis=-1).reshape(-1, 2)
    weights = np.exp(-np.vecdot(z, z) / 2)
    weights = weights / weights.sum()
    x = network.input_mean + z @ np.linalg.cholesky(network.input_cov).T
    axis, along = np.polynomial.hermite_e.hermegauss(20)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    rule = Rule(grid, np.outer(along, along).ravel() / along.sum() ** 2)
    found = Conditional().along(network, np.eye(2), rule, cov=True)
    (_, first), (_, second), (y, _) = network.layers(x)
    np.testing.assert_allclose(found.mean, weights @ y, atol=1e-6)
    np.testing.assert_allclose(found.cov, np.cov(y.T, aweights=weights, ddof=0), atol=1e-6)
    for layer, x in enumerate((first, second)):
        np.testing.assert_allclose(found.layer_means[layer], weights @ x, atol=1e-6)
        variances = np.cov(x.T, aweights=weights, ddof=0).diagonal()
        np.testing.assert_allclose(found.layer_variances[layer], variances, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_directions_that_span_a_narrow_first_layer_are_quadrature(dtype):
    """Four of ten directions are all that four neurons see: no order is left, and no rounding."""
    network = network_of("tanh", widths=(10, 4, 8, 3))
    arrays = {
        name: [a.astype(dtype) for a in getattr(network, name)] for name in ("weights", "biases")
    }
    network = network.replace(**arrays)
    found = cumprop.estimate(network, "conditional", n_directions=4, nodes=1024)
    narrow = cumprop.MLP(
        [np.eye(4), *network.weights[1:]],
        [None, *network.biases[1:]],
        network.activations,
        network.weights[0] @ network.input_mean + network.biases[0],
        network.weights[0] @ network.input_cov @ network.weights[0].T,
    )
    plain = cumprop.estimate(narrow, "monte_carlo", n_samples=2**15, design="sobol")
    assert found.status == "ok"
    np.testing.assert_allclose(found.mean, plain.mean, atol=3e-3)
    assert 0 < found.expected_error < 0.02


@pytest.mark.thorough
def test_order_2_errors_shrink_as_directions_are_added():
    network = network_of("tanh", widths=(3, 8, 8, 1), seed=2)
    x = np.random.default_rng(0).normal(size=(4 * 10**5, 3))
    x = network.input_mean + x @ np.linalg.cholesky(network.input_cov).T
    y = network.forward(x)[:, 0]
    errors = [
        abs(cumprop.estimate(network, "conditional", n_directions=k, nodes=m).mean[0] - y.mean())
        for k, m in ((1, 16), (2, 128))
    ]
    plain = abs(cumprop.estimate(network, order=2).mean[0] - y.mean())
    assert errors[1] < errors[0] < plain


def test_the_order_of_the_inputs_and_their_units_do_not_matter():
    network, order, unit = network_of(), np.array([3, 0, 4, 1, 2]), 1e3
    changed = network.replace(
        weights=[network.weights[0][:, order] / unit, *network.weights[1:]],
        input_mean=network.input_mean[order] * unit,
        input_cov=network.input_cov[np.ix_(order, order)] * unit**2,
    )
    one, other = (
        cumprop.estimate(n, "conditional", directions="leading", cov=True)
        for n in (network, changed)
    )
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-9)
    np.testing.assert_allclose(other.cov, one.cov, rtol=1e-9)


def test_the_direction_of_an_event_of_a_linear_network_is_its_gradient():
    network = cumprop.MLP([[[3.0, 4.0]]]).above(20.0)
    found = cumprop.estimate(network, "conditional", directions="event", nodes=64)
    points = nearest_points(Whitened(network.prefix(0)))
    np.testing.assert_allclose(points[0], [2.4, 3.2], rtol=1e-3)
    assert found.mean[0] == pytest.approx(ndtr(-4.0), rel=1e-2)
    assert found.status.startswith("unreliable: a tail probability")


def test_both_causes_of_an_event_are_found():
    two = cumprop.MLP(
        [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]], [[1.0]]],
        [[-3.0, -3.5], [-1e-6], None],
        ["relu", "heaviside"],
    )
    points = nearest_points(Whitened(two.prefix(1)))
    np.testing.assert_allclose(points[:2], [[3.0, 0.0], [0.0, 3.5]], atol=0.1)


def test_auto_looks_for_the_event_where_there_is_one():
    smooth = cumprop.random_mlp(width=6, depth=2, seed=0)
    single = smooth.replace(weights=[*smooth.weights[:-1], smooth.weights[-1][:1]], init_scale=None)
    stepped = cumprop.random_mlp(width=6, depth=2, seed=0, activation="heaviside")
    for network, source in (
        (smooth, "gradient"),
        (smooth.above(1.0), "gradient"),
        (single.above(1.0), "event"),
        (stepped, "leading"),
    ):
        found = cumprop.estimate(network, "conditional")
        same = cumprop.estimate(network, "conditional", directions=source)
        np.testing.assert_array_equal(found.mean, same.mean)


def test_an_event_that_never_happens_has_probability_0():
    network = cumprop.MLP([np.eye(3), np.ones((1, 3))], None, "tanh").above(3.5)
    assert cumprop.estimate(network, "conditional").mean[0] < 1e-3


def test_each_of_several_steps_has_the_estimate_of_its_own_event():
    network = cumprop.random_mlp(width=6, depth=2, seed=0)
    found = cumprop.estimate(network.above(1.0), "conditional", directions="event")
    assert len(found.layer_means) == 3 and found.status.startswith("unreliable: a tail prob")
    for i, p in enumerate(found.layer_means[-1]):
        one = network.replace(
            weights=[*network.weights[:-1], network.weights[-1][i : i + 1]], init_scale=None
        )
        alone = cumprop.estimate(one.above(1.0), "conditional")
        assert p == found.mean[i] == pytest.approx(alone.mean[0], rel=1e-6)
        assert found.half_width[i] == pytest.approx(alone.half_width[0], rel=1e-3)
        assert found.expected_error >= 0.999 * alone.expected_error
    predicted = build("conditional", directions="event").predict_cost(network.above(1.0).shape)
    assert predicted.flops == pytest.approx(found.flops.total, rel=0.02)
    with pytest.raises(CumpropError, match="directions of their own have no covariance"):
        cumprop.estimate(network.above(1.0), "conditional", directions="event", cov=True)


def test_an_event_needs_one_last_neuron_or_steps():
    network = cumprop.random_mlp(width=6, depth=2, seed=0)
    with pytest.raises(CumpropError, match="last hidden layer of one neuron"):
        cumprop.estimate(network, "conditional", directions="event")


@pytest.mark.parametrize(
    "parameters", [{"directions": "best"}, {"nodes": 0}, {"n_directions": 0}, {"order": 9}]
)
def test_unknown_parameters_are_refused(parameters):
    with pytest.raises(CumpropError, match=r"choose|give"):
        Conditional(**parameters)


def test_nodes_that_reach_too_far_are_refused():
    with pytest.raises(CumpropError, match="501 nodes of one direction reach farther than 44"):
        cumprop.estimate(network_of(), "conditional", nodes=501)


@pytest.mark.thorough
@pytest.mark.parametrize(("k", "nodes"), [(2, 4), (16, 64), (32, 128)])
def test_few_nodes_of_several_directions_show_their_error(k, nodes):
    """The smallest rules state the distance from a fine one to a factor of 3, and not 0."""
    network = cumprop.random_mlp(width=32, depth=3, seed=0)
    found, fine = (
        cumprop.estimate(network, "conditional", n_directions=k, nodes=m) for m in (nodes, 2048)
    )
    off = float(np.linalg.norm(found.mean - fine.mean))
    stated = np.linalg.norm(found.half_width) / 1.96
    assert 0 < off < 3 * stated


def test_weights_beyond_float64_are_refused():
    w = 1e160 * np.ones((3, 3))
    with pytest.raises(CumpropError, match="gradients of the network are not finite"):
        cumprop.estimate(cumprop.MLP([w, w, w]), "conditional")


def test_columns_become_orthonormal_on_their_side():
    columns = np.random.default_rng(0).normal(size=(5, 3))
    u = orthonormal(columns)
    np.testing.assert_allclose(u.T @ u, np.eye(3), atol=1e-12)
    assert (np.vecdot(u.T, columns.T) > 0).all()


@pytest.mark.parametrize(("k", "m"), [(1, 8), (2, 64), (3, 256), (5, 512), (20, 64)])
def test_rules_integrate_polynomials_of_degree_3(k, m):
    """The whole rule does so, and every block of its nodes."""
    rule = whole(k, m)
    assert rule.blocks == {1: 1, 2: 8, 3: 8, 5: 8, 20: 4}[k]
    for block in np.split(np.arange(rule.size), rule.blocks):
        s, weights = rule.nodes[block], rule.blocks * rule.weights[block]
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(weights @ s, 0, atol=1e-12)
        np.testing.assert_allclose((s.T * weights) @ s, np.eye(k), atol=1e-12)
        np.testing.assert_allclose(np.einsum("i,ij,ik,il", weights, s, s, s), 0, atol=1e-12)


def test_an_interval_has_the_probabilities_of_the_normal_law():
    rule = interval(-1.0, 2.0, 12)
    assert rule.weights.sum() == pytest.approx(ndtr(2.0) - ndtr(-1.0), rel=1e-10)


@pytest.mark.torch
@pytest.mark.slow
def test_gradients_of_a_tail_agree_with_finite_differences():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    plain = network_of(widths=(5, 6, 6, 1)).replace(input_mean=None, input_cov=None)
    u, rule, h = np.random.default_rng(0).normal(size=5), interval(0.0, 5.0, 8), 1e-5

    def excess(weights, kind):
        arrays = [kind(w) for w in weights]
        biases = [kind(b) for b in plain.biases[:-1]]
        network = cumprop.MLP(
            [*arrays, kind(np.eye(1))], [*biases, kind(np.array([-1.5])), None], "relu"
        )
        return arrays, Conditional().along(network, u, rule)

    arrays, found = excess(plain.weights, lambda w: torch.tensor(w, requires_grad=True))
    found.mean.sum().backward()
    _, same = excess(plain.weights, lambda w: w)
    np.testing.assert_allclose(found.mean.detach(), same.mean, rtol=1e-10)
    rng = np.random.default_rng(1)
    steps = [rng.normal(size=w.shape) for w in plain.weights]
    values = [
        excess([w + t * d for w, d in zip(plain.weights, steps, strict=True)], lambda w: w)[1].mean
        for t in (h, -h)
    ]
    slope = sum(float((a.grad.numpy() * d).sum()) for a, d in zip(arrays, steps, strict=True))
    assert slope == pytest.approx(float((values[0] - values[1])[0]) / (2 * h), rel=1e-6)


@pytest.mark.torch
@pytest.mark.slow
def test_tensors_have_the_numbers_of_arrays():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    plain = network_of()
    arrays = [plain.weights, plain.biases, [plain.input_mean], [plain.input_cov]]
    weights, biases, (mean,), (cov,) = [[torch.tensor(a) for a in part] for part in arrays]
    network = cumprop.MLP(weights, biases, "relu", mean, cov)
    for parameters in ({}, {"order": 3, "nodes": 4}, {"directions": "leading"}):
        found, same = (
            cumprop.estimate(n, "conditional", cov=True, **parameters) for n in (network, plain)
        )
        np.testing.assert_allclose(found.mean, same.mean, rtol=1e-10)
        np.testing.assert_allclose(found.cov, same.cov, rtol=1e-9, atol=1e-12)
        assert found.expected_error == pytest.approx(same.expected_error, rel=1e-6)
        assert found.status == same.status


def test_a_function_that_nodes_do_not_resolve_is_unreliable():
    rng = np.random.default_rng(0)
    network = cumprop.MLP([6 * rng.normal(size=(12, 2)), rng.normal(size=(1, 12))], None, "cos")
    for nodes in (25, 36, 49, 64):
        found = cumprop.estimate(network, "conditional", n_directions=2, nodes=nodes)
        assert found.status.startswith("unreliable: means are expected to be")
    known = cumprop.estimate(network, "cumulant", order=2)  # exact: one hidden layer
    fine = cumprop.estimate(network, "conditional", directions="leading", nodes=400)
    assert abs(fine.mean - known.mean)[0] <= 2 * fine.expected_error


def test_expected_errors_of_narrow_networks_hold():
    """Of 12 networks, true errors within twice the expected ones: 11 at least (97% are wanted)."""
    held = 0
    for seed in range(12):
        depth, activation = 2 + seed % 3, ("relu", "tanh", "gelu")[seed // 4]
        network = cumprop.random_mlp(width=8, depth=depth, seed=seed, activation=activation)
        truth = cumprop.estimate(network, "monte_carlo", n_samples=2**14, design="sobol", cov=True)
        found = cumprop.estimate(network, "conditional")
        error = np.linalg.norm(found.mean - truth.mean) / np.sqrt(np.trace(truth.cov))
        held += error <= 2 * found.expected_error
    assert held >= 11
