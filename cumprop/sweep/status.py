"""Where sweeps stand: done, failed, left, and how long the rest will take.

All is read from files, so that it can be asked while a sweep runs, on another machine too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumprop.contract import Cost
from cumprop.experiments.columns import failed
from cumprop.flops import Work
from cumprop.results import store
from cumprop.sampling import truth_store
from cumprop.sweep.rates import Rates, measured

Row = dict[str, Any]


@dataclass(frozen=True)
class Status:
    """Where one configuration stands: cells, the share of its samples, minutes to go.

    A field is None where the last sweep noted nothing of it. `failures` are reasons by cell.
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

    Seconds left are those that predicted costs take at the rates of this machine, times the factor
    by which the stored cells took longer. Cost: reading all rows, and a second of measuring.
    """
    rows = store.read_folder(folder)
    failures = {row["cell_key"]: row["note"] for row in rows if failed(row)}
    done = {row["cell_key"]: row["seconds"] for row in rows if not failed(row)}
    planned, work = store.read_plan(folder), store.read_work(folder)
    left = None if planned is None else {*planned} - {row["cell_key"] for row in rows}
    sampled = minutes = None
    if left is not None and work is not None and "costs" in work:
        asked, to_sample = _samples(work["truths"], store.truth_folder(folder))
        sampled = 1 - to_sample / asked if asked else None
        costs = {
            key: Cost(n, size, Work(*kinds)) for key, (n, size, kinds) in work["costs"].items()
        }
        minutes = 0.0
        if left or to_sample:
            rates = measured(next((row["dtype"] for row in rows), "float32"))
            seconds = sum(rates.cell_seconds(costs[key]) for key in left)
            seconds += rates.seconds(Cost(to_sample, 0))
            minutes = slower(rates, costs, done) * seconds / work["workers"] / 60
    n_left = None if left is None else len(left)
    return Status(
        folder.resolve().name, len(done), len(failures), n_left, sampled, minutes, failures
    )


def _samples(truths: Row, directory: Path) -> tuple[int, int]:
    """FLOPs of the samples asked for, and of those not stored."""
    asked = left = 0
    for key, task in truths.items():
        spec = truth_store.stored_spec(directory, key)
        stored = 0 if spec is None else truth_store.samples_stored(directory, spec)
        asked += task["n_samples"] * task["flops_per_sample"]
        left += max(task["n_samples"] - stored, 0) * task["flops_per_sample"]
    return asked, left


def slower(rates: Rates, costs: Mapping[str, Cost], done: Mapping[str, float]) -> float:
    """Seconds that the cells `done` took over those of their costs at `rates`; 1 without any.

    >>> rates = Rates(sampling=1e9, products=1e9, entrywise=1e9, large=1e9, call=0)
    >>> slower(rates, {"a": Cost(10**9, 0), "b": Cost(10**9, 0)}, {"a": 3.0})
    3.0
    """
    known = done.keys() & costs.keys()
    expected = sum(rates.seconds(costs[key]) for key in known)
    return sum(done[key] for key in known) / expected if expected else 1.0
