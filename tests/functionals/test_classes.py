"""Class probabilities: closed forms of Gaussian outputs, symmetries, sampling, certificates."""

import json
from functools import partial

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest, multivariate_normal

import cumprop
from cumprop.errors import CumpropError
from cumprop.functionals.certificates import radius
from cumprop.functionals.samples import averages, clopper_pearson
from cumprop.inputs import Empirical, Gaussian, Mixture, Uniform


def linear(k, n=6, seed=0, **options):
    rng = np.random.default_rng(seed)
    return cumprop.MLP([rng.normal(size=(k, n))], [rng.normal(size=k)], [], **options)


def classifier(seed=0, k=4, noise=0.09):
    """Four logits of a random network of 48 neurons a layer, under noise around a point."""
    made = cumprop.random_mlp(48, 2, seed, dtype="float64")
    weights = [*made.weights[:-1], made.weights[-1][:k]]
    point = np.random.default_rng(seed).normal(size=48)
    return cumprop.MLP(weights, input_mean=point, input_cov=noise)


def exact(network):
    """P(argmax = c) of a linear network by SciPy's multivariate normal distribution."""
    w, b = network.weights[0], network.biases[0]
    found = []
    for c in range(len(w)):
        others = np.delete(np.arange(len(w)), c)
        d, shift = w[c] - w[others], b[c] - b[others]
        cdf = partial(multivariate_normal.cdf, abseps=1e-6, maxpts=2_000_000)
        found.append(cdf(shift, np.zeros(len(others)), d @ d.T))
    return np.array(found)


@pytest.mark.thorough
@pytest.mark.parametrize("k", [3, 5])
def test_gaussian_outputs(k):
    """Within the interval and 2e-3 of orthant probabilities: 14 numbers, and none is missed."""
    network = linear(k, seed=k)
    found, truth = cumprop.class_probabilities(network), exact(network)
    assert found.status == "ok"
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(found.probabilities - truth).max() < 2e-3
    low, high = found.interval
    assert (low - 1e-3 < truth).all() and (truth < high + 1e-3).all()
    assert (high - low).max() < 0.01


