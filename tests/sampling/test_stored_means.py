"""The sampled means kept in tests/goldens/truth: what they say of themselves, and fresh samples."""

import numpy as np
import pytest
from helpers.stored_means import FOLDER, TINY, Problem, StoredMeans, read

from cumprop.results.scores import mse_between
from cumprop.sampling import Inputs

PATHS = sorted(FOLDER.glob("*.npz"))
FRESH = {1024: 2048}
"""Fresh samples by width, 8,192 of others."""


def ends(problem, network, x):
    """What is read of the problem's network for inputs x, in float64."""
    *hidden, (output, _) = network.layers(x)
    return np.asarray(output if problem.readout == "output" else hidden[-1][1], np.float64)


def fresh_groups(problem):
    """Group means (2, 8, n) of antithetic pairs that no stored truth holds."""
    network = problem.network
    inputs = Inputs(network, "antithetic")
    per_group = FRESH.get(problem.width, 8192) // 16
    sums = []
    for group in range(16):
        rng = np.random.default_rng([problem.seed, group])
        passes = [ends(problem, network, batch.x) for batch in inputs.batches(rng, per_group)]
        sums.append(np.concatenate(passes).mean(axis=0))
    return np.reshape(sums, (2, 8, problem.width))


def test_some_are_stored():
    assert {problem.path for problem in TINY} <= {*PATHS}


@pytest.mark.thorough
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_fresh_samples_agree(path):
    """Within 5 s.e. of both together: with 14 degrees of freedom at least, one in 10,000 by chance.

    A mean squared difference of 5% of the variance is found out at every width.
    """
    stored = read(path)
    problem = stored.problem
    assert (path.name, stored.groups.shape) == (problem.path.name, (2, 8, problem.width))
    fresh, mean = fresh_groups(problem), stored.groups.mean(axis=(0, 1))
    difference, se = mse_between(mean, fresh)
    own = stored.variance / stored.facts["n_samples"]
    assert abs(difference) <= 5 * (se + own)
    assert se < 0.01 * stored.variance
    assert stored.facts["rounding_mse"] < 1e-3 * own


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_groups_scatter_as_their_variance_says(path):
    """Antithetic pairs have no more variance than iid inputs, and at least a tenth of it."""
    stored = read(path)
    per_group = stored.facts["n_samples"] / 16
    scatter = stored.groups.reshape(16, -1).var(axis=0, ddof=1).mean() * per_group
    assert 0.1 * stored.variance < scatter < 1.5 * stored.variance


def test_a_wrong_network_is_found_out():
    """The next seed's means differ by more than ten times the noise that is allowed."""
    stored = read(TINY[0].path)
    other = Problem(32, 3, 1)
    difference, se = mse_between(stored.groups.mean(axis=(0, 1)), fresh_groups(other))
    assert difference > 10 * (5 * se + stored.variance / stored.facts["n_samples"])


def test_files_keep_what_they_hold(tmp_path):
    rng = np.random.default_rng(0)
    groups = 1 + 1e-4 * rng.normal(size=(2, 8, 32))
    StoredMeans(TINY[0], groups, 0.25, {"n_samples": 16}).write(tmp_path / "a.npz")
    found = read(tmp_path / "a.npz")
    assert (found.problem, found.variance, found.facts) == (TINY[0], 0.25, {"n_samples": 16})
    assert np.abs(found.groups - groups).max() < 1e-10


@pytest.mark.thorough
def test_the_sampler_samples_these_means(torch):
    """As many fresh samples of PyTorch; variances to 2%, of NumPy's iid passes."""
    from helpers.device_truth import sample

    stored = read(TINY[0].path)
    found = sample(TINY[0], 60_000, "cpu", rows=1024, seconds=1e6)
    assert found.facts["n_samples"] == 65_536
    difference, se = mse_between(stored.groups.mean(axis=(0, 1)), found.groups)
    assert abs(difference) <= 5 * (se + stored.variance / stored.facts["n_samples"])
    x = np.random.default_rng(0).normal(size=(100_000, 32))
    variance = ends(TINY[0], TINY[0].network, x).var(axis=0).mean()
    assert variance == pytest.approx(found.variance, rel=0.02)
    assert variance == pytest.approx(stored.variance, rel=0.02)
