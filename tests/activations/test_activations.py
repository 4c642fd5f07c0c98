"""Activations and their Wick coefficients against quadrature, differences and each other."""

from math import factorial, sqrt

import numpy as np
import pytest
from scipy.integrate import quad_vec

from cumprop.activations import Custom, available, get, quadrature
from cumprop.activations.panels import panel_rule
from cumprop.errors import CumpropError
from cumprop.flops import counted, counting, plain

PARAMETRISED = ["leaky_relu(-0.5)", "clip(-0.5:inf)", "clip(-inf:0.25)", "clip(-0.5:1.5)"]
PARAMETRISED += ["elu(0.3)", "celu(0.5)", "selu(1.2:0.8)", "silu(1.5)", "hard_sigmoid(0.15:0.25)"]
PARAMETRISED += ["thresholded_relu(-1.0)", "power(4)"]
NAMES = [*available(), *PARAMETRISED]
ORDERS = range(9)
POWERS = (1, 2, 3, 6)
MEANS = np.array([0.0, 0.4, -1.3, 2.0])
VARS = np.array([1.0, 0.49, 1.7, 0.2])


def scale(activation, mean, sigma, k, p):
    """σ^-k √(k! E φ^2p): what w(k,p) is bounded by."""
    return sqrt(factorial(k) * float(activation.wick(mean, sigma**2, 0, 2 * p))) / sigma**k


def reference(activation, mean, sigma, k, powers=POWERS):
    """σ^-k E[φ^p He_k] for several p, by adaptive quadrature split where φ has kinks."""
    he, powers = np.polynomial.hermite_e.HermiteE.basis(k), np.array(powers)

    def integrand(x):
        z = np.float64(mean + sigma * x)
        density = np.exp(-0.5 * x * x) / sqrt(2 * np.pi)
        return float(activation.forward(z)) ** powers * (he(x) * density)

    sizes = np.max([np.abs(integrand(x)) for x in np.linspace(-13, 13, 53)], axis=0)

    kinks = [(c - mean) / sigma for c in activation.breakpoints]
    points = [c for c in (*kinks, -1.0, 1.0) if abs(c) < 13]
    value, _ = quad_vec(
        lambda x: integrand(x) / sizes, -13, 13, points=points, epsabs=1e-14, epsrel=1e-13
    )
    return value * sizes / sigma**k


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_wick_coefficients_agree_with_adaptive_quadrature(name):
    activation = get(name)
    table = activation.wick_table(MEANS, VARS)
    for k in ORDERS:
        for i, (mean, sigma) in enumerate(zip(MEANS, np.sqrt(VARS), strict=True)):
            expected = reference(activation, mean, sigma, k)
            for p, value in zip(POWERS, expected, strict=True):
                error = abs(table(k, p)[i] - value)
                assert error <= 2e-10 * scale(activation, mean, sigma, k, p), (k, p, mean)
                if not get(name).by_quadrature:
                    assert error <= 1e-11 * scale(activation, mean, sigma, k, p), (k, p, mean)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_stein_and_heat_equation(name, p):
    """∂w(k,p)/∂μ = w(k+1,p) and ∂w(k,p)/∂σ² = w(k+2,p)/2."""
    wick, h = get(name).wick_table, 1e-4
    here = wick(MEANS, VARS)
    right, left = wick(MEANS + h, VARS), wick(MEANS - h, VARS)
    wide, narrow = wick(MEANS, VARS + h), wick(MEANS, VARS - h)
    for k in range(6):
        size = 1 + np.abs([here(k + j, p) for j in (1, 2, 3, 6)]).max(axis=0)
        assert (np.abs((right(k, p) - left(k, p)) / (2 * h) - here(k + 1, p)) < 2e-6 * size).all()
        change = (wide(k, p) - narrow(k, p)) / (2 * h)
        assert (np.abs(change - here(k + 2, p) / 2) < 2e-6 * size).all()


