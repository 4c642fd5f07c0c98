"""Forecasts of sweeps, from predicted costs and the rates of this machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

from cumprop.sweep.rates import measured
from cumprop.sweep.sweep import Plan, shared


def forecast(plan: Plan, workers: int) -> list[dict[str, Any]]:
    """The forecast of a sweep: one row per estimator, width and depth.

    Columns: what, width, depth, cells, flops and bytes of one cell, minutes of all of them on
    `workers` at the rates that are measured on this machine now; waiting for memory and for other
    programs comes on top. The truths follow the cells.
    """
    rates = measured(_dtype([plan]), workers)
    alike = defaultdict[tuple[str, int, int], list[tuple[int, int | None, float]]](list)
    for cell in plan.cells:
        what = (cell.description, cell.width, cell.depth)
        alike[what].append((cell.flops, cell.bytes, rates.cell_seconds(cell.cost)))
    for task in plan.truths:
        what = (f"truth n_samples={task.n_samples}", task.spec.width, task.spec.depth)
        alike[what].append((task.flops, None, task.flops / rates.sampling))
    return [
        {
            "what": what,
            "width": width,
            "depth": depth,
            "cells": len(costs),
            "flops": costs[0][0],
            "bytes": costs[0][1],
            "minutes": sum(seconds for *_, seconds in costs) / workers / 60,
        }
        for (what, width, depth), costs in alike.items()
    ]


def overview(plans: Sequence[Plan], workers: int) -> list[dict[str, Any]]:
    """The forecast of several sweeps: one row per experiment.

    Minutes are those of `forecast`; a truth or cell that several experiments share counts in the
    first of them that computes it under the same number of workers. `left_out` cells are too large.
    """
    dtype = _dtype(plans)
    rows = []
    seen = set[tuple[str, int]]()
    for plan in shared(plans):
        at_once = plan.workers or workers
        rates = measured(dtype, at_once)
        own = {
            c.key: rates.cell_seconds(c.cost) for c in plan.cells if (c.key, at_once) not in seen
        }
        seen |= {(key, at_once) for key in own}
        sampling = sum(task.flops for task in plan.truths) / measured(dtype, workers).sampling
        rows.append(
            {
                "experiment": plan.name,
                "cells": len(plan.cells),
                "left_out": plan.left_out,
                "truths": len(plan.truths),
                "bytes": max((cell.cost.bytes for cell in plan.cells), default=0) * at_once,
                "minutes": (sum(own.values()) / at_once + sampling / workers) / 60,
            }
        )
    return rows


def _dtype(plans: Sequence[Plan]) -> str:
    """The number format of the first work there is."""
    cells = (cell.dtype for plan in plans for cell in plan.cells)
    truths = (task.spec.dtype for plan in plans for task in plan.truths)
    return next(chain(cells, truths), "float32")
