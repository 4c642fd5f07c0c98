"""Expected extremes and losses: closed forms of Gaussian outputs, units, and sampling."""

import json
import math

import numpy as np
import pytest

import cumprop
from cumprop.errors import CumpropError
from cumprop.functionals.integrals import Integrals, mixed
from cumprop.inputs import Empirical, Gaussian, Mixture


def normal(k, scale=1.0, shift=0.0):
    """Outputs that are k independent N(shift, scale²)."""
    return cumprop.MLP([scale * np.eye(k)], [np.full(k, shift)], [])


def bent(seed=0, k=3):
    made = cumprop.random_mlp(40, 2, seed, dtype="float64")
    return made.replace(weights=[*made.weights[:-1], made.weights[-1][:k]])


@pytest.mark.parametrize(
    ("k", "largest"), [(2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))]
)
def test_extremes_of_gaussian_outputs(k, largest):
    for what, sign in (("max", 1), ("min", -1)):
        found = cumprop.expected(normal(k), what)
        assert found.status == "ok"
        assert abs(found.value - sign * largest) <= found.half_width + 1e-4
        assert found.half_width < 2e-3


def test_squared_error():
    """The sum of (m - t)² + σ², of two moments alone, so that order 2 has an interval as well."""
    found = cumprop.expected(normal(3, 2.0, 1.0), "squared", target=[1.0, 0.0, 3.0], order=2)
    assert found.status == "ok"
    assert found.value == pytest.approx(0 + 1 + 4 + 3 * 4, rel=1e-3)
    assert abs(found.value - 17) <= found.half_width
    assert cumprop.expected(normal(2), "squared", target=0.0).value == pytest.approx(2, rel=1e-3)


def test_cross_entropy_and_functions_of_one_or_two_outputs():
    """Against 200 Gauss–Hermite nodes of the one variable d = y_0 - y_1 ~ N(0, 2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    loss = weights @ np.log1p(np.exp(-math.sqrt(2) * nodes))
    found = cumprop.expected(normal(2), "cross-entropy", target=0)
    assert found.value == pytest.approx(loss, abs=1e-3)
    whole = normal(4)
    pair = cumprop.expected(whole, lambda y: np.log1p(np.exp(y[:, 1] - y[:, 0])), outputs=[3, 1])
    assert pair.value == pytest.approx(loss, abs=1e-3)
    positive = cumprop.expected(whole, lambda y: np.maximum(y[:, 0], 0), outputs=[2])
    assert positive.value == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-3)


def test_units():
    """Outputs in other units: c E[max], c² E|y|², and half widths with them."""
    network = bent()
    *weights, last = network.weights
    larger = network.replace(weights=[*weights, 1000 * last])
    for what, target, power in (("max", None, 1), ("squared", 0.0, 2)):
        one, other = (cumprop.expected(n, what, target=target) for n in (network, larger))
        assert other.value == pytest.approx(1000**power * one.value, rel=1e-3)
        assert other.half_width == pytest.approx(1000**power * one.half_width, rel=0.05)


@pytest.mark.thorough
def test_intervals_hold_samples():
    """Four networks and three questions: 12 intervals of 95%, widened by 4 s.e. of 100,000
    samples, are allowed one miss; random networks are easier than the calibration's."""
    missed = 0
    for seed in range(4):
        for what, target in (("max", None), ("squared", 0.5), ("cross-entropy", 1)):
            found = cumprop.expected(bent(seed), what, target=target)
            truth = cumprop.expected(
                bent(seed), what, target=target, estimator="monte_carlo", n_samples=100_000, seed=4
            )
            missed += abs(found.value - truth.value) > found.half_width + 2.1 * truth.half_width
            assert truth.n_samples == 100_000 and truth.status == "ok"
    assert missed <= 1


def test_tolerance_falls_to_samples():
    network = bent()
    assert cumprop.expected(network, "max", tolerance=0.5).n_samples is None
    fine = cumprop.expected(network, "max", tolerance=0.01)
    assert fine.n_samples == math.ceil(196**2)
    assert fine.half_width == pytest.approx(0.01 * fine.deviation, rel=1e-6)
    flat = cumprop.expected(network, "max", order=2)
    assert flat.half_width is None and flat.status.startswith("unreliable: outputs are taken")


def test_the_loss_of_a_nearly_certain_class_is_unreliable():
    """A few outputs in a thousand make the loss, whose law is not Gaussian out there; those of a
    linear network are Gaussian everywhere."""
    network = bent()
    *biases, _ = network.biases
    spread = np.sqrt(np.diag(cumprop.estimate(network, cov=True).cov).max())
    sharp = [*network.weights[:-1], 8 / spread * network.weights[-1]]
    certain = network.replace(weights=sharp, biases=[*biases, np.array([40.0, 0.0, 0.0])])
    found = cumprop.expected(certain, "cross-entropy", target=0)
    assert found.status.startswith("unreliable") and "rarest 1%" in found.status
    asked = cumprop.expected(certain, "cross-entropy", target=0, tolerance=0.05)
    assert asked.n_samples is not None and asked.status == "ok"
    line = cumprop.MLP([[[4.0], [0.0]]], [[14.0, 0.0]])
    exact = cumprop.expected(line, "cross-entropy", target=0)
    s = np.linspace(-9, 9, 4001)
    truth = np.trapezoid(np.log1p(np.exp(-14 - 4 * s)) * np.exp(-s * s / 2), s) / np.sqrt(2 * np.pi)
    assert exact.status == "ok" and abs(exact.value - truth) < exact.half_width < 0.5 * truth


def test_rare_shares_of_a_mixture_count_as_deviations_do():
    one, other = (
        Integrals(*map(np.array, ([1.0], [0.0], [0.0], [0.0], [deviation], [0.0], [0.0], [rare])))
        for deviation, rare in ((1.0, 0.04), (1e-6, 0.9))
    )
    assert mixed([0.99, 0.01], [one, other]).rare[0] == pytest.approx(0.04, abs=1e-6)
    assert mixed([0.0, 1.0], [one, other]).rare[0] == pytest.approx(0.9)


def test_mixtures_and_rows():
    parts = [Gaussian(-1.0, 0.5), Gaussian(2.0, 0.5)]
    whole = cumprop.expected(bent().replace(input=Mixture([0.25, 0.75], parts)), "max")
    each = [cumprop.expected(bent().replace(input=law), "max").value for law in parts]
    assert whole.value == pytest.approx(0.25 * each[0] + 0.75 * each[1], rel=1e-3)
    rows = np.random.default_rng(0).normal(size=(30, 40))
    found = cumprop.expected(bent().replace(input=Empirical(rows)), "min")
    assert found.value == pytest.approx(bent().forward(rows).min(axis=1).mean())


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("median", {}, "no function is named 'median'"),
        ("max", {"target": 1}, "max has no target"),
        ("cross-entropy", {"target": 3}, "give a class from 0 to 2"),
        ("cross-entropy", {}, "target must be a whole number"),
        ("squared", {"target": [1.0, 2.0]}, "the target has shape"),
        ("squared", {"target": "x"}, "the target is no list of numbers"),
        ("max", {"outputs": [3]}, "give indices from 0 to 2"),
        (lambda y: y, {}, r"return \(\d+,\) numbers"),
    ],
)
def test_refusals(what, options, words):
    with pytest.raises(CumpropError, match=words):
        cumprop.expected(bent(), what, **options)


def test_printed_and_kept():
    found = cumprop.expected(bent(), "max")
    assert repr(found).startswith("E[max y] = ") and repr(found).endswith("status: ok")
    assert json.loads(json.dumps(found.to_dict()))["name"] == "max y"
