"""Activations by name: parsing, other libraries' functions, extremes, tensors, shapes, networks."""

import re

import numpy as np
import pytest

import cumprop
from cumprop.activations import LeakyReLU, available, get
from cumprop.errors import CumpropError
from cumprop.flops import arena, counted, counting, without_numbers

from .test_activations import NAMES, PARAMETRISED, reference

# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_names_find_their_activation(name):
    assert get(name).name == repr(get(name)) == name
    assert get(name) is get(get(name))
    assert not set(name) & set(",[]+")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("swish", "silu"),
        ("swish(2)", "silu(2.0)"),
        ("clip(0:6)", "relu6"),
        ("clip(-1.0:1.0)", "hard_tanh"),
        ("clip(-1e20:inf)", "clip(-1e20:inf)"),
        ("leaky_relu(0.01)", "leaky_relu"),
        ("elu(1)", "elu"),
        ("power(1)", "identity"),
        ("power(2.0)", "square"),
        ("power(3)", "cube"),
        ("power(12)", "power(12)"),
        ("hard_sigmoid(0.2:0.5)", "hard_sigmoid"),
        ("thresholded_relu(1)", "thresholded_relu"),
    ],
)
def test_every_function_has_one_name(given, name):
    assert get(given) is get(name) and get(name).name == name
    assert available().count(name) == ("(" not in name)


def test_slopes():
    assert get("leaky_relu(0.2)").slope == LeakyReLU(0.2).slope == 0.2
    assert LeakyReLU().name == "leaky_relu"


UNKNOWN = ["swoosh", "leaky_relu(x)", "leaky_relu()", "selu(1.0)", "clip(0:1:2)", "relu(1)", "clip"]


@pytest.mark.parametrize("name", [*UNKNOWN, "elu(1", "elu 1)", "elu(1)(2)", "", None, 3, ["relu"]])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(CumpropError, match=r"unknown activation .*known ones are .*relu, .*low:h"):
        get(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("leaky_relu(nan)", "finite"),
        ("clip(1:1)", "below"),
        ("clip(nan:1)", "below"),
        ("hard_sigmoid(0:1)", "positive"),
        ("hard_sigmoid(0.1:inf)", "finite"),
        ("thresholded_relu(inf)", "finite"),
        ("elu(nan)", "finite"),
        ("selu(1:inf)", "finite"),
        ("celu(-1)", "positive"),
        ("silu(0)", "positive"),
        ("power(0)", "whole"),
        ("power(2.5)", "whole"),
        ("power(inf)", "whole"),
        ("power(nan)", "whole"),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_rule(name, rule):
    with pytest.raises(CumpropError, match=re.escape(name.split("(")[0]) + r"\(.*\): .*" + rule):
        get(name)


def test_saved_networks_keep_their_parameters(tmp_path):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3)) for _ in range(len(PARAMETRISED) + 1)]
    network = cumprop.MLP(weights, activations=PARAMETRISED)
    network.save(tmp_path / "network.npz")
    loaded = cumprop.load(tmp_path / "network.npz")
    assert [a.name for a in loaded.activations] == PARAMETRISED
    np.testing.assert_array_equal(loaded.forward(weights[0]), network.forward(weights[0]))


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_large_arguments_neither_overflow_nor_lose_the_type(name, dtype):
    """A warning of overflow would be an error here."""
    activation, largest = get(name), 80.0 if name == "exp" else 1e4
    z = np.concatenate([-np.geomspace(largest, 1e-30, 50), [0], np.geomspace(1e-30, largest, 50)])
    for function in (activation.forward, activation.derivative):
        with np.errstate(under="ignore"):
            values = function(z.astype(dtype))
        assert values.dtype == dtype and np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
def test_differences_keep_their_digits(name):
    """φ(z + h) - φ(z) = φ'(z) h + O(h²) for h far below the rounding of z."""
    activation, z = get(name), np.array([-2.6, -0.7, 0.3, 1.1])
    h = 1e-12 * np.array([1.0, -0.3, 0.2, 0.7])
    expected = activation.derivative(z) * h
    found = activation.difference(z, h)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-22)


