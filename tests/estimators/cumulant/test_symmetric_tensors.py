"""Symmetric tensors: slices, traces and the radial projection (mathematics §3.3)."""

from itertools import permutations

import numpy as np
import pytest

from cumprop.estimators.cumulant.diagrams import partitions
from cumprop.estimators.cumulant.symmetric_tensors import (
    Metric,
    TracePart,
    assemble,
    diagonal,
    lookup,
    radial_core,
    repeated_pairs,
    trace_slices,
    transform_legs,
    zero_coincidences,
)


def symmetric(d, n, seed=0):
    tensor = np.random.default_rng(seed).normal(size=(n,) * d)
    return sum(tensor.transpose(p) for p in permutations(range(d))) / np.prod(range(1, d + 1))


def slices_of(tensor, n):
    return {u: zero_coincidences(np.array(diagonal(tensor, u))) for u in partitions(tensor.ndim)}


def symmetrised_product(core, matrices):
    """Sym(core ⊗ M ⊗ …) by brute force over all permutations."""
    tensor = core
    for matrix in matrices:
        tensor = np.multiply.outer(tensor, matrix)
    perms = list(permutations(range(tensor.ndim)))
    return sum(tensor.transpose(p) for p in perms) / len(perms)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_assemble_undoes_slicing(d):
    tensor = symmetric(d, 4)
    assert np.allclose(assemble(slices_of(tensor, 4), d, 4, like=tensor), tensor, atol=1e-14)


def test_lookup_transposes():
    tensor = symmetric(3, 4)
    assert np.array_equal(lookup(slices_of(tensor, 4), (1, 2)), slices_of(tensor, 4)[2, 1].T)


@pytest.mark.parametrize(("d", "r"), [(2, 1), (3, 1), (4, 1), (4, 2), (5, 1), (6, 1), (6, 3)])
def test_traces_from_slices(d, r):
    n = 4
    tensor = symmetric(d, n)
    needed = {u: s for u, s in slices_of(tensor, n).items() if repeated_pairs(u) >= r}
    traced = trace_slices(needed, d, r)
    expected = tensor
    for _ in range(r):
        expected = np.trace(expected, axis1=-2, axis2=-1)
    e = d - 2 * r
    ours = assemble(traced, e, n, like=tensor) if e else traced[()]
    assert np.allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("d", "r"), [(2, 1), (3, 1), (4, 1), (4, 2), (5, 1), (6, 1), (6, 2), (6, 3)]
)
def test_radial_projection(d, r):
    """P = Sym(A ⊗ I^r) has the r-fold trace of T, and projects: P of P is P."""
    n = 4
    identity = [np.eye(n)] * r

    def r_fold_trace(tensor):
        for _ in range(r):
            tensor = np.trace(tensor, axis1=-2, axis2=-1)
        return np.asarray(tensor)

    tensor = symmetric(d, n)
    trace = r_fold_trace(tensor)
    part = symmetrised_product(radial_core(trace, d, r, n), identity)
    assert np.allclose(r_fold_trace(part), trace, atol=1e-10)
    again = radial_core(r_fold_trace(part), d, r, n)
    assert np.allclose(symmetrised_product(again, identity), part, atol=1e-10)


def test_radial_cores_written_out():
    """d = 4, r = 1 and d = 5, r = 1 as in mathematics §3.3."""
    n = 5
    t = symmetric(2, n)
    assert np.allclose(
        radial_core(t, 4, 1, n), (6 * t - 3 * np.trace(t) / (n + 2) * np.eye(n)) / (n + 4)
    )
    t3 = symmetric(3, n)
    a = 5 * np.trace(t3, axis1=1, axis2=2) / (n + 4)
    expected = (10 * t3 - 3 * symmetrised_product(a, [np.eye(n)])) / (n + 6)
    assert np.allclose(radial_core(t3, 5, 1, n), expected)


@pytest.mark.parametrize(("e", "r"), [(0, 1), (1, 1), (2, 1), (0, 2), (3, 1), (0, 3)])
def test_slices_of_a_trace_part(e, r):
    n, rng = 4, np.random.default_rng(1)
    weight = rng.normal(size=(n, 3))
    core = symmetric(e, n) if e else np.asarray(0.7)
    part = TracePart(core, r, Metric(weight))
    expected = symmetrised_product(core, [weight @ weight.T] * r)
    assert np.allclose(part.dense(e + 2 * r, n), expected, atol=1e-12)


def test_transform_legs_rectangular():
    tensor, weight = symmetric(3, 4), np.random.default_rng(2).normal(size=(2, 4))
    expected = np.einsum("abc,ia,jb,kc->ijk", tensor, weight, weight, weight)
    assert np.allclose(transform_legs(tensor, weight), expected)
