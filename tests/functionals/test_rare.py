"""Rare events against exact probabilities. Seeds are fixed; false alarms are stated per test."""

import json

import numpy as np
import pytest
from scipy.stats import norm

import cumprop
from cumprop.errors import CumpropError
from cumprop.functionals.rare import Event, as_text
from cumprop.functionals.rare.means import Importance, Plain, Splitting
from cumprop.functionals.rare.passes import Excess, parts
from cumprop.functionals.rare.plan import Plan
from cumprop.functionals.rare.proposal import Proposal
from cumprop.functionals.rare.search import likely_modes, with_modes
from cumprop.functionals.rare.splitting import Step, pilot
from cumprop.inputs import Empirical, Gaussian, Mixture, Uniform

LINE = cumprop.MLP([[[3.0, 4.0]]])  # Y ~ N(0, 25)


def mean_excess(t):
    """E[(Z − t)₊] of a standard normal Z."""
    return norm.pdf(t) - t * norm.sf(t)


def of_line(network, words):
    """The function g of an event of a network with one part."""
    [(_, excess)] = parts(network, Event.parsed(words, network.widths[-1]))
    return excess


def holds(interval, truth, slack=1.0):
    """Whether an interval, stretched by `slack` about its middle, holds the truth."""
    low, high = interval
    middle, half_width = (low + high) / 2, slack * (high - low) / 2
    return abs(truth - middle) <= half_width


# --- exact probabilities -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.5, 2.0, 3.7, 5.0, 6.0])
def test_tails_of_a_gaussian(k):
    """Intervals of 95%, stretched by two: a false alarm once in 10,000."""
    found = LINE.probability(f"y0 > {5 * k}")
    assert found.status == "ok"
    assert holds(found.interval, norm.sf(k), 2) and holds(
        found.excess_interval, 5 * mean_excess(k), 2
    )
    half_width = (found.interval[1] - found.interval[0]) / 2
    assert half_width <= 0.105 * found.probability


def test_intervals_of_both_numbers_to_a_tolerance():
    """With `excess` the rule looks at E[(u − t)₊], whose interval is the wider one."""
    found = LINE.probability("y0 > 10", tolerance=0.02, excess=True)
    for value, (low, high) in (
        (found.probability, found.interval),
        (found.excess, found.excess_interval),
    ):
        assert 0.98 * value <= low <= value <= high <= 1.02 * value


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "probability", "excess"),
    [
        ("|y0| > 20", 2 * norm.sf(4), 10 * mean_excess(4)),
        ("|y0 - 1| > 20", norm.sf(21 / 5) + norm.sf(19 / 5),
         5 * (mean_excess(21 / 5) + mean_excess(19 / 5))),
        ("y0 < -20", norm.sf(4), 5 * mean_excess(4)),
        ("y1 - y0 > 20", norm.sf(20 / np.hypot(2, 4)),
         np.hypot(2, 4) * mean_excess(20 / np.hypot(2, 4))),
    ],
)  # fmt: skip
def test_sides_and_differences(words, probability, excess):
    """Stretched by two: a false alarm once in 10,000."""
    network = cumprop.MLP([[[3.0, 4.0], [1.0, 0.0]]])
    found = network.probability(words)
    assert found.status == "ok"
    assert holds(found.interval, probability, 2) and holds(found.excess_interval, excess, 2)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_one_hidden_layer_of_one_input(activation):
    """The truth is an integral over the line, by 400,001 points: good to 1e-4.

    Stretched by two: a false alarm once in 10,000.
    """
    rng = np.random.default_rng(3)
    network = cumprop.MLP(
        [rng.normal(size=(6, 1)), rng.normal(size=(1, 6))], [rng.normal(size=6), None], activation
    )
    z = np.linspace(-10, 10, 400_001)
    y = network.forward(z[:, None])[:, 0]
    density = norm.pdf(z) * (z[1] - z[0])
    t = float(network.forward([[4.2]])[0, 0] + network.forward([[-3.9]])[0, 0]) / 2
    sign = ">" if t > np.median(y[np.abs(z) < 1]) else "<"
    hit = y > t if sign == ">" else y < t
    found = network.probability(f"y0 {sign} {t!r}")
    assert holds(found.interval, density[hit].sum(), 2)
    assert holds(found.excess_interval, (density * abs(y - t))[hit].sum(), 2)


