"""Quantiles of sampled outputs: exact order statistics of one set of inputs, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.errors import CumpropError
from cumprop.flops import counting
from cumprop.functionals.samples import sampled_outputs
from cumprop.inputs import Empirical
from cumprop.memory import free_memory
from cumprop.networks import MLP

Array = NDArray[Any]

STORED = 2**25
"""The number of outputs kept at a time."""
LEVEL = 0.95
"""The confidence level of the intervals."""


class Ranks(NamedTuple):
    """Ranks of the ends of an interval and of the quantile among sorted samples, from 0."""

    low: int
    middle: int
    high: int


def ranks(q: float, n_samples: int) -> Ranks:
    """Ranks of the `q` quantile among `n_samples` samples, and of its 95% interval.

    They hold for every law, because the number of samples below the quantile is binomial. Raises
    CumpropError where the interval does not end within the samples.

    >>> ranks(0.5, 100)
    Ranks(low=39, middle=49, high=60)
    """
    from scipy.stats import binom

    low, high = (int(binom.ppf(tail, n_samples, q)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    if low < 1 or high >= n_samples:
        enough = math.ceil(math.log((1 - LEVEL) / 2) / math.log(max(q, 1 - q)))
        raise CumpropError(
            f"the {q:g} quantile can lie beyond {n_samples:,} samples: take n_samples of "
            f"{enough:,} or more, cumulant, or a quantile nearer to the middle"
        )
    middle = math.ceil(n_samples * q * (1 - 1e-15)) - 1
    return Ranks(low - 1, middle, high)


def sampled_quantiles(
    network: MLP, probabilities: Sequence[float], n_samples: int, rng: np.random.Generator
) -> tuple[list[Array], Estimate]:
    """For each probability an array (3, n_{L+1}): quantiles between the ends of 95% intervals.

    They are order statistics of `n_samples` independent inputs, the same for all probabilities, or
    of all rows of data if there are fewer. Up to 2^25 outputs are kept. Where there are more, the
    first 2^25 locate the quantiles, and a second pass keeps the outputs near them. The `Estimate`
    has the FLOPs. Raises CumpropError where the samples are too few, or too many for the memory.
    Cost: one or two passes of the samples.

    >>> line = MLP([[[3.0, 4.0]]])                                            # Y ~ N(0, 25)
    >>> (found,), _ = sampled_quantiles(line, [0.5], 10_000, np.random.default_rng(0))
    >>> low, middle, high = found[:, 0]
    >>> bool(low < 0 < high and abs(middle) < 0.2)
    True
    """
    if isinstance(network.input, Empirical):
        n_samples = min(n_samples, network.input.n_rows)
    wanted = [ranks(q, n_samples) for q in probabilities]
    width = network.widths[-1]
    pilot = min(n_samples, max(STORED // width, 1))
    margins = [6 * math.sqrt(q * (1 - q) / pilot) + 36 / pilot for q in probabilities]
    kept = sum(min(1.0, 2 * margin) for margin in margins) if pilot < n_samples else 0.0
    size = network.dtype.itemsize
    n_bytes = width * (2 * size * pilot + 4 * (size + 8) * int(kept * n_samples))
    if n_bytes > free_memory():
        raise CumpropError(
            f"quantiles of {n_samples:,} samples take {n_bytes / 1e9:.2g} GB; take fewer samples"
        )
    with counting() as flops:
        first = np.empty((width, pilot), network.dtype)
        done = 0
        for y in sampled_outputs(network, pilot, deepcopy(rng)):
            first[:, done : done + len(y)] = y.T
            done += len(y)
        if pilot == n_samples:
            first.partition(sorted({rank for three in wanted for rank in three}), axis=1)
            found = [first[:, three].T.copy() for three in wanted]
        else:
            first.sort(axis=1)
            brackets = [
                _Bracket(first, q, margin) for q, margin in zip(probabilities, margins, strict=True)
            ]
            del first
            for y in sampled_outputs(network, n_samples, rng):
                for bracket in brackets:
                    bracket.add(y)
            found = [bracket.at(three) for bracket, three in zip(brackets, wanted, strict=True)]
    return found, Estimate(found[0][1], (), flops=flops, n_samples=n_samples)


class _Bracket:
    """Numbers of each output about one quantile, and how many there are on both sides."""

    def __init__(self, first: Array, q: float, margin: float) -> None:
        """Place the bracket by `first`, sorted samples of each output, (width, pilot)."""
        width, pilot = first.shape
        below, above = int(pilot * (q - margin)), math.ceil(pilot * (q + margin))
        nothing = np.full(width, np.inf, first.dtype)
        self.low = first[:, below].copy() if below >= 0 and q > margin else -nothing
        self.high = first[:, above].copy() if above < pilot else nothing
        self.below, self.at_low, self.at_high = np.zeros((3, width), np.int64)
        self.values, self.outputs = list[Array](), list[Array]()

    def add(self, y: Array) -> None:
        """Add samples (m, width). Atoms at the ends of the bracket are counted, not kept."""
        self.below += np.count_nonzero(y < self.low, axis=0)
        self.at_low += np.count_nonzero(y == self.low, axis=0)
        self.at_high += np.count_nonzero((y == self.high) & (self.high > self.low), axis=0)
        inside = (y > self.low) & (y < self.high)
        self.values.append(y[inside])
        self.outputs.append(np.nonzero(inside)[1])

    def at(self, three: Ranks) -> Array:
        """The numbers of these ranks, (3, width)."""
        values, outputs = np.concatenate(self.values), np.concatenate(self.outputs)
        order = np.lexsort((values, outputs))
        counts = np.bincount(outputs, minlength=len(self.low))
        starts = np.cumsum(counts) - counts
        values = np.append(values[order], 0)
        found = np.empty((3, len(self.low)), self.low.dtype)
        to_low = self.below + self.at_low
        to_inside = to_low + counts
        for row, rank in zip(found, three, strict=True):
            if ((rank < self.below) | (rank >= to_inside + self.at_high)).any():
                raise CumpropError("the first samples mislead about a quantile; take another seed")
            place = np.clip(starts + rank - to_low, 0, len(values) - 1)
            row[:] = np.where(rank < to_inside, values[place], self.high)
            row[rank < to_low] = self.low[rank < to_low]
        return found
