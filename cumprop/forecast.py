"""Forecasts: what sweeps will take, from predicted FLOPs and the speed of this machine."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

from cumprop.sweep import Plan, shared


def forecast(plan: Plan, jobs: int) -> list[dict[str, Any]]:
    """What a sweep takes: one row per estimator, width and depth.

    Columns: what, width, depth, cells, flops and bytes of one cell, minutes of all of them on
    `jobs` workers at the speed of this machine's matrix products. That is a lower bound: random
    numbers, small steps and waiting for memory come on top. The truths follow the cells.
    """
    speed = matmul_speed(_dtype([plan])) * jobs
    alike = defaultdict[tuple[str, int, int], list[tuple[int, int | None]]](list)
    for cell in plan.cells:
        what = (cell.description, cell.width, cell.depth)
        alike[what].append((cell.cost.flops, cell.cost.bytes))
    for job in plan.truths:
        what = (f"truth n_samples={job.n_samples}", job.spec.width, job.spec.depth)
        alike[what].append((job.flops, None))
    return [
        {
            "what": what,
            "width": width,
            "depth": depth,
            "cells": len(costs),
            "flops": costs[0][0],
            "bytes": costs[0][1],
            "minutes": sum(flops for flops, _ in costs) / speed / 60,
        }
        for (what, width, depth), costs in alike.items()
    ]


def overview(plans: Sequence[Plan], jobs: int) -> list[dict[str, Any]]:
    """What each of several sweeps takes: one row per experiment.

    Minutes are those of `forecast`; a truth or cell that several experiments share counts in the
    first of them that computes it under the same number of workers. `left_out` cells are too large.
    """
    speed = matmul_speed(_dtype(plans))
    rows = []
    seen = set[tuple[str, int]]()
    for plan in shared(plans):
        workers = plan.jobs or jobs
        own = {cell.key: cell.cost.flops for cell in plan.cells if (cell.key, workers) not in seen}
        seen |= {(key, workers) for key in own}
        seconds = sum(own.values()) / workers + sum(job.flops for job in plan.truths) / jobs
        rows.append(
            {
                "experiment": plan.name,
                "cells": len(plan.cells),
                "left_out": plan.left_out,
                "truths": len(plan.truths),
                "bytes": max((cell.cost.bytes for cell in plan.cells), default=0) * workers,
                "minutes": seconds / speed / 60,
            }
        )
    return rows


def _dtype(plans: Sequence[Plan]) -> str:
    """The number format of the first work there is."""
    cells = (cell.dtype for plan in plans for cell in plan.cells)
    truths = (job.spec.dtype for plan in plans for job in plan.truths)
    return next(chain(cells, truths), "float32")


def matmul_speed(dtype: str) -> float:
    """FLOP/s of a matrix product on one thread of this machine, measured in about 0.1 s."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.ones((512, 512), dtype=dtype)
    with threadpool_limits(1):
        a @ a
        start, products = time.perf_counter(), 0
        while time.perf_counter() - start < 0.1:
            a @ a
            products += 1
        return products * 2 * 512**3 / (time.perf_counter() - start)
