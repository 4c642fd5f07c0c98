"""Distillation: the stacked network, its loss and gradient, FLOPs as executed."""

from math import pi, sqrt

import numpy as np
import pytest

import cumprop
from cumprop.errors import CumpropError
from cumprop.inputs import Gaussian, Mixture, Uniform
from cumprop.networks import MLP
from cumprop.training.distillation import (
    distil,
    flops_per_step,
    matched_batch,
    mechanistic_loss,
    random_student,
    sampled_loss,
    sgd,
)
from cumprop.training.wiring import stacked

pytestmark = pytest.mark.slow


def pair(widths=((5, 7, 6, 3), (5, 4, 2, 3)), activation="relu", biased=True):
    """Two networks of random weights with the same input and output."""
    rng = np.random.default_rng(0)
    networks = []
    for chain in widths:
        maps = list(zip(chain[1:], chain[:-1], strict=True))
        weights = [rng.normal(size=m) / sqrt(m[1]) for m in maps]
        biases = [rng.normal(size=m[0]) * 0.3 for m in maps] if biased else None
        networks.append(MLP(weights, biases, activation, input_mean=0.2))
    return networks


class TestStacked:
    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("activation", ["relu", "tanh", ["gelu", "square"]])
    def test_is_the_difference_of_two_forward_passes(self, activation, biased):
        f, g = pair(activation=activation, biased=biased)
        x = np.random.default_rng(1).normal(size=(50, 5))
        both = stacked(f, g)
        assert both.widths == (5, 11, 8, 3)
        np.testing.assert_allclose(both.forward(x), f.forward(x) - g.forward(x), atol=1e-13)

    def test_biases_of_one_network_only(self):
        f, g = pair()
        bare = MLP(g.weights, None, g.activations, g.input_mean)
        x = np.ones((1, 5))
        wanted = bare.forward(x) - f.forward(x)
        np.testing.assert_allclose(stacked(bare, f).forward(x), wanted, atol=1e-14)

    def test_different_activations(self):
        f, g = pair()
        g = g.replace(activations="tanh")
        x = np.linspace(-1, 1, 10).reshape(2, 5)
        both = stacked(f, g)
        assert both.activations[0].kinds == (f.activations[0], g.activations[0])
        np.testing.assert_allclose(both.forward(x), f.forward(x) - g.forward(x), atol=1e-14)

    @pytest.mark.parametrize(
        ("g", "message"),
        [
            (MLP([np.ones((2, 3)), np.ones((1, 2))]), "cannot be stacked; give two that agree"),
            (MLP([np.ones((1, 2))]), "cannot be stacked; give two that agree"),
            (MLP([np.ones((2, 2)), np.ones((1, 2))], input_mean=1.0), "different input dist"),
            (MLP([np.ones((2, 2)), np.ones((1, 2))], input_cov=2.0), "different input dist"),
            (MLP([np.ones((2, 2)), np.ones((1, 2))], input=Uniform()), "different input dist"),
        ],
    )
    def test_networks_that_do_not_fit_are_refused(self, g, message):
        with pytest.raises(CumpropError, match=message):
            stacked(MLP([np.ones((2, 2)), np.ones((1, 2))]), g)

    @pytest.mark.parametrize(
        "law", [Uniform(-1.0, 2.0), Mixture([0.3, 0.7], [Gaussian(), Uniform()])]
    )
    def test_the_law_of_the_input_is_that_of_both(self, law):
        """Linear networks: the loss is E[(w·x)²], from the first two moments of the law."""
        rng = np.random.default_rng(0)
        f, g = (
            MLP([rng.normal(size=(3, 4)), rng.normal(size=(1, 3))], None, "identity", input=law)
            for _ in range(2)
        )
        w = (f.weights[1] @ f.weights[0] - g.weights[1] @ g.weights[0])[0]
        second = f.input.cov + np.outer(f.input.mean, f.input.mean)
        assert float(mechanistic_loss(stacked(f, g))) == pytest.approx(w @ second @ w, rel=1e-9)

    def test_descent_under_a_box(self, torch):
        """Samples of the box, and cumulants, both lead a linear student to its linear teacher."""
        rng = np.random.default_rng(0)
        teacher, student = (
            MLP(
                [rng.normal(size=(2, 2)), rng.normal(size=(1, 2))],
                None,
                "identity",
                input=Uniform(),
            )
            for _ in range(2)
        )
        for states in (distil(teacher, student, 2, 0.1), sgd(teacher, student, 64, 0.1, rng)):
            losses = [state.loss for state, _ in zip(states, range(60), strict=False)]
            assert losses[-1] < losses[0] / 100


