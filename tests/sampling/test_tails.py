"""Tails: truth by importance sampling against exact and plainly sampled probabilities."""

import numpy as np
import pytest
from helpers.truths import load_or_extend
from scipy.special import ndtr

from cumprop import MLP, CumpropError, estimate, random_mlp
from cumprop.sampling import MeanSpec, TailSpec, TailTruth, load, tail_network, threshold
from cumprop.sampling.tails import Surrogates


def spec(**changes):
    fields = {"width": 16, "depth": 2, "activation": "relu", "init": "he", "seed": 0}
    return TailSpec(**{"threshold": 3.0, **fields, **changes})


def sampled(s, chunks):
    truth = s.empty
    for _ in range(chunks):
        truth = truth.extended()
    return truth


def misses(truth, exact):
    """Misses of both halves in standard errors, shape (2, n)."""
    p = truth.mean(truth.spec.readout, truth.spec.depth)
    return (p - exact) / (p * truth.relative_error)


def test_of_a_linear_network_is_exact_far_into_the_tail():
    """Y ~ N(0, |w|²): probabilities of 1e-5 to 1e-17 within 5 standard errors (32: 2e-5)."""
    s = spec(activation="identity", threshold=5.0, dtype="float64")
    first, second, last = s.network.weights
    exact = ndtr(-5 / np.linalg.norm(last @ second @ first, axis=1))
    truth = sampled(s, 2)
    assert exact.min() < 1e-9 and (truth.relative_error < 0.15).all()
    assert (abs(misses(truth, exact)) < 5).all()


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("activation", "init", "t"),
    [("relu", "he", 2.0), ("tanh", "critical", 2.0), ("gelu", "he", 2.0)],
)
def test_agrees_with_plain_sampling_where_that_sees_the_tail(activation, init, t):
    """5 standard errors of both, all outputs of p ≥ 1e-4, biases included.

    Fewer than 48 outputs: false alarms 3e-5, were the weights not skewed.
    """
    s = spec(activation=activation, init=init, threshold=t)
    truth = sampled(s, 8)
    n_samples = 1_000_000
    x = np.random.default_rng(9).standard_normal((n_samples, 16), dtype=np.float32)
    plain = (s.network.forward(x) > t).mean(axis=0)
    tested = plain >= 1e-4
    assert tested.sum() >= 8
    p, plain = truth.mean(s.readout, 2).mean(axis=0)[tested], plain[tested]
    error = np.hypot(p * truth.relative_error.max(axis=0)[tested], np.sqrt(plain / n_samples))
    assert (abs(p - plain) < 5 * error).all()


@pytest.mark.thorough
def test_needs_far_fewer_samples_than_plain_sampling():
    """A relative variance per sample of 1/p is what plain sampling has."""
    truth = sampled(spec(width=64, depth=3, threshold=3.0), 2)
    p = truth.mean("tail(3)", 3).mean(axis=0)
    rare = (p > 1e-6) & (p < 1e-4)
    assert rare.sum() > 10
    per_sample = truth.relative_error[0, rare] ** 2 * truth.n_samples / 2
    assert np.median(per_sample * p[rare]) < 1 / 100


def test_the_tilt_of_a_quadratic_is_its_own():
    """Y = g·x + b x₁²: the surrogate has the exact gradient and Hessian."""
    g, b = np.array([0.3, -0.5]), 0.1
    w1 = np.vstack([np.eye(2), [[1.0, 0.0]]])
    network = MLP([w1, np.array([[*g, b]])], activations=["square"])
    tilt = Surrogates(network, np.random.default_rng(0)).tilt(0, 4.0)
    hessian = tilt.basis * tilt.curvature @ tilt.basis.T
    np.testing.assert_allclose(hessian, 2 * np.diag([g[0] + b, g[1]]), atol=0.02)
    assert tilt.theta > 0


def test_groups_mean_and_variance():
    truth = sampled(spec(threshold=1.0), 1)
    p = truth.mean("tail(1)", 2)
    np.testing.assert_allclose(p, truth.groups("tail(1)", 2).mean(axis=1))
    assert truth.n_samples == 2 * 16 * 64
    exact = (p.mean(axis=0) * (1 - p.mean(axis=0))).mean()
    assert truth.variance("tail(1)", 2) == pytest.approx(exact, rel=0.05)
    for readout, depth in (("tail(2)", 2), ("output", 2), ("tail(1)", 1)):
        with pytest.raises(CumpropError, match="has no"):
            truth.groups(readout, depth)