@pytest.mark.thorough
def test_inputs_of_all_laws():
    """A box, a mixture, a singular covariance with a constant input; false alarm 1e-4 each."""
    box = cumprop.MLP([[[1.0] * 6]], input=Uniform(0.0, 1.0)).probability("y0 > 5.5")
    assert holds(box.interval, 0.5**6 / 720, 2)
    assert np.allclose(box.points[0].input, 5.5 / 6, atol=0.02)

    two = Mixture([0.9, 0.1], [Gaussian(0.0, 1.0), Gaussian([0.0, 1.0], 2.0)])
    mixed = LINE.replace(input=two).probability("y0 > 25")
    assert holds(mixed.interval, 0.9 * norm.sf(5) + 0.1 * norm.sf(21 / np.sqrt(50)), 2)

    cov = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    singular = cumprop.MLP([[[1.0, 1.0, 2.0]]], input_mean=[0, 0, 1], input_cov=cov)
    found = singular.probability("y0 > 12")
    assert holds(found.interval, norm.sf(5), 2)
    assert np.allclose(found.points[0].input, [5, 5, 1], atol=0.02)
    assert np.isclose(found.points[0].distance, 5, atol=0.01)
    assert np.isclose(found.points[0].value, 12, atol=0.02)


def test_rare_components_of_a_mixture_are_measured_where_they_matter():
    """The wide component has 1% of the weight and all of the event; false alarm 1e-4."""
    law = Mixture([0.99, 0.01], [Gaussian(0.0, 1.0), Gaussian(0.0, 4.0)])
    found = LINE.replace(input=law).probability("y0 > 45")
    assert found.status == "ok" and holds(found.interval, 0.01 * norm.sf(4.5), 2)


# --- every part is unbiased ----------------------------------------------------------------------


def z_score(draws, truth):
    """Distance of the mean from the truth in standard errors."""
    return (draws.mean(axis=0) - truth) / (draws.std(axis=0, ddof=1) / np.sqrt(len(draws)))


@pytest.fixture(scope="module")
def climbed():
    """Y ~ N(0, 25) above 15, its pilot, and the truth."""
    excess = of_line(LINE, "y0 > 15")
    truth = np.array([norm.sf(3), 5 * mean_excess(3)])
    return excess, pilot(excess, np.random.default_rng(0), 10**6), truth


def test_splitting_alone_is_unbiased(climbed):
    """200 runs, 4 standard errors of two numbers: a false alarm once in 8,000."""
    excess, found, truth = climbed
    mean = Splitting(
        excess, 1.0, found.cost, np.random.default_rng(1), pilot=found, proposal=None, c=1.0
    )
    before = excess.passes
    mean.more(200)
    assert excess.passes - before == 200 * found.cost
    assert (abs(z_score(mean.draws, truth)) < 4).all()


def test_levels_may_be_any(climbed):
    """Uneven levels and step sizes; 200 runs, a false alarm once in 8,000."""
    excess, found, truth = climbed
    steps = [Step(-20.0, (0.3, 0.9)), Step(-4.0, (0.5,)), Step(0.0, (0.7,) * 3)]
    uneven = type(found)(steps, 1.0, found.particles, found.values)
    mean = Splitting(
        excess, 1.0, uneven.cost, np.random.default_rng(2), pilot=uneven, proposal=None, c=1.0
    )
    mean.more(200)
    assert (abs(z_score(mean.draws, truth)) < 4).all()


@pytest.mark.parametrize("place", [3.0, 0.0, -3.0])
def test_both_parts_together_are_unbiased_for_any_density(climbed, place):
    """A density at the event, at the origin, and on the wrong side; a false alarm once in 8,000."""
    excess, found, truth = climbed
    direction = np.array([[0.6], [0.8]])
    proposal = Proposal(
        direction, np.ones(1), np.array([[place]]), np.array([[[0.4]]]), np.array([[-1.0, 3.0]])
    )
    rng, c = np.random.default_rng(4), 300 * found.probability
    sampled = Importance(excess, 1.0, 1, rng, proposal=proposal, c=c)
    split = Splitting(excess, 1.0, found.cost, rng, pilot=found, proposal=proposal, c=c)
    sampled.more(40_000)
    split.more(60)
    assert sampled.draws[:, 0].max() <= c
    error = np.sqrt(sampled.variance + split.variance)
    assert (abs(sampled.value + split.value - truth) < 4 * error).all()
    covered = sampled.value[0] / truth[0]
    assert covered > 0.9 if place == 3 else covered < 0.9
    assert (abs(z_score(split.alone, truth)) < 4).all()