@pytest.mark.parametrize("name", NAMES)
def test_narrow_neurons_are_linear(name):
    """For σ = 1e-9 the mean is φ(μ), the variance φ'² σ² and E[φ'] the slope, to rounding."""
    activation, mean, sigma = get(name), np.array([-2.6, -0.7, 0.3, 1.1]), np.full(4, 1e-9)
    table, slope = activation.coefficients(mean, sigma), activation.derivative(mean)
    size = table.size / sigma
    np.testing.assert_allclose(table(1, 1) * size, slope, rtol=1e-7, atol=1e-300)
    variance = (table(0, 2) - table(0, 1) ** 2) * size**2
    np.testing.assert_allclose(variance, slope**2, rtol=1e-7, atol=1e-300)
    wick = activation.wick(mean, sigma**2, 0, 1)
    np.testing.assert_allclose(wick, activation.forward(mean), rtol=1e-14, atol=1e-300)


def test_parameters_change_the_unit_of_the_argument():
    """silu(β)(z) = silu(βz)/β, celu(α)(z) = α celu(z/α), and so for moments."""
    mean, sigma = np.array([0.3, -2.0]), np.array([1.0, 0.2])
    for c in (1e-9, 0.3, 1e9):
        pairs = [("silu", f"silu({1 / c!r})"), ("celu", f"celu({c!r})")]
        pairs += [("hard_tanh", f"clip({-c!r}:{c!r})"), ("relu6", f"clip(0:{6 * c!r})")]
        for one, scaled in pairs:
            for k, p in ((0, 1), (0, 2), (1, 1), (3, 2)):
                expected = get(one).wick(mean, sigma**2, k, p) * c ** (p - k)
                found = get(scaled).wick(c * mean, (c * sigma) ** 2, k, p)
                np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- other arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_without_numbers_cost_the_same(name, dtype):
    activation, z = get(name), np.full((3, 5), 0.7, dtype)
    for function in (activation.forward, activation.derivative):
        with counting() as flops:
            function(counted(z))
        with counting() as predicted:
            values = function(without_numbers((3, 5), dtype(1)))
        assert predicted.total == flops.total
        assert values.shape == (3, 5) and values.dtype == dtype
    with arena():
        activation.forward(without_numbers((3, 5), dtype(1)))


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_tensors_are_derivatives(name):
    torch = pytest.importorskip("torch")
    activation = get(name)
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([-9.0, -2.6, -0.7, 0.3, 1.1, 9.0], dtype=dtype, requires_grad=True)
        values = activation.forward(counted(z)).tensor
        slopes = activation.derivative(counted(z.detach())).tensor
        assert values.dtype == slopes.dtype == dtype
        tolerance = 2e-6 if dtype == torch.float32 else 1e-13
        expected = activation.forward(z.detach().numpy())
        np.testing.assert_allclose(values.detach(), expected, rtol=tolerance, atol=tolerance)
        if name not in ("heaviside", "sign"):  # their tensors record no gradient
            values.sum().backward()
            np.testing.assert_allclose(z.grad, slopes, rtol=tolerance, atol=tolerance)


@pytest.mark.thorough
@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_moments_of_tensors(name):
    torch = pytest.importorskip("torch")
    mean, var = torch.tensor([0.3, -1.2, 0.7]), torch.tensor([1.0, 1e-8, 0.3])
    mean, var = mean.double().requires_grad_(), var.double().requires_grad_()
    wick = get(name).wick_table(mean, var)
    exact = get(name).wick_table(mean.detach().numpy(), var.detach().numpy())
    for k, p in ((0, 1), (1, 1), (0, 2), (2, 2)):
        scale = np.abs(exact(k, p)).max()
        np.testing.assert_allclose(wick(k, p).tensor.detach(), exact(k, p), atol=1e-11 * scale)
    slope, bend = torch.autograd.grad(
        wick(0, 1).tensor.sum(), (mean, var), materialize_grads=True, allow_unused=True
    )
    np.testing.assert_allclose(slope, exact(1, 1), atol=1e-7 * np.abs(exact(1, 1)).max())
    wide = [0, 2]  # half the second derivative (heat equation); that of narrow neurons is rough
    scale = 1 + np.abs(exact(2, 1)[wide]).max()
    np.testing.assert_allclose(bend[wide], exact(2, 1)[wide] / 2, atol=1e-6 * scale)


