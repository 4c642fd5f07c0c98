"""Losses, the ways to estimate them, advice, and the one loop that descends on them."""

from math import exp, pi, sqrt

import numpy as np
import pytest
from scipy.special import logsumexp, ndtr

import cumprop
from cumprop.errors import CumpropError
from cumprop.inputs import Uniform
from cumprop.networks import MLP
from cumprop.training import (
    Adversarial,
    Advice,
    Conditional,
    CrossEntropy,
    ExpectedMaximum,
    Imitation,
    ImportanceSampled,
    Mechanistic,
    Regression,
    Sampled,
    TailExcess,
    TailProbability,
    Term,
    descend,
)
from cumprop.training.source import Source
from cumprop.training.wiring import chained, in_torch, tournament

pytestmark = pytest.mark.torch


def network(widths=(4, 6, 5, 1), activation="tanh", seed=0, scale=1.5, **law):
    rng = np.random.default_rng(seed)
    pairs = zip(widths[1:], widths[:-1], strict=True)
    weights = [scale * rng.normal(size=pair) / sqrt(pair[1]) for pair in pairs]
    return MLP(weights, [0.2 * rng.normal(size=n) for n in widths[1:]], activation, **law)


def line(direction, threshold=0.0):
    """The linear network direction · x − threshold, with a hidden layer."""
    direction = np.asarray(direction, dtype=float)
    return MLP([np.eye(len(direction)), direction[None]], [None, [-threshold]], "identity")


def excess(distance):
    """E[(z − d)₊] for z ~ N(0, 1)."""
    return exp(-(distance**2) / 2) / sqrt(2 * pi) - distance * ndtr(-distance)


def value(way, loss, student, seed=0):
    """One estimate, and its gradient by the weights."""
    torch = pytest.importorskip("torch")
    weights = [torch.tensor(w, requires_grad=True) for w in student.weights]
    g = student.replace(weights=weights, init_scale=None)
    source = Source(loss.inputs(student), np.random.default_rng(seed))
    way.prepare(loss, g, source)
    found = way(loss, g, source)
    return float(found.detach()), torch.autograd.grad(
        found, weights, allow_unused=True, materialize_grads=True
    )


class TestLosses:
    """Values at inputs are the outputs of the loss's network, and those written by hand."""

    def test_values_are_the_outputs_of_the_network(self):
        f, g = network((4, 6, 5, 3)), network((4, 3, 2, 3), seed=1)
        x = np.random.default_rng(0).normal(size=(20, 4))
        y = g.forward(x)
        downstream = network((3, 4, 2), seed=2)
        for loss, by_hand in (
            (Imitation(f), ((f.forward(x) - y) ** 2).mean(axis=1)),
            (TailExcess(0.3, output=2), np.maximum(y[:, 2] - 0.3, 0)),
            (TailProbability(0.3, output=2), y[:, 2] > 0.3),
            (TailExcess(-0.1, 1, downstream), np.maximum(downstream.forward(y)[:, 1] + 0.1, 0)),
            (ExpectedMaximum(), y.max(axis=1)),
            (CrossEntropy(2), logsumexp(y, axis=1) - y[:, 2]),
        ):
            np.testing.assert_allclose(loss.network(g).forward(x)[:, 0], by_hand, atol=1e-13)
            np.testing.assert_allclose(loss.values(g, x).mean(axis=1), by_hand, atol=1e-13)

    def test_regression_is_the_error_against_targets(self):
        g = network((4, 3, 2, 3))
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
        loss = Regression(x, y)
        wanted = ((g.forward(x) - y) ** 2).mean(axis=1)
        np.testing.assert_allclose(loss.values(g, loss.rows)[:, 0], wanted, atol=1e-13)

    @pytest.mark.parametrize("k", range(1, 8))
    def test_tournaments_of_any_size(self, k):
        y = np.random.default_rng(k).normal(size=(50, k))
        for activation, wanted in (("relu", y.max(axis=1)), ("softplus", logsumexp(y, axis=1))):
            found = tournament(k, activation).forward(y)[:, 0]
            np.testing.assert_allclose(found, wanted, atol=1e-13)

    def test_there_are_as_many_classes_as_outputs(self):
        with pytest.raises(CumpropError, match="there is no class 3: give one from 0 to 2"):
            CrossEntropy(3).network(network((4, 6, 3)))

    def test_chained_networks(self):
        first, then = network((4, 6, 3)), network((3, 5, 2), "relu", seed=1)
        x = np.random.default_rng(0).normal(size=(20, 4))
        wanted = then.forward(first.forward(x))
        np.testing.assert_allclose(chained(first, then).forward(x), wanted, atol=1e-13)
        with pytest.raises(CumpropError, match="2 outputs do not fit 4 inputs"):
            chained(then, first)

    def test_steps_have_no_sampled_gradient(self, torch):
        with pytest.raises(CumpropError, match="train on TailExcess, or mechanistically"):
            value(Sampled(10), TailProbability(0.0), network())

    def test_only_events_have_advice(self, torch):
        with pytest.raises(CumpropError, match="Imitation is not about an event"):
            value(Conditional(Advice()), Imitation(network()), network())
        with pytest.raises(CumpropError, match="there is no output 1: they are 0 to 0"):
            TailExcess(0.0, output=1).margin(network())


