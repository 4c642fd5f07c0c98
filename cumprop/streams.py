"""The random streams of a seed: one function for each purpose.

A stream is determined by its seed and by a key of whole numbers, of which the width of the network
is the first. The weights and biases of a layer have the key (width, layer). Every other key is
longer, and its second number is the purpose of the stream. Keys of one purpose with different
meanings differ in length, so that no two streams are the same. Every function raises CumpropError
for a seed that is not a whole number from 0 to 2^128 - 1.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from cumprop.errors import CumpropError
from cumprop.parameters import typed

_LARGEST_SEED = 2**128 - 1
_LARGEST_NUMBER = 2**32 - 1  # a larger one takes two places of a key


class _Purpose(IntEnum):
    TRUTH = 0
    SAMPLING = 1
    TAIL = 2
    STUDENT = 3
    HELD_OUT = 4
    BATCHES = 5
    PICTURE = 6
    RARE = 7
    TRAINING = 8
    OUTPUTS = 9
    CHECKS = 10


def weights(seed: int, width: int, layer: int) -> np.random.Generator:
    """The stream of weights and biases of layer 1..L+1 of a random network."""
    return _stream(seed, width, layer)


def sampling(seed: int, width: int, repeat: int = 0) -> np.random.Generator:
    """The stream of inputs that an estimator draws; `width` is the network's largest.

    The command line, the library and sweeps use the same stream, so that a seed has one result.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=8, depth=2, seed=0)
    >>> found = cumprop.estimate(network, "monte_carlo", seed=5)
    >>> backend = cumprop.contract.build("monte_carlo")
    >>> bool((backend.estimate(network, rng=sampling(5, 8)).mean == found.mean).all())
    True
    """
    return _stream(seed, width, _Purpose.SAMPLING, repeat)


def truth(seed: int, width: int, half: int, chunk: int) -> np.random.Generator:
    """The stream of inputs of one chunk of a half of the truth."""
    return _stream(seed, width, _Purpose.TRUTH, half, chunk)


def tail_pilot(seed: int, width: int) -> np.random.Generator:
    """The stream of inputs that choose the tilts of a tail's truth."""
    return _stream(seed, width, _Purpose.TAIL, 0)


def tail_truth(seed: int, width: int, half: int, chunk: int) -> np.random.Generator:
    """The stream of inputs of one chunk of a half of a tail's truth."""
    return _stream(seed, width, _Purpose.TAIL, half, chunk)


def student(seed: int, width: int, student_width: int) -> np.random.Generator:
    """The stream of a student's weights before its training, `width` its teacher's."""
    return _stream(seed, width, _Purpose.STUDENT, student_width)


def held_out(seed: int, width: int, student_width: int) -> np.random.Generator:
    """The stream of inputs that measure the true loss of a student."""
    return _stream(seed, width, _Purpose.HELD_OUT, student_width)


def checks(seed: int, width: int, step: int) -> np.random.Generator:
    """The stream of inputs that measure the error of an estimate at a step of a training."""
    return _stream(seed, width, _Purpose.CHECKS, step)


def batches(seed: int, width: int, student_width: int, order: int) -> np.random.Generator:
    """The stream of inputs of SGD with the FLOPs per step of an order."""
    return _stream(seed, width, _Purpose.BATCHES, student_width, order)


def picture(seed: int, width: int) -> np.random.Generator:
    """The stream of inputs of the samples that a picture shows beside an estimate."""
    return _stream(seed, width, _Purpose.PICTURE, 0)


def training(seed: int, width: int, teacher: int) -> np.random.Generator:
    """The stream of inputs that train a student of one teacher, and of its search for events."""
    return _stream(seed, width, _Purpose.TRAINING, teacher)


def rare_event(seed: int, width: int, run: int = 0) -> np.random.Generator:
    """The stream of all inputs of a rare event's probability, or of run 1, 2, … of a quantile."""
    return _stream(seed, width, _Purpose.RARE, run)


def output_points(seed: int, width: int) -> np.random.Generator:
    """The stream that scrambles the points which stand for the law of the outputs."""
    return _stream(seed, width, _Purpose.OUTPUTS, 0)


def output_samples(seed: int, width: int, part: int) -> np.random.Generator:
    """The stream of inputs of a sampled decision: `part` 0 measures, 1 selects, 2 certifies."""
    return _stream(seed, width, _Purpose.OUTPUTS, 1, part)


def checked(seed: int) -> int:
    """The seed of streams; raises CumpropError where it is none."""
    seed = typed(seed, int, "seed")
    if not 0 <= seed <= _LARGEST_SEED:
        raise CumpropError(f"seed is {seed}; give a whole number from 0 to 2^128 - 1")
    return seed


def _stream(seed: int, *key: int) -> np.random.Generator:
    seed = checked(seed)
    if not all(0 <= number <= _LARGEST_NUMBER for number in key):
        raise CumpropError(f"no random stream has the key {key}: its numbers go from 0 to 2^32 - 1")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
