"""Signs of errors: what they are on networks where it is known, and what becomes of them."""

import runpy
from itertools import pairwise
from math import factorial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.estimators import CUMULANT

import cumprop
from cumprop.contract import Signs, laws, looks_random, trust
from cumprop.contract.trust import COHERENT

DOCS = Path(__file__).parents[2] / "docs"
ALL = [*CUMULANT, ("gaussian", {}), ("linearized", {}), ("unscented", {})]


def signs_of(network, **parameters):
    return cumprop.estimate(network, "cumulant", **parameters).signs


# --- the signs ---------------------------------------------------------------------------------


def test_participation_counts_directions():
    """Sixteen neurons that are copies of three independent ones, weighted alike."""
    first = np.kron(np.eye(3), np.ones((4, 1)))
    network = cumprop.MLP([first, np.ones((5, 12)), np.ones((1, 5))])
    assert signs_of(network, order=2).participation == pytest.approx((3.0,))


def test_dead_neurons_and_units_of_neurons_do_not_count():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s) for s in ((20, 10), (15, 20), (3, 15))]
    before = signs_of(cumprop.MLP(weights), order=2)
    scales = np.exp(rng.normal(size=20) * 5)
    scaled = [weights[0] * scales[:, None], weights[1] / scales, weights[2]]
    dead = [np.vstack([scaled[0], 0 * scaled[0]]), np.hstack([scaled[1]] * 2), weights[2]]
    after = signs_of(cumprop.MLP(dead, [np.full(40, -0.0), None, None]), order=2)
    for name in ("participation", "nonlinearity", "cancellation"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-9)
    for name in ("neglected", "unit", "bend", "blur"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9)


def test_cancellation_of_a_difference():
    """y = x_1 - x_2 with correlation ρ: 2 over 2 (1 - ρ); its sum has 2 over 2 (1 + ρ)."""
    cov = np.array([[1.0, 0.6], [0.6, 1.0]])
    for sign, expected in ((-1.0, 1 / 0.4), (1.0, 1 / 1.6)):
        network = cumprop.MLP([np.eye(2), [[1.0, sign]]], None, "identity", input_cov=cov)
        assert signs_of(network, order=2).cancellation == pytest.approx((expected,))