class TestWays:
    @pytest.mark.parametrize("direction", [[0.6, 0.8], [2.0, 0.0, -1.5]])
    @pytest.mark.parametrize("order", [2, 3])
    def test_conditional_excess_of_a_line_exactly(self, torch, direction, order):
        """y = |a| z: E[(y − t)₊] = |a| E[(z − t/|a|)₊] at 4.5 s.d., by 16 nodes to 1e-3."""
        size = np.linalg.norm(direction)
        loss = TailExcess(4.5 * size)
        found, gradients = value(Conditional(Advice(), order, nodes=16), loss, line(direction))
        assert found == pytest.approx(size * excess(4.5), rel=1e-3)
        slope = gradients[1].numpy()[0] @ np.asarray(direction) / size
        by_size = exp(-(4.5**2) / 2) / sqrt(2 * pi)  # d/d|a| of |a| E[(z − t/|a|)₊] at fixed t
        assert slope == pytest.approx(by_size, rel=0.01)

    def test_conditional_probability_of_a_bent_line(self, torch):
        """P(z_0 + tanh(z_1)/2 > 4) by a sum over a grid of z_1, and its slope in the weights."""
        student = MLP(
            [np.eye(2), np.array([[1.0, 0.5]])], None, [["identity", "tanh"]], input_mean=0.0
        )
        grid = np.linspace(-8, 8, 4001)
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * pi) * (grid[1] - grid[0])
        wanted = (density * ndtr(np.tanh(grid) / 2 - 4.0)).sum()
        found, gradients = value(Conditional(Advice(), nodes=16), TailProbability(4.0), student)
        assert found == pytest.approx(wanted, rel=0.05)
        assert gradients[1][0, 0] > 0

    def test_conditional_under_any_gaussian_input(self, torch):
        """The same event in other coordinates has the same probability, and the same advice."""
        rng = np.random.default_rng(3)
        factor, mean = rng.normal(size=(3, 3)), rng.normal(size=3)
        inner = np.linalg.inv(factor)
        student = MLP(
            [inner, np.array([[0.6, 0.0, 0.8]])],
            [-inner @ mean, None],
            "identity",
            input_mean=mean,
            input_cov=factor @ factor.T,
        )
        for way in (Conditional(Advice(), nodes=16), ImportanceSampled(Advice(), 200_000)):
            assert value(way, TailExcess(4.0), student)[0] == pytest.approx(excess(4.0), rel=0.02)

    def test_advice_needs_a_gaussian_input(self, torch):
        with pytest.raises(CumpropError, match="advice is about a Gaussian input, not"):
            value(Conditional(Advice()), TailExcess(0.5), network(input=Uniform()))

    @pytest.mark.thorough
    @pytest.mark.thorough
    @pytest.mark.parametrize(
        ("activation", "order"), [("tanh", 2), ("relu", 2), ("relu", 1), ("gelu", 3)]
    )
    def test_gradients_are_finite_differences(self, torch, activation, order):
        """Central differences of the estimate at frozen advice, in three random directions."""
        student = network((3, 4, 3, 1), activation)
        loss = TailExcess(float(student.forward(np.eye(3)).max()) + 1.0)
        advice = Advice()
        ways = (Conditional(advice, order), Mechanistic(order), ImportanceSampled(advice))
        for way in ways:
            _, gradients = value(way, loss, student)
            advice.steps = 0
            rng = np.random.default_rng(1)
            for _ in range(3):
                steps = [1e-5 * rng.normal(size=w.shape) for w in student.weights]
                ahead, behind = (
                    value(
                        way,
                        loss,
                        student.replace(
                            weights=[
                                w + sign * d for w, d in zip(student.weights, steps, strict=True)
                            ]
                        ),
                    )[0]
                    for sign in (1, -1)
                )
                wanted = sum(
                    float((g.numpy() * d).sum()) for g, d in zip(gradients, steps, strict=True)
                )
                assert (ahead - behind) / 2 == pytest.approx(wanted, rel=2e-3, abs=1e-12)

    def test_extremes_and_logits_of_gaussian_outputs(self, torch):
        """Two independent N(0, 1): E[max] = 1/√π, and E log(1 + exp(d)), d ~ N(0, 2), on a grid.

        The differences of two Gaussian outputs are Gaussian, of which order 2 is exact.
        """
        pair, d = MLP([np.eye(2)]), np.linspace(-14, 14, 20_001)
        density = np.exp(-(d**2) / 4) / sqrt(4 * pi) * (d[1] - d[0])
        wanted = density @ np.logaddexp(0, d)
        assert value(Mechanistic(2), ExpectedMaximum(), pair)[0] == pytest.approx(1 / sqrt(pi))
        found = value(Mechanistic(2), CrossEntropy(0), pair)[0]
        assert found == pytest.approx(wanted, rel=1e-6)

    @pytest.mark.thorough
    @pytest.mark.parametrize("loss", [ExpectedMaximum(), CrossEntropy(1)], ids=["max", "logits"])
    def test_functionals_of_a_network(self, torch, loss):
        """Orders 2 and 3 within their stated errors of 10⁵ samples; finite differences of both."""
        whole = cumprop.random_mlp(16, 1, seed=3, dtype="float64")
        student = whole.replace(weights=[*whole.weights[:-1], whole.weights[-1][:3]])
        y = loss.network(student).forward(np.random.default_rng(0).normal(size=(10**5, 16)))
        for order in (2, 3):
            way = Mechanistic(order)
            found, gradients = value(way, loss, student)
            half_width = way.half_width(loss, in_torch(student), None, found)
            assert abs(found - y.mean()) < half_width < 0.2 * abs(y.mean()) * order
            steps = [1e-5 * np.random.default_rng(1).normal(size=w.shape) for w in student.weights]
            ahead, behind = (
                value(
                    way,
                    loss,
                    student.replace(
                        weights=[w + s * d for w, d in zip(student.weights, steps, strict=True)]
                    ),
                )[0]
                for s in (1, -1)
            )
            slope = sum(float((g.numpy() * d).sum()) for g, d in zip(gradients, steps, strict=True))
            assert (ahead - behind) / 2 == pytest.approx(slope, rel=1e-4)

    @pytest.mark.thorough
    @pytest.mark.parametrize("directions", [1, 2])
    def test_importance_sampled_penalty_is_unbiased(self, torch, directions):
        """Two causes, y = |z_0| − 1: 2 E[(z − 1)₊], also where the advice knows one of them.

        Means of 25 estimates within 4.9 standard errors (Student's t, 24 degrees: 5e-5 a case).
        """
        student = MLP([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 1.0]]])
        way = ImportanceSampled(Advice(directions=directions), 1000)
        values = np.array([value(way, TailExcess(1.0), student, seed)[0] for seed in range(25)])
        standard_error = values.std(ddof=1) / sqrt(len(values))
        assert abs(values.mean() - 2 * excess(1.0)) < 4.9 * standard_error
        assert standard_error < 0.2 * values.mean()

    def test_conditional_adds_the_causes_that_it_knows(self, torch):
        student = MLP([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 1.0]]])
        one, two = (
            value(Conditional(Advice(directions=k), nodes=16), TailExcess(4.0), student)[0]
            for k in (1, 2)
        )
        assert one == pytest.approx(excess(4.0), rel=1e-3)
        assert two == pytest.approx(2 * excess(4.0), rel=1e-3)

    @pytest.mark.parametrize("order", [1, 2])
    def test_the_stated_error_reaches_the_truth(self, torch, order):
        """A bent event, whose mean order 1 and order 2 miss by different amounts at one direction.

        The truth is an integral over two inputs; order 1 states the larger error, since it is
        farther off. Of the interval at most 2.5% lie on either side, with a fixed seed.
        """
        student = MLP(
            [np.eye(2), np.array([[1.0, 1.5]])], None, [["identity", "relu"]], input_mean=0.0
        )
        z = np.linspace(-8, 8, 4001)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * pi) * (z[1] - z[0])
        wanted = sum(
            p * excess(6.0 - 1.5 * max(bend, 0.0)) for p, bend in zip(density, z, strict=True)
        )
        way, loss = Conditional(Advice(), order), TailExcess(6.0)
        found, _ = value(way, loss, student)
        source = Source(student, np.random.default_rng(1))
        half_width = way.half_width(loss, in_torch(student), source, found)
        assert abs(found - wanted) <= half_width < 3 * abs(found - wanted) + 0.1 * wanted
        noise = way.half_width(loss, in_torch(student), source, wanted)
        assert noise < 0.15 * wanted

    def test_orders_state_the_error_of_their_estimator(self, torch):
        student = network((3, 4, 3, 1), "relu")
        loss, way = TailExcess(0.5), Mechanistic(2)
        whole = cumprop.estimate(loss.network(student), order=2)
        found = way.half_width(loss, in_torch(student), Source(student, None), whole.mean[0])
        assert found == pytest.approx(whole.half_width[0]) and found > 0

    def test_samples_that_show_nothing_bound_no_error(self, torch):
        student = line([1.0, 1.0])
        source = Source(student, np.random.default_rng(0))
        assert Conditional(Advice()).half_width(
            TailExcess(20.0), in_torch(student), source, 0.0
        ) == float("inf")

    def test_no_estimate_has_no_error(self, torch):
        student = line([3.0, 4.0])
        for way in (Sampled(8), Adversarial(Advice())):
            source = Source(student, np.random.default_rng(0))
            assert way.half_width(TailExcess(10.0), in_torch(student), source, 0.0) is None

    def test_adversarial_is_the_excess_beyond_the_nearest_input(self, torch):
        found, _ = value(Adversarial(Advice()), TailExcess(10.0), line([3.0, 4.0]))
        assert found == pytest.approx(5.0, rel=1e-4)  # one s.d. beyond, where the slope is 5


