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
from typing import TYPE_CHECKING, Any

from cumprop.contract import Cost, build

if TYPE_CHECKING:
    from cumprop.experiments.grid import Cell

SECONDS_PER_CELL = 0.006
"""What a sweep takes for a cell beside the estimate: `test_overhead` in docs/VERIFIED.md."""

_SECONDS = 0.1


@dataclass(frozen=True)
class Pace:
    """Rates of one worker, which has one thread.

    FLOP/s of `sampling`, of matrix `products`, of `entrywise` operations and of such with `large`
    results; `call` is the seconds of one NumPy call with the Python around it.

    >>> pace = Pace(sampling=2e10, products=4e10, entrywise=1e9, large=4e8, call=1e-5)
    >>> pace.seconds(Cost(4 * 10**10, 0))
    2.0
    """

    sampling: float
    products: float
    entrywise: float
    large: float
    call: float

    def seconds(self, cost: Cost) -> float:
        """Of one estimate."""
        work = cost.work
        if work is None:
            return cost.flops / self.sampling
        entrywise = cost.flops - work.products - work.large
        return (
            work.calls * self.call
            + work.products / self.products
            + entrywise / self.entrywise
            + work.large / self.large
        )

    def cell_seconds(self, cell: Cell) -> float:
        """Of a cell of a sweep; small ones run twice."""
        from cumprop.sweep.run_cell import LARGE

        runs = 2 if cell.flops < LARGE else 1
        return runs * self.seconds(cell.cost) + SECONDS_PER_CELL


@cache
def measured(dtype: str, workers: int = 1) -> Pace:
    """The pace of each of so many workers side by side now, with arrays of `dtype`.

    Side by side, since cores share memory and clock, and two may be one. Cost: a second for one
    worker, about four for several; more of them than cores are taken to be as fast as one per core.
    """
    import numpy as np

    from cumprop.sweep.engines import local

    workers = min(workers, os.cpu_count() or 1)
    if workers == 1:
        return _pace(dtype)
    pool = local.pool(workers)
    for _ in range(2):  # the first round starts the processes
        paces = [*pool.map(_pace, [dtype] * workers)]
    return Pace(*np.median([astuple(pace) for pace in paces], axis=0).tolist())


def _pace(dtype: str) -> Pace:
    """The pace of this process."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from cumprop.flops import counted
    from cumprop.networks import random_mlp

    slab, matrix, long = (counted(np.ones(n, dtype)) for n in ((256, 256), (512, 512), 2**23))
    wide, tiny = (random_mlp(n, 4, 0, dtype=dtype) for n in (256, 4))
    sampling, order = build("monte_carlo", n_samples=2048), build("cumulant", order=3)
    work = order.predict_cost(tiny.shape).work
    assert work is not None
    flops = sampling.predict_cost(wide.shape).flops
    with threadpool_limits(1):
        return Pace(
            sampling=flops / _time(lambda: sampling.estimate(wide)),
            products=2 * 512**3 / _time(lambda: matrix @ matrix),
            entrywise=2 * slab.size / _time(lambda: slab * slab + slab.T),
            large=long.size / _time(lambda: long * long),
            call=_time(lambda: order.estimate(tiny)) / work.calls,
        )


def _time(work: Callable[[], Any]) -> float:
    """Seconds of a call, the mean over a tenth of a second."""
    work()
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        work()
        times += 1
    return (time.perf_counter() - start) / times