def test_two_classes_and_their_softmax():
    """P = Φ(d/s); the softmax is E[logistic(d)], here by 200 Gauss–Hermite nodes."""
    network = linear(2)
    d = network.weights[0][0] - network.weights[0][1]
    mean, std = network.biases[0][0] - network.biases[0][1], np.sqrt(d @ d)
    found = cumprop.class_probabilities(network)
    assert found.probabilities[0] == pytest.approx(ndtr(mean / std), abs=1e-3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    softmax = weights @ (1 / (1 + np.exp(-mean - std * nodes))) / weights.sum()
    assert found.softmax[0] == pytest.approx(softmax, abs=1e-3)


def test_equal_outputs_are_equally_likely():
    """Independent outputs of one law: 1/k each; of one variable in all outputs, the first wins."""
    found = cumprop.class_probabilities(cumprop.MLP([np.eye(5)]))
    np.testing.assert_allclose(found.probabilities, 0.2, atol=3e-3)
    np.testing.assert_allclose(found.softmax, 0.2, atol=3e-3)
    tied = cumprop.class_probabilities(cumprop.MLP([np.ones((3, 1))], [[0.0, 1.0, 0.5]], []))
    assert tied.probabilities.tolist() == [0, 1, 0]


def test_outputs_that_do_not_vary():
    still = cumprop.MLP([np.zeros((3, 2))], [[0.0, 2.0, 1.0]], [])
    assert cumprop.class_probabilities(still).probabilities.tolist() == [0, 1, 0]


def turned(network, order, scale=1.0):
    *weights, last = network.weights
    biases = [b if b is None else b * scale for b in network.biases]
    return network.replace(weights=[*weights, scale * last[order]], biases=biases)


def test_order_of_classes():
    network, order = classifier(), [2, 0, 3, 1]
    found, moved = (cumprop.class_probabilities(n) for n in (network, turned(network, order)))
    np.testing.assert_allclose(moved.probabilities, found.probabilities[order], atol=4e-3)
    np.testing.assert_allclose(moved.softmax, found.softmax[order], atol=4e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_units_of_the_outputs(scale):
    """Other units leave P(argmax); float64 so that nothing leaves the range."""
    network = classifier()
    found, scaled = (
        cumprop.class_probabilities(n) for n in (network, turned(network, slice(None), scale))
    )
    np.testing.assert_allclose(scaled.probabilities, found.probabilities, atol=1e-3)
    np.testing.assert_allclose(scaled.interval, found.interval, atol=3e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["basic", "tree"])
def test_intervals_hold_samples(kind):
    """Four random classifiers: 100,000 samples lie in the 95% intervals, widened by 4 s.e."""
    for seed in range(4):
        network = classifier(seed)
        found = cumprop.class_probabilities(network, order=3, kind=kind)
        truth = cumprop.class_probabilities(network, "monte_carlo", n_samples=100_000, seed=9)
        error = 4 * np.sqrt(truth.probabilities * (1 - truth.probabilities) / 1e5) + 3e-5
        low, high = found.interval
        assert (truth.probabilities > low - error).all()
        assert (truth.probabilities < high + error).all()
        low, high = found.softmax_interval
        assert (truth.softmax > low - error).all() and (truth.softmax < high + error).all()


def test_third_cumulants_help():
    """A parabola of one input against a constant: z + z²/4 > 1/4 between two exact roots."""
    bend = cumprop.activations.Custom(lambda z: z + 0.25 * z * z)
    network = cumprop.MLP([[[1.0]], [[1.0], [0.0]]], [[0.0], [0.0, 0.25]], [bend])
    truth = ndtr((np.sqrt(1.25) - 1) * 2 * -1) + ndtr((-np.sqrt(1.25) - 1) * 2)
    bent = cumprop.class_probabilities(network, "cumulant", order=3)
    flat = cumprop.class_probabilities(network, "cumulant", order=2)
    error = [abs(d.probabilities[0] - truth) for d in (bent, flat)]
    assert error[0] < 0.3 * error[1]
    assert bent.interval[0, 0] < truth < bent.interval[1, 0]


def test_orders_without_third_cumulants_say_so():
    found = cumprop.class_probabilities(classifier(), "cumulant", order=2)
    assert found.interval is None
    assert found.status.startswith("unreliable: outputs are taken as Gaussian")
    assert "take order 3, or give a tolerance" in found.status


def test_mixtures_are_weighted_sums():
    near, far = Gaussian(-1.0, 0.5), Uniform(0.0, 2.0)
    network = classifier()
    whole = cumprop.class_probabilities(network.replace(input=Mixture([0.3, 0.7], [near, far])))
    parts = [cumprop.class_probabilities(network.replace(input=law)) for law in (near, far)]
    expected = 0.3 * parts[0].probabilities + 0.7 * parts[1].probabilities
    np.testing.assert_allclose(whole.probabilities, expected, atol=3e-3)


def test_tolerance_falls_to_samples():
    network = classifier(noise=0.5)
    coarse = cumprop.class_probabilities(network, tolerance=0.2)
    assert coarse.n_samples is None and coarse.status == "ok"
    fine = cumprop.class_probabilities(network, tolerance=0.005)
    assert fine.n_samples == 38_616  # (1.96 / (2 · 0.005))² + 1 / 0.005
    assert np.abs(fine.interval - fine.probabilities).max() <= 0.005
    assert fine.flops["forward"] > 0 and fine.flops["linear"] > 0  # both are paid for
    assert cumprop.class_probabilities(network, order=2, tolerance=0.2).n_samples is not None


def test_rows_of_data_are_sampled():
    rows = np.random.default_rng(0).normal(size=(50, 48))
    network = classifier().replace(input=Empirical(rows))
    found = cumprop.class_probabilities(network, tolerance=0.01)
    winners = network.forward(rows).argmax(axis=1)
    assert found.n_samples == 50
    np.testing.assert_allclose(found.probabilities, np.bincount(winners, minlength=4) / 50)


def test_clopper_and_pearson():
    for hits, n, level in [(0, 10, 0.95), (3, 17, 0.9), (17, 17, 0.95), (480, 1000, 0.999)]:
        exact = binomtest(hits, n).proportion_ci(level, method="exact")
        np.testing.assert_allclose(clopper_pearson([hits], n, level)[:, 0], exact, rtol=1e-10)


def test_averages_are_those_of_all_samples():
    network = classifier()
    found = averages(network, lambda y: y, 5000, np.random.default_rng(3))
    again = averages(network, lambda y: np.hstack([y, y * y]), 5000, np.random.default_rng(3))
    variance = again.mean[4:] - again.mean[:4] ** 2
    np.testing.assert_allclose(found.deviation**2, variance, rtol=1e-9)


@pytest.mark.thorough
def test_certificate_is_below_the_true_radius():
    """A half space at distance 0.3: its radius, by 10⁶ samples as well, is never exceeded.

    20 certificates at level 0.999: one false alarm in 50 runs.
    """
    network = cumprop.MLP([[[3.0, 4.0], [0.0, 0.0]]], [[1.5, 0.0]], [], 0.0, 0.25)
    for seed in range(20):
        found = cumprop.class_probabilities(network, tolerance=0.02, certify=True, seed=seed)
        assert found.certificate.winner == 0
        assert 0.2 < found.certificate.radius <= 0.3
        assert found.certificate.estimated_radius == pytest.approx(0.3, abs=0.01)
    many = cumprop.class_probabilities(network, "monte_carlo", n_samples=10**6)
    assert found.certificate.radius <= radius(0.5, many.interval[0, 0])


def test_no_certificate_without_a_majority():
    found = cumprop.class_probabilities(cumprop.MLP([np.eye(3)]), certify=True, tolerance=0.02)
    assert found.certificate.radius == 0
    assert "no certificate" in repr(found)
    assert radius(2.0, 0.9) == pytest.approx(2 * ndtri(0.9))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_cov": [1.0, 2.0]}, "equal Gaussian noise on all inputs"),
        ({"input": Uniform(0.0, 1.0)}, "equal Gaussian noise on all inputs"),
    ],
)
def test_certificates_of_other_noise_are_refused(options, words):
    network = cumprop.MLP([np.eye(2)], **options)
    with pytest.raises(CumpropError, match=words):
        cumprop.class_probabilities(network, certify=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tolerance": -1.0}, "give a positive number"),
        ({"estimator": "adaptive"}, "adaptive samples: take cumulant"),
        ({"estimator": "cumulant", "order": 1, "kind": "base"}, "no covariance"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(CumpropError, match=words):
        cumprop.class_probabilities(classifier(), **arguments)
    with pytest.raises(CumpropError, match="one output is no class"):
        cumprop.class_probabilities(cumprop.MLP([[[1.0]]]))
    with pytest.raises(CumpropError, match="network is ndarray; give a cumprop"):
        cumprop.class_probabilities(np.eye(2))


@pytest.mark.thorough
def test_tensors_have_probabilities_and_no_samples(torch):
    network = classifier()
    tensors = network.replace(weights=[torch.tensor(w) for w in network.weights])
    found, same = cumprop.class_probabilities(network), cumprop.class_probabilities(tensors)
    np.testing.assert_allclose(same.probabilities, found.probabilities, atol=1e-4)
    with pytest.raises(CumpropError, match="samples take NumPy weights, not tensors"):
        cumprop.class_probabilities(tensors, tolerance=1e-3)


def test_printed_and_kept():
    found = cumprop.class_probabilities(classifier(k=4), certify=True, tolerance=0.05)
    words = repr(found).splitlines()
    assert words[0] == "Decision between 4 classes"
    assert words[-1] == "status: ok"
    kept = json.loads(json.dumps(found.to_dict()))
    assert len(kept["interval"][0]) == 4 and kept["certificate"]["sigma"] == pytest.approx(0.3)