TORCH = {
    "elu": ("elu", {}), "elu(0.3)": ("elu", {"alpha": 0.3}), "celu": ("celu", {}),
    "celu(0.5)": ("celu", {"alpha": 0.5}), "selu": ("selu", {}), "softplus": ("softplus", {}),
    "silu": ("silu", {}), "mish": ("mish", {}), "softsign": ("softsign", {}),
    "relu6": ("relu6", {}), "hard_tanh": ("hardtanh", {}), "hard_swish": ("hardswish", {}),
    "clip(-0.5:1.5)": ("hardtanh", {"min_val": -0.5, "max_val": 1.5}),
    "hard_sigmoid(0.16666666666666666:0.5)": ("hardsigmoid", {}), "gelu": ("gelu", {}),
    "gelu_tanh": ("gelu", {"approximate": "tanh"}), "leaky_relu": ("leaky_relu", {}),
    "thresholded_relu(-1.0)": ("threshold", {"threshold": -1.0, "value": 0.0}),
    "relu": ("relu", {}), "sigmoid": ("sigmoid", {}), "tanh": ("tanh", {}),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", TORCH)
def test_functions_of_torch(name):
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    function, options = TORCH[name]
    z = np.concatenate([np.linspace(-12, 12, 481), [-1e3, 1e3, -1e-9, 1e-9]])
    expected = getattr(functional, function)(torch.tensor(z), **options).numpy()
    # ONNX keeps SELU's constants in float32; PyTorch's softplus is z above 20
    tolerance = {"selu": 1e-7, "softplus": 3e-9}.get(name, 1e-14)
    np.testing.assert_allclose(get(name).forward(z), expected, rtol=tolerance, atol=1e-15)


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("gain", [0.5, 2.0])
@pytest.mark.parametrize("name", NAMES)
def test_one_hidden_layer_is_exact(name, gain):
    """The mean of a network with Gaussian pre-activations, and its half width."""
    rng = np.random.default_rng(5)
    weights = [gain * rng.normal(size=(4, 3)), rng.normal(size=(2, 4))]
    biases = [rng.normal(size=4), rng.normal(size=2)]
    network = cumprop.MLP(weights, biases, name)
    sigmas = np.linalg.norm(weights[0], axis=1)
    hidden = [
        reference(get(name), mean, sigma, 0, (1,))[0]
        for mean, sigma in zip(biases[0], sigmas, strict=True)
    ]
    expected = weights[1] @ hidden + biases[1]
    for backend, parameters in (
        ("cumulant", {"order": 2}),
        ("cumulant", {"order": 3}),
        ("gaussian", {}),
        ("adaptive", {"tolerance": 1e-3}),
    ):
        found = cumprop.estimate(network, backend, **parameters)
        assert found.status.split(";")[0] in ("ok", "order 2, exact for one hidden layer")
        np.testing.assert_allclose(found.mean, expected, rtol=1e-9, atol=1e-10)
        assert (np.abs(found.mean - expected) <= found.half_width + 1e-13).all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_backends_take_every_activation(name):
    network = cumprop.random_mlp(4, 2, 0, name, init={"w_var": 0.5}, dtype="float64")
    sampled = cumprop.estimate(network, "monte_carlo", n_samples=20_000, cov=True)
    sd = np.sqrt(np.diag(sampled.cov))
    for backend in ("linearized", "unscented", "gaussian", "cumulant"):
        if backend == "linearized" and name in ("heaviside", "sign"):
            continue
        found = cumprop.estimate(network, backend, cov=True)
        assert np.isfinite(found.mean).all() and np.isfinite(found.cov).all()
        if backend in ("gaussian", "cumulant"):
            assert np.abs(found.mean - sampled.mean).max() < 0.5 * sd.max()
    for backend in ("monte_carlo", "gaussian", "cumulant"):
        assert cumprop.contract.build(backend).predict_cost(network.shape).flops > 0
