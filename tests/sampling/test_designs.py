"""Designs deal out blocks with the right law (mathematics §7).

Statistical tests have fixed seeds; a bound of z standard errors is false-alarm rate 2Φ(-z) for each
number compared, times how many are compared (stated per test).
"""

import math

import numpy as np
import pytest
from scipy import stats

from cumprop import MLP, CumpropError, random_mlp
from cumprop.sampling import Inputs, block_size, designs
from cumprop.sampling.designs import DESIGNS, batch_rows, expected_radius, haar, normals, rounded


def linear(n, mean=None, cov=None, dtype=np.float64):
    """A bias-free network that is not homogeneous: radii are drawn."""
    return MLP([np.eye(n, dtype=dtype)] * 2, activations="square", input_mean=mean, input_cov=cov)


def blocks_of(inputs, seed, n_samples):
    """All inputs as (blocks, members, n_0)."""
    blocks, parts = [], []
    for batch in inputs.batches(np.random.default_rng(seed), n_samples):
        parts.append(batch.x.reshape(-1, batch.blocks, inputs.n_0).swapaxes(0, 1).copy())
        if batch.complete:
            blocks.append(np.concatenate(parts, axis=1))
            parts = []
    assert not parts
    return np.concatenate(blocks)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_are_standard_normal_and_uncorrelated(dtype):
    x = np.empty((1001, 1001), dtype)  # odd size
    normals(np.random.default_rng(1), x)
    flat = x.ravel().astype(np.float64)
    for power in range(1, 7):  # six moments within 4.5 standard errors: false alarms 4e-5
        moment = math.prod(range(power - 1, 0, -2)) if power % 2 == 0 else 0
        variance = math.prod(range(2 * power - 1, 0, -2)) - moment**2
        assert abs((flat**power).mean() - moment) < 4.5 * math.sqrt(variance / flat.size)
    assert stats.kstest(flat[:100_000], "norm").pvalue > 1e-5
    half = (flat.size + 1) // 2  # the sine and cosine of one angle
    pairs = flat[:half][: flat.size - half], flat[half:]
    assert abs(np.mean(pairs[0] * pairs[1])) < 4.5 / math.sqrt(half)
    assert abs(np.mean((pairs[0] ** 2 - 1) * (pairs[1] ** 2 - 1))) < 9 / math.sqrt(half)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_haar_matrices_are_orthogonal(n, dtype):
    q = haar(np.random.default_rng(0), n, 3, dtype)
    assert q.dtype == dtype
    np.testing.assert_allclose(
        q @ q.swapaxes(1, 2), np.broadcast_to(np.eye(n), q.shape), atol=20 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_haar_moments(n):
    """Moments of traces that signs or a skipped reflection would break; 5 σ: 2e-6 in all."""
    frames = 40_000
    q = haar(np.random.default_rng(2), n, frames, np.float64)
    trace = np.trace(q, axis1=1, axis2=2)
    rotated = np.trace(np.roll(np.eye(n), 1, axis=0) @ q, axis1=1, axis2=2)
    squares = np.trace(q @ q, axis1=1, axis2=2)
    for sample, expected in ((trace, 0), (trace**2, 1), (rotated**2, 1), (squares, 1)):
        spread = 5 * sample.std() / math.sqrt(frames) + 1e-12
        assert abs(sample.mean() - expected) < spread
    fourth = (q**4).mean(axis=0)
    expected = 3 / (n * (n + 2))
    assert abs(fourth - expected).max() < 6 / math.sqrt(frames) + 1e-12
    if n > 1:
        mixed = q[:, 0, 0] * q[:, 1, 1] * q[:, 0, 1] * q[:, 1, 0]
        error = mixed.mean() + 1 / ((n - 1) * n * (n + 2))
        assert abs(error) < 5 * mixed.std() / math.sqrt(frames)


@pytest.mark.parametrize("design", DESIGNS)
def test_inputs_have_the_mean_and_covariance_of_the_network(design):
    """Σ of rank 2; 5 standard errors (pairs ±x share xxᵀ): false alarms below 1e-4."""
    a = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, -1.0]])
    mean, cov = np.array([1.0, -2.0, 0.5]), a @ a.T
    inputs = Inputs(linear(3, mean, cov), design)
    assert inputs.radius is None
    x = blocks_of(inputs, 3, 60_000).reshape(-1, 3)
    variances = np.diag(cov)
    error = 5 / math.sqrt(len(x) / 2)
    assert (abs(x.mean(axis=0) - mean) <= error * np.sqrt(variances)).all()
    sample = (x - mean).T @ (x - mean) / len(x)
    assert (abs(sample - cov) <= error * np.sqrt(2 * np.outer(variances, variances))).all()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("n_samples", [1, 3, 5000])