def test_densities_integrate_to_one():
    """E_φ[q/φ] = 1, and samples of q have the ratio's second moment; a false alarm in 10,000."""
    rng = np.random.default_rng(5)
    proposal = Proposal(
        np.eye(3)[:, :2],
        np.array([0.3, 0.7]),
        np.array([[0.5, 0.0], [-0.4, 0.3]]),
        np.array([[[0.8, 0.0], [0.2, 0.7]], [[0.9, 0.0], [-0.1, 0.6]]]),
        np.array([[0.2, 0.1, 0.5]]),
    )
    z = rng.normal(size=(200_000, 3))
    ratio = np.exp(proposal.log_ratio(z))
    assert abs(z_score(ratio, 1.0)) < 4
    drawn = proposal.placed(z.copy(), rng)
    inverse = np.exp(-proposal.log_ratio(drawn))
    assert abs(z_score(inverse, 1.0)) < 4
    assert (abs(z_score(drawn * inverse[:, None], np.zeros(3))) < 4).all()


# --- gradients, passes, units, symmetry ----------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", "per neuron"])
@pytest.mark.parametrize("words", ["y0 > 0.5", "|y0 - 2*y1| > 0.1", "y1 < 0.3"])
def test_gradients_are_those_of_finite_differences(activation, words):
    layers = [["relu", "tanh", "tanh", "identity", "gelu"]] * 2
    rng = np.random.default_rng(6)
    network = cumprop.MLP(
        [rng.normal(size=s) for s in ((5, 4), (5, 5), (2, 5))],
        [rng.normal(size=n) for n in (5, 5, 2)],
        layers if activation == "per neuron" else activation,
        input_mean=rng.normal(size=4),
        input_cov=np.diag([1.0, 2.0, 3.0, 4.0]) + 0.5,
    )
    excess = of_line(network, words)
    z = rng.normal(size=(20, 4))
    values, slopes = excess.slopes(z)
    assert np.allclose(values, excess(z)) and excess.passes == 20 * 4
    step = 1e-6
    for a, unit in enumerate(np.eye(4)):
        difference = (excess(z + step * unit) - excess(z - step * unit)) / (2 * step)
        assert np.allclose(slopes[:, a], difference, atol=1e-6)
    event = Event.parsed(words, 2)
    outputs = network.forward(excess.inputs(z))
    assert np.allclose(event.excess(outputs @ event.row), values)


def test_passes_are_what_ran(monkeypatch):
    network = cumprop.random_mlp(width=8, depth=2, seed=0)
    rows, whole = [], Excess._forward
    monkeypatch.setattr(Excess, "_forward", lambda self, z: rows.append(len(z)) or whole(self, z))
    found = network.probability("y1 > 1.5")
    gradients = (found.passes - sum(rows)) / 2  # a gradient is one pass forward, and counts three
    assert found.passes > sum(rows) and gradients == int(gradients)
    per_pass = 2 * (2 * 64 + 8)
    assert found.flops["forward"] >= sum(rows) * per_pass
    assert found.flops["backward"] >= gradients * per_pass


@pytest.mark.thorough
def test_units_of_inputs_and_outputs_do_not_matter():
    """Powers of two change no rounding, so that the same seed gives the same numbers."""
    network = cumprop.random_mlp(width=6, depth=2, seed=1)
    first, *_, last = network.weights
    plain = network.probability("y0 > 1.5")
    large = network.replace(weights=[first, network.weights[1], 4 * last]).probability("y0 > 6")
    small = network.replace(
        weights=[first * 8, network.weights[1], last], input_cov=1 / 64
    ).probability("y0 > 1.5")
    assert np.isclose(large.probability, plain.probability, rtol=1e-3)
    assert np.isclose(large.excess, 4 * plain.excess, rtol=1e-3)
    assert np.isclose(small.probability, plain.probability, rtol=1e-3)
    assert np.isclose(large.points[0].distance, plain.points[0].distance, rtol=1e-3)
    assert np.allclose(8 * small.points[0].input, plain.points[0].input, atol=1e-2)


def test_the_order_of_neurons_does_not_matter():
    """Two intervals of one probability meet, stretched by two: a false alarm once in 10,000."""
    network = cumprop.random_mlp(width=6, depth=2, seed=1)
    order = np.array([3, 1, 5, 0, 2, 4])
    w1, w2, w3 = network.weights
    other = network.replace(weights=[w1[order], w2[:, order], w3])
    one, two = network.probability("y0 > 1.5"), other.probability("y0 > 1.5")
    half_widths = [(p.interval[1] - p.interval[0]) / 2 for p in (one, two)]
    assert abs(one.probability - two.probability) < 2 * np.hypot(*half_widths)


def test_weights_in_pytorch_give_the_same_numbers():
    torch = pytest.importorskip("torch")
    network = cumprop.random_mlp(width=6, depth=2, seed=1)
    tensors = cumprop.MLP([torch.tensor(w, requires_grad=True) for w in network.weights])
    assert (
        tensors.probability("y0 > 1.5").probability == network.probability("y0 > 1.5").probability
    )