class TestLoss:
    @pytest.mark.parametrize("order", [2, 3, 4])
    def test_linear_networks_exactly(self, order):
        """E|Ax + a|²/n = (|A|² + |a|²)/n for standard Gaussian x."""
        f, g = (MLP(n.weights, n.biases, "identity") for n in pair())
        both = stacked(f, g)
        offset = both.forward(np.zeros((1, 5)))[0]
        matrix = (both.forward(np.eye(5)) - offset).T
        wanted = (np.sum(matrix**2) + np.sum(offset**2)) / 3
        assert mechanistic_loss(both, order) == pytest.approx(wanted, rel=1e-12)

    def test_orthogonal_hidden_neurons_exactly(self):
        """Independent ReLUs: f = a·relu(x), g = b·relu(x) in different coordinates."""
        a, b = np.array([1.0, 2.0]), np.array([0.5, 3.0])
        f = MLP([np.eye(4)[:2], a[None]])
        g = MLP([np.eye(4)[2:], b[None]])
        coefficients = np.concatenate([a, -b])
        variance = (1 / 2 - 1 / (2 * pi)) * np.sum(coefficients**2)
        wanted = variance + np.sum(coefficients) ** 2 / (2 * pi)
        assert mechanistic_loss(stacked(f, g), 2) == pytest.approx(wanted, rel=1e-12)

    def test_wide_networks_agree_with_sampling(self):
        """Order 2 within 5%, order 3 within 1% at width 64; samples have s.e. 0.3%."""
        f = cumprop.random_mlp(64, 2, seed=0, dtype="float64")
        g = random_student(f, 32, seed=1)
        x = np.random.default_rng(2).standard_normal((100_000, 64))
        truth = sampled_loss(f, g, x)
        assert mechanistic_loss(stacked(f, g), 2) == pytest.approx(truth, rel=0.05)
        assert mechanistic_loss(stacked(f, g), 3) == pytest.approx(truth, rel=0.01)


class TestStudents:
    def test_shape_seed_and_scale(self):
        teacher = cumprop.random_mlp(64, 3, seed=0)
        student = random_student(teacher, 256, seed=0)
        assert student.widths == (64, 256, 256, 256, 64)
        assert student.dtype == np.float32
        variances = [np.var(w) * w.shape[1] for w in student.weights]
        np.testing.assert_allclose(variances, [1, 2, 2, 2], rtol=0.06)  # 5 s.d. at 16384 weights
        again, other = (random_student(teacher, 256, seed) for seed in (0, 1))
        assert np.array_equal(student.weights[0], again.weights[0])
        assert not np.array_equal(student.weights[0], other.weights[0])


def gaussian_pair(activation, **law):
    """Teacher and student whose neurons, if ReLU, have means of eight or more s.d."""
    rng = np.random.default_rng(4)
    networks = [
        MLP(
            [rng.normal(size=(m, 5)) / 9, rng.normal(size=(6, m)) / 9, rng.normal(size=(3, 6)) / 9],
            [10 + rng.normal(size=m), 40 + rng.normal(size=6), rng.normal(size=3)],
            activation,
            **law,
        )
        for m in (8, 7)
    ]
    return networks[0], networks[0].replace(weights=networks[1].weights, biases=networks[1].biases)


FACTORS = np.random.default_rng(5).normal(size=(5, 5)) / 3
LAWS = {
    "standard": {},
    "number": {"input_mean": 5.0, "input_cov": 0.01},
    "diagonal": {"input_mean": [1.0, 2, 3, 4, 5], "input_cov": [0.5, 2, 0, 1, 0.1]},
    "full": {"input_mean": -1.0, "input_cov": FACTORS @ FACTORS.T},
    "singular": {"input_cov": FACTORS[:, :2] @ FACTORS[:, :2].T},
}


