"""Random networks: scales, streams, prefixes, and the distribution of what is drawn."""

import numpy as np
import pytest

from cumprop.activations import Custom, get
from cumprop.errors import CumpropError
from cumprop.networks import he, random_mlp
from cumprop.networks.random import critical


@pytest.mark.parametrize(
    ("name", "scale"),
    [("relu", 2), ("gelu", 2.3517), ("tanh", 2.5362), ("sigmoid", 3.4086), ("square", 1 / 3)],
)
def test_he_scales(name, scale):
    assert he(get(name), 3).w_var == (1.0, *(pytest.approx(scale, abs=5e-5),) * 2)


def test_he_networks_keep_unit_variance():
    """Mean of 128 pre-activation variances; s.e. below 0.12, so 0.6 is 5 standard errors."""
    network = random_mlp(width=128, depth=4, seed=1, activation="tanh", dtype="float64")
    x = np.random.default_rng(2).normal(size=(2000, 128))
    for z, _ in network.layers(x):
        assert abs((z**2).mean() - 1) < 0.6
    assert network.init_scale[1] == pytest.approx(2.5362, abs=5e-5)
    assert not network.shape.biased


def test_critical_tanh_is_the_papers():
    scales = critical(get("tanh"), 3, q=0.85)
    assert scales.w_var[1:] == (pytest.approx(2.025, abs=5e-4),) * 2
    assert scales.b_var == (pytest.approx(0.111, abs=5e-4),) * 3
    assert scales.w_var[0] == pytest.approx(0.85 - scales.b_var[0], rel=1e-14)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "leaky_relu", "identity"])
@pytest.mark.parametrize("q", [0.1, 0.85, 3.0])
def test_critical_solves_its_equations(name, q):
    """q is a fixed point of the variance map and the slope of the correlation map there is 1."""
    phi, scales = get(name), critical(get(name), 2, q)
    x = (np.arange(200_000) + 0.5) * 1e-4 - 10.0  # midpoint rule, kinks of φ between nodes
    z, weights = np.sqrt(q) * x, 1e-4 * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    mean_square = (phi.forward(z) ** 2 * weights).sum()
    assert scales.w_var[1] * mean_square + scales.b_var[1] == pytest.approx(q, rel=1e-10)
    slope = (phi.derivative(z) ** 2 * weights).sum()
    assert scales.w_var[1] * slope == pytest.approx(1, rel=1e-10)
    assert min(scales.b_var) >= 0


@pytest.mark.parametrize("name", ["sigmoid", "heaviside"])
def test_critical_without_a_solution(name):
    with pytest.raises(CumpropError, match=rf"{name} has no critical.*choose another q"):
        critical(get(name), 2)


def test_critical_needs_the_derivative():
    with pytest.raises(CumpropError, match="derivative="):
        critical(Custom(np.sin), 2)


def test_critical_networks_start_at_q():
    """Mean square over 64 000 correlated pre-activations; s.e. about 0.02, allowed 0.1."""
    network = random_mlp(64, 1, seed=0, activation="tanh", init={"critical": {"q": 0.85}})
    x = np.random.default_rng(0).normal(size=(1000, 64))
    first, _ = next(network.layers(x))
    assert abs((first**2).mean() - 0.85) < 0.1 and network.shape.biased


def test_manual_scales():
    network = random_mlp(
        200, 1, seed=3, init={"w_var": [1.0, 4.0], "b_var": 0.25, "b_mean": [0, 2]}, dtype="float64"
    )
    # 200² weights: relative s.e. of a variance 0.7%; 200 biases: s.e. of a mean 0.035, of a
    # variance 10%. Bounds are 5 standard errors: false alarms below 1e-5.
    assert [w.var() * 200 for w in network.weights] == pytest.approx([1.0, 4.0], rel=0.035)
    assert [b.var() for b in network.biases] == pytest.approx([0.25, 0.25], rel=0.5)
    assert [b.mean() for b in network.biases] == pytest.approx([0.0, 2.0], abs=0.18)
    assert network.init_scale == (1.0, 4.0)


@pytest.mark.parametrize("init", ["he", "critical", {"w_var": 2, "b_var": 0.1}])
def test_depths_are_prefixes_and_types_are_roundings(init):
    deep = random_mlp(6, 5, seed=4, activation="tanh", init=init, dtype="float64")
    for depth in (1, 3, 5):
        shallow = random_mlp(6, depth, seed=4, activation="tanh", init=init)
        prefix = deep.prefix(depth)
        assert shallow.dtype == np.float32 and shallow.init_scale == prefix.init_scale
        for a, b in zip(shallow.weights, prefix.weights, strict=True):
            np.testing.assert_array_equal(a, b.astype(np.float32))
        for a, b in zip(shallow.biases, prefix.biases, strict=True):
            assert (a is None) == (b is None)
            if b is not None:
                np.testing.assert_array_equal(a, b.astype(np.float32))


def test_weights_come_from_their_own_stream():
    network = random_mlp(5, 2, seed=7, activation="relu", dtype="float64")
    expected = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(5, 2)))
    np.testing.assert_allclose(
        network.weights[1], np.sqrt(2 / 5) * expected.standard_normal((5, 5)), rtol=1e-14
    )
    biased = random_mlp(5, 2, seed=7, init={"w_var": [1, 2, 2], "b_var": 1}, dtype="float64")
    np.testing.assert_allclose(biased.biases[1], expected.standard_normal(5), rtol=1e-14)
    np.testing.assert_allclose(biased.weights[1], network.weights[1], rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "start at 1"),
        ({"width": "8"}, "width must be a whole number, got '8'"),
        ({"depth": 2.5}, "depth must be a whole number, got 2.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"seed": 2**128}, "seed is 340282366920938463463374607431768211456; give"),
        ({"depth": 0}, "start at 1"),
        ({"seed": -1}, "seeds at 0"),
        ({"dtype": "float16"}, "choose float32 or float64"),
        ({"activation": "wave"}, "unknown activation"),
        ({"activation": Custom(np.zeros_like)}, "no He scale"),
        ({"init": "xavier"}, "unknown init 'xavier'"),
        ({"init": {"critical": None}}, "unknown init"),
        ({"init": np.ones(3)}, "unknown init"),
        ({"init": {"w_var": True}}, "w_var contains True"),
        ({"init": {"critical": {"q": -1}}}, "q contains -1"),
        ({"init": {"critical": {"q": "x"}}}, "q is 'x'"),
        ({"init": {"w_var": 1, "gain": 2}}, "unknown init"),
        ({"init": {"b_var": 1}}, "unknown init"),
        ({"init": {"w_var": [1, 2]}}, r"w_var is \[1, 2\]; give one number, or 3"),
        ({"init": {"w_var": -1}}, "w_var contains -1"),
        ({"init": {"w_var": 1, "b_mean": [0, None, 0]}}, "b_mean contains None"),
        ({"init": {"w_var": float("nan")}}, "w_var contains nan"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(CumpropError, match=message) as caught:
        random_mlp(**{"width": 4, "depth": 2, "seed": 0} | change)
    assert "\n" not in str(caught.value)