class TestAdvice:
    def test_it_follows_a_student_that_moves(self):
        advice = Advice(steps=20)
        rng = np.random.default_rng(0)
        for angle in np.linspace(0, 1, 5):
            direction = np.array([np.cos(angle), np.sin(angle)])
            advice.update(line(direction, 3.0), rng)
            np.testing.assert_allclose(advice.points, 3.0 * direction[None], atol=2e-3)

    def test_frozen_advice_stays(self):
        advice = Advice(steps=0, points=np.array([[3.0, 0.0]]))
        advice.update(line([0.0, 1.0], 3.0), np.random.default_rng(0))
        assert advice.points.tolist() == [[3.0, 0.0]]

    def test_a_fresh_search_finds_a_nearer_cause(self):
        """The event lies near 5 along x_0 and near 4 along −x_1; the advice knows the first."""
        student = MLP(
            [[[1.0, 0.0], [0.0, -1.0]], [[1.0, 1.0]]], [[-5.0, -4.0], None], "leaky_relu(0.1)"
        )
        for fresh, wanted in ((0, [1.0, 0.0]), (1, [0.0, -1.0])):
            advice = Advice(fresh=fresh, points=np.array([[6.0, 0.0]]))
            advice.update(student, np.random.default_rng(0))
            assert advice.points[0] @ wanted > 0.95 * np.linalg.norm(advice.points[0])

    def test_what_is_far_is_dropped(self):
        advice = Advice(points=np.array([[3.0, 0.0]]))
        advice.update(line([1.0, 0.0], 9.0), np.random.default_rng(0))
        assert advice.points.shape == (0, 2)
        assert value(Conditional(advice), TailExcess(9.0), line([1.0, 0.0]))[0] == 0.0


