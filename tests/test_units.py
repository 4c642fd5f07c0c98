"""No result depends on the unit its input is given in; σ → 0 is linearization."""

import numpy as np
import pytest
from scipy.special import ndtr

import cumprop
from cumprop.activations import Custom
from cumprop.contract import build
from cumprop.errors import CumpropError

SCALES = [1e-12, 1e-7, 1e-3, 1e4, 1e12]
SMALL = [10.0**-k for k in range(2, 13)]
CUMULANTS = [
    ("cumulant", {"order": order, "kind": kind})
    for order, kind in [
        (1, "basic"), (2, "basic"), (3, "basic"), (3, "tree"), (4, "basic"), (2, "augmented"),
        (3, "augmented"), (3, "augmented_factorised"), (2, "ablated"), (3, "ablated"),
    ]
] + [("cumulant", {"order": 3, "kind": "tree", "edges": "full"})]  # fmt: skip
OTHERS = [
    ("gaussian", {}),
    ("conditional", {}),
    ("linearized", {}),
    ("unscented", {}),
    ("unscented", {"alpha": 1e-3, "beta": 2.0}),
]
SAMPLING = [
    *(
        ("monte_carlo", {"n_samples": 512, "design": d})
        for d in ("iid", "antithetic", "orthogonal")
    ),
    ("monte_carlo", {"n_samples": 512, "design": "sobol"}),
    ("blend", {"order": 2, "n_samples": 256}),
    ("adaptive", {"tolerance": 0.05}),
]
BACKENDS = [*CUMULANTS, *OTHERS, *SAMPLING]
COVARIANT = [b for b in BACKENDS if b[1].get("order") != 1]
NARROW = [b for b in COVARIANT if b[0] != "conditional"]
"""Backends that keep the digits of inputs which vary less than rounding of their mean."""


X0 = np.linspace(-0.9, 1.1, 10)
SOFT = Custom(lambda z: np.log1p(np.exp(z)), lambda z: 1 / (1 + np.exp(-z)), name="softplus")
KINKED = Custom(lambda z: np.clip(z, -0.25, 0.5), name="clipped", breakpoints=[-0.25, 0.5],
                derivative=lambda z: np.where((z > -0.25) & (z < 0.5), 1.0, 0.0))  # fmt: skip


def name(backend):
    return "-".join([backend[0], *map(str, backend[1].values())])