def test_float32_networks_stay_in_float32():
    assert of_line(cumprop.random_mlp(width=6, depth=2, seed=1), "y0 > 1").dtype == np.float32
    assert of_line(LINE, "y0 > 1").dtype == np.float64


def test_seeds_are_repeatable():
    one, two, other = (LINE.probability("y0 > 20", seed=seed) for seed in (3, 3, 4))
    assert one.to_dict() == two.to_dict() and one.probability != other.probability


# --- modes, and what is not found ----------------------------------------------------------------


TWO_RIDGES = cumprop.MLP([np.eye(2, 6), [[1.0, 9.0]]], [[0.0, -3.5], None])
"""relu(x_0) + 9 relu(x_1 − 3.5), above 4.5: one mode at distance 4.5, a late one at 4."""


def test_a_late_mode_with_most_of_the_probability_is_found():
    """The second ridge starts at 3.5 and has 90% of the event; a false alarm once in 10,000."""
    found = TWO_RIDGES.probability("y0 > 4.5")
    z = np.linspace(0, 12, 200_001)
    left = 4.5 - 9 * np.maximum(z - 3.5, 0)  # the level that x_0 has to be above
    needed = np.where(left > 0, norm.sf(np.maximum(left, 0)), 1.0)
    truth = norm.sf(4.5) * norm.cdf(0) + (norm.pdf(z) * needed).sum() * (z[1] - z[0])
    assert found.status == "ok" and holds(found.interval, truth, 2)
    directions = {int(abs(point.input).argmax()) for point in found.points}
    assert directions == {0, 1}


def test_a_needle_beside_a_plain_tail_is_found():
    """x_0 above 4.5, or x_1 and x_2 both above 2.9, which without the corner change nothing.

    Steps lead from the corner, where only x_0 has a slope, to the tail of x_0, which is nearer.
    """
    corner = 2.9
    first = np.zeros((4, 4))
    first[0, 0], first[1, 0], first[2, 1], first[3, 2] = 1, -1, -1, -1
    second = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -1]]
    biases = [[0, 0, corner, corner], [0, 0, 0.002], None]
    network = cumprop.MLP([first, second, [[1.0, -1.0, 5000.0]]], biases)
    truth = norm.sf(4.5) + norm.sf(corner) ** 2
    found = network.probability("y0 > 4.5")
    assert abs(found.probability - truth) < 2 * 0.1 * truth and norm.sf(4.5) < 0.5 * truth


def test_copies_of_one_mode_leave_room_for_others():
    """Either of two inputs above 5: twelve points of one mode, the other, and an unlikely point."""
    rng, p = np.random.default_rng(0), 2 * norm.sf(5)
    network = cumprop.MLP([np.eye(2, 3), np.eye(2), [[1.0, 1.0]]], [[-5.0, -5.0], None, None])
    near = np.array([5.01, 0.0, 0.0]) + 0.001 * rng.standard_normal((12, 3))
    far, unlikely = np.array([0.0, 5.02, 0.0]), np.array([30.0, 30.0, 0.0])
    excess = of_line(network, "y0 > 0")
    found = likely_modes(excess, np.vstack([near, far, unlikely]), p, rng)
    np.testing.assert_array_equal(found, [near[0], far])
    elsewhere = Proposal(
        np.eye(3)[:, :1], np.ones(1), np.array([[-5.0]]), np.ones((1, 1, 1)), np.empty((0, 3))
    )
    np.testing.assert_array_equal(with_modes(elsewhere, found, p, trust=300).modes, found)


def test_the_tip_of_a_sliver_is_no_likely_mode():
    """Beyond 3 along x_0 with ten inputs within 0.1: 1e-3 · 0.08^10. A half-space beyond 5 is."""
    across, rng = np.eye(10, 11, 1), np.random.default_rng(0)
    network = cumprop.MLP(
        [np.vstack([np.eye(1, 11), across, -across]), [[1.0] + [-100.0] * 20]],
        [np.concatenate([[-3.0], np.full(20, -0.1)]), None],
    )
    sliver, tip = of_line(network, "y0 > 0"), 3.1 * np.eye(1, 11)
    assert sliver(tip)[0] > 0
    assert not len(likely_modes(sliver, tip, 1e-6, rng))
    plane = of_line(cumprop.MLP([np.eye(1, 11)]), "y0 > 5")
    assert len(likely_modes(plane, 5.01 * np.eye(1, 11), norm.sf(5), rng))


