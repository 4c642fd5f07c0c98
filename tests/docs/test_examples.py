"""The trained networks of examples/: what they are, and that degenerate inputs do no harm."""

import numpy as np
import pytest

import cumprop

pytestmark = pytest.mark.slow


def test_digits_are_told_apart(trained):
    """Trained on all images: what is tested is that the network, as loaded, is the classifier."""
    pixels, labels = trained.load_digits(return_X_y=True)
    network = trained.digits()
    assert (network.widths, network.shape.activations) == ((64, 64, 64, 10), ("relu",) * 2)
    assert (network.forward(pixels / 16).argmax(axis=1) == labels).mean() > 0.97


def test_control_knows_the_cost(trained):
    """On states it has not seen, where the truth varies by its standard deviation of 6."""
    network = trained.control()
    assert (network.widths, network.shape.activations) == ((2, 64, 64, 1), ("tanh",) * 2)
    states = np.random.default_rng(1).multivariate_normal(
        network.input_mean, network.input_cov, 500
    )
    missed = network.forward(states)[:, 0] - trained.pendulum_cost(states)
    assert missed.var() < 0.04 * trained.pendulum_cost(states).var()


def test_training_gives_the_same_numbers_again(trained):
    first, second = trained.digits(), trained.digits.__wrapped__()
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "parameters", [{"order": 2}, {"order": 3}, {"order": 3, "kind": "tree"}, None], ids=str
)
def test_constant_pixels_do_no_harm(trained, parameters):
    """x = μ + A g, g of the 61 dimensions there are, gives the same as a network of W_0 A."""
    network = trained.digits()
    values, vectors = np.linalg.eigh(network.input_cov)
    assert (values > 1e-12 * values[-1]).sum() == 61
    root = vectors[:, -61:] * np.sqrt(values[-61:])
    first, *weights = network.weights
    bias, *biases = network.biases
    small = cumprop.MLP(
        [first @ root, *weights], [first @ network.input_mean + bias, *biases], network.activations
    )
    name, given = ("gaussian", {}) if parameters is None else ("cumulant", parameters)
    a, b = (cumprop.estimate(n, name, cov=True, **given) for n in (network, small))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9)
    np.testing.assert_allclose(a.cov, b.cov, rtol=1e-8, atol=1e-9)