def weights_of(widths, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    maps = zip(widths[1:], widths[:-1], strict=True)
    return [(rng.normal(size=m) * np.sqrt(2 / m[1])).astype(dtype) for m in maps]


def run(backend, network, cov=True):
    """An estimate whose samples are the same in every unit; slopes are not read off at kinks."""
    if backend[0] == "linearized" and network.input_mean is None:
        network = network.replace(input_mean=np.linspace(-1, 2, network.widths[0]))
    estimator = build(backend[0], **backend[1])
    return estimator.estimate(network, cov=cov, rng=np.random.default_rng(5))


def off(a, b, least=0.0):
    """The largest difference, relative to the largest entry or to `least`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.abs(a - b).max() / max(np.abs(b).max(), least, 1e-300)


def assert_scaled(scaled, estimate, c, tolerance):
    """f → c f; the means of odd functions are 0, and compared with the standard deviation."""
    deviation = 1.0 if estimate.cov is None else np.sqrt(np.diag(estimate.cov).max())
    assert off(scaled.mean.astype(np.float64) / c, estimate.mean, deviation) < tolerance
    if estimate.cov is not None and scaled.cov is not None:
        assert off(scaled.cov / c**2, estimate.cov) < tolerance
    if estimate.half_width is not None:
        size = max(deviation, np.abs(estimate.mean).max())
        assert off(scaled.half_width / c, estimate.half_width, size) < 10 * tolerance


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.2)", "abs", "identity"])
@pytest.mark.parametrize("backend", BACKENDS, ids=name)
def test_homogeneous_networks_scale(backend, activation):
    """W_l → c W_l makes f(x) → c f(x), l = 1..L+1, to 1e-9."""
    weights = weights_of((10, 12, 12, 12, 5), seed=3)
    cov = backend in COVARIANT
    estimate = run(backend, cumprop.MLP(weights, None, activation), cov)
    for layer in range(4):
        for c in SCALES:
            changed = [w * (c if k == layer else 1) for k, w in enumerate(weights)]
            scaled = run(backend, cumprop.MLP(changed, None, activation), cov)
            assert_scaled(scaled, estimate, c, 1e-9)


@pytest.mark.parametrize("backend", BACKENDS, ids=name)
def test_in_float32_too(backend):
    """Two maps at a time, so that variances leave the range of float32 between them."""
    weights = weights_of((10, 12, 12, 5), seed=3, dtype=np.float32)
    estimate = run(backend, cumprop.MLP(weights), cov=False)
    for c in (1e-12, 1e-6, 1e6, 1e12):
        changed = [weights[0] * np.float32(c), weights[1] * np.float32(c), weights[2]]
        assert_scaled(run(backend, cumprop.MLP(changed), cov=False), estimate, c**2, 2e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS, ids=name)
def test_the_input_may_have_any_unit(backend):
    """x → c x and W_1 → W_1/c is the same network."""
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(0)
    mean, root = rng.normal(size=10), rng.normal(size=(10, 10)) / 3
    cov = root @ root.T
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    wanted = backend in COVARIANT
    estimate = run(backend, cumprop.MLP(weights, biases, "tanh", mean, cov), wanted)
    for c in SCALES:
        changed = [weights[0] / c, *weights[1:]]
        network = cumprop.MLP(changed, biases, "tanh", c * mean, c**2 * cov)
        assert_scaled(run(backend, network, wanted), estimate, 1.0, 1e-9)


@pytest.mark.parametrize("backend", [CUMULANTS[1], *OTHERS, *SAMPLING[:-1]], ids=name)
def test_a_neuron_may_have_any_unit(backend):
    """Rows of W_1 times c_i, columns of W_2 over c_i.

    Orders with radial parts weigh neurons by their size, as adaptive does.
    """
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(0)
    c = 10.0 ** rng.uniform(-12, 12, size=12)
    changed = [weights[0] * c[:, None], weights[1] / c, weights[2]]
    estimate, scaled = (run(backend, cumprop.MLP(w)) for w in (weights, changed))
    assert_scaled(scaled, estimate, 1.0, 1e-8)


ACTIVATIONS = ["relu", "leaky_relu(0.2)", "abs", "tanh", "gelu", "sigmoid", "square", SOFT, KINKED]
"""Entrywise functions whose linearization is compared with; two of them are the user's own."""


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("backend", NARROW, ids=name)
def test_small_inputs_are_linearized(backend, activation):
    """x ~ N(x0, σ² I), σ → 0: mean f(x0) and covariance J σ² Jᵀ, up to the curvature's share.

    No kink lies within 12 σ of a neuron for σ ≤ 1e-3. Samples come as near as their number lets
    them, but with antithetic inputs their mean is that of linear networks exactly.
    """
    weights, rng = weights_of((10, 12, 12, 5), seed=11), np.random.default_rng(1)
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    sampled = backend[0] in ("monte_carlo", "blend", "adaptive")
    for sigma in SMALL[1:]:
        network = cumprop.MLP(weights, biases, activation, X0, sigma**2)
        exact = cumprop.estimate(network, "linearized", cov=True)
        found = run(backend, network)
        deviation = np.sqrt(np.diag(exact.cov).max())
        curvature = 30 * sigma
        noise = 6 * np.sqrt(2 / found.n_samples) if sampled else 1e-9
        assert np.abs(found.mean - exact.mean).max() < deviation * (curvature + noise)
        assert off(found.cov, exact.cov) < curvature + noise


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["leaky_relu(0.2)", "tanh"])
@pytest.mark.parametrize("backend", NARROW, ids=name)
def test_small_inputs_are_linearized_in_float32(backend, activation):
    """The covariance J σ² Jᵀ of the same weights in float64, however small σ is."""
    weights, rng = weights_of((10, 12, 12, 5), seed=11, dtype=np.float32), np.random.default_rng(1)
    biases = [rng.normal(size=n).astype(np.float32) for n in (12, 12, 5)]
    sampled = backend[0] in ("monte_carlo", "blend", "adaptive")
    for sigma in (1e-3, 1e-6, 1e-9, 1e-12):
        network = cumprop.MLP(weights, biases, activation, X0, sigma**2)
        widened = [[a.astype(np.float64) for a in arrays] for arrays in (weights, biases)]
        wide = cumprop.MLP(*widened, activation, np.float64(network.input_mean), sigma**2)
        exact = cumprop.estimate(wide, "linearized", cov=True).cov
        found = run(backend, network)
        noise = 6 * np.sqrt(2 / found.n_samples) if sampled else 1e-4
        assert off(found.cov, exact) < 30 * sigma + noise


