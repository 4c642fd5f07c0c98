"""Quantiles far out against exact ones. Seeds are fixed; an end misses once in 40 at most."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import cumprop
from cumprop.errors import CumpropError
from cumprop.inputs import Empirical, Gaussian, Mixture, Uniform

LINE = cumprop.MLP([[[3.0, 4.0], [1.0, 0.0]]])  # Y_0 ~ N(0, 25)


def holds(found, truth, most_apart):
    """Whether the interval is no wider than this around the truth, and holds it."""
    low, high = found.interval
    assert low <= found.value <= high and high - low <= most_apart
    return low <= truth <= high


@pytest.mark.thorough
@pytest.mark.parametrize("q", [1e-9, 0.02, 0.5, 0.9, 1 - 1e-4, 1 - 1e-9])
def test_quantiles_of_a_gaussian(q):
    """Ends are 2.5 tolerances of the tail from the truth, four standard errors: 1e-4 a case."""
    found = LINE.quantile("y0", q)
    share = min(q, 1 - q)
    density = norm.pdf(norm.ppf(share)) / 5
    assert holds(found, 5 * norm.ppf(q), 1.2 * share / density) and found.status == "ok"
    assert abs(found.value - 5 * norm.ppf(q)) < 0.2 * share / density


@pytest.mark.thorough
def test_intervals_hold_over_many_seeds():
    """30 intervals, each wrong in at most 5%: more than 5 misses once in 200 at worst."""
    held = [holds(LINE.quantile("y0", 0.98, seed=s), 5 * norm.ppf(0.98), 2) for s in range(30)]
    assert sum(held) >= 25


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("q", [1e-5, 1 - 1e-5])
def test_one_hidden_layer_of_one_input(activation, q):
    """The truth is an integral over the line."""
    rng = np.random.default_rng(3)
    network = cumprop.MLP(
        [rng.normal(size=(6, 1)), rng.normal(size=(1, 6))], [rng.normal(size=6), None], activation
    )
    z = np.linspace(-9, 9, 400_001)
    y = network.forward(z[:, None])[:, 0]
    order = np.argsort(y)
    truth = np.interp(q, np.cumsum(norm.pdf(z)[order]) * (z[1] - z[0]), y[order])
    found = network.quantile("y0", q)
    assert holds(found, truth, 0.5) and found.status == "ok"


@pytest.mark.thorough
@pytest.mark.parametrize("tolerance", [0.1, 0.5])
def test_magnitudes_near_0(tolerance):
    """P(|Y| < 0) = 0, so that 0 is the lower end where a tolerance reaches that far."""
    found = LINE.quantile("|y0|", 1e-3, tolerance=tolerance)
    assert holds(found, 5 * norm.ppf(0.5005), 0.02) and found.status == "ok"
    assert (found.interval[0] == 0) == (tolerance == 0.5)


@pytest.mark.thorough
def test_combinations_and_other_laws():
    assert holds(LINE.quantile("|y0|", 1 - 1e-4), 5 * norm.isf(5e-5), 1)
    sd = np.hypot(2, 4)
    assert holds(LINE.quantile("y0 - y1", 1e-4), sd * norm.ppf(1e-4), 1)
    law = Mixture([0.99, 0.01], [Gaussian(0.0, 1.0), Gaussian(0.0, 4.0)])
    truth = brentq(lambda t: 0.99 * norm.sf(t / 5) + 0.01 * norm.sf(t / 10) - 1e-6, 1, 99)
    assert holds(LINE.replace(input=law).quantile("y0", 1 - 1e-6), truth, 3)
    box = cumprop.MLP([[[1.0] * 6]], input=Uniform(0.0, 1.0)).quantile("y0", 1 - 1e-6)
    assert holds(box, 6 - (720 * 1e-6) ** (1 / 6), 0.1)


def test_units_and_seeds():
    """A power of two changes no rounding of the passes."""
    network = cumprop.random_mlp(width=6, depth=1, seed=1)
    large = network.replace(weights=[network.weights[0], 4 * network.weights[1]])
    one, two, other = (n.quantile("y0", 0.95, seed=s) for n, s in
                       ((network, 3), (large, 3), (network, 4)))  # fmt: skip
    assert 4 * one.value == pytest.approx(two.value, rel=1e-3)
    assert one.value == network.quantile("y0", 0.95, seed=3).value != other.value


def test_laws_with_an_atom_at_the_quantile_are_unreliable():
    rectified = cumprop.MLP([[[1.0]], [[1.0]]])
    found = rectified.quantile("y0", 0.3)
    assert found.status.startswith("unreliable: the pilot ends at 0, short of the quantile; raise")
    assert found.interval == (0, 0) and "unreliable" in repr(found)
    assert holds(rectified.quantile("y0", 0.9), norm.ppf(0.9), 0.5)


def test_a_small_budget_makes_wide_intervals_that_still_hold():
    found = LINE.quantile("y0", 0.999, tolerance=0.01, budget=60_000)
    assert found.status.startswith("warning: the half width is")
    assert holds(found, 5 * norm.isf(1e-3), 2)
    assert "short of the quantile; raise" in LINE.quantile("y0", 1e-9, budget=20_000).status


def test_what_is_refused():
    for words, q, given, why in (
        ("y0", 1.0, {}, "probability is 1; give a number between"),
        ("y0", 0.9, {"tolerance": 0.6}, "tolerance is 0.6; give a relative error above 0, up to"),
        ("y0", 0.9, {"budget": 10}, "budget is 10 passes"),
        ("y0 > 3", 0.9, {}, "is no comparison"),
        ("y2", 0.9, {}, "the outputs are y0 to y1"),
    ):
        with pytest.raises(CumpropError, match=why):
            LINE.quantile(words, q, **given)
    with pytest.raises(CumpropError, match="rows of data"):
        LINE.replace(input=Empirical(np.eye(2))).quantile("y0", 0.9)
