"""The meter: hand counts, and PyTorch's own counter where PyTorch is installed."""

from contextlib import nullcontext

import numpy as np
import pytest
from scipy.special import ndtr

import cumprop
from cumprop.contract import shape_only_network
from cumprop.errors import CumpropError
from cumprop.flops import (
    TooLarge,
    alike,
    arena,
    component,
    count,
    counted,
    counting,
    has_numbers,
    plain,
    without_numbers,
)
from cumprop.flops.meter import repeated
from cumprop.networks import Shape


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
    network = network.above(1.0) if name == "importance" else network
    with counting() as outer:
        estimate = cumprop.estimate(network, name)
        with arena():
            _ = [counted(np.ones(3)) + i for i in alike(4)]
    assert dict(outer) == dict(estimate.flops)


def test_what_the_meter_cannot_see_is_refused():
    a = counted(np.eye(3))
    for function in (np.linalg.inv, lambda x: np.einsum("ii", x), lambda x: np.dot(x, x)):
        with pytest.raises(TypeError, match="not counted"):
            function(a)


@pytest.mark.thorough
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


def test_shapes_follow_from_shapes():
    """Results of arrays without numbers have the shapes, types and FLOPs of real ones."""
    programs = [
        lambda a, b, v: a @ b,
        lambda a, b, v: (a @ v, v @ v, np.vecdot(a, v)),
        lambda a, b, v: (a.sum(axis=1, keepdims=True), a.max(), a.sum(axis=-1)),
        lambda a, b, v: (np.concatenate([a, b.T], axis=-1) > 0, a.T * b, a[:, None] - v),
        lambda a, b, v: np.zeros_like(a, shape=(2, 7)) + np.float32(1),
    ]
    sizes = [(3, 4), (4, 3), (4,)]
    for program in programs:
        found = []
        for arrays in (map(counted, map(np.ones, sizes)), (without_numbers(s, 1.0) for s in sizes)):
            with counting() as flops:
                results = program(*arrays)
            results = results if isinstance(results, tuple) else (results,)
            found.append(([(r.shape, r.dtype) for r in results], flops.total))
        assert found[0] == found[1]
    with pytest.raises(NotImplementedError, match=r"matvec.__call__ on arrays without numbers"):
        np.matvec(without_numbers((3, 4), 1.0), np.ones(4))


def test_an_arena_follows_arrays_until_their_last_view_is_gone():
    with arena() as memory:
        a = without_numbers((10, 10), 1.0)
        row = a[0]
        assert (memory.now, memory.peak) == (800, 800)
        b = row + 1
        del a, row
        assert (memory.now, memory.peak, b.nbytes) == (80, 880, 80)
        with arena() as inner:
            _ = b * b
        assert (inner.peak, memory.peak, memory.calls, inner.calls) == (80, 880, 1, 1)


def test_the_smaller_limit_of_two_arenas_holds():
    for outer, inner in ((100, 1000), (1000, 100)):
        with arena(at_most=outer), arena(at_most=inner), pytest.raises(TooLarge, match="more than"):
            without_numbers((13,), 1.0)
    with arena(at_most=104):
        without_numbers((13,), 1.0)


def test_a_network_without_numbers_is_a_network():
    shape = Shape((5, 4, 3), ("gelu",), True, True, "float64")
    network = shape_only_network(shape)
    assert isinstance(network, cumprop.MLP) and network.shape == shape
    assert not any(map(has_numbers, (*network.weights, *network.biases, network.input_cov)))
    assert network.prefix(0).widths == (5, 4)
    with pytest.raises(CumpropError, match="give one for each"):
        network.replace(biases=network.biases[:1])