def test_stored_and_continued_like_every_truth(tmp_path):
    s = spec(threshold=2.0)
    load_or_extend(tmp_path, s, 1)
    continued = load_or_extend(tmp_path, s, 2 * s.chunk_samples)
    at_once = sampled(spec(threshold=2.0), 2)
    np.testing.assert_array_equal(continued.sums, at_once.sums)
    loaded = load(tmp_path, s.key)
    assert isinstance(loaded, TailTruth) and loaded.spec == s
    np.testing.assert_array_equal(loaded.squares, at_once.squares)
    assert s.key != spec(threshold=2.5).key


def test_thresholds_keep_their_digits():
    truth = sampled(spec(threshold=0.123456789012), 1)
    assert truth.spec.readout == "tail(0.123456789012)"
    assert sum(truth.buckets(np.zeros(16))["bucket_neurons"]) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("map_", [0, 1, 2])
@pytest.mark.parametrize("power", [-40, -12, 40])
def test_probabilities_do_not_depend_on_the_unit(map_, power):
    """W_l → c W_l and t → c t, c a power of two, so that rounding is the same."""
    scales, usual = [1.0, 2.0, 2.0], spec(dtype="float64", init={"w_var": [1.0, 2.0, 2.0]})
    scales[map_] *= 4.0**power
    changed = spec(dtype="float64", init={"w_var": scales}, threshold=3.0 * 2.0**power)
    expected = sampled(usual, 1).mean(usual.readout, 2)
    np.testing.assert_allclose(sampled(changed, 1).mean(changed.readout, 2), expected, rtol=1e-9)


def test_an_unreachable_tail_has_probability_zero():
    truth = sampled(spec(threshold=1e6), 1)
    assert not truth.sums.any() and np.isinf(truth.relative_error).all()


def test_a_likely_tail_is_sampled_plainly():
    truth = sampled(spec(threshold=-50.0), 1)
    np.testing.assert_array_equal(truth.mean("tail(-50)", 2), 1.0)


def test_design_is_importance_only():
    with pytest.raises(CumpropError, match="importance"):
        spec(design="iid")
    with pytest.raises(CumpropError, match="importance"):
        MeanSpec(8, 2, "relu", "he", 0, design="importance")


@pytest.mark.parametrize("init", ["he", {"w_var": 1.0, "b_var": 0.5, "b_mean": 0.2}])
def test_tail_network_is_the_fraction_above(init):
    network = random_mlp(16, 2, 0, "relu", init)
    tail = tail_network(network, 0.5)
    x = np.random.default_rng(1).standard_normal((1000, 16), dtype=np.float32)
    *_, (_, above), (average, _) = tail.layers(x)
    y = network.forward(x)
    clear = abs(y - 0.5) > 16 * np.finfo(np.float32).eps  # else rounding decides on which side
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(above[clear], y[clear] > 0.5)
    np.testing.assert_allclose(average[:, 0], above.mean(axis=1), rtol=1e-5)
    assert tail.shape.activations == ("relu", "relu", "heaviside")


@pytest.mark.thorough
def test_every_order_reads_tails():
    """Order 4 is nearer than order 2 on every output's probability, in mean square."""
    network = random_mlp(64, 2, 0, dtype="float64")
    tail = tail_network(network, 1.5)
    sampled_p = estimate(tail, "monte_carlo", n_samples=400_000).layer_means[-1]
    errors = [
        np.sum((estimate(tail, "cumulant", order=k).layer_means[-1] - sampled_p) ** 2)
        for k in (2, 3, 4)
    ]
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize(
    ("readout", "t"), [("tail(3)", 3), ("tail(-1.5e-1)", -0.15), ("output", None), ("tail", None)]
)
def test_threshold(readout, t):
    assert threshold(readout) == t


@pytest.mark.parametrize("readout", ["tail(e)", "tail(1e999)", "tail(--1)"])
def test_bad_thresholds_give_one_clear_line(readout):
    with pytest.raises(CumpropError, match="finite threshold") as error:
        threshold(readout)
    assert "\n" not in str(error.value)
