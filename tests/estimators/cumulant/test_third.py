"""Third cumulants of the outputs: every algorithm against the dense one, slices and samples."""

import numpy as np
import pytest

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.inputs import Gaussian, Mixture, Uniform


def network(activation="gelu", width=7, outputs=4):
    made = cumprop.random_mlp(width, 3, 1, activation, dtype="float64")
    weights = [*made.weights]
    weights[-1] = weights[-1][:outputs]
    return cumprop.MLP(weights, [np.full(len(w), 0.1) for w in weights], activation, 0.3)


def third(network, **parameters):
    found = cumprop.estimate(network, Cumulant(**parameters), cov=True, third=True)
    return found.third.full()


@pytest.mark.parametrize(
    ("order", "kind"), [(3, "basic"), (3, "augmented_factorised"), (4, "basic")]
)
def test_structured_is_dense(order, kind):
    fast, plain = (
        third(network(), order=order, kind=kind, algorithm=name) for name in ("structured", "dense")
    )
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-13 * np.abs(plain).max())


@pytest.mark.parametrize("kind", ["basic", "augmented_factorised", "tree"])
def test_slices_of_one_more_layer(kind):
    """One more layer of neurons (v·Y - E[v·Y])³ has the means κ_3(v, v, v), by other code."""
    made = network()
    found = cumprop.estimate(made, Cumulant(3, kind), cov=True, third=True)
    directions = np.random.default_rng(0).normal(size=(6, 4))
    shift = directions @ found.mean
    weights = [*made.weights[:-1], directions @ made.weights[-1], np.eye(6)]
    biases = [*made.biases[:-1], directions @ made.biases[-1] - shift, None]
    cubes = cumprop.activations.Custom(lambda y: y**3)
    longer = cumprop.MLP(weights, biases, ["gelu"] * 3 + [cubes], 0.3)
    seen = cumprop.estimate(longer, Cumulant(3, kind)).mean
    known = np.einsum("ijk,vi,vj,vk->v", found.third.full(), *[directions] * 3)
    np.testing.assert_allclose(seen, known, rtol=0, atol=1e-7 * np.abs(known).max())


@pytest.mark.thorough
def test_samples_agree():
    """One hidden layer of width 200: 4 numbers of 4e5 samples within 4.5 s.e. plus 3% of the
    largest, which is what order 3 leaves out; false alarms: 3e-5."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(200, 5)), rng.normal(size=(3, 200)) / 14]
    made = cumprop.MLP(weights)
    y = made.forward(rng.standard_normal((400_000, 5)))
    y -= y.mean(axis=0)
    for i, j, k in [(0, 0, 0), (0, 0, 1), (0, 1, 2), (2, 2, 1)]:
        products = y[:, i] * y[:, j] * y[:, k]
        error = products.std() / np.sqrt(len(y))
        found = third(made, order=3, kind="tree")
        assert abs(found[i, j, k] - products.mean()) < 4.5 * error + 0.03 * np.abs(found).max()


def test_order_of_outputs_and_units():
    made = network()
    full, order = third(made), [2, 0, 3, 1]
    weights, biases = [*made.weights], [*made.biases]
    weights[-1], biases[-1] = 100 * weights[-1][order], 100 * biases[-1][order]
    turned = third(made.replace(weights=weights, biases=biases))
    np.testing.assert_allclose(turned, 1e6 * full[np.ix_(order, order, order)], rtol=1e-10)


def test_outputs_in_small_units():
    made = network()
    weights, biases = [*made.weights], [*made.biases]
    weights[-1], biases[-1] = 1e-8 * weights[-1], 1e-8 * biases[-1]
    small = third(made.replace(weights=weights, biases=biases))
    np.testing.assert_allclose(small, 1e-24 * third(made), rtol=1e-9)


def test_means_and_covariances_are_those_without():
    for parameters in ({"order": 2}, {"order": 3}, {"order": 3, "kind": "tree"}, {"order": 4}):
        estimator = Cumulant(**parameters)
        with_it = cumprop.estimate(network(), estimator, cov=True, third=True)
        without = cumprop.estimate(network(), estimator, cov=True)
        np.testing.assert_allclose(with_it.mean, without.mean, rtol=1e-12)
        np.testing.assert_allclose(with_it.cov, without.cov, rtol=1e-9, atol=1e-12)
        assert without.third is None


@pytest.mark.thorough
@pytest.mark.parametrize("parameters", [{"kind": "basic"}, {"kind": "tree"}, {"order": 4}], ids=str)
def test_tensors(torch, parameters):
    made = network()
    tensors = made.replace(weights=[torch.tensor(w) for w in made.weights])
    np.testing.assert_allclose(
        third(tensors, **parameters).numpy(), third(made, **parameters), rtol=1e-9, atol=1e-12
    )
    line = cumprop.MLP([torch.ones(2, 3)])
    assert cumprop.estimate(line, "cumulant", third=True).third.full().shape == (2, 2, 2)


def test_where_there_are_none():
    assert cumprop.estimate(network(), "cumulant", order=2, third=True).third is None
    assert cumprop.estimate(network(), "gaussian", third=True).third is None
    linear = cumprop.MLP([[[1.0, 2.0]]])
    assert cumprop.estimate(linear, "cumulant", third=True).third.full().tolist() == [[[0.0]]]
    parts = Mixture([0.5, 0.5], [Gaussian(-1.0), Gaussian(1.0)])
    mixed = network().replace(input=parts)
    assert cumprop.estimate(mixed, "cumulant", third=True).third is None


def test_uniform_inputs_are_one_more_layer():
    """A linear map of uniform inputs has the cumulants Σ_a w_ia w_ja w_ka κ_3(x_a) = 0."""
    flat = cumprop.MLP([[[1.0, 2.0], [3.0, -1.0]]], input=Uniform(0.0, 1.0))
    found = cumprop.estimate(flat, "cumulant", third=True).third.full()
    np.testing.assert_allclose(found, 0, atol=1e-12)