@pytest.mark.parametrize("backend", COVARIANT, ids=name)
def test_dead_and_constant_neurons(backend):
    """Rows of zeros with a bias, and an output that does not vary, change nothing else."""
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(2)
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    weights[0][3], weights[1][7], weights[2][1] = 0, 0, 0
    bare = [np.delete(weights[0], 3, axis=0), np.delete(np.delete(weights[1], 7, 0), 3, 1)]
    bare.append(np.delete(np.delete(weights[2], 7, axis=1), 1, axis=0))
    third = np.maximum(biases[0][3], 0)
    hidden = np.delete(biases[1] + weights[1][:, 3] * third, 7)
    seventh = np.maximum(biases[1][7], 0)
    last = np.delete(biases[2] + weights[2][:, 7] * seventh, 1)
    without = cumprop.MLP(bare, [np.delete(biases[0], 3), hidden, last], input_mean=X0)
    network = cumprop.MLP(weights, biases, input_mean=X0)
    found, expected = run(backend, network), run(backend, without)
    assert found.mean[1] == pytest.approx(biases[2][1], rel=1e-12)
    assert np.abs(found.cov[1]).max() < 1e-20
    if backend in [CUMULANTS[1], *OTHERS, *SAMPLING[:-1]]:  # others count neurons
        assert off(np.delete(found.mean, 1), expected.mean) < 1e-9
    assert "negative" not in found.status


@pytest.mark.parametrize("backend", COVARIANT, ids=name)
def test_outputs_that_never_vary(backend):
    """Zero first map: everything is the forward pass, with no variance."""
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(2)
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    network = cumprop.MLP([0 * weights[0], *weights[1:]], biases, "tanh")
    found = run(backend, network)
    np.testing.assert_allclose(found.mean, network.forward(np.zeros((1, 10)))[0], rtol=1e-12)
    assert np.abs(found.cov).max() < 1e-20
    assert found.status == "ok" or backend[0] in ("adaptive", "blend") or "ablated" in str(backend)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", COVARIANT, ids=name)
def test_narrow_outputs_that_never_vary(backend):
    """Zero weights, or an input without variance, in both types; biases of every size."""
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        tolerance = 1e3 * np.finfo(dtype).eps
        for widths in ((3, 2), (1, 1), (5, 1, 6, 2), (1, 1, 1, 1)):
            weights = weights_of(widths, seed=3, dtype=dtype)
            for size in (1.0, 1e-6, 1e-15):
                biases = [(size * rng.normal(size=n)).astype(dtype) for n in widths[1:]]
                zero = cumprop.MLP([0 * w for w in weights], biases, "tanh")
                still = cumprop.MLP(weights, biases, "tanh", size * X0[: widths[0]], 0.0)
                for network in (zero, still):
                    found = run(backend, network)
                    exact = network.forward(
                        np.zeros(widths[0]) if network is zero else network.input_mean
                    )
                    assert off(found.mean, exact) < tolerance
                    assert np.abs(found.cov).max() < (tolerance * size) ** 2
                    for error in (found.expected_error, found.expected_std_error):
                        assert error is None or error < 1e-3
                    assert "unreliable" not in found.status or "ablated" in str(backend)


