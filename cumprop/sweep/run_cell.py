"""From a cell to its row: computed, taken over from another experiment, or failed."""

from __future__ import annotations

import json
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop import streams
from cumprop.contract import Estimate, printing
from cumprop.contract.probabilities import judged
from cumprop.errors import CumpropError
from cumprop.experiments.columns import DONE, failed, failure
from cumprop.experiments.grid import Cell
from cumprop.memory import traced_peak, with_resident_peak
from cumprop.results import store
from cumprop.results.provenance import CONDITIONS, provenance
from cumprop.sampling import threshold
from cumprop.sweep import resource_limits
from cumprop.sweep.engines import Outcome

if TYPE_CHECKING:
    from cumprop.networks import MLP

LARGE = 10**10
"""FLOPs (about a second) from which a cell is not run a second time to trace its memory."""


def borrow(cell: Cell, parts: Path, workers: int) -> bool:
    """Take over the row of another experiment that computed this cell, if there is one.

    Only a row computed under the conditions of now, so that the seconds of a folder compare.
    """
    now = provenance(1, workers)
    for row in store.rows_of(parts.parent.parent, cell.key):
        if failed(row):
            continue
        if all(row[name] == now[name] for name in CONDITIONS):
            store.write_part(parts, row | {"config": cell.config} | cell.truth_columns)
            return True
    return False


def is_stored(cell: Cell, parts: Path) -> bool:
    """Whether the cell's row is there, and no failed one.

    A row that is to be compared with another truth by now is moved on to it.
    """
    stored = store.read_cell(parts, cell.key)
    if stored is None or failed(stored):
        return False
    if not cell.truth_columns.items() <= stored.items():
        store.write_part(parts, stored | cell.truth_columns)
    return True


def run_cell(
    cell: Cell,
    parts: Path,
    workers: int,
    debug: bool = False,
    time_limit: AbstractContextManager[None] | None = None,
) -> Outcome:
    """Compute a cell and store its row; a cell that cannot be computed becomes a failed row.

    It waits until its memory is free, and is then computed within `time_limit`. Nothing is computed
    for a row that another sweep or experiment has stored.
    """
    if is_stored(cell, parts) or borrow(cell, parts, workers):
        return Outcome(cell.label)
    try:
        with resource_limits.memory(cell.bytes), time_limit or nullcontext():
            measured = _measure(cell)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = str(error) if isinstance(error, CumpropError) else _described(error)
        return give_up(cell, parts, workers, reason)
    _store(cell, parts, workers, measured)
    return Outcome(cell.label)


def give_up(cell: Cell, parts: Path, workers: int, reason: str) -> Outcome:
    """Store the row of a cell that cannot be computed."""
    why = failure(reason)
    _store(cell, parts, workers, why)
    return Outcome(cell.label, why["note"])


def _store(cell: Cell, parts: Path, workers: int, measured: dict[str, Any]) -> None:
    store.write_part(parts, cell.columns() | measured | provenance(1, workers))


def _described(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; use fewer --workers or a smaller width"
    return f"{type(error).__name__}: {error}"


def _measure(cell: Cell) -> dict[str, Any]:
    """The measured columns of a cell. `seconds` times `estimate` alone, on a built network.

    Tracing allocations slows it down, so a small cell runs twice: first traced, which also warms
    it up, then timed. A large one runs once, and the operating system says how the process grew.
    """
    network = cell.network()
    reason = cell.backend.supports(network)
    if reason is not None:
        raise CumpropError(reason)
    if cell.cost.flops < LARGE:
        peak: int | None = traced_peak(lambda: _timed(cell, network))
        estimate, seconds = _timed(cell, network)
    else:
        (estimate, seconds), peak = with_resident_peak(lambda: _timed(cell, network))
    is_output = cell.readout in ("output", "pre")
    mean = _numbers("means", estimate.mean if is_output else estimate.layer_means[-1], cell)
    if threshold(cell.readout) is not None:
        estimate = judged(network, cell.backend, estimate)
    measured = {
        "mean": mean,
        "flops": estimate.flops.total,
        "flops_components": json.dumps(dict(estimate.flops)),
        "seconds": seconds,
        "peak_bytes": peak,
        "outcome": DONE,
        "status": estimate.status,
    }
    if estimate.n_samples is not None:
        measured["n_samples"] = estimate.n_samples
    if is_output:
        measured |= printing.expected(estimate)
        if estimate.stderr is not None:
            measured["stderr"] = _numbers("standard errors", estimate.stderr, cell)
        if estimate.half_width is not None:
            measured["half_width"] = _numbers("half widths", estimate.half_width, cell)
    return measured


def _numbers(what: str, values: Any, cell: Cell) -> list[float]:
    """One finite number per output; CumpropError for anything else."""
    array = np.asarray(values)
    if array.shape != (cell.width,):
        raise CumpropError(f"gave {what} of shape {array.shape}, where ({cell.width},) belongs")
    bad = int(np.sum(~np.isfinite(array)))
    if bad:
        raise CumpropError(f"{bad} of {cell.width} {what} are not finite; try float64 or order 1")
    numbers: list[float] = array.astype(np.float64, casting="safe").tolist()
    return numbers


def _timed(cell: Cell, network: MLP) -> tuple[Estimate, float]:
    rng = streams.sampling(cell.seed, cell.width, cell.repeat)
    start = time.perf_counter()
    estimate = cell.backend.estimate(network, cov=False, rng=rng)
    return estimate, time.perf_counter() - start
