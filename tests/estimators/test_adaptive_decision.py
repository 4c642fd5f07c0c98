"""What `adaptive` decides, without samples or networks."""

from dataclasses import replace
from math import inf

import pytest

from cumprop.estimators.adaptive.decision import (
    Accept,
    Check,
    Draw,
    Order,
    Price,
    Run,
    Sample,
    Seen,
    next_step,
)

SEEN = Seen(0.01, passes=64, enough=1e5, confirmed=64, most_samples=2**20, candidate="order 3")
RIGHT = Order("order 2", error=0.005)
WILD = Order("order 2", error=0.005, looks_random=False)


def test_a_search_prices_sampling_before_it_runs_an_order():
    assert next_step(SEEN) == Price()
    assert next_step(replace(SEEN, priced=True)) == Run()
    refused = replace(SEEN, priced=True, against="order 3 takes more FLOPs")
    assert next_step(refused) == Sample("order 3 takes more FLOPs")


@pytest.mark.parametrize("constant", [True, False])
def test_few_samples_are_confirmed_before_they_are_believed(constant):
    few = replace(SEEN, passes=16, enough=0 if constant else 10, constant=constant)
    assert next_step(few) == Draw(48)
    reason = "the outputs vary by no more than rounding" if constant else "the first samples"
    step = next_step(replace(few, passes=64))
    assert isinstance(step, Sample) and step.reason.startswith(reason)


def test_outputs_that_vary_in_no_sample_are_no_constants():
    """The weights say that they vary: twice as many, until a million."""
    still = replace(SEEN, enough=0, still=True)
    assert next_step(still) == Draw(64)
    last = next_step(replace(still, passes=2**20))
    assert last == Sample("no output varied in 1,048,576 samples")


def test_an_order_is_checked_in_all_layers_before_it_is_believed():
    assert next_step(replace(SEEN, order=RIGHT)) == Check()
    assert next_step(replace(SEEN, order=RIGHT, stands=True)) == Accept()
    refuted = next_step(replace(SEEN, order=RIGHT, stands=False))
    assert refuted == Sample("64 samples contradict order 2")


def test_an_order_of_a_network_that_does_not_look_random_needs_more_room():
    """1.3 expected errors within the tolerance, or a change that is: against two of them."""
    near = replace(RIGHT, error=0.0075)
    assert next_step(replace(SEEN, order=near)) == Check()
    assert next_step(replace(SEEN, order=replace(WILD, error=0.0075))) == Price()
    assert next_step(replace(SEEN, order=replace(WILD, error=0.0049))) == Check()
    settled = replace(RIGHT, error=0.02, change=0.009)
    assert next_step(replace(SEEN, order=settled)) == Check()
    assert next_step(replace(SEEN, order=replace(settled, looks_random=False))) == Price()


def test_doubts_end_in_samples_and_the_last_order_too():
    doubted = Order("order 3", inf, doubt="order 3 overflows")
    assert next_step(replace(SEEN, order=doubted)) == Sample("order 3 overflows")
    last = replace(SEEN, order=replace(RIGHT, error=0.03), candidate=None)
    assert next_step(last) == Sample("order 2 is expected to be 0.03 s.d. off")


def test_exact_orders_need_no_sample():
    exact = replace(SEEN, exact=True, passes=16, enough=0, constant=True)
    assert next_step(exact) == Run()
    assert next_step(replace(exact, order=Order("order 2", 0.0, exact=True))) == Accept()
    large = next_step(replace(exact, passes=64, against="order 2 needs 9 GB"))
    assert isinstance(large, Sample)