class TestGaussianInput:
    def test_a_student_has_the_input_of_its_teacher(self):
        teacher = gaussian_pair("relu", input_mean=5.0, input_cov=0.01)[0]
        student = random_student(teacher, 4, seed=0)
        assert student.input_mean.tolist() == [5.0] * 5 and student.input_variance == 0.01
        assert student.widths == (5, 4, 4, 3) and student.biases == (None,) * 3
        assert mechanistic_loss(stacked(teacher, student)) > 0

    @pytest.mark.torch
    @pytest.mark.parametrize("law", LAWS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_both_trainings_see_it(self, torch, law, dtype):
        """Linear networks y = Ax + a: the loss is (|Aμ + a|² + tr AΣAᵀ)/n, exactly for an order.

        The means of 40 batches differ by less than 5.3 standard errors (Student's t, 39 degrees:
        false alarms 5e-6 for each of ten cases).
        """
        f, g = gaussian_pair("identity", **LAWS[law])
        f, g = (n.replace(weights=[w.astype(dtype) for w in n.weights]) for n in (f, g))
        difference = stacked(f, g)
        mean = np.zeros(5) if f.input_mean is None else f.input_mean
        cov = np.eye(5) if f.input_cov is None else f.input_cov
        offset = difference.forward(np.zeros((1, 5)))[0]
        linear = (difference.forward(np.eye(5)) - offset).T
        wanted = (np.sum((linear @ mean + offset) ** 2) + np.trace(linear @ cov @ linear.T)) / 3
        rounding = {"float32": 1e-5, "float64": 1e-12}[dtype]
        assert mechanistic_loss(difference) == pytest.approx(wanted, rel=rounding)
        assert next(distil(f, g, 2, 0.0)).loss == pytest.approx(wanted, rel=rounding)
        states = sgd(f, g, 200, 0.0, np.random.default_rng(6))
        losses = np.array([s.loss for s, _ in zip(states, range(40), strict=False)])
        standard_error = losses.std(ddof=1) / sqrt(len(losses))
        assert abs(losses.mean() - wanted) < 5.3 * standard_error + rounding * wanted
        assert standard_error < 0.1 * wanted

    @pytest.mark.torch
    @pytest.mark.parametrize("law", [*LAWS][1:])
    def test_sampled_and_estimated_loss_agree(self, torch, law):
        """ReLUs eight s.d. from their kinks; 5 standard errors: false alarms 6e-7 a case."""
        f, g = gaussian_pair("relu", **LAWS[law])
        first = next(sgd(f, g, 20_000, 0.0, np.random.default_rng(7))).loss
        estimated = next(distil(f, g, 2, 0.0)).loss
        x = np.random.default_rng(8).multivariate_normal(
            np.zeros(5) if f.input_mean is None else f.input_mean, f.input_cov, 20_000
        )
        losses = np.mean((f.forward(x) - g.forward(x)) ** 2, axis=1)
        standard_error = losses.std() / sqrt(len(losses))
        assert abs(first - estimated) < 5 * standard_error
        assert abs(losses.mean() - estimated) < 5 * standard_error

    @pytest.mark.torch
    def test_the_standard_input_is_drawn_as_ever(self, torch):
        f, g = (n.replace(input_mean=None) for n in pair())
        states = sgd(f, g, 7, 0.0, np.random.default_rng(3))
        rng = np.random.default_rng(3)
        for state, _ in zip(states, range(3), strict=False):
            wanted = sampled_loss(f, g, rng.standard_normal((7, 5)))
            assert state.loss == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.torch
    def test_inputs_are_counted(self, torch):
        """A number scales and a mean shifts n numbers a sample; a root takes 2n² more."""
        f, g = (n.replace(input_mean=None) for n in pair())

        def cost(batch, **law):
            networks = (n.replace(**law) for n in (f, g))
            return flops_per_step(sgd(*networks, batch, 0.0, np.random.default_rng(0)))

        assert cost(10, input_mean=2.0) - cost(10) == 10 * 5
        assert cost(10, input_cov=2.0) - cost(10) == 10 * 5
        full = FACTORS @ FACTORS.T
        assert cost(10, input_cov=full) - cost(10) == 10 * 2 * 5 * 5
        networks = [n.replace(input_cov=full) for n in (f, g)]
        batch, target = matched_batch(*networks, 2), flops_per_step(distil(*networks, 2, 0.0))
        costs = [cost(n, input_cov=full) for n in (batch, batch + 1)]
        assert abs(costs[0] - target) <= (costs[1] - costs[0]) / 2


@pytest.mark.torch
class TestTraining:
    @pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
    @pytest.mark.parametrize("order", [2, 3])
    def test_gradients_are_finite_differences(self, torch, order, activation):
        f, g = pair(((3, 4, 3, 2), (3, 2, 2, 2)), activation)
        inputs = [torch.tensor(w, requires_grad=True) for w in g.weights]

        def loss(*weights):
            return mechanistic_loss(stacked(f, MLP(weights, g.biases, activation, 0.2)), order)

        assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-7)

    def test_a_linear_student_that_is_the_teacher_stays(self, torch):
        """Loss and gradient are 0 to rounding, and so is the step."""
        teacher = MLP([w.copy() for w in pair()[0].weights], None, "identity")
        before, after = (
            s.student for s, _ in zip(distil(teacher, teacher, 2, 0.5), "ab", strict=False)
        )
        for a, b in zip(before.weights, after.weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-14)
        assert mechanistic_loss(stacked(teacher, teacher)) == pytest.approx(0, abs=1e-14)

    def test_sgd_at_the_teacher_stays_exactly(self, torch):
        teacher = pair(biased=False)[0]
        teacher = MLP(teacher.weights, None, "relu")
        states = sgd(teacher, teacher, 7, 0.5, np.random.default_rng(0))
        for state, _ in zip(states, range(3), strict=False):
            assert state.loss == 0.0
            assert all(map(np.array_equal, state.student.weights, teacher.weights))

    def test_order_2_of_a_network_with_itself_is_what_truncation_leaves(self, torch):
        """n ReLUs: of 1/2 - 1/2π, a copy's variance, order 2 sees the linear part 1/4 as shared."""
        teacher = MLP([np.eye(5), np.eye(5)])
        wanted = 2 * (1 / 2 - 1 / (2 * pi) - 1 / 4)
        assert mechanistic_loss(stacked(teacher, teacher)) == pytest.approx(wanted, rel=1e-12)

    def test_a_step_is_that_of_the_gradient(self, torch):
        """One neuron, linear, w = (u, v): L = (1 - uv)², dL/du = -2v(1 - uv)."""
        teacher = MLP([[[1.0]], [[1.0]]], None, "identity")
        student = MLP([[[0.5]], [[0.4]]], None, "identity")
        first, second = (s for s, _ in zip(distil(teacher, student, 2, 0.1), "ab", strict=False))
        assert first.loss == pytest.approx(0.8**2)
        assert float(second.student.weights[0][0, 0]) == pytest.approx(0.5 + 0.1 * 2 * 0.4 * 0.8)
        assert float(second.student.weights[1][0, 0]) == pytest.approx(0.4 + 0.1 * 2 * 0.5 * 0.8)
        assert (first.flops, second.flops > 0) == (0, True)

    def test_training_ends_where_weights_are_not_finite(self, torch):
        teacher = MLP([[[1.0]], [[1.0]]], None, "identity")
        student = MLP([[[3.0]], [[3.0]]], None, "identity")
        states = [s for s, _ in zip(distil(teacher, student, 2, 1e9), range(99), strict=False)]
        assert 1 < len(states) < 20


