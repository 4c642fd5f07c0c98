"""Matrices with many zeros: the same numbers as dense ones, for fewer FLOPs."""

import numpy as np
import pytest
import scipy.sparse

import cumprop
from cumprop.contract import build
from cumprop.flops import counted, counting, plain, skipping_zeros, zeros
from cumprop.flops.zeros import WithZeros

ENTRIES = 9


def with_zeros(m, n, seed=0, dtype=np.float64):
    """A matrix of `ENTRIES` entries beside 0 in every row."""
    rng = np.random.default_rng(seed)
    w = np.zeros((m, n), dtype)
    for row in w:
        row[rng.choice(n, ENTRIES, replace=False)] = rng.normal(size=ENTRIES) / np.sqrt(ENTRIES)
    return w


@pytest.fixture(scope="module")
def matrix():
    return with_zeros(600, 500)


def test_products_are_those_of_the_dense_matrix(matrix):
    rng = np.random.default_rng(1)
    sparse = skipping_zeros(matrix)
    assert isinstance(sparse, WithZeros)
    right, left = rng.normal(size=(500, 7)), rng.normal(size=(5, 600))
    for kind in (lambda x: x, counted):
        w = kind(sparse)
        with counting() as flops:
            for found, expected in (
                (w @ right, matrix @ right),
                (w @ right[:, 0], matrix @ right[:, 0]),
                (left @ w, left @ matrix),
                (left[0] @ w, left[0] @ matrix),
                (right.T @ w.T, right.T @ matrix.T),
                (w.T @ left.T, matrix.T @ left.T),
                (w @ w.T, matrix @ matrix.T),
                (counted(left) @ w, left @ matrix),
            ):
                np.testing.assert_allclose(plain(found), expected, atol=1e-14)
        entries = 600 * ENTRIES
        columns = 7 + 1 + 5 + 1 + 7 + 5 + 600 + 5 if kind is counted else 5
        assert flops.total == 2 * entries * columns


def test_everything_else_is_dense(matrix):
    sparse = skipping_zeros(matrix)
    for w in (sparse, counted(sparse)):
        for found, expected in (
            (w * 2.0, matrix * 2.0),
            (w * w, matrix * matrix),
            (np.abs(w).max(axis=1), np.abs(matrix).max(axis=1)),
            (w[3:5], matrix[3:5]),
            (w[3:5] @ w.T, matrix[3:5] @ matrix.T),  # a view does not know its own entries
            (np.concatenate([w, w]), np.concatenate([matrix, matrix])),
            (w.astype(np.float32), matrix.astype(np.float32)),
        ):
            np.testing.assert_allclose(np.asarray(plain(found)), expected, atol=1e-14)


def test_small_and_full_matrices_stay_as_they_are():
    rng = np.random.default_rng(0)
    for w in (np.eye(100), rng.normal(size=(600, 500))):
        assert skipping_zeros(w) is w


RUNS = [
    ("cumulant", {"order": 1}),
    ("cumulant", {"order": 2}),
    ("cumulant", {"order": 3}),
    ("cumulant", {"order": 3, "kind": "tree"}),
    ("gaussian", {}),
    ("linearized", {}),
    ("unscented", {}),
    ("monte_carlo", {"n_samples": 200}),
    ("monte_carlo", {"n_samples": 256, "design": "sobol"}),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "options"), RUNS, ids=[f"{n} {o}" for n, o in RUNS])
def test_estimates_are_those_of_dense_weights(name, options, monkeypatch):
    weights = [with_zeros(600, 500), with_zeros(550, 600, 1), with_zeros(3, 550, 2)]
    biases = [np.linspace(-1, 1, 600), None, None]
    network = cumprop.MLP([*map(scipy.sparse.csr_array, weights)], biases)
    assert network.shape.entries == (600 * ENTRIES, 550 * ENTRIES, None)
    monkeypatch.setattr(zeros, "LEAST_ENTRIES", 10**9)
    dense = cumprop.MLP(weights, biases)
    assert dense.shape.entries is None
    found, expected = (cumprop.estimate(n, name, cov=True, **options) for n in (network, dense))
    scale = np.abs(expected.mean).max()
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-10 * scale)
    np.testing.assert_allclose(found.cov, expected.cov, atol=1e-10 * np.abs(expected.cov).max())
    assert found.flops.total < expected.flops.total
    predicted = build(name, **options).predict_cost(network.shape).flops
    assert 0.5 < predicted / cumprop.estimate(network, name, **options).flops.total < 2
