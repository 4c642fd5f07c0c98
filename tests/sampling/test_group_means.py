"""Replicates: groups of forward passes whose scatter is the error of their mean."""

import numpy as np
import pytest

import cumprop
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant
from cumprop.sampling import Inputs, Replicates, replicates, standardised

RNG = np.random.default_rng(0)


def shallow(width=6):
    """One hidden layer with biases, whose means order 2 has exactly."""
    weights = [RNG.normal(size=(width, width)) / np.sqrt(width) for _ in range(2)]
    return cumprop.MLP(weights, [RNG.normal(size=width) for _ in weights])


@pytest.mark.thorough
@pytest.mark.parametrize("design", ["iid", "antithetic", "orthogonal", "sobol"])
def test_they_are_the_passes_of_the_design(design):
    """Whatever the batches, the mean, the variance and the layer means are those of all inputs."""
    network = cumprop.random_mlp(8, 2, 0, "gelu", dtype="float64")
    found = replicates(network, 70_000, design, np.random.default_rng(1))
    batches = Inputs(network, design).batches(np.random.default_rng(1), found.n_samples)
    x = np.concatenate([batch.x.copy() for batch in batches])
    (_, x1), (_, x2), (y, _) = network.layers(x)
    assert len(x) == found.n_samples >= 70_000
    np.testing.assert_allclose(found.mean, y.mean(axis=0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.variance, y.var(axis=0), rtol=1e-8)
    for mean, layer in zip(found.layer_means, (x1, x2), strict=True):
        np.testing.assert_allclose(mean, layer.mean(axis=0), rtol=1e-10)


def test_groups_are_whole_blocks():
    network = cumprop.random_mlp(8, 2, 0, dtype="float64")
    found = replicates(network, 32, "antithetic", np.random.default_rng(1))
    x = np.empty((16, 8))
    for batch in Inputs(network, "antithetic").batches(np.random.default_rng(1), 32):
        x = batch.x if batch.complete else batch.x.copy()
    pairs = (network.forward(x) + network.forward(-x)) / 2
    np.testing.assert_allclose(found.groups, pairs, rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("design", ["iid", "antithetic", "orthogonal", "sobol"])
def test_half_widths_cover(design):
    """95% of 300 × 6 intervals; six s.e., were all outputs of a draw alike, are 7.5 points."""
    network, rng = shallow(), np.random.default_rng(2)
    exact = Cumulant(2).estimate(network).mean
    hits, spread = [], []
    for _ in range(300):
        found = replicates(network, 192, design, rng)
        hits.append(np.abs(found.mean - exact) <= found.half_width)
        spread.append(found.variance + found.noise)
    assert abs(np.mean(hits) - 0.95) < 0.03
    variance = np.diag(replicates(network, 10**5, "iid", rng, cov=True).spread)
    np.testing.assert_allclose(np.mean(spread, axis=0), variance, rtol=0.04)


def test_upper_and_chance_are_calibrated():
    """|error|² is below its 90% limit, and its tail probability uniform, in 600 draws: ±4 s.e.

    Where a few unlike variances add up, χ² of their effective number has a longer tail of small
    errors than they have (of eight networks the share below 0.9 was 0.91 to 0.96), which refutes
    nothing.
    """
    network, rng = shallow(), np.random.default_rng(3)
    exact = Cumulant(2).estimate(network).mean
    draws = [replicates(network, 160, "iid", rng) for _ in range(600)]
    below = [np.sum((d.mean - exact) ** 2) <= d.upper(0.9) for d in draws]
    chances = np.array([d.chance(exact) for d in draws])
    assert abs(np.mean(below) - 0.9) < 0.05
    for level, longer in ((0.1, 0.0), (0.5, 0.0), (0.9, 0.06)):
        off, noise = np.mean(chances < level) - level, 4 * np.sqrt(level * (1 - level) / 600)
        assert -noise < off < noise + longer


def test_freedom_counts_independent_outputs():
    copies = cumprop.MLP([np.ones((5, 3))])
    independent = cumprop.MLP([np.eye(40)])
    rng = np.random.default_rng(4)
    assert replicates(copies, 1600, "iid", rng).freedom == pytest.approx(1, abs=0.2)
    found = np.mean([1 / replicates(independent, 1600, "iid", rng).freedom for _ in range(50)])
    assert 1 / found == pytest.approx(40, rel=0.15)


def test_unequal_groups():
    """Nine blocks in groups of 4, 4 and 1 are as good as nine groups: 400 draws, 5 s.e."""
    rng = np.random.default_rng(8)
    blocks = rng.normal(size=(400, 9, 30))
    nothing = (np.ones(30), (), cumprop.flops.Flops())
    dealt = np.repeat([0, 1, 2], [4, 4, 1])
    found = []
    for draw in blocks:
        groups = np.array([draw[dealt == g].mean(axis=0) for g in range(3)])
        unequal = Replicates("iid", np.array([4, 4, 1]), groups, *nothing)
        equal = Replicates("iid", np.ones(9, int), draw, *nothing)
        np.testing.assert_allclose(unequal.mean, equal.mean)
        np.testing.assert_allclose(equal.noise, draw.var(axis=0, ddof=1) / 9)
        found.append([unequal.noise.sum(), 1 / unequal.freedom])
    noise, freedom = np.mean(found, axis=0)
    error = np.std(found, axis=0) / 20
    assert abs(noise - 30 / 9) < 5 * error[0]
    assert abs(freedom - 1 / 30) < 5 * error[1] + 0.01  # ν is at most 30


def test_what_is_watched():
    """What comes before and behind each nonlinearity, of all samples."""
    network, seen = cumprop.random_mlp(8, 2, 0, "tanh"), []
    found = replicates(
        network, 40, "iid", np.random.default_rng(1), watch=lambda z, x: seen.append((z, x))
    )
    assert [z.shape for z, _ in seen] == [(40, 8)] * 2
    for (z, x), mean in zip(seen, found.layer_means, strict=True):
        np.testing.assert_allclose(x, np.tanh(z), rtol=1e-6)
        np.testing.assert_allclose(np.mean(x, axis=0), mean, rtol=1e-5, atol=1e-7)


def test_joined():
    network, rng = shallow(), np.random.default_rng(5)
    first, second = (replicates(network, n, "iid", rng, cov=True) for n in (160, 480))
    both = first.joined(second)
    np.testing.assert_array_equal(both.groups, np.concatenate([first.groups, second.groups]))
    assert both.n_samples == 640 and both.flops.total == first.flops.total + second.flops.total
    np.testing.assert_allclose(both.mean, first.mean / 4 + second.mean * 3 / 4)
    second_moment = [d.spread + np.outer(d.mean, d.mean) for d in (first, second, both)]
    np.testing.assert_allclose(second_moment[2], second_moment[0] / 4 + second_moment[1] * 3 / 4)
    with pytest.raises(CumpropError, match="do not join"):
        first.joined(replicates(network, 160, "antithetic", rng))
    sobol = replicates(network, 160, "sobol", rng)
    assert sobol.groups.shape == (8, 6) and sobol.n_samples == 256
    assert sobol.joined(replicates(network, 160, "sobol", rng)).n_samples == 512
    with pytest.raises(CumpropError, match="do not join"):
        sobol.joined(replicates(network, 500, "sobol", rng))


def test_standardised():
    """μ and Σ of rank 2 go into the first map, and two inputs are left."""
    root, mean = RNG.normal(size=(5, 2)), RNG.normal(size=5)
    weights = [RNG.normal(size=(7, 5)), RNG.normal(size=(3, 7))]
    for biases in (None, [RNG.normal(size=7), None]):
        network = cumprop.MLP(weights, biases, "tanh", mean, root @ root.T)
        plain, flops = standardised(network)
        assert plain.widths == (2, 7, 3) and plain.input_cov is None and flops.total > 0
        before, after = (Cumulant(2).estimate(n, cov=True) for n in (network, plain))
        np.testing.assert_allclose(after.mean, before.mean, rtol=1e-9)
        np.testing.assert_allclose(after.cov, before.cov, rtol=1e-7, atol=1e-9)
    assert standardised(plain)[0] is plain


def test_inputs_of_different_units_are_all_kept():
    """D Σ D with D from 1e-9 to 1e9, of full rank, diagonal, and of rank two."""
    units, factors = np.logspace(-9, 9, 5), RNG.normal(size=(5, 2))
    full = factors @ factors.T + np.diag(RNG.uniform(0.5, 1, 5))
    weights = [RNG.normal(size=(7, 5)), RNG.normal(size=(3, 7))]
    scaled = [weights[0] / units, weights[1]]
    for cov, rank in ((full, 5), (np.diag([1.0, 2, 3, 0, 5]), 4), (factors @ factors.T, 2)):
        one = standardised(cumprop.MLP(weights, input_cov=cov))[0]
        other = standardised(cumprop.MLP(scaled, input_cov=units[:, None] * cov * units))[0]
        assert one.widths == other.widths == (rank, 7, 3)
        for network in (one, other):
            first = network.weights[0]
            np.testing.assert_allclose(
                first @ first.T, weights[0] @ cov @ weights[0].T, rtol=1e-7, atol=1e-9
            )


def test_an_overflow_is_one_line():
    weights = [np.full((2, 2), 3e30, np.float32)] * 2
    network = cumprop.MLP(weights, activations="square")
    with pytest.raises(CumpropError, match="rescale the weights or use float64"):
        replicates(network, 32, "iid", np.random.default_rng(0))