def test_an_event_that_never_happens_has_an_upper_bound():
    network = cumprop.MLP([[[1.0, 0.0]], [[1.0]]], activations="tanh")
    found = network.probability("y0 > 2", budget=100_000)
    assert found.probability == 0 and found.interval[0] == 0
    assert 3 / 100_000 < found.interval[1] < 1e-3
    assert found.status.startswith("warning: no event was found") and "budget" in found.status


def test_constant_outputs():
    network = cumprop.MLP([[[0.0, 0.0]]], [[1.0]], [])
    assert network.probability("y0 > 0.5").interval[1] == 1
    never = network.probability("y0 > 2", budget=50_000)
    assert never.probability == 0 and never.interval[1] > 3 / 50_000


@pytest.mark.thorough
def test_steps_have_no_gradient_and_are_split_alone():
    """The sum of 12 steps; the truth is binomial. A false alarm once in 10,000."""
    network = cumprop.MLP([np.eye(12), np.ones((1, 12))], [np.full(12, -1.0), None], "heaviside")
    found = network.probability("y0 > 8.5")
    from scipy.stats import binom

    assert found.status.startswith("warning: no gradients")
    assert found.covered == 0 and not found.points
    assert holds(found.interval, binom.sf(8, 12, norm.sf(1)), 2)


def test_a_small_budget_is_kept_and_said():
    found = cumprop.random_mlp(width=16, depth=2, seed=0).probability(
        "y0 > 3", tolerance=0.005, budget=150_000
    )
    assert found.passes <= 150_000
    assert found.status.startswith("warning: the half width is")
    least = LINE.probability("y0 > 15", tolerance=0.001, budget=20_000)
    assert least.passes <= 30_000 and holds(least.interval, norm.sf(3), 2)


def test_two_estimates_that_disagree_are_both_shown():
    excess = of_line(LINE, "y0 > 15")
    rng = np.random.default_rng(0)
    found = pilot(excess, rng, 10**6)
    plan = Plan(excess.event, 0.1, 10**6, False, rng, excesses=[excess])
    proposal = Proposal.fitted(*(np.ones((3, 2)) + rng.normal(size=(2, 3, 2))), rng)
    sampled = Importance(excess, 1.0, 1, rng, proposal=proposal, c=1.0)
    sampled.draws = np.full((100, 2), 3e-3) + 1e-5 * rng.normal(size=(100, 2))
    split = Splitting(excess, 1.0, found.cost, rng, pilot=found, proposal=proposal, c=1.0)
    split.draws = np.zeros((8, 2))
    split.alone = np.full((8, 2), 1e-3) + 1e-5 * rng.normal(size=(8, 2))
    plan.means = [sampled, split]
    status = plan.result(cumprop.Flops()).status
    assert status.startswith("unreliable: two unbiased estimates disagree, 0.003 ±")
    assert "0.001 ±" in status and "by splitting alone" in status


def test_plain_samples_have_the_interval_of_clopper_and_pearson():
    excess = of_line(LINE, "y0 > 0")
    mean = Plain(excess, 1.0, 1, np.random.default_rng(0))
    mean.draws = np.zeros((100, 2))
    assert np.allclose(mean.interval, [0, 1 - 0.025 ** (1 / 100)])


# --- what is shown, and what is refused ----------------------------------------------------------


def test_a_result_is_shown_and_stored():
    found = LINE.probability("y0 > 25")
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["points"][0]["input"] == found.points[0].input.tolist()
    assert repr(found) == as_text(stored)
    first, *_, last = repr(found).splitlines()
    assert first.startswith("P(y0 > 25) = 2.8") and last == "status: ok"


def test_progress_is_told():
    told = []
    LINE.probability("y0 > 20", progress=lambda passes, error: told.append((passes, error)))
    assert told[-1][1] <= 0.1 and told[-1][0] > 1000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tolerance": 0.0}, "tolerance is 0"),
        ({"tolerance": "x"}, "tolerance must be a number"),
        ({"budget": 100}, "budget is 100 passes"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_other_options_are_refused(options, reason):
    with pytest.raises(CumpropError, match=reason):
        LINE.probability("y0 > 3", **options)


def test_rows_of_data_are_refused_with_a_remedy():
    rows = LINE.replace(input=Empirical(np.zeros((5, 2))))
    with pytest.raises(CumpropError, match="take monte_carlo"):
        rows.probability("y0 > 3")


def test_passes_that_overflow_are_refused():
    network = cumprop.MLP([np.full((2, 2), 1e30, "f4"), np.full((1, 2), 1e30, "f4")])
    with pytest.raises(CumpropError, match="overflow float32"):
        network.probability("y0 > 1")
