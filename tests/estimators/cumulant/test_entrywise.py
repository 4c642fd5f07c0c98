"""Compiled formulas have the numbers of NumPy's operators, to the last bit."""

import sys
import threading

import numpy as np
import pytest

from cumprop import random_mlp, threads
from cumprop.estimators.cumulant import Cumulant, entrywise
from cumprop.estimators.cumulant.entrywise import LEAST, SHARED
from cumprop.flops import counted, counting

N, M = 160, 200


def formula(a, column, row, b, missing):
    total = (2 * a - column * row) * (1 / 3) + a / b - (1 - b)
    return total, -a * row if missing is None else a


def arguments(dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(N, M), (N, 1), (M,), (N, M)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture
def compiled():
    """Formulas that were compiled during a test."""
    pytest.importorskip("llvmlite")
    from cumprop.estimators.cumulant import machine_code

    found = []
    original = machine_code.compiled_formula

    def noting(formula, kinds, dtype):
        found.append(kinds)
        return original(formula, kinds, dtype)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(machine_code, "compiled_formula", noting)
        yield found


@pytest.fixture
def threads_of_runs(monkeypatch):
    """The thread of each run of a compiled formula."""
    pytest.importorskip("llvmlite")
    from cumprop.estimators.cumulant import machine_code

    found = []
    run = machine_code.Kernel.__call__

    def noting(self, *given):
        found.append(threading.current_thread().name)
        run(self, *given)

    monkeypatch.setattr(machine_code.Kernel, "__call__", noting)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_those_of_numpy(dtype, compiled):
    apply = entrywise.entrywise(formula)
    for seed in range(3):
        given = [*arguments(dtype, seed), None]
        for found, expected in zip(apply(*given), formula(*given), strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)
    assert compiled == [("matrix", "column", "matrix", "matrix", None)]


@pytest.mark.parametrize(
    "part",
    [
        lambda a: np.concatenate([a, a], axis=1)[:, 3 : 3 + M],
        lambda a: np.stack([a, a], axis=1)[:, 1],
        lambda a: a[:1],
        lambda a: a[:1, :1],
    ],
    ids=["columns of a wider one", "every other row", "a row of two axes", "one number"],
)
def test_parts_of_other_arrays_are_read_in_place(part, compiled):
    a, column, row, b = arguments(np.float32)
    given = a, column, row, part(b), None
    for found, expected in zip(entrywise.entrywise(formula)(*given), formula(*given), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(compiled) == 1


BATCH = 5


def of_inputs(array, rng):
    """The array for every input of a batch."""
    numbers = rng.standard_normal((BATCH, *array.shape)) + array
    return numbers.astype(array.dtype)


@pytest.mark.thorough
@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("in_batch", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize(
    "part",
    [
        lambda b: b,
        lambda b: np.concatenate([b, b], axis=-1)[..., 3 : 3 + M],
        lambda b: np.stack([b, b], axis=1)[:, 0],
        lambda b: b[..., :1, :],
        lambda b: b[..., :1],
    ],
    ids=["whole", "columns of a wider one", "every other", "one row", "one column"],
)
def test_batches_have_an_axis_more(dtype, in_batch, part, compiled):
    """Matrices, columns and rows (B, 1, m) of a batch, beside some that all inputs share."""
    rng = np.random.default_rng(0)
    a, column, row, b = arguments(dtype)
    column, row, b = (
        of_inputs(array, rng) if batched else array
        for array, batched in zip((column, row[None], b), in_batch, strict=True)
    )
    given = of_inputs(a, rng), column, row, part(b), None
    for found, expected in zip(entrywise.entrywise(formula)(*given), formula(*given), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    assert len(compiled) == 1


def test_the_first_argument_may_be_the_same_for_all_inputs(compiled):
    rng = np.random.default_rng(0)
    a, column, _, b = arguments(np.float32)
    column, b = of_inputs(column, rng), of_inputs(b, rng)
    apply = entrywise.entrywise(lambda a, b: a * b - b)
    for other in (column, b):
        np.testing.assert_array_equal(apply(a, other), a * other - other)
    assert len(compiled) == 2


def test_matrices_of_64_neurons_are_compiled_for_long_formulas(compiled):
    a = np.ones((64, 64), np.float32)
    for formula in (lambda a: a + a + a, lambda a: sum([a] * 8, a)):
        np.testing.assert_array_equal(entrywise.entrywise(formula)(a), formula(a))
    assert len(compiled) == 1


def test_addresses_are_those_of_numpy():
    a, *_ = arguments(np.float32)
    for array in (a, a[3:, 5:], a.T):
        assert entrywise._address(array) == array.ctypes.data


def test_other_arguments_are_left_to_numpy(compiled):
    """Counted arrays, small ones, several types, matrices by columns, and batches of batches."""
    apply = entrywise.entrywise(formula)
    a, column, row, b = arguments(np.float32)
    others = [
        (counted(a), column, row, b, None),
        (a, column.astype(np.float64), row, b, None),
        (a, column, row, np.asfortranarray(b), None),
        (a[:8], column[:8], row, b[:8], None),
        (a[None, None], column, row, b, None),
        (a.astype(int), column.astype(int), row.astype(int), np.ones_like(b, int), None),
    ]
    for given in others:
        for found, expected in zip(apply(*given), formula(*given), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert not compiled
    with counting() as flops:
        apply(*others[0])
    assert flops.total > 0


@pytest.mark.parametrize("inputs", [(), (5,)])
def test_rows_are_shared_among_threads(inputs, threads_of_runs, monkeypatch):
    side = 2 * int(SHARED**0.5)
    a = np.random.default_rng(0).standard_normal((*inputs, side, side // max(1, *inputs, 1)))
    monkeypatch.setattr(threads, "allowed", lambda: 3)
    np.testing.assert_array_equal(entrywise.entrywise(lambda a: a * a + 1)(a), a * a + 1)
    assert len(threads_of_runs) == 3
    assert threading.current_thread().name not in threads_of_runs


def test_a_result_is_one_array_or_a_tuple(compiled):
    a = np.ones((N, M))
    assert type(entrywise.entrywise(lambda a: a + a)(a)) is np.ndarray
    assert type(entrywise.entrywise(lambda a: (a + a,))(a)) is tuple


VARIANTS = [
    Cumulant(3),
    Cumulant(3, "tree", edges="leading"),
    Cumulant(3, "tree", edges="full"),
    Cumulant(4),
]


@pytest.mark.thorough
@pytest.mark.parametrize("estimator", VARIANTS, ids=lambda e: e.label)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_estimates_do_not_depend_on_the_compiler(
    estimator, activation, threads_of_runs, monkeypatch
):
    """Both last layers: with a covariance, and the mean alone."""
    width = int(LEAST**0.5) if estimator.order < 4 else 40
    if estimator.order == 4:
        for name in ("LEAST", "WORTH"):
            monkeypatch.setattr(entrywise, name, 40 * 40)
    network = random_mlp(width=width, depth=3, seed=0, activation=activation)
    for cov in (True, False):
        estimator.estimate(network, cov=cov)  # counted
        fast = estimator.estimate(network, cov=cov)
        with monkeypatch.context() as patched:
            patched.setattr(entrywise, "compiles", lambda: False)
            plain = estimator.estimate(network, cov=cov)
        np.testing.assert_array_equal(fast.mean, plain.mean)
        np.testing.assert_array_equal(fast.cov, plain.cov)
        assert fast.flops == plain.flops and fast.expected_error == plain.expected_error
    assert threads_of_runs


def test_without_llvmlite_numpy_computes(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr(entrywise, "compiles", lambda: False)
    a = np.ones((N, M), np.float32)
    np.testing.assert_array_equal(entrywise.entrywise(lambda a: a * 3)(a), 3 * a)
