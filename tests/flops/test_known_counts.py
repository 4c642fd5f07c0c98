"""Runs on plain arrays have the FLOPs of counted ones (`by_shape`)."""

import numpy as np
import pytest

from cumprop.errors import CumpropError
from cumprop.flops import (
    by_numbers,
    by_shape,
    component,
    count,
    counted,
    counting,
    known_counts,
    not_counting,
    occurs,
    plain,
)
from cumprop.flops.numpy_arrays import Counted


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(known_counts, "_known", {})


def run(x, times=1):
    """An example: 14 FLOPs for 5 numbers, 19 where one is below 0, and 8 for each iteration."""
    with component("sum"):
        y = counted(x) + 1
        if occurs(y < 1):
            y = y * y
    with component("iterations"), by_numbers():
        for _ in range(times):
            z = counted(y) + 1
        count(3 * times)
    return counted(y), counted(z)


def flops_of(x, times=1):
    with counting() as flops:
        y, _ = by_shape(len(x), lambda: run(x, times))
    return dict(flops), type(y)


def test_the_second_run_of_a_shape_is_plain():
    expected = {"sum": 14, "iterations": 8}
    assert flops_of(np.ones(5)) == (expected, Counted)
    assert flops_of(np.ones(5)) == (expected, np.ndarray)


def test_new_choices_are_counted():
    flops_of(np.ones(5))
    expected = {"sum": 19, "iterations": 8}
    assert flops_of(-np.ones(5)) == (expected, Counted)
    assert flops_of(-np.ones(5)) == (expected, np.ndarray)


def test_what_depends_on_numbers_is_always_counted():
    flops_of(np.ones(5))
    assert flops_of(np.ones(5), times=3) == ({"sum": 14, "iterations": 24}, np.ndarray)


def test_counts_reach_the_current_component():
    for _ in range(2):
        with counting() as flops, component("outside"):
            by_shape("one", lambda: (counted(np.ones(3)) + 1, run(np.ones(5))))
        assert dict(flops) == {"outside": 3, "sum": 14, "iterations": 8}


def test_nothing_is_counted_where_counting_is_off():
    flops_of(np.ones(5))
    with counting() as flops, not_counting():
        by_shape(5, lambda: run(np.ones(5)))
    assert not flops


def test_hand_counts_follow_from_the_shape():
    for _ in range(2):
        with counting() as flops:
            by_shape("by hand", lambda: count(7))
        assert dict(flops) == {"other": 7}


def test_arrays_of_before_are_plain_inside_and_counted_in_blocks():
    before = counted(np.ones(2))

    def kinds():
        outside = type(counted(before))
        with by_numbers():
            return outside, type(counted(plain(before)))

    assert by_shape("kinds", kinds) == (Counted, Counted)
    assert by_shape("kinds", kinds) == (np.ndarray, Counted)


@pytest.mark.parametrize("known", [False, True])
def test_failed_runs_are_counted(known):
    def fail(x):
        run(x)
        raise CumpropError("no")

    if known:
        by_shape("failing", lambda: run(np.ones(5)))
    with counting() as flops, pytest.raises(CumpropError, match="no"):
        by_shape("failing", lambda: fail(np.ones(5)))
    assert dict(flops) == {"sum": 14, "iterations": 8}


def test_few_shapes_are_kept(monkeypatch):
    monkeypatch.setattr(known_counts, "MOST_SHAPES", 2)
    kinds = [flops_of(np.ones(n))[1] for n in (1, 2, 1, 3, 2, 1)]
    assert kinds == [Counted, Counted, np.ndarray, Counted, np.ndarray, Counted]
