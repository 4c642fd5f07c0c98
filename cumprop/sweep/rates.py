"""The time of work on this machine, from rates that a few seconds measure.

NumPy calls determine the time of an estimate of small arrays, matrix products that of a wide
network, large arrays that of a dense algorithm: one rate for all FLOPs would be wrong by a factor
of 100.
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
"""The seconds of a cell in a sweep beside its estimate (`test_overhead`, docs/VERIFIED.md)."""


@dataclass(frozen=True)
class Rates:
    """FLOP/s of one process by kind of work, and the seconds of a NumPy call.

    `sampling`, matrix `products`, `entrywise` operations and those with `large` results are in
    FLOP/s; `call` is the seconds of one NumPy call with the Python around it.

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
    """The effort of a measurement: `seconds` of calls, with a least and a most number of calls."""

    seconds: float = 5.0
    least: int = 3
    most: int = 200


def repeated(work: Callable[[], object], effort: Effort) -> list[float]:
    """The seconds of each call of `work`, called as often as `effort` says.

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


def by_turns(
    work: Callable[[], object], rival: Callable[[], object], effort: Effort
) -> tuple[list[float], list[float]]:
    """The seconds of a call of `work` and of `rival`, in rounds that the effort counts.

    In a round the rival runs once, and then the work as often as takes as long.

    >>> [len(times) for times in by_turns(lambda: None, lambda: None, Effort(0.0, 3))]
    [3, 3]
    """
    times, rivals = list[float](), list[float]()

    def both() -> None:
        begin = time.perf_counter()
        rival()
        middle, calls = time.perf_counter(), 0
        end = middle
        while not calls or end - middle < middle - begin:
            work()
            end, calls = time.perf_counter(), calls + 1
        times.append((end - middle) / calls)
        rivals.append(middle - begin)

    repeated(both, effort)
    return times, rivals


@cache
def measured(dtype: str, workers: int = 1, threads: int = 1) -> Rates:
    """The rates of each of `workers` side by side now, with arrays of `dtype`.

    Workers are measured together, because cores share memory and clock, and two logical cores may
    be one. More workers than cores count as one per core. One worker may have several BLAS
    `threads`. Cost: a second for one worker, about four for several.
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
    """The seconds of a call, averaged over a tenth of a second."""
    work()
    return float(np.mean(repeated(work, Effort(0.1, 1, 10**6))))