@pytest.mark.torch
class TestFlops:
    def test_sgd_by_hand(self, torch):
        """Forward of both, backward of the student, the update; linear, 5-7-3 and 5-4-3."""
        f, g = pair(((5, 7, 3), (5, 4, 3)), "identity", biased=False)
        f, g = (MLP(n.weights, None, "identity") for n in (f, g))
        batch = 10
        products = 2 * batch * ((5 * 7 + 7 * 3) + (5 * 4 + 4 * 3) + (5 * 4 + 4 * 3) + 4 * 3)
        outputs = 3 * batch
        loss = outputs + outputs + (outputs - 1) + 1  # difference, square, sum, division
        backward = 1 + 2 * outputs + outputs + outputs  # division, two products, their sum, sign
        update = 2 * (5 * 4 + 4 * 3)
        counted = flops_per_step(sgd(f, g, batch, 0.1, np.random.default_rng(0)))
        assert counted == products + loss + backward + update

    @pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
    @pytest.mark.parametrize("order", [2, 3])
    def test_the_batch_matches_to_half_a_sample(self, torch, order, activation):
        teacher = cumprop.random_mlp(8, 3, seed=0, activation=activation)
        student = random_student(teacher, 4, seed=0)
        batch = matched_batch(teacher, student, order)
        target = flops_per_step(distil(teacher, student, order, 0.1))
        rng = np.random.default_rng(0)
        costs = [flops_per_step(sgd(teacher, student, n, 0.1, rng)) for n in (batch, batch + 1)]
        assert abs(costs[0] - target) <= (costs[1] - costs[0]) / 2

    @pytest.mark.parametrize("activation", ["identity", "square", "cube"])
    def test_the_forward_pass_counts_what_the_estimator_counts(self, torch, activation):
        from cumprop.flops.torch_executed import TorchFlops

        f = cumprop.random_mlp(6, 3, seed=0, activation=activation)
        weights = [torch.tensor(np.array(w), requires_grad=True) for w in f.weights]
        network = MLP(weights, None, activation)
        with torch.no_grad(), TorchFlops() as meter:
            estimate = cumprop.estimate(network, "cumulant", order=2, cov=True)
        assert meter.total == estimate.flops.total

    def test_unknown_operations_are_refused(self, torch):
        from cumprop.flops.torch_executed import TorchFlops

        with TorchFlops(), pytest.raises(CumpropError, match=r"aten\.sort.* has no FLOP count"):
            torch.ones(3).sort()
