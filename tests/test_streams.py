"""The random streams of a seed: no two purposes share one, and old ones have kept their numbers."""

import inspect
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumprop import streams
from cumprop.errors import CumpropError

PURPOSES = {
    name: function
    for name, function in inspect.getmembers(streams, inspect.isfunction)
    if function.__module__ == streams.__name__ and name not in ("checked", "_stream")
}
N_NUMBERS = {name: len(inspect.signature(f).parameters) for name, f in PURPOSES.items()}


def key(name, numbers):
    sequence = PURPOSES[name](*numbers).bit_generator.seed_seq
    return sequence.entropy, sequence.spawn_key


def test_all_small_keys_differ():
    asked = [
        (name, numbers) for name, n in N_NUMBERS.items() for numbers in product(range(5), repeat=n)
    ]
    assert len({key(*one) for one in asked}) == len(asked) > 2000


numbers = st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1))
calls = st.sampled_from(sorted(PURPOSES)).flatmap(
    lambda name: st.tuples(st.just(name), st.tuples(*[numbers] * N_NUMBERS[name]))
)


@given(calls, calls)
def test_keys_are_equal_only_for_equal_purposes_and_numbers(one, other):
    assert (key(*one) == key(*other)) == (one == other)


def test_the_purpose_and_the_length_of_a_key_tell_what_it_is_for():
    """By construction, then: whatever the other numbers are, no two functions give one key."""
    forms = {name: key(name, [7] * n)[1] for name, n in N_NUMBERS.items()}
    assert len(forms.pop("weights")) == 2 < min(map(len, forms.values()))
    told = {(len(form), form[1]) for form in forms.values()}
    assert len(told) == len(forms)
    for name, n in N_NUMBERS.items():
        assert all(
            len(key(name, [big] * n)[1]) == len(key(name, [0] * n)[1]) for big in (9, 2**32 - 1)
        )


def test_a_number_that_would_take_two_places_of_a_key_is_refused():
    """NumPy splits it into words of 32 bits: (w, 1, 5 + 7·2³²) would be (w, 1, 5, 7)."""
    with pytest.raises(CumpropError, match="numbers go from 0 to"):
        streams.sampling(0, 8, 5 + 7 * 2**32)
    split = np.random.SeedSequence(0, spawn_key=(8, 1, 5 + 7 * 2**32))
    joined = np.random.SeedSequence(0, spawn_key=(8, 1, 5, 7))
    assert split.generate_state(2).tolist() == joined.generate_state(2).tolist()


@pytest.mark.parametrize("seed", ["a", -1, 1.5, True, None, 2**128])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(CumpropError, match="seed"):
        streams.sampling(seed, 8)


def test_keys_of_networks_truths_and_results_that_are_stored():
    """Weights, truth, sampling and tails, as results/reference has them."""
    assert key("weights", (3, 64, 2)) == (3, (64, 2))
    assert key("truth", (3, 64, 1, 9)) == (3, (64, 0, 1, 9))
    assert key("sampling", (3, 64, 5)) == (3, (64, 1, 5))
    assert key("tail_pilot", (3, 64)) == (3, (64, 2, 0))
    assert key("tail_truth", (3, 64, 1, 9)) == (3, (64, 2, 1, 9))