def test_hand_worked_coefficients():
    relu, half = get("relu"), 1 / sqrt(2 * np.pi)
    assert relu.wick(0.0, 4.0, 0, 1) == pytest.approx(2 * half)
    assert relu.wick(0.0, 4.0, 0, 2) == pytest.approx(2.0)  # σ²/2
    assert relu.wick(0.0, 4.0, 1, 2) == pytest.approx(4 * half)  # 2 M_1
    assert relu.wick(0.0, 4.0, 2, 2) == pytest.approx(1.0)  # 2 Φ(0)
    assert relu.wick(0.0, 4.0, 2, 1) == pytest.approx(half / 2)  # ϕ(0)/σ
    assert get("heaviside").wick(0.0, 4.0, 3, 5) == pytest.approx(-half / 8)
    assert get("sign").wick(1.0, 4.0, 0, 4) == 1.0
    assert get("sign").wick(1.0, 4.0, 1, 2) == 0.0
    assert get("square").wick(0.0, 1.0, 0, 3) == 15.0  # E[x⁶]
    assert get("cube").wick(2.0, 1.0, 3, 1) == 6.0
    assert get("identity").wick(2.0, 1.0, 2, 1) == 0.0
    assert get("gelu").wick(0.0, 1.0, 0, 1) == pytest.approx(1 / sqrt(4 * np.pi), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_the_slope_away_from_kinks(name):
    activation, z, h = get(name), np.array([-2.0, -0.7, 0.3, 1.9]), 1e-6
    slope = (activation.forward(z + h) - activation.forward(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.derivative(z), slope, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_means_positively_homogeneous_of_degree_one(name):
    activation, z = get(name), np.array([-9.0, -0.7, 0.1, 0.4, 9.0])
    scales = np.allclose(activation.forward(3 * z), 3 * activation.forward(z), rtol=1e-12)
    assert scales == activation.homogeneous


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32_and_shapes_stay(name):
    activation = get(name)
    mean, var = MEANS.astype(np.float32).reshape(2, 2), VARS.astype(np.float32).reshape(2, 2)
    assert activation.forward(mean).dtype == activation.derivative(mean).dtype == np.float32
    table, exact = activation.wick_table(mean, var), activation.wick_table(MEANS, VARS)
    for k in (0, 1, 2, 5):
        w = table(k, 2)
        assert w.dtype == np.float32 and w.shape == (2, 2)
        np.testing.assert_allclose(w.ravel(), exact(k, 2), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_counting_changes_nothing_and_each_coefficient_is_computed_once(name):
    activation = get(name)
    with counting() as flops:
        table = activation.wick_table(counted(MEANS), counted(VARS))
        w = table(2, 3)
        first = flops.total
        table(2, 3)
    assert first == flops.total
    np.testing.assert_array_equal(w, activation.wick(MEANS, VARS, 2, 3))


def test_closed_forms_share_their_ingredients():
    with counting() as one:
        table = get("relu").wick_table(counted(MEANS), counted(VARS))
        table(0, 1)
    with counting() as second:
        table(1, 1)
    assert second.total <= 2 * len(MEANS) < one.total


# --- quadrature -------------------------------------------------------------------------------


def test_a_hundred_hermite_nodes_stand_where_they_suffice():
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    he2 = (x * x - 1) * weights / sqrt(2 * np.pi)
    table = get("gelu").wick_table(np.array([0.3]), np.array([0.9]))
    expected = (get("gelu").forward(0.3 + sqrt(0.9) * x) ** 3 * he2).sum() / 0.9
    assert table(2, 3)[0] == pytest.approx(expected, rel=1e-13)
    assert table.precision == 0.0


def test_a_hundred_hermite_nodes_stand_as_far_as_they_are_trusted():
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    expected = (np.tanh(0.3 + 2 * x) * weights).sum() / sqrt(2 * np.pi)
    trusting, strict = (
        get("tanh").wick_table(np.array([0.3]), np.array([4.0]), trust) for trust in (1e-4, 1e-10)
    )
    assert trusting(0, 1)[0] == pytest.approx(expected, rel=1e-12)
    assert 1e-10 < trusting.precision < 1e-4
    assert strict(0, 1)[0] == pytest.approx(expected, rel=1e-4)
    assert strict(0, 1)[0] != pytest.approx(expected, rel=1e-10)
    assert strict.precision == 0.0


@pytest.mark.parametrize("k", ORDERS)
def test_wide_tanh_needs_more_nodes_and_gets_them(k):
    tanh, mean, sigma = get("tanh"), 0.3, 10.0
    table = tanh.wick_table(np.array([mean]), np.array([sigma**2]))
    for p, expected in zip(POWERS, reference(tanh, mean, sigma, k), strict=True):
        assert abs(table(k, p)[0] - expected) <= 1e-10 * scale(tanh, mean, sigma, k, p)
    assert table.precision == 0.0


def test_breakpoints_make_kinked_functions_exact():
    mine = Custom(lambda z: np.maximum(z, 0), name="mine", breakpoints=[0.0])
    means, variances = np.array([0.2, -3.0, 40.0]), np.array([1.0, 0.3, 2.0])
    table, exact = mine.wick_table(means, variances), get("relu").wick_table(means, variances)
    for k in ORDERS:
        for p in POWERS:
            for i, (mean, sigma) in enumerate(zip(means, np.sqrt(variances), strict=True)):
                bound = scale(get("relu"), mean, sigma, k, p)
                assert abs(table(k, p)[i] - exact(k, p)[i]) <= 1e-12 * bound, (k, p, mean)
    assert table.precision == 0.0


def test_several_breakpoints():
    clipped = Custom(lambda z: np.clip(z, -1, 2), breakpoints=[2.0, -1.0])
    w = clipped.wick(0.5, 1.0, 1, 1)  # P(-1 < G < 2)
    assert w == pytest.approx(0.8663855974622838, abs=1e-14)


def test_precision_not_reached_is_recorded():
    """Of values in half precision: each is off by up to 2^-11 of itself."""
    rough = Custom(lambda z: np.abs(z).astype(np.float16))
    table = rough.wick_table(np.array([0.1, 3.0]), np.array([1.0, 1.0]))
    assert table.precision == 0.0
    w = table(0, 1)
    assert quadrature.TOLERANCE < table.precision < 1e-2
    for mean, value in zip((0.1, 3.0), w, strict=True):
        assert value == pytest.approx(get("abs").wick(mean, 1.0, 0, 1), rel=1e-4)


STEEP = ("erf", "gelu", "gelu_tanh", "mish", "sigmoid", "silu", "softplus", "tanh")


@pytest.mark.thorough
@pytest.mark.parametrize("sigma", [100.0, 1e3, 1e6])
@pytest.mark.parametrize("name", STEEP)
def test_steep_activations_have_right_coefficients(name, sigma):
    """Two rules that take a step for one elsewhere may agree; among 100 means some always do."""
    activation, means = get(name), np.linspace(-2.02, 2.0, 100) * sigma
    table = activation.wick_table(means, np.full(100, sigma**2), trust=1e-4)
    beyond = 2.0 ** np.arange(-2, 31) / sigma  # exact integrals on octaves on both sides of z = 0
    ends = (-means / sigma)[:, None] + np.concatenate([-beyond[::-1], [0], beyond])
    fixed = np.broadcast_to(np.linspace(-12, 12, 25), (100, 25))
    x, weights = panel_rule(np.sort(np.clip(np.hstack([ends, fixed]), -12, 12)), 1)
    y = activation.forward(means[:, None] + sigma * x)
    for k in (0, 1, 3):
        he = np.polynomial.hermite_e.HermiteE.basis(k)(x)
        for p in (1, 2):
            bound = np.sqrt(factorial(k) * np.vecdot(y ** (2 * p), weights))
            off = table(k, p) * sigma**k - np.vecdot(y**p * he, weights)
            assert np.abs(off / bound).max() < 1e-9, (k, p)
    assert table.precision < 1e-8


@pytest.mark.parametrize("sigma", [4.0, 15.0, 17.0, 1e3, 1e6])
def test_bumps_next_to_zero_are_seen(sigma):
    """E[exp(-Z²)] = exp(-μ²/(1 + 2σ²)) / √(1 + 2σ²): nodes of ±12 σ alone may all miss the bump."""
    mean = np.linspace(-3, 3, 301) * sigma
    spread = np.full(301, sigma)
    table = quadrature.QuadratureTable(lambda z: np.exp(-z * z), mean, spread, trust=1e-4)
    first, second = (
        np.exp(-p * mean**2 / (1 + 2 * p * sigma**2)) / np.sqrt(1 + 2 * p * sigma**2)
        for p in (1, 2)
    )
    off = np.abs(table(0, 1) * table.size - first) / np.sqrt(second)
    assert off.max() <= max(1.5 * table.precision, 1e-9)
    assert table.precision <= 1e-4


def test_even_powers_know_of_steps():
    """E[tanh²] = 1 - 2 ϕ(x) / σ, x = -μ/σ, for large σ; no node of two rules is that near x."""
    for shift in (0.0, 0.32, -1.3):
        density = np.exp(-0.5 * shift * shift) / sqrt(2 * np.pi)
        w = get("tanh").wick(1e6 * shift, 1e12, 0, 2)
        assert 1 - w == pytest.approx(2e-6 * density, rel=1e-4)


def test_an_undeclared_jump_is_found():
    jump = Custom(lambda z: np.sign(z - 0.3))
    table = jump.wick_table(np.array([0.1, 0.3, 3.0]), np.ones(3))
    exact = get("sign").wick_table(np.array([-0.2, 0.0, 2.7]), np.ones(3))
    for k, p in ((0, 1), (1, 1), (3, 1), (0, 2)):
        np.testing.assert_allclose(table(k, p), exact(k, p), rtol=0, atol=1e-9)
    assert table.precision == 0.0


def test_a_steep_function_has_gradients():
    """Of coefficients in the mean and the variance, which move panels between kinks, too."""
    torch = pytest.importorskip("torch")
    for name in ("tanh", "elu"):
        mean = torch.tensor([10.0, -25.0], dtype=torch.float64, requires_grad=True)
        table = get(name).wick_table(mean, torch.full((2,), 900.0, dtype=torch.float64))
        (found,) = torch.autograd.grad(plain(table(0, 1)).sum(), mean)
        slopes = get(name).wick(mean.detach().numpy(), np.full(2, 900.0), 1, 1)
        np.testing.assert_allclose(found.numpy(), slopes, rtol=1e-8)


def test_blocks_of_neurons_change_nothing(monkeypatch):
    means, variances = np.linspace(-2, 2, 7), np.linspace(0.1, 60, 7)
    whole = get("tanh").wick(means, variances, 3, 2)
    monkeypatch.setattr(quadrature, "BLOCK", 250)
    np.testing.assert_allclose(get("tanh").wick(means, variances, 3, 2), whole, rtol=1e-12)


def test_narrow_neurons():
    """For small σ, w(k,p) is the derivative of φ^p at the mean, up to rounding / σ^k."""
    mean, sigma = np.array([0.7]), 1e-5
    table = get("tanh").wick_table(mean, np.array([sigma**2]))
    t = np.tanh(0.7)
    assert table(0, 2)[0] == pytest.approx(t**2, rel=1e-9)
    assert table(1, 1)[0] == pytest.approx(1 - t**2, rel=1e-8)
    assert table.precision == 0.0


def test_an_activation_that_overflows_is_refused():
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(CumpropError, match="not finite"),
    ):
        Custom(lambda z: np.exp(z * z)).wick(0.0, 100.0, 0, 1)


# --- custom functions ----------------------------------------------------------------


def test_custom_needs_a_derivative_only_when_asked():
    sine = Custom(np.sin, name="sine")
    assert sine.wick(0.0, 1.0, 1, 1) == pytest.approx(np.exp(-0.5), rel=1e-12)
    with pytest.raises(CumpropError, match=r"sine.*derivative="):
        sine.derivative(np.zeros(2))
    assert Custom(np.sin, derivative=np.cos).derivative(np.zeros(2)).tolist() == [1.0, 1.0]


def test_custom_must_be_entrywise():
    with pytest.raises(CumpropError, match="vectorize"):
        Custom(lambda z: z.sum()).wick(0.0, 1.0, 0, 1)
