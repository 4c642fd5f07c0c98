"""Where sweeps stand: done, failed, left, and how long the rest will take.

All is read from files, so that it can be asked while a sweep runs, on another machine too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.experiments.columns import failed
from cumprop.results import store
from cumprop.sampling import truth_store
from cumprop.sweep.rates import measured
from cumprop.sweep.run_cell import LARGE

Row = dict[str, Any]


@dataclass(frozen=True)
class Status:
    """Where one configuration stands; cells, the share of its samples, minutes to go.

    Null is what the last sweep did not leave word of. `failures` are reasons by cell.
    """

    config: str
    done: int
    failed: int
    left: int | None
    sampled: float | None
    minutes: float | None
    failures: dict[str, str]


def status(folder: Path) -> Status:
    """Where a configuration's folder stands.

    Cells left are taken to run at the speed of the stored cell that is nearest in FLOPs, samples
    left at that of the largest stored run of `monte_carlo`; what has no example, at the speed of
    matrix products here, which is a lower bound. Cost: reading all rows.
    """
    rows = store.read_folder(folder)
    failures = {row["cell_key"]: row["note"] for row in rows if failed(row)}
    done = [row for row in rows if row["cell_key"] not in failures]
    planned, work = store.read_plan(folder), store.read_work(folder)
    left = None if planned is None else {*planned} - {row["cell_key"] for row in rows}
    sampled = minutes = None
    if work is not None and left is not None:
        asked, to_sample = _samples(work["truths"], store.truth_folder(folder))
        sampled = 1 - to_sample / asked if asked else None
        seconds = _cell_seconds([work["flops"][key] for key in left], done)
        seconds += to_sample / _sampling_speed(done)
        minutes = seconds / work["workers"] / 60
    n_left = None if left is None else len(left)
    return Status(
        folder.resolve().name, len(done), len(failures), n_left, sampled, minutes, failures
    )


def _samples(truths: Row, directory: Path) -> tuple[float, float]:
    """FLOPs of the samples asked for, and of those not stored."""
    asked = left = 0.0
    for key, task in truths.items():
        spec = truth_store.stored_spec(directory, key)
        stored = 0 if spec is None else truth_store.samples_stored(directory, spec)
        asked += task["n_samples"] * task["flops_per_sample"]
        left += max(task["n_samples"] - stored, 0) * task["flops_per_sample"]
    return asked, left


def _cell_seconds(left: list[int], done: list[Row]) -> float:
    """Seconds that cells of so many FLOPs take one after the other; small ones run twice."""
    flops = np.array(left, dtype=np.float64)
    runs = np.where(flops < LARGE, 2, 1)
    known = sorted((row["flops"], row["seconds"]) for row in done if row["flops"])
    if not left:
        return 0.0
    if not known:
        return float(np.sum(runs * flops / _matmul_speed()))
    costs, seconds = np.array(known, dtype=np.float64).T
    after = np.searchsorted(costs, flops).clip(1, max(len(costs) - 1, 1))
    before, after = after - 1, after.clip(max=len(costs) - 1)
    middle = np.sqrt(costs[before] * costs[after])
    nearest = np.where(flops < middle, before, after)
    return float(np.sum(runs * seconds[nearest] * flops / costs[nearest]))


def _sampling_speed(done: list[Row]) -> float:
    """FLOP/s of sampling."""
    runs = [(row["flops"], row["seconds"]) for row in done if row["estimator"] == "monte_carlo"]
    flops, seconds = max(runs, default=(0, 0))
    return flops / seconds if seconds else _matmul_speed()


def _matmul_speed() -> float:
    return measured("float32").products