@pytest.mark.parametrize("backend", COVARIANT, ids=name)
def test_duplicates_that_cancel_are_constants(backend):
    """A neuron of the difference of two inputs of correlation 1 is φ(b), whatever rounding says."""
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(2)
    root = rng.normal(size=(10, 10)) / 3
    root[1] = root[0]
    cov = root @ root.T
    weights[0][4] = 0
    weights[0][4, :2] = 1e3, -1e3
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    biases[0][4] = 0.0  # at the kink
    mean = np.append(np.ones(2), X0[2:])
    network = cumprop.MLP(weights, biases, "relu", mean, cov)
    same = [w.copy() for w in weights]
    same[0][4] = 0
    found, expected = run(backend, network), run(backend, network.replace(weights=same))
    of_root = backend in SAMPLING or backend[0] in ("unscented", "conditional")
    tolerance = 1e-5 if of_root else 1e-8  # a root of Σ0 is good to √eps
    assert off(found.mean, expected.mean) < tolerance
    assert off(found.cov, expected.cov) < tolerance
    assert found.status.split(";")[0] == expected.status.split(";")[0]


def test_gaussian_sees_through_duplicate_neurons():
    """Two equal neurons have correlation 1: their difference is constant, to √series_tolerance."""
    weights, rng = weights_of((10, 12, 12, 5), seed=3), np.random.default_rng(2)
    weights[0][1] = weights[0][0]
    weights[1][4] = 0
    weights[1][4, :2] = 1e3, -1e3
    biases = [rng.normal(size=n) for n in (12, 12, 5)]
    biases[0][1], biases[1][4] = biases[0][0], 0.0
    network = cumprop.MLP(weights, biases, input_mean=X0)
    same = [w.copy() for w in weights]
    same[1][4] = 0
    found, expected = (
        cumprop.estimate(n, "gaussian", cov=True) for n in (network, network.replace(weights=same))
    )
    assert off(found.mean, expected.mean) < 1e-5
    assert off(found.cov, expected.cov) < 1e-5


@pytest.mark.parametrize("backend", [*CUMULANTS[1:8], ("gaussian", {})], ids=name)
@pytest.mark.parametrize("c", [1e-28, 1e-20, 1e18])
def test_weights_whose_squares_leave_the_range_of_float32(backend, c):
    """One map, then single rows of it."""
    weights = weights_of((10, 12, 12, 5), seed=3, dtype=np.float32)
    estimate = run(backend, cumprop.MLP(weights))
    changed = [weights[0] * np.float32(c), *weights[1:]]
    assert_scaled(run(backend, cumprop.MLP(changed), cov=False), estimate, c, 2e-5)
    weights[0][3:] *= np.float32(1e-6)  # the others weigh next to nothing
    weights[0][:3] *= np.float32(c)
    scaled = run(backend, cumprop.MLP(weights), cov=False)
    weights[0][:3] /= np.float32(c)
    weights[0][3:] = 0
    if c > 1:
        assert_scaled(scaled, run(backend, cumprop.MLP(weights), cov=False), c, 2e-5)


@pytest.mark.parametrize("backend", [*CUMULANTS[1:8], ("gaussian", {})], ids=name)
def test_what_overflows_is_refused(backend):
    """Pre-activations beyond the type are no constants."""
    weights = weights_of((8, 8, 1), seed=0, dtype=np.float32)
    network = cumprop.MLP([weights[0] * np.float32(1e30), np.float32(1e30) * weights[1]], None)
    deeper = cumprop.MLP([*network.weights, np.ones((1, 1), np.float32)])
    with np.errstate(all="ignore"), pytest.raises(CumpropError, match="overflow"):
        run(backend, deeper, cov=False)


