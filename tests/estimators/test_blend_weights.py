"""Blending: an order and samples, weighed by their errors."""

from fractions import Fraction

import numpy as np
import pytest

import cumprop
from cumprop.contract import Estimate
from cumprop.estimators.blend.weights import Blended
from cumprop.sampling import Replicates

OUTPUTS = 20


def drawn(rng, n_samples=160):
    """Sixteen groups of samples of mean 0 and variance 1."""
    groups = rng.normal(size=(16, OUTPUTS)) / np.sqrt(n_samples / 16)
    sizes = np.full(16, n_samples // 16)
    return Replicates("iid", sizes, groups, np.ones(OUTPUTS), (), cumprop.flops.Flops())


def order(value):
    return Estimate(np.full(OUTPUTS, value), ())


@pytest.mark.parametrize("bias", [0.01, 0.05, 0.2, 1.0])
def test_weights_are_by_variance(bias):
    """The expected squared error of 600 blends is B V / (B + V), the least there is."""
    rng, errors = np.random.default_rng(0), []
    for _ in range(600):
        both = Blended(drawn(rng), order(bias), OUTPUTS * bias**2)
        errors.append(np.sum(both.mean(both.order.mean, both.samples.mean) ** 2))
    b, v = OUTPUTS * bias**2, OUTPUTS / 160
    least = b * v / (b + v)
    # `shown` adds to B now and then: a little more weight on samples, at most 2% more error
    assert abs(np.mean(errors) - least) < 4 * np.std(errors) / np.sqrt(600) + 0.02 * least


def test_without_an_order_or_with_a_perfect_one():
    samples = drawn(np.random.default_rng(1))
    alone, sure = Blended(samples, None), Blended(samples, order(0.0))
    assert (alone.weight, alone.left, sure.weight) == (0, 0, 1)
    assert alone.samples_for(0.01, 1.5) == pytest.approx(160 * 1.5 * alone.noise / 0.01)
    assert sure.samples_for(0.01, 1.5) == 0


@pytest.mark.parametrize("times", [1.01, 1.5, 4, 100, 1e6])
@pytest.mark.parametrize("quantile", [1.0, 1.7])
def test_samples_for_is_just_enough(times, quantile):
    """With so many samples the bound on the squared error is what is allowed, with fewer more."""
    samples, allowed = drawn(np.random.default_rng(2)), 0.004
    b = times * allowed
    both = Blended(samples, Estimate(samples.mean, ()), b)

    def bound(n_samples):
        v = both.noise * samples.n_samples / n_samples
        w = v / (v + b)
        return (1 - w) ** 2 * quantile * v + w**2 * b

    n_samples = both.samples_for(allowed, quantile)
    assert bound(n_samples) == pytest.approx(allowed)
    assert bound(n_samples / 1.1) > allowed > bound(n_samples * 1.1)
    assert n_samples <= Blended(samples, None).samples_for(allowed, quantile)


def test_a_bias_that_samples_show_counts():
    samples = drawn(np.random.default_rng(3), 16_000)
    both = Blended(samples, order(1.0), 1e-6)
    assert both.bias == pytest.approx(OUTPUTS, rel=0.05) and both.weight < 1e-3


@pytest.mark.parametrize("unit", [1e-140, 1e-24, 1.0, 1e24])
@pytest.mark.parametrize("quantile", [0.05, 1.0, 1.7, 40.0])
@pytest.mark.parametrize("log_excess", [-9, -3, 0, 3, 8, 30, 100, 140])
def test_samples_for_solves_its_equation(unit, quantile, log_excess):
    """v solves B v (q B + v) / (v + B)² = a to 1e-9, checked in rational arithmetic."""
    samples, allowed = drawn(np.random.default_rng(2)), 0.004 * unit
    b = allowed * (1 + 10.0**log_excess)
    both = Blended(samples, Estimate(samples.mean, ()), b)
    n_samples = both.samples_for(allowed, quantile)
    v = Fraction(samples.n_samples) * Fraction(both.noise) / Fraction(n_samples)
    q, a, big = map(Fraction, (quantile, allowed, both.bias))
    left = big * v * (q * big + v) / (v + big) ** 2
    assert v > 0 and abs(left / a - 1) < Fraction(1, 10**9)
