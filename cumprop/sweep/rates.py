"""How long work takes on this machine, from rates that are measured in seconds.

An estimate made of small steps takes the time of its NumPy calls, a wide one that of its matrix
products, a dense one that of large arrays: one rate for all FLOPs would be off a hundredfold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache

import numpy as np

from cumprop.contract import Cost, build
from cumprop.sweep.run_cell import LARGE

SECONDS_PER_CELL = 0.006
"""Seconds that a sweep takes for a cell beside the estimate (`test_overhead`, docs/VERIFIED.md)."""


@dataclass(frozen=True)
class Rates:
    """FLOP/s of one process by kind of work, and the seconds of a NumPy call.

    `sampling`, matrix `products`, `entrywise` operations and such with `large` results have FLOP/s;
    `call` is the seconds of one NumPy call with the Python around it.

    >>> rates = Rates(sampling=2e10, products=4e10, entrywise=1e9, large=4e8, call=1e-5)
    >>> rates.seconds(Cost(4 * 10**10, 0))
    2.0
    """

    sampling: float
    products: float
    entrywise: float
    large: float
    call: float

    def seconds(self, cost: Cost) -> float:
        """The seconds of one estimate."""
        work = cost.work
        return (
            work.calls * self.call
            + work.products / self.products
            + work.entrywise / self.entrywise
            + work.large / self.large
            + (cost.flops - work.flops) / self.sampling
        )

    def cell_seconds(self, cost: Cost) -> float:
        """The seconds of a cell of a sweep; a small one runs twice."""
        return (2 if cost.flops < LARGE else 1) * self.seconds(cost) + SECONDS_PER_CELL


@dataclass(frozen=True)
class Effort:
    """Every measurement repeats for `seconds`, at least `least` and at most `most` times."""

    seconds: float = 5.0
    least: int = 3
    most: int = 200


def repeated(work: Callable[[], object], effort: Effort) -> list[float]:
    """Seconds of each call of `work`, called as often as `effort` says.

    >>> len(repeated(lambda: None, Effort(0.0, 3))), len(repeated(lambda: None, Effort(60.0, 3)))
    (3, 200)
    """
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < effort.least or (
        time.perf_counter() - start < effort.seconds and len(times) < effort.most
    ):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return times


@cache
def measured(dtype: str, workers: int = 1, threads: int = 1) -> Rates:
    """The rates of each of so many workers side by side now, with arrays of `dtype`.

    Workers are measured together, since cores share memory and clock, and two may be one. Cost: a
    second for one worker, about four for several; more of them than cores are taken to be as fast
    as one per core. One worker may have several BLAS `threads`.
    """
    from cumprop.sweep.engines import local

    workers = min(workers, os.cpu_count() or 1)
    if workers == 1:
        return _rates(dtype, threads)
    pool = local.pool(workers)
    for _ in range(2):  # the first round starts the processes
        found = [*pool.map(_rates, [dtype] * workers)]
    return Rates(*np.median([astuple(one) for one in found], axis=0).tolist())


def _rates(dtype: str, threads: int = 1) -> Rates:
    """The rates of this process."""
    from threadpoolctl import threadpool_limits

    from cumprop.flops import counted
    from cumprop.networks import random_mlp

    slab, matrix, long = (counted(np.ones(n, dtype)) for n in ((256, 256), (512, 512), 2**23))
    wide, tiny = (random_mlp(n, 4, 0, dtype=dtype) for n in (256, 4))
    sampling, order = build("monte_carlo", n_samples=2048), build("cumulant", order=3)
    with threadpool_limits(threads):
        return Rates(
            sampling=sampling.predict_cost(wide.shape).flops
            / _time(lambda: sampling.estimate(wide)),
            products=2 * 512**3 / _time(lambda: matrix @ matrix),
            entrywise=2 * slab.size / _time(lambda: slab * slab + slab.T),
            large=long.size / _time(lambda: long * long),
            call=_time(lambda: order.estimate(tiny)) / order.predict_cost(tiny.shape).work.calls,
        )


def _time(work: Callable[[], object]) -> float:
    """Seconds of a call, the mean over a tenth of a second."""
    work()
    return float(np.mean(repeated(work, Effort(0.1, 1, 10**6))))