@pytest.mark.parametrize("backend", SAMPLING, ids=name)
def test_variances_beyond_float64_end_in_a_sentence(backend):
    """Outputs of size 1e170, whose squares are infinite, and of size 1e-170."""
    for c in (1e170, 1e-170):
        network = cumprop.MLP([np.eye(2), c * np.eye(2)])
        with np.errstate(all="ignore"):
            try:
                found = run(backend, network)
            except CumpropError as error:
                assert "overflow" in str(error)
            else:
                assert np.abs(found.mean / c - 0.4).max() < 0.2


def test_a_dead_neuron_needs_its_activation_at_one_place():
    """log is defined at its bias of 2, and not within the s.d. of the other neuron."""
    log = Custom(np.log, lambda z: 1 / z, name="log")
    network = cumprop.MLP([[[1, 0.5], [0, 0]], np.eye(2)], [[100.0, 2.0], None], log)
    for backend in (("cumulant", {"order": 2}), ("cumulant", {"order": 3}), ("gaussian", {})):
        assert run(backend, network).mean[1] == pytest.approx(np.log(2), rel=1e-12)


def test_functions_may_return_anything_that_counts_as_numbers():
    """Booleans, integers, and arrays that must not be written to."""
    for function in (
        lambda z: z > 0,
        lambda z: np.broadcast_to(3.0, z.shape),
        lambda z: np.sign(z).astype(int),
    ):
        custom = Custom(function, name="odd", breakpoints=[0.0])
        network = cumprop.MLP([np.eye(2) * 1e-12, np.eye(2)], [[0.3, -0.2], None], custom)
        expected = function(np.array([0.3, -0.2])).astype(float)
        for backend in (("cumulant", {"order": 3}), ("gaussian", {}), SAMPLING[0]):
            np.testing.assert_allclose(run(backend, network).mean, expected, atol=1e-12)


def test_a_saturated_neuron_costs_what_others_do():
    """tanh at 16 ± 0.1 is 1 to rounding: no nodes are added to resolve its noise."""
    weights, bias = weights_of((8, 8, 1), seed=0), np.zeros(8)
    bias[0] = 16.0
    usual, saturated = (
        cumprop.estimate(cumprop.MLP([weights[0] * 0.1, weights[1]], [b, None], "tanh"), "gaussian")
        for b in (np.zeros(8), bias)
    )
    assert saturated.flops.total < 3 * usual.flops.total
    assert saturated.status == "ok"


def test_a_neuron_that_never_fires_is_no_failure_of_quadrature():
    """gelu at -36 ± 0.1 is 1e-283, whose square underflows."""
    weights = weights_of((8, 8, 1), seed=0)
    bias = np.zeros(8)
    bias[0] = -36.0
    network = cumprop.MLP([weights[0] * 0.1, weights[1]], [bias, None], "gelu")
    for backend in (("gaussian", {}), ("cumulant", {"order": 3})):
        assert run(backend, network).status == "ok"


@pytest.mark.parametrize("name", ["heaviside", "sign"])
@pytest.mark.parametrize("bias", [-9.0, 9.0])
def test_rare_steps_are_exact_on_either_side(name, bias):
    """Var 1[z > 0] at P = 1e-19, and at 1 - 1e-19."""
    network = cumprop.MLP([[[1.0]], [[1.0]]], [[bias], None], name)
    for backend in (("cumulant", {"order": 2}), ("gaussian", {})):
        variance = run(backend, network).cov[0, 0]
        assert variance == pytest.approx((2 if name == "sign" else 1) ** 2 * ndtr(-9.0), rel=1e-9)