def test_the_nonlinearity_of_relu():
    """1 - (1/2)² / (1/2 - 1/2π) of a centred neuron; a shifted one is linear."""
    weights, bias = [np.eye(4), np.ones((1, 4))], [np.full(4, 30.0), None]
    expected = 1 - 0.25 / (0.5 - 0.5 / np.pi)
    assert signs_of(cumprop.MLP(weights), order=2).nonlinearity == pytest.approx((expected,))
    shifted = signs_of(cumprop.MLP(weights, bias), order=2).nonlinearity
    assert shifted[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_the_neglected_skewness_is_what_order_three_adds(activation):
    """But for the fourth cumulant, a fifth of it, and for higher orders in the correlations."""
    rng, n = np.random.default_rng(1), 200
    weights = [rng.normal(size=(n, n)) / np.sqrt(n) for _ in range(2)]
    biases = [0.3 * rng.normal(size=n), 0.3 * rng.normal(size=n), None]
    network = cumprop.MLP([*weights, np.eye(n)], biases, activation)
    ours, theirs = signs_of(network, order=2), signs_of(network, order=3)
    assert ours.neglected == pytest.approx(theirs.neglected, rel=0.2)


def test_third_cumulants_of_independent_neurons_are_exact():
    """z = Σ w_r relu(x_r): κ_3 = Σ w_r³ κ_3(relu), and E[φ(z)] moves by κ_3 w(3,1) / 6."""
    w = np.array([[0.5, -1.0, 2.0]])
    network = cumprop.MLP([np.eye(3), w, [[1.0]]], None, ["relu", "sigmoid"])
    m = np.array([1 / np.sqrt(2 * np.pi), 0.5, np.sqrt(2 / np.pi)])  # moments of relu(g)
    third = m[2] - 3 * m[1] * m[0] + 2 * m[0] ** 3
    variance, mean = (w**2).sum() * (m[1] - m[0] ** 2), w.sum() * m[0]
    bend = cumprop.activations.get("sigmoid").wick(mean, variance, 3, 1)
    found = signs_of(network, order=2)
    moved = abs((w**3).sum() * third * bend / 6)
    assert found.neglected * np.sqrt(found.unit) == pytest.approx(np.sqrt(2) * moved, rel=1e-6)


def test_common_bends_are_terms_of_the_covariance():
    """Of two inputs into tanh, and one neuron behind: by quadrature, from the Hermite series."""
    rng = np.random.default_rng(3)
    inward, outward = 0.4 * rng.normal(size=(20, 2)), rng.normal(size=(1, 20))
    found = signs_of(cumprop.MLP([inward, outward, [[1.0]]], None, "tanh"), order=2)
    sizes = np.linalg.norm(inward, axis=1)
    rho = inward @ inward.T / np.outer(sizes, sizes)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    x, weights = np.tanh(sizes[:, None] * nodes), weights / weights.sum()
    series = [x * np.polynomial.hermite_e.hermeval(nodes, np.eye(4)[k]) @ weights for k in range(4)]
    terms = [np.outer(a, a) * rho**k / factorial(k) for k, a in enumerate(series)]
    bends, tracked = terms[2] + terms[3], terms[1].copy()
    np.fill_diagonal(bends, 0)
    np.fill_diagonal(tracked, x**2 @ weights - series[0] ** 2)
    share = (outward @ bends @ outward.T / (outward @ tracked @ outward.T)).item()
    assert found.common[0] == pytest.approx(abs(share), rel=1e-6)  # quadrature


def test_the_sum_of_variances_is_that_of_order_two():
    """With all unit vectors (3 outputs), and within the noise of eight sign vectors (50)."""
    for n_outputs, tolerance in ((3, 1e-9), (50, 0.35)):
        weights = [*cumprop.random_mlp(50, 3, 0, dtype="float64").weights]
        weights[-1] = weights[-1][:n_outputs]
        network = cumprop.MLP(weights)
        found = cumprop.estimate(network, "cumulant", order=2, cov=True)
        assert found.signs.unit == pytest.approx(np.trace(found.cov), rel=tolerance)


@pytest.mark.parametrize(("order", "kind"), [(2, "basic"), (3, "basic"), (4, "basic")])
def test_algorithms_show_the_same_signs(order, kind):
    network = cumprop.random_mlp(9, 3, 2, "gelu", dtype="float64")
    one, other = (
        signs_of(network, order=order, kind=kind, algorithm=algorithm, cov=True)
        for algorithm in ("dense", "structured")
    )
    for name in ("participation", "nonlinearity", "cancellation", "common"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-7)
    for name in ("neglected", "unit", "correction", "rounding"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("width", "depth", "most"), [(64, 4, 0.25), (128, 2, 0.25), (256, 4, 0.06)]
)
@pytest.mark.parametrize("order", [2, 3])
def test_signs_cost_little(width, depth, most, order):
    """FLOPs beside those of the estimate, counted; of order 2 they fall as 1/n."""
    flops = cumprop.estimate(cumprop.random_mlp(width, depth, 0), "cumulant", order=order).flops
    assert flops["error"] <= most * (flops.total - flops["error"])


def test_random_networks_look_random_and_trained_ones_do_not():
    for seed in range(5):
        network = cumprop.random_mlp(100, 3, seed)
        assert looks_random(signs_of(network, order=2), network.widths, 100)
    rng = np.random.default_rng(0)
    weights = [w + 0.5 * np.outer(rng.normal(size=100), np.ones(100)) / 10 for w in network.weights]
    narrowed = cumprop.MLP(weights)
    assert not looks_random(signs_of(narrowed, order=2), narrowed.widths, 100)


# --- what becomes of them ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), ALL, ids=str)
def test_every_estimate_tells_its_error(name, parameters):
    network = cumprop.random_mlp(24, 3, 0, "gelu")
    found = cumprop.estimate(network, name, cov=True, **parameters)
    assert 0 < found.expected_error < 10 and 0 < found.expected_std_error < 10
    assert found.half_width.shape == (24,) and (found.half_width > 0).all()
    assert found.status == "ok" or found.status.startswith("unreliable: ")
    assert [len(v) for v in found.layer_variances or ()] in ([], [24, 24, 24])


@pytest.mark.parametrize(("name", "parameters"), ALL[1:6], ids=str)
def test_exact_estimates_expect_no_error(name, parameters):
    """Behind one hidden layer orders from 2 on know the mean, `gaussian` the covariance, too."""
    network = cumprop.random_mlp(24, 1, 0, dtype="float64")
    found = cumprop.estimate(network, name, cov=True, **parameters)
    assert found.expected_error < 1e-12
    assert (found.expected_std_error < 1e-12) == (name == "gaussian")


def test_broken_orders_say_so():
    """Width 32 and depth 12: order 3 is 0.87 output s.d. off."""
    found = cumprop.estimate(cumprop.random_mlp(32, 12, 0, dtype="float64"), "cumulant", order=3)
    assert found.status.startswith("unreliable: means are expected to be")
    assert found.status.endswith("; take adaptive") and found.expected_error > 0.1


def signs(**given):
    usual = {
        "participation": (50.0,),
        "nonlinearity": (0.2, 0.2),
        "cancellation": (1.0, 1.0),
        "common": (0.0, 0.0),
        "neglected": 0.01,
        "correction": 0.1,
        "rounding": 1e-7,
        "unit": 1.0,
        "shares": np.full(4, 0.25),
    }
    return Signs(**(usual | given))


def test_errors_of_convolutions_add_up():
    means = np.zeros(4)
    for name in ("order 2", "order 3 tree", "gaussian", "linearized"):
        dense, local = (trust(name, signs(zeros=z), means, std=True) for z in (0.5, 0.9))
        assert local.expected_error == pytest.approx(COHERENT * dense.expected_error, rel=1e-4)
        assert local.expected_std_error >= dense.expected_std_error


def test_zeros_of_maps_between_layers_are_seen():
    """Rows of one entry, as of neurons that are passed on, do not count, nor does the last map."""
    rng = np.random.default_rng(0)
    band = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 1
    local = rng.normal(size=(12, 12)) * band
    passed = np.concatenate([rng.normal(size=(6, 12)), np.eye(12)[:6]])
    for hidden, zeros in ((local, 1 - 34 / 144), (passed, 0.0)):
        network = cumprop.MLP([rng.normal(size=(12, 12)), hidden, np.eye(12)])
        found = cumprop.estimate(network, "cumulant", order=2)
        assert found.signs.zeros == pytest.approx(zeros)


def test_doubts_are_named():
    means = np.zeros(4)
    assert trust("order 2", signs(), means, std=True).status == "ok"
    few = trust("order 2", signs(participation=(1.2,), neglected=1.0), means, std=False)
    assert "1.2 directions carry a layer" in few.status
    negative = trust("order 2", signs(), means, std=False, notes=["a variance is negative"])
    assert negative.status == "unreliable: a variance is negative; take adaptive"
    lost = trust("order 2", signs(rounding=0.3), means, std=False)
    assert "rounding is a matter of output s.d.: take float64" in lost.status
    wild = trust("order 2", signs(), means * np.nan, std=False)
    assert wild.expected_error == np.inf and "leave the range" in wild.status


def test_more_of_any_sign_is_more_error():
    """No law has a negative power."""
    for both in laws.LAWS.values():
        for law in both:
            assert law["scale"] > 0 and all(power >= 0 for power in law.values())


def test_far_beyond_the_calibration_errors_are_no_smaller_than_what_cumulants_change():
    """Deep sigmoid networks of one direction: orders whose cumulants double the variances."""
    wild, mild = (trust("order 3", signs(correction=c), np.ones(4), std=True) for c in (1.2, 0.1))
    assert wild.expected_std_error >= 1.2**4 / 2 and "standard deviations" in wild.status
    assert mild.expected_std_error < 0.2 and mild.status == "ok"
    one_direction = signs(participation=(1.0,), nonlinearity=(0.9, 0.9))
    for name in ("order 2", "gaussian"):
        found = trust(name, one_direction, np.ones(4), std=True)
        assert found.expected_std_error >= 0.9
        assert (found.expected_error >= 0.9 * np.sqrt(1.8) / 2) == (name == "gaussian")


def test_outputs_that_do_not_vary_are_as_exact_as_rounding():
    found = trust("order 2", signs(unit=0.0, rounding=1e-3), np.ones(4), std=True)
    assert (found.expected_error, found.expected_std_error, found.status) == (0, 0, "ok")
    np.testing.assert_allclose(found.half_width, laws.QUANTILE * 1e-3 / 2)


@pytest.mark.parametrize("kind", ["basic", "tree"])
def test_outputs_whose_variance_was_lost_promise_nothing(kind):
    """All neurons of the last layer have negative variances at order 3, taken as 0."""
    rng = np.random.default_rng(104)
    widths = (2, 30, 30, 30, 1, 1)
    weights = [
        rng.normal(size=(out, n)) * np.sqrt(4.5 / n) + 0.3 / np.sqrt(n)
        for n, out in pairwise(widths)
    ]
    network = cumprop.MLP(weights, [rng.normal(size=n) for n in widths[1:]])
    found = cumprop.estimate(network, "cumulant", order=3, kind=kind, cov=True)
    assert found.status.startswith("unreliable: the variances of")
    assert found.signs.unit == 0 and found.cov[0, 0] == 0
    assert found.expected_error is found.expected_std_error is found.half_width is None
    assert "±" not in repr(found)


# --- the calibration ---------------------------------------------------------------------------


def test_the_laws_are_what_the_calibration_gives(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    script = runpy.run_path(str(DOCS / "calibrate.py"))
    table = pd.read_csv(script["TABLE"])
    fits = script["fit_all"](table)
    assert script["quantile"](table, fits) == pytest.approx(laws.QUANTILE, abs=0.11)
    assert [*fits] == [*laws.LAWS]
    for estimator, pair in fits.items():
        for fit, law in zip(pair, laws.LAWS[estimator], strict=True):
            nonzero = {sign: number for sign, number in fit.law.items() if number}
            assert nonzero == pytest.approx(law, abs=0.011, rel=0.02)