def test_batches_hold_whole_blocks_and_repeat_with_the_seed(design, n_samples):
    inputs = Inputs(random_mlp(8, 1, 0), design)
    x = blocks_of(inputs, 4, n_samples)
    assert x.shape[0] * x.shape[1] == rounded(design, 8, n_samples) >= n_samples
    if design != "sobol":
        assert x.shape[1] == block_size(design, 8)
        assert x.shape[0] * x.shape[1] < n_samples + block_size(design, 8)
    np.testing.assert_array_equal(x, blocks_of(inputs, 4, n_samples))
    assert np.isfinite(x).all() and x.dtype == np.float32
    if n_samples > 3:
        assert len(np.unique(x.round(4), axis=0)) == len(x)  # blocks differ


def test_antithetic_blocks_mirror_at_the_mean():
    x = blocks_of(Inputs(linear(2, mean=[3.0, -1.0]), "antithetic"), 0, 10)
    np.testing.assert_allclose(x.sum(axis=1), np.broadcast_to([6.0, -2.0], (5, 2)))


@pytest.mark.parametrize("fixed", [True, False])
def test_orthogonal_blocks_are_frames(fixed):
    n = 16
    network = random_mlp(n, 2, 0, dtype="float64") if fixed else linear(n)
    inputs = Inputs(network, "orthogonal")
    x = blocks_of(inputs, 0, 4 * n)
    assert x.shape == (2, 2 * n, n)
    np.testing.assert_array_equal(x[:, :n], -x[:, n:])
    gram = x[:, :n] @ x[:, :n].swapaxes(1, 2)
    off_diagonal = gram * (1 - np.eye(n))
    np.testing.assert_allclose(off_diagonal, 0, atol=1e-13 * n)
    radii = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    assert fixed == bool(np.allclose(radii, expected_radius(n)))
    assert inputs.second_moment == (pytest.approx(n / expected_radius(n) ** 2) if fixed else 1)


def test_frames_integrate_degree_three_exactly():
    """With the fixed radius, Σ over a frame of any quadratic form is its trace: no variance."""
    n = 6
    inputs = Inputs(random_mlp(n, 1, 0, dtype="float64"), "orthogonal")
    x = blocks_of(inputs, 1, 10 * 2 * n)
    form = np.random.default_rng(0).standard_normal((n, n))
    values = np.einsum("bmi,ij,bmj->bm", x, form, x).mean(axis=1)
    np.testing.assert_allclose(values * inputs.second_moment, np.trace(form), rtol=1e-12)


def test_batches_fit_the_cache_but_keep_frames_whole():
    shape = random_mlp(256, 4, 0).shape
    assert [batch_rows(shape, design) for design in DESIGNS] == [1024] * 4
    assert batch_rows(random_mlp(300, 1, 0).shape, "orthogonal") == 600
    assert batch_rows(random_mlp(300, 1, 0).shape, "sobol") == 512


def test_unknown_design_lists_the_known_ones():
    with pytest.raises(CumpropError, match="iid, antithetic, orthogonal, sobol"):
        Inputs(random_mlp(8, 1, 0), "latin")


def test_a_normal_of_zero_leaves_frames_orthogonal(monkeypatch):
    """The last Householder vector has one entry, and float32 makes it 0 once in 3e7 frames."""
    drawn = designs.normals

    def with_zero(rng, out):
        drawn(rng, out)
        out[0, -1, -1] = 0

    monkeypatch.setattr(designs, "normals", with_zero)
    q = haar(np.random.default_rng(0), n=5, frames=2, dtype=np.float32)
    assert abs(q @ q.swapaxes(1, 2) - np.eye(5)).max() < 1e-5