class TestDescent:
    @pytest.mark.thorough
    @pytest.mark.parametrize("optimiser", ["gd", "adam"])
    def test_a_penalty_removes_an_event_that_no_sample_shows(self, torch, optimiser):
        """A line of one output shrinks until its tail at 5 s.d. costs nothing any more."""
        student, loss = line([0.6, 0.8]), TailExcess(5.0)
        terms = [Term(loss, Conditional(Advice()), 1e6)]
        states = descend(student, terms, 0.04, np.random.default_rng(0), optimiser)
        losses = [state.loss for state, _ in zip(states, range(20), strict=False)]
        assert losses[0] == pytest.approx(1e6 * excess(5.0), rel=0.05)
        assert losses[-1] < losses[0] / 5

    def test_regression_learns_from_rows(self, torch):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(100, 2))
        y = x @ [[1.0], [-2.0]]
        terms = [Term(Regression(x, y), Sampled(32))]
        states = descend(line([0.0, 0.0]), terms, 0.2, rng)
        losses = [state.loss for state, _ in zip(states, range(40), strict=False)]
        assert losses[-1] < losses[0] / 100

    def test_biases_are_trained(self, torch):
        f, g = network(), network(seed=1)
        states = descend(g, [Term(Imitation(f), Sampled(32))], 0.1, np.random.default_rng(0))
        first, second = (state.student for state, _ in zip(states, "ab", strict=False))
        for before, after in zip(first.biases, second.biases, strict=True):
            assert (before != after).any()

    def test_counted_once_is_counted_always(self, torch):
        """A step costs the same whether its kind of work was seen before or not."""

        class AlwaysNew(Sampled):
            work = property(lambda self: object())

        f, g = network((4, 6, 1)), network((4, 3, 1), seed=1)
        found = []
        for way in (Sampled(8), AlwaysNew(8)):
            terms = [Term(Imitation(f), way), Term(TailExcess(1.0), way, 2.0)]
            states = descend(g, terms, 0.1, np.random.default_rng(0), "adam")
            found.append([state.flops for state, _ in zip(states, range(4), strict=False)])
        assert found[0] == found[1] and np.diff(found[0]).min() > 0

    def test_the_advice_is_paid_for(self, torch):
        costs = []
        for steps in (0, 1, 3):
            advice = Advice(steps=steps, points=np.array([[4.9, 0.4]]))
            terms = [Term(TailExcess(5.0), Conditional(advice))]
            states = descend(line([1.0, 0.1]), terms, 0.0, np.random.default_rng(0))
            costs.append([state.flops for state, _ in zip(states, "ab", strict=False)][1])
        assert costs[2] - costs[1] == 2 * (costs[1] - costs[0]) > 0


@pytest.mark.thorough
def test_order_of_plain_cumulants_matters_in_the_tail():
    """At 1e-4 the best order without advice misses by far more than order 2 with it."""
    teacher = cumprop.random_mlp(32, 2, seed=0, dtype="float64")
    student = teacher.replace(weights=[*teacher.weights[:-1], teacher.weights[-1][:1]])
    truth = cumprop.probability(student, "y0 > 8", tolerance=0.05, excess=True).excess
    loss, near = TailExcess(8.0), Conditional(Advice(), 2, 16)
    ratios = [value(way, loss, student)[0] / truth for way in (Mechanistic(3), near)]
    assert abs(np.log(ratios[1])) < abs(np.log(ratios[0])) / 3


def test_networks_of_tensors_stay_what_they_are(torch):
    network = in_torch(line([1.0, 2.0]))
    assert in_torch(network) is network
