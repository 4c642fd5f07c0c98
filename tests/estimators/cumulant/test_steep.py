"""Steep activations against their limits: tanh(cz) against sign(z) for large c, and their kind."""

import numpy as np
import pytest
from helpers.estimators import CUMULANT

import cumprop

STEEP = 1e6
LIMITS = {
    "tanh": ("sign", 1.0),
    "erf": ("sign", 1.0),
    "sigmoid": ("heaviside", 1.0),
    "gelu": ("relu", STEEP),
    "silu": ("relu", STEEP),
    "softplus": ("relu", STEEP),
}
"""Activations at STEEP times their pre-activations, their limits, and the units of these."""
ESTIMATORS = [*CUMULANT, ("gaussian", {})]


def network(activation, gain, unit, dtype, bias):
    """Two layers, the second with this activation of `gain` times what it sees."""
    rng = np.random.default_rng(3)
    maps = [(30, 24), (36, 30), (4, 36)]
    first, second, last = (rng.normal(size=shape) * 1.2 / np.sqrt(shape[1]) for shape in maps)
    b1, b2, b3 = (bias * rng.normal(size=n) for n, _ in maps)
    weights, biases = [first, gain * second, last / unit], [b1, gain * b2, b3]
    return cumprop.MLP(
        [w.astype(dtype) for w in weights], [b.astype(dtype) for b in biases], ["relu", activation]
    )


@pytest.mark.thorough
@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize(("name", "options"), ESTIMATORS)
@pytest.mark.parametrize("activation", LIMITS)
def test_steep_activations_are_as_good_as_their_limits(activation, name, options, bias):
    limit, unit = LIMITS[activation]
    steep = cumprop.estimate(network(activation, STEEP, unit, np.float64, bias), name, **options)
    exact = cumprop.estimate(network(limit, 1.0, 1.0, np.float64, bias), name, **options)
    np.testing.assert_allclose(steep.mean, exact.mean, rtol=0, atol=3e-5)
    assert steep.expected_error == pytest.approx(exact.expected_error, rel=1e-3)
    assert steep.status.split(":")[0] == exact.status.split(":")[0]


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_expected_errors_of_steep_layers_cover(dtype):
    """Against 2^17 samples, of which four independent sets give the noise."""
    for activation in ("tanh", "sigmoid"):
        steep = network(activation, 1e4, 1.0, np.float64, 0.3)
        sets = [cumprop.estimate(steep, "monte_carlo", n_samples=2**15, seed=s) for s in range(4)]
        means = np.array([found.mean for found in sets])
        noise = np.sqrt(np.sum(means.var(axis=0, ddof=1)) / len(sets))
        typed = network(activation, 1e4, 1.0, dtype, 0.3)
        for name, options in [*ESTIMATORS[1:], ("conditional", {})]:
            found = cumprop.estimate(typed, name, cov=True, **options)
            off = np.linalg.norm(found.mean - means.mean(axis=0)) - 2 * noise
            assert found.status == "ok"
            assert off <= 2 * found.expected_error * np.sqrt(np.trace(found.cov))


def test_a_batch_has_the_numbers_of_its_inputs():
    means = np.random.default_rng(0).normal(size=(3, 24))
    steep = network("tanh", 1e4, 1.0, np.float64, 0.3)
    together = cumprop.estimate_batch(steep, means, "cumulant", order=3)
    for mean, found in zip(means, together, strict=True):
        alone = cumprop.estimate(steep.replace(input_mean=mean), "cumulant", order=3)
        np.testing.assert_allclose(found.mean, alone.mean, rtol=0, atol=1e-9)
