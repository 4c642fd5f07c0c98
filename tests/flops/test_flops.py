"""The meter: hand counts, and PyTorch's own counter where PyTorch is installed."""

from contextlib import nullcontext

import numpy as np
import pytest
from scipy.special import ndtr

import cumprop
from cumprop.flops import alike, component, count, counted, counting, metering, plain
from cumprop.flops.meter import repeated


def total(function):
    with counting() as flops:
        function()
    return flops.total


def test_hand_counts():
    a, b, v = counted(np.ones((3, 4))), counted(np.ones((4, 5))), counted(np.ones(4))
    assert total(lambda: a @ b) == 2 * 3 * 4 * 5
    assert total(lambda: a @ v) == 2 * 3 * 4
    assert total(lambda: v @ v) == 2 * 4
    assert total(lambda: a + 1) == 12
    assert total(lambda: a[:1] * b.T) == 20
    assert total(lambda: a.sum()) == 11
    assert total(lambda: a.sum(axis=1)) == 9
    assert total(lambda: a.mean()) == 11 + 1
    assert total(lambda: ndtr(a)) == 12
    assert total(lambda: np.multiply(a, a, out=a)) == 12


def test_symmetric_product_counts_its_kernel():
    a = counted(np.ones((6, 4)))
    assert total(lambda: a @ a.T) == 6 * 7 * 4
    assert total(lambda: a @ counted(np.ones((4, 6)))) == 2 * 6 * 6 * 4


def test_copies_and_views_are_free():
    a = counted(np.ones((3, 4)))
    assert total(lambda: (a.T.copy().reshape(-1)[::2], np.copy(a), plain(a))) == 0


def test_functions_of_counted_arrays_stay_counted():
    a = counted(np.ones((3, 4)))
    for made in (np.hstack([a, a]), np.zeros_like(a), np.diag(a), np.where(a > 0, a, 0), a.T, a[0]):
        assert total(lambda made=made: made + 1) == made.size


def test_components_nest_and_add_up():
    a = counted(np.ones(5))
    with counting() as flops:
        with component("outer"):
            a + 1
            with component("inner"):
                a + 1
            count(7)
        a + 1
    assert dict(flops) == {"outer": 12, "inner": 5, "other": 5}
    assert flops.total == 22


def passes(meter):
    """Counted work of which `meter()` blocks see a part: in components, repeated, nested twice."""
    a = counted(np.ones(5))
    with component("outer"):
        a + 1
        with meter():
            a + 1
            with component("inner"), meter():
                a + 1
                count(7)
        with repeated(3), meter():
            a + 1
    with meter(), repeated(2):
        a + 1


def test_an_inner_meter_changes_nothing_for_the_outer_one():
    with counting() as alone:
        passes(nullcontext)
    with counting() as outer:
        passes(counting)
    assert dict(outer) == dict(alone) == {"outer": 5 * (2 + 3), "inner": 5 + 7, "other": 2 * 5}


def test_what_an_inner_meter_collected_before_an_error_is_kept():
    with counting() as outer:
        with pytest.raises(ZeroDivisionError), counting() as inner:
            counted(np.ones(5)) + 1
            _ = 1 / 0
        counted(np.ones(5)) + 1
    assert (inner.total, outer.total) == (5, 10)


@pytest.mark.parametrize("name", cumprop.available())
def test_a_meter_around_an_estimate_counts_what_the_estimate_says(name):
    """Costs that a backend predicts on the way, by arrays without numbers, are not part of it."""
    network = cumprop.random_mlp(width=16, depth=2, seed=0)
    with counting() as outer:
        estimate = cumprop.estimate(network, name)
        with metering():
            _ = [counted(np.ones(3)) + i for i in alike(4)]
    assert dict(outer) == dict(estimate.flops)


def test_what_the_meter_cannot_see_is_refused():
    a = counted(np.eye(3))
    for function in (np.linalg.inv, lambda x: np.einsum("ii", x), lambda x: np.dot(x, x)):
        with pytest.raises(TypeError, match="not counted"):
            function(a)


@pytest.mark.torch
def test_matrix_products_agree_with_torch():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    network = cumprop.random_mlp(width=24, depth=3, seed=0)
    x = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    with counting() as flops:
        for weight in network.weights:
            x = np.maximum(counted(x) @ weight.T, 0)
    y = torch.ones(50, 24)
    with FlopCounterMode(display=False) as counter:
        for weight in network.weights:
            y = torch.relu(y @ torch.tensor(weight).T)
    assert flops.total - 4 * 50 * 24 == counter.get_total_flops()


@pytest.mark.torch
def test_a_symmetric_product_of_tensors_counts_in_full():
    """PyTorch computes all of it: the meter of the formulas and PyTorch's own counter say so."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from cumprop.flops.torch_executed import TorchFlops

    a = torch.ones(6, 4)
    with FlopCounterMode(display=False) as counter:
        _ = a @ a.T
    with TorchFlops() as outer, TorchFlops() as executed:
        _ = a @ a.T
    by_the_formulas = total(lambda: counted(a) @ counted(a).T)
    assert by_the_formulas == executed.total == outer.total == counter.get_total_flops()
    assert by_the_formulas == 2 * 6 * 6 * 4
