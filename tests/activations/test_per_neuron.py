"""Activations per neuron: a layer of several activations is its parts side by side."""

import numpy as np
import pytest

import cumprop
from cumprop.activations import Custom, PerNeuron, get, side_by_side
from cumprop.errors import CumpropError
from cumprop.networks import MLP

NAMES = ["relu", "relu", "identity", "tanh", "tanh", "heaviside", "square", "leaky_relu(0.2)"]


@pytest.fixture
def mixed():
    return PerNeuron([get(name) for name in NAMES])


def test_every_neuron_has_its_own_function(mixed):
    z, h = np.random.default_rng(0).normal(size=(2, 5, len(NAMES)))
    z[0, 0] = 0.0
    for method, arguments in (("forward", (z,)), ("derivative", (z,)), ("difference", (z, h))):
        whole = getattr(mixed, method)(*arguments)
        for neuron, name in enumerate(NAMES):
            alone = getattr(get(name), method)(*(a[:, [neuron]] for a in arguments))
            assert np.array_equal(whole[:, [neuron]], alone)
    assert mixed.at_breakpoints(z).nonzero()[1].tolist() == [0]
    assert [mixed.of(neuron).name for neuron in range(len(NAMES))] == NAMES


def test_rows_of_some_neurons(mixed):
    neurons = np.array([7, 3, 0, 3])
    z = np.random.default_rng(0).normal(size=(4, 6))
    found = mixed.of_neurons(z, neurons)
    assert np.array_equal(
        found, [get(NAMES[n]).forward(row) for n, row in zip(neurons, z, strict=True)]
    )


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_coefficients_are_those_of_the_parts(mixed, unit):
    """Runs may choose different units and centres; the coefficients w(k,p) are the same."""
    rng = np.random.default_rng(0)
    mean, var = unit * rng.normal(size=8), unit**2 * rng.uniform(0.1, 2, size=8)
    mean[0], mean[2] = 50 * unit, 1e5 * unit  # a neuron out of reach of its kink, and a far one
    table = mixed.wick_table(mean, var)
    for k in range(5):
        for p in range(1, 4):
            for neuron, name in enumerate(NAMES):
                alone = get(name).wick(mean[[neuron]], var[[neuron]], k, p)
                assert table(k, p)[neuron] == pytest.approx(float(alone[0]), rel=1e-9, abs=1e-300)


def test_names_are_read_again(mixed):
    assert mixed.name == "relu[2]+identity[1]+tanh[2]+heaviside[1]+square[1]+leaky_relu(0.2)[1]"
    assert get(mixed.name).runs == mixed.runs or get(mixed.name).name == mixed.name
    assert get(mixed.name).neurons == 8
    assert not mixed.homogeneous and mixed.by_quadrature
    assert PerNeuron([get("relu"), get("identity")]).homogeneous


@pytest.mark.parametrize("name", ["relu[2]+", "relu[0]", "relu[2]identity[1]", "what[2]", "[3]"])
def test_wrong_names(name):
    with pytest.raises(CumpropError, match="unknown activation"):
        get(name)


def test_a_network_takes_a_list_for_a_layer(tmp_path):
    weights = [np.eye(3, 2), np.ones((1, 3))]
    network = MLP(weights, activations=[["relu", "identity", "relu"]])
    assert network.activations[0].name == "relu[1]+identity[1]+relu[1]"
    assert network.forward([[-1.0, -2.0]]).tolist() == [[-2.0]]
    network.save(tmp_path / "mixed.npz")
    assert cumprop.load(tmp_path / "mixed.npz").activations[0].name == network.activations[0].name
    assert MLP(weights, activations=[["relu"] * 3]).activations[0].name == "relu"
    with pytest.raises(CumpropError, match="hidden layer 1 has 3 neurons and 2 activations"):
        MLP(weights, activations=[["relu", "tanh"]])
    with pytest.raises(CumpropError, match="hidden layer 1 has 3 neurons and 4 activations"):
        MLP(weights, activations="relu[2]+tanh[2]")
    mine = MLP(weights, activations=[["relu", "relu", Custom(np.sin)]])
    with pytest.raises(CumpropError, match="Python function"):
        mine.save(tmp_path / "mine.npz")


def test_side_by_side():
    relu, tanh = get("relu"), get("tanh")
    assert side_by_side((relu, 2), (relu, 1)) is relu
    both = side_by_side((side_by_side((relu, 1), (tanh, 2)), 3), (tanh, 1))
    assert both.name == "relu[1]+tanh[3]"
